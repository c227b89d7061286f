"""The journeys of the matrix: what must be so before the harm, and what is asked for while it is done.

    checkout   nothing before; a buyer submits
    refund     paid and at rest before; then its caller asks for the money back: the seller's wallet, the PSP, the ledger
    reversal   the seller's account is closed before; then a buyer submits: charged, suspense, the PSP, out of suspense

Invariant: what is asked again is the same, under the same key.
"""

from typing import Final

from loadtest.chaos.arena import Arena
from loadtest.chaos.case import Journey
from loadtest.chaos.wait import until
from loadtest.shape import Checkout
from servers.keys import DEMO_TENANT
from servers.money_client import close_account, create_refund

_REASON: Final = "DUPLICATE"


async def set_out(arena: Arena, journey: Journey, checkout: Checkout) -> set[bytes]:
    """Returns at rest, with what the caller was told of the checkout so far. Raises NeverCame."""
    told: set[bytes] = set()
    if journey is Journey.REFUND:
        told.add((await arena.buyer.pay(checkout)).body)
        await arena.buyer.until_done(checkout)
    if journey is Journey.REVERSAL:
        (order,) = checkout.orders

        def close() -> bool:
            asked = {"owner": order.seller_account, "currency": order.currency, "reason": "FRAUD", "key": ""}
            return bool(close_account(arena.settings, DEMO_TENANT, **asked))

        await until(f"the account of {order.seller_account} is closed", close)
    await arena.until_at_rest()
    return told


async def ask(arena: Arena, journey: Journey, checkout: Checkout) -> bytes:
    """Asks until there is an answer; the checkout's fixed reply. Asked again it changes nothing. Raises NeverCame."""
    if journey is Journey.REFUND:
        (order,) = checkout.orders

        def reserve() -> bool:
            return bool(create_refund(arena.settings, DEMO_TENANT, order.payment_order_id, reason=_REASON, key=""))

        await until(f"the refund of {order.payment_order_id} is reserved", reserve)
    return (await arena.buyer.pay(checkout)).body


async def until_over(arena: Arena, journey: Journey, checkout: Checkout) -> None:
    """Returns at rest, when nothing is owed for the checkout any more. Raises NeverCame."""
    if journey is not Journey.REVERSAL:  # wallet and ledger never take what is reversed
        await arena.buyer.until_done(checkout)
    await arena.until_at_rest()
