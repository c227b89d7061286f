"""A refund that the buyer's bank sent back, and what no payment makes: from the file to two people's posting, once.

Source: docs.stripe.com/reports/reporting-categories, `refund_failure`.
"""

from dataclasses import replace

import pytest

from loadtest.bench.reconcile_books import Order
from simulator.psp.settlement import AT, REFUND_KEY, Row
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_premise import (
    CLEARING,
    LONG_MS,
    MANY,
    NEXT_DAY,
    SUSPENSE,
    Spoil,
    refund,
    seen,
    two_people,
)
from tests.contract.reconciliation_services import World
from zerosum.domain.case import Resolution
from zerosum.reconciling import FileState
from zerosum.store.reconciliation.store import Reconciliation


def beside(category: str, gross: str, *, key: str = "") -> Spoil:
    """The rows, and behind them one of that category about the first one's object. No fee."""

    def spoil(rows: list[Row]) -> list[Row]:
        row = list(rows[0])
        row[AT["balance_transaction_id"]], row[AT["reporting_category"]] = f"txn_{category}_{row[AT[ID]]}", category
        row[AT["gross"]], row[AT["fee"]], row[AT["net"]], row[AT[REFUND_KEY]] = gross, "0.00", gross, key
        return [*rows, row]

    return spoil


ID = "balance_transaction_id"


def only(category: str, gross: str, *, key: str = "") -> Spoil:
    """That row alone: the charge's own line was in an earlier file."""
    return lambda rows: beside(category, gross, key=key)(rows)[1:]


async def refunded(desk: Desk) -> tuple[Reconciliation, Order]:
    """An order of 10.00, given back by us: its file has both lines."""
    store = desk.open(line_due_ms=LONG_MS)
    (order,) = desk.orders(1)
    desk.write([order])
    refund(desk, order, "DONE")
    await desk.take(store, desk.file([order], spoil=beside("refund", "-10.00", key=f"refund-{order.order_id}")))
    await desk.night(store)
    return store, order


@pytest.mark.parametrize("resolution", [Resolution.AS_PROPOSED, Resolution.WRITE_OFF])
async def test_a_refund_that_came_back_is_posted_to_suspense_once_by_two_people(
    desk: Desk, world: World, resolution: Resolution
) -> None:
    """A day later, when charge and refund have had their lines: clearing comes to nothing, suspense owes the buyer."""
    store, order = await refunded(desk)
    came_back = only("refund_failure", "10.00", key=f"refund-{order.order_id}")
    later = replace(order, at_ms=order.at_ms + 86_400_000)
    await desk.take(store, desk.file([later], day=1, spoil=came_back))
    await desk.night(store, NEXT_DAY)
    view = await seen(store, desk, "refund_failure")
    await store.outbox(world.peers()).deliver(MANY)
    before = world.sums()

    sums = await two_people(store, desk, world, "refund_failure", resolution)
    await desk.night(store, NEXT_DAY, is_again=True)
    await store.outbox(world.peers()).deliver(MANY)

    assert desk.cases() == [("refund_failure", "manual", "WRITTEN_OFF")]
    assert (view.row.ours, view.row.order_id) == ("a refund of 10.00 USD", order.order_id)
    assert before[CLEARING] == -1_000  # settled: the bank has it
    assert (sums.get(CLEARING, 0), sums[SUSPENSE]) == (0, -1_000)
    assert world.sums() == sums


async def test_a_file_with_a_movement_that_no_payment_makes_counts_and_settles_whole(desk: Desk, world: World) -> None:
    """The bank gets the payout's whole sum; the movement is an open item of clearing until people have asked."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(1)
    desk.write(orders)

    taken = await desk.take(store, desk.file(orders, spoil=beside("network_cost", "-0.50")))
    await desk.night(store)
    await store.outbox(world.peers()).deliver(MANY)
    settled = world.sums()
    sums = await two_people(store, desk, world, "other_movement")

    assert taken.file.state is FileState.ACCEPTED
    assert desk.cases() == [("other_movement", "unclassified", "WRITTEN_OFF")]
    assert (settled[CLEARING], settled["bank:in_transit:USD"]) == (-950, 891)
    assert (sums[CLEARING], sums[SUSPENSE]) == (-1_000, 50)


async def test_what_is_proposed_for_such_a_movement_posts_nothing_before_somebody_has_asked(desk: Desk) -> None:
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=beside("payout_reversal", "0.50")))
    await desk.night(store)

    view = await seen(store, desk, "other_movement")

    assert (view.row.field, view.row.theirs, view.dry_run) == ("payout_reversal", "0.50 USD", ())


async def test_what_follows_a_late_charge_is_shown_beside_its_postings(desk: Desk) -> None:
    """People see the whole chain: into suspense, and out of it again with the refund."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(1)
    desk.write(orders)
    desk.stand("NO_CHARGE", "FAILED")
    await desk.take(store, desk.file(orders))
    await desk.night(store)

    view = await seen(store, desk, "late_charge")

    assert [side.account for side in view.dry_run] == [CLEARING.replace("psp:psp", f"psp:{desk.psp}"), SUSPENSE]
    assert f"{SUSPENSE} 10.00 USD; psp:{desk.psp}:clearing:USD -10.00 USD" in view.follows
