"""A wrong fee that hides behind another case, on the store: found by the night that settles its line, booked once. L6."""

import pytest

from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import Desk
from tests.contract.test_reconciliation_outbox import World
from zerosum.domain.case import Approve, Propose, Resolution
from zerosum.store.reconciliation.queue import SqlFinanceQueue

MANY = 10_000
LONG_MS = 400 * 86_400_000
IN_FLIGHT, DONE = ("UNKNOWN", "EXECUTING"), ("CHARGED", "SUCCESS")


@pytest.fixture
def world(desk: Desk) -> World:
    return World(desk.psp)


def stand(desk: Desk, standing: tuple[str, str]) -> None:
    """Makes every order of the desk stand so."""
    attempt, order = standing
    desk.rows("UPDATE payment.attempts SET state = %s WHERE tenant = %s", attempt, desk.tenant)
    desk.rows("UPDATE payment.payment_orders SET payment_order_status = %s WHERE tenant = %s", order, desk.tenant)


def fivefold(rows: list[Row]) -> list[Row]:
    """5.00 more than the contract's 0.59 were kept of 10.00."""
    for row in rows:
        row[AT["fee"]], row[AT["net"]] = "5.59", "4.41"
    return rows


async def test_a_wrong_fee_of_an_order_that_code_mends_is_found_in_the_same_night(desk: Desk, world: World) -> None:
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    stand(desk, IN_FLIGHT)
    await desk.take(store, desk.file(orders, spoil=fivefold))

    run = await desk.night(store)
    await store.outbox(world.peers()).deliver(MANY)

    assert dict(run.summary.by_kind) == {"unresolved_order": 1, "wrong_fee": 1}
    assert ("wrong_fee", "manual", "OPEN") in desk.cases()
    assert world.sums()["fees:psp:psp:USD"] == 59


async def test_a_wrong_fee_that_two_people_book_is_booked_once_however_often_the_day_is_run(
    desk: Desk, world: World
) -> None:
    """The second run meets it as the pair's only case: it is the same case, and what settled stays as it settled."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    stand(desk, IN_FLIGHT)
    await desk.take(store, desk.file(orders, spoil=fivefold))
    await desk.night(store)
    await store.outbox(world.peers()).deliver(MANY)
    stand(desk, DONE)
    await desk.night(store, is_again=True)
    queue = SqlFinanceQueue(store.database)
    ((mismatch_id,),) = desk.rows(
        "SELECT mismatch_id FROM reconciliation.mismatches WHERE psp = %s AND kind = 'wrong_fee'", desk.psp
    )

    proposed = await queue.act(mismatch_id, Propose(Resolution.AS_PROPOSED, "agreed"), by="anna", key="k1")
    await queue.act(mismatch_id, Approve(proposed.view.proposal.number), by="bert", key="k2")  # type: ignore[union-attr]  # an act that was refused would fail here
    await store.outbox(world.peers()).deliver(MANY)

    gross = sum(order.money.amount_minor for order in orders)
    assert (world.sums()["fees:psp:psp:USD"], world.sums()["psp:psp:clearing:USD"]) == (559, -gross)
