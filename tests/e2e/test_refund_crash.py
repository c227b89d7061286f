"""A payment shard dies on an order's way back, asked for or of itself: given back once, and every book nets to zero.

Method: a checkout is paid, or its seller's account closed; an order to die is placed; the refund is asked for, or the checkout
submitted; the process dies at the point, and what has replaced it ends the story. `zerosum chaos` carries out all other cases
of these journeys, each with every harm (loadtest/chaos/case.py).
"""

import pytest

from loadtest.chaos.case import CASES, Case, Journey
from servers.money_client import close_account, create_refund
from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import settled
from tests.e2e.process import is_alive
from tests.e2e.system import RunningSystem
from tests.e2e.test_refund import given_back, refund_of, settings_of
from zerosum.errors import Unavailable
from zerosum.v1 import payment_pb2 as pb

pytestmark = pytest.mark.e2e

HERE = {
    "payment-shard@wallet.after#1/refund",
    "payment-shard@psp.before@refund#1/refund",
    "payment-shard@psp.after@refund#1/reversal",
    "payment-shard@ledger.after#3/reversal",
}
"""One case of each step between two books; the step's other side, and each other harm, are the matrix's."""

CHOSEN = [case for case in CASES if case.name in HERE]

ENDS = {
    Journey.REFUND: (["12.50", "-12.50"], ["capture", "refund"]),
    Journey.REVERSAL: ([], ["suspense_charge", "suspense_refund"]),
}
"""Entries of the seller's wallet, journals of the order."""


@pytest.mark.parametrize("case", CHOSEN, ids=[case.name for case in CHOSEN])
def test_death_on_the_way_back_gives_the_money_back_once_and_every_book_nets_to_zero(
    system: RunningSystem, caller: Caller, case: Case
) -> None:
    """P17, P30; I3, I5, I14: what is repeated goes under its own key, and the next step waits for this one's record."""
    checkout = new_checkout(f"back-{case.journey}")
    order = checkout.payment_orders[0]
    if case.journey is Journey.REFUND:
        caller.pay(checkout)
        settled(system, caller, checkout)
    else:
        close_account(settings_of(system), "demo", owner=order.seller_account, currency="USD", reason="FRAUD", key="")
    fired = system.order_crash(case.process, case.point, detail=case.detail, nth=case.nth)

    if case.journey is Journey.REFUND:
        until("the refund is reserved", lambda: is_reserved(system, order.payment_order_id))
    reply = caller.pay(checkout)
    until(f"a {case.process} has died at {case.point} {case.detail}", fired.exists)
    dead = int(until("its last word", fired.read_text))
    until("it is gone", lambda: not is_alive(dead))
    refund = refund_of(caller, checkout)

    assert (refund.status, refund.number) == (pb.REFUND_STATUS_SUCCEEDED, 1)
    assert given_back(system, checkout) == [1_250]
    assert (caller.wallet_entries(order.seller_account), journals(system, order.payment_order_id)) == ENDS[case.journey]
    assert reply.body == caller.pay(checkout).body


def is_reserved(system: RunningSystem, order_id: str) -> bool:
    """Asks under the one key; False while nobody answers."""
    try:
        return bool(create_refund(settings_of(system), "demo", order_id, reason="DUPLICATE", key=""))
    except Unavailable:
        return False


def journals(system: RunningSystem, order_id: str) -> list[str]:
    """The movements of the order's journals, in their order."""
    statement = "SELECT movement FROM ledger.journals WHERE payment_order_id = %s ORDER BY version"
    return [movement for (movement,) in system.query(statement, order_id)]
