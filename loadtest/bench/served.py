"""Whether a system serves: a new checkout of its shard 0 is final. What a bench waits for before it loads, and after a kill.

Invariant: what is asked again is asked with the same key, so that nothing is paid for twice.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import grpc

from actors.front import shard_of
from servers.keys import DEMO_TENANT, token_path
from servers.supervisor import System
from zerosum.domain.identity import EntityKey
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub

ASK_EVERY_S: Final = 0.02
ATTEMPT_S: Final = 15.0
GIVE_UP_S: Final = 120.0

CARD: Final = "pm_card_visa"

_CHANNEL: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)
"""Of a caller who asks again by himself and wants to know at once that somebody is back."""


class Buyer:
    """Somebody who buys from a running system until it is paid."""

    def __init__(self, system: System, payments: Any) -> None:
        self._shards = system.settings.checkout_shards
        self._payments = payments
        token = token_path(system.settings.data_dir, "service").read_text(encoding="ascii")
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def until_served(self) -> None:
        """Returns when a new checkout of shard 0 has a final reply. Raises TimeoutError.

        A reply that is not final (its shard died in the middle, a lease must end first) is followed by another checkout.
        """
        request = self._checkout()
        async with asyncio.timeout(GIVE_UP_S):
            while not (reply := await self._final(request)):
                request = self._checkout() if reply is False else request
                await asyncio.sleep(ASK_EVERY_S)

    async def _final(self, request: pb.CreatePaymentRequest) -> bool | None:
        """Whether the reply says that it is paid; None: there is no reply."""
        try:
            response = await self._payments.CreatePayment(request, timeout=ATTEMPT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return None
        return all(order.status == pb.ORDER_STATUS_SUCCESS for order in response.payment.payment_orders)

    def _checkout(self) -> pb.CreatePaymentRequest:
        while True:
            checkout_id = f"served-{uuid4().hex[:12]}"
            if shard_of(EntityKey(DEMO_TENANT, checkout_id), self._shards) == 0:
                break
        order = pb.PaymentOrderRequest(
            payment_order_id=f"{checkout_id}-a", seller_account="seller-served", amount="12.50", currency="USD"
        )
        return pb.CreatePaymentRequest(
            checkout_id=checkout_id, buyer_info=pb.BuyerInfo(buyer_account="buyer-served"),
            payment_method=pb.PaymentMethod(token=CARD), payment_orders=[order],
        )  # fmt: skip


@asynccontextmanager
async def buyer_of(system: System) -> AsyncIterator[Buyer]:
    """A buyer with a connection to the payment server that comes back by itself."""
    async with grpc.aio.insecure_channel(system.settings.payment_address, options=_CHANNEL) as channel:
        yield Buyer(system, PaymentServiceStub(channel))
