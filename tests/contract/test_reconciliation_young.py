"""Orders that a run has not read, for they are younger than what it reads, and whose lines are in its files all the same."""

import time

from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_premise import LONG_MS


async def test_an_attempt_knows_orders_that_are_younger_than_the_first_one(desk: Desk) -> None:
    """A second file of a day that is not over: its orders are matched by the PSP's object, not by their reference alone."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(4)
    desk.write(orders[:2])
    await desk.take(store, desk.file(orders[:2]))
    first = await desk.night(store)
    desk.rows("UPDATE reconciliation.runs SET progress = jsonb_set(progress::jsonb, '{before_ms}', %s::jsonb)::text"
              " WHERE run_id = %s RETURNING run_id", str(orders[2].at_ms), first.run_id)  # fmt: skip
    desk.write(orders[2:])
    await desk.take(store, desk.file(orders, spoil=_charged_twice))

    second = await desk.night(store, is_again=True)

    assert desk.cases() == [("duplicate_charge", "manual", "OPEN")]
    assert desk.items(second)[f"order/charge/1/{desk.tenant}/{orders[3].order_id}"] == "MATCHED"


async def test_an_order_of_the_last_seconds_that_was_charged_twice_is_known_by_its_object(desk: Desk) -> None:
    """A file that is there before its orders are read: of two lines one is the order's, though it was not set aside."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(4)
    desk.write(orders)
    desk.rows("UPDATE payment.payment_events SET created_at_ms = %s WHERE tenant = %s AND checkout_id = %s"
              " RETURNING checkout_id", time.time_ns() // 1_000_000, desk.tenant, orders[3].checkout_id)  # fmt: skip
    await desk.take(store, desk.file(orders, spoil=_charged_twice))

    night = await desk.night(store)

    assert desk.cases() == [("duplicate_charge", "manual", "OPEN")]
    assert desk.items(night)[f"order/charge/1/{desk.tenant}/{orders[3].order_id}"] == "MATCHED"


def _charged_twice(rows: list[Row]) -> list[Row]:
    again = list(rows[3])
    again[AT["balance_transaction_id"]] += "_again"
    return [*rows, again]
