"""Death at named points, before and after every commit and every call to the outside: nothing is lost, nothing doubled.

Method: an order to die is placed, a checkout is submitted and repeated under its key until it has a reply, the process dies
at the point, and what has replaced it ends the story. A failure names the case; it is run again by its own name.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from loadtest.chaos.case import CASES, Journey
from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.process import is_alive
from tests.e2e.system import RunningSystem
from zerosum.crash import Point, Process
from zerosum.v1 import payment_pb2 as pb

pytestmark = pytest.mark.e2e

RISK = {Point.RISK_BEFORE, Point.RISK_AFTER}
CHECKOUTS = [case[:5] for case in CASES if case.journey is Journey.CHECKOUT]


@pytest.mark.parametrize(
    ("row", "process", "point", "detail", "nth"), CHECKOUTS, ids=["-".join(map(str, case)) for case in CHECKOUTS]
)
def test_death_at_a_point_is_survived_with_one_charge_one_credit_one_posting(
    system: RunningSystem, caller: Caller, row: str, process: Process, point: Point, detail: str, nth: int
) -> None:
    """P1-P6, P29, P30, A1, A3; I3, I4, I5, I6, I10."""
    checkout = new_checkout(row)
    fired = system.order_crash(process, point, detail=detail, nth=nth)

    with risk_check_asked_later(system, checkout) if point in RISK else nullcontext():
        paying = caller.begin(checkout)
    until(f"a {process} has died at {point} {detail}", fired.exists)
    dead = int(until("its last word", fired.read_text))
    reply = paying.result()

    until("it is gone", lambda: not is_alive(dead))  # its last word comes a moment before the signal
    assert once("12.50") == settled(system, caller, checkout)
    assert reply.body == caller.pay(checkout).body
    assert recorded_webhooks(system, checkout.payment_orders[0].payment_order_id) == [("delivered", 1)]


@contextmanager
def risk_check_asked_later(system: RunningSystem, checkout: pb.CreatePaymentRequest) -> Iterator[None]:
    """The check's file is away when the checkout comes, so that its verdict is an effect of its own, not part of the submit."""
    system.blocked_buyers.unlink()
    yield
    asked = "SELECT 1 FROM payment.todos WHERE checkout_id = %s AND kind = 'assess_risk' AND state = 'OPEN'"
    until("the checkout waits for its verdict", lambda: system.query(asked, checkout.checkout_id))
    system.blocked_buyers.touch()


def recorded_webhooks(system: RunningSystem, order_id: str) -> list[tuple[str, int]]:
    """Of every event the PSP announced for an order: what it thinks became of it, and its rows in our inbox."""

    def announced() -> list[tuple[str, str]]:
        found = [(line["id"], line["state"]) for line in system.truth("webhook") if line["reference"] == order_id]
        return found if all(state != "pending" for _, state in found) else []

    statement = "SELECT count(*) FROM payment.inbox WHERE event_id = %s"
    return [
        (state, int(system.query(statement, event_id)[0][0])) for event_id, state in until("all is sent", announced)
    ]
