"""The textbook's payment executor: the PSP is asked once per order, created and confirmed at once, under the order's id.

The SDK, its transport and what is switched off in it are the product's own: what the bench compares is the flow.

Invariant: a repeated request is the same request under the same key; silence is never taken for a decline.
"""

import asyncio
from typing import Any, Final

import stripe

from loadtest.naive.model import FAILED, SUCCESS, PaymentOrder
from loadtest.naive.step import Charged
from zerosum.domain.money import Money
from zerosum.errors import OutcomeUnknown, PspTrouble
from zerosum.limits import PSP_CALLS_MAX, PSP_TIMEOUT_MS
from zerosum.psp.stripe.adapter import CONNECT_MS_MAX
from zerosum.psp.stripe.amount import to_stripe
from zerosum.psp.stripe.quiet import hush
from zerosum.psp.stripe.transport import Transport

TRIES_MAX: Final = 5
PAUSE_S: Final = 0.1
"""Exponential: 0.1 to 1.6 s. After that the order stays EXECUTING, for a job of the night."""


class Executor:
    """One account at the PSP, called from one event loop."""

    def __init__(self, api_key: str, url: str) -> None:
        hush()
        self._transport = Transport(timeout_ms=PSP_TIMEOUT_MS, connect_ms=CONNECT_MS_MAX, connections_max=PSP_CALLS_MAX)
        self._client = stripe.StripeClient(
            api_key, base_addresses={"api": url}, http_client=self._transport, max_network_retries=0
        )

    async def charge(self, order: PaymentOrder, token: str) -> Charged:
        """Charges the order's amount. Raises OutcomeUnknown where the PSP does not say, after five tries."""
        for number in range(TRIES_MAX):
            try:
                return _charged(await self._create(order, token))
            except stripe.CardError as declined:
                return Charged(FAILED, "", (declined.code or "card_declined").upper())
            except (stripe.StripeError, PspTrouble):
                await asyncio.sleep(PAUSE_S * 2**number)
        raise OutcomeUnknown(f"order {order.payment_order_id}: the PSP does not say")

    async def _create(self, order: PaymentOrder, token: str) -> Any:
        amount = to_stripe(Money(order.amount_minor, order.currency))
        answer = await self._client.raw_request_async(
            "post", "/v1/payment_intents", idempotency_key=order.payment_order_id, amount=amount,
            currency=order.currency.lower(), payment_method=token, allowed_payment_method_types=["card"], confirm=True,
            transfer_group=order.payment_order_id,
            metadata={"checkout_id": order.checkout_id, "payment_order_id": order.payment_order_id},
        )  # fmt: skip
        return answer.data

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close_async()


def _charged(intent: Any) -> Charged:
    if intent["status"] == "succeeded":
        return Charged(SUCCESS, intent["id"])
    return Charged(FAILED, intent["id"], str(intent["status"]).upper())
