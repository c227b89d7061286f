"""A wrong fee that hides behind another case, on the store: found by the night that settles its line, booked once. And the fee
of a dispute, which may come as a row of its own, in a later file. L6."""

from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import DAY, Desk
from tests.contract.reconciliation_premise import CLEARING, LONG_MS, MANY, NEXT_DAY, THIRD_DAY, Spoil, two_people
from tests.contract.reconciliation_services import World
from zerosum.domain.case import Resolution


def five_more(rows: list[Row]) -> list[Row]:
    """5.00 more than the contract's 0.59 were kept of 10.00."""
    for row in rows:
        row[AT["fee"]], row[AT["net"]] = "5.59", "4.41"
    return rows


async def test_a_wrong_fee_of_an_order_that_code_mends_is_found_in_the_same_night(desk: Desk, world: World) -> None:
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    desk.stand("UNKNOWN", "EXECUTING")
    await desk.take(store, desk.file(orders, spoil=five_more))

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
    desk.stand("UNKNOWN", "EXECUTING")
    await desk.take(store, desk.file(orders, spoil=five_more))
    await desk.night(store)
    await store.outbox(world.peers()).deliver(MANY)
    desk.stand("CHARGED", "SUCCESS")
    await desk.night(store, is_again=True)

    sums = await two_people(store, desk, world, "wrong_fee", Resolution.AS_PROPOSED)

    gross = sum(order.money.amount_minor for order in orders)
    assert (sums["fees:psp:psp:USD"], sums[CLEARING]) == (559, -gross)


def disputed(rows: list[Row]) -> list[Row]:
    """The first charge is disputed, by a line without fee."""
    return [*rows, _about(rows[0], "dispute", f"-{rows[0][AT['gross']]}", "txn_dispute")]


def fee_of_15(name: str) -> Spoil:
    """Nothing but a row of the contract's dispute fee, about the first charge."""
    return lambda rows: [_about(rows[0], "fee", "-15.00", name)]


def _about(charge: Row, category: str, gross: str, name: str) -> Row:
    row = list(charge)
    row[AT["reporting_category"]], row[AT["balance_transaction_id"]] = category, name
    row[AT["gross"]] = row[AT["net"]] = gross
    row[AT["fee"]] = "0.00"
    return row


async def test_the_fee_of_a_dispute_of_an_earlier_file_is_explained_once(desk: Desk, world: World) -> None:
    """The dispute came the night before; its fee comes today, and once more tomorrow, when nobody disputes anything."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    for day, spoil in enumerate((disputed, fee_of_15("txn_fee_1"), fee_of_15("txn_fee_2"))):
        await desk.take(store, desk.file(orders, day=day, spoil=spoil))
    runs = [await desk.night(store, day) for day in (DAY, NEXT_DAY, THIRD_DAY)]

    again = await desk.night(store, NEXT_DAY, is_again=True)

    assert [dict(run.summary.by_kind) for run in (*runs, again)] == [{"dispute": 1}, {}, {"unknown_fee": 1}, {}]
    await store.outbox(world.peers()).deliver(MANY)
    assert world.sums()["fees:psp:psp:USD"] == 59 + 1_500
