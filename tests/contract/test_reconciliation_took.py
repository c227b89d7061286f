"""When our books took a movement: the time of the event that settled it, however long before it was asked for."""

import json
import time
import uuid

import pytest

from loadtest.bench.reconcile_books import DAY_MS, Order
from tests.contract.reconciliation_desk import FROM_MS, Desk
from tests.contract.reconciliation_premise import LONG_MS
from tests.contract.test_reconciliation_elsewhere import nameless, refund
from zerosum.domain.identity import slot_of

NOW_MS = time.time_ns() // 1_000_000
YOUNG_MS, DUE_MS = NOW_MS - DAY_MS, NOW_MS - 4 * DAY_MS
"""A day ago, and a day more than a line may take: `line_due_ms` is three days."""


@pytest.mark.parametrize(("charged_ms", "state"), [(YOUNG_MS, "EXPECTED"), (DUE_MS, "MISMATCH")], ids=["young", "due"])
async def test_a_charge_is_due_from_when_it_was_charged_and_not_from_its_confirm(
    desk: Desk, charged_ms: int, state: str
) -> None:
    """An order waits for its buyer, or is authorized, for days, and its line comes after the charge."""
    store, (order,) = desk.open(line_due_ms=3 * DAY_MS), desk.orders(1)
    desk.write([order])
    happened(desk, order, "OrderPended", order.at_ms + 1_000)
    happened(desk, order, "OrderCharged", charged_ms)

    night = await desk.night(store)

    assert desk.items(night) == {f"order/charge/1/{desk.tenant}/{order.order_id}": state}


@pytest.mark.parametrize(("done_ms", "state"), [(YOUNG_MS, "EXPECTED"), (DUE_MS, "MISMATCH")], ids=["young", "due"])
async def test_a_refund_is_due_from_when_the_psp_said_it_was_done(desk: Desk, done_ms: int, state: str) -> None:
    """It was asked for long ago, and stayed unknown or was refused at first: nothing was to come by then."""
    store, orders = desk.open(line_due_ms=3 * DAY_MS), desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    refund(desk, orders[0], "DONE")
    settled = {"answer": "", "attempt": 1, "key": f"refund-{orders[0].order_id}", "kind": "refund", "number": 1}
    happened(desk, orders[0], "OperationSettled", done_ms - DAY_MS, {**settled, "state": "UNKNOWN"})
    happened(desk, orders[0], "OperationSettled", done_ms, {**settled, "state": "DONE"})
    happened(desk, orders[0], "OperationSettled", NOW_MS, {**settled, "state": "DONE", "key": "another", "number": 2})

    night = await desk.night(store)

    assert desk.items(night)[f"order/refund/1/{desk.tenant}/{orders[0].order_id}"] == state


async def test_a_line_that_names_nothing_is_matched_by_the_day_of_the_charge(desk: Desk) -> None:
    """The confirm was five days before: no line of that day is meant, and the one of the charge's day is."""
    store, (order,) = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    asked = Order(**{**{name: getattr(order, name) for name in Order.__slots__}, "at_ms": FROM_MS - 5 * DAY_MS})
    desk.write([asked])
    happened(desk, order, "OrderCharged", order.at_ms)
    await desk.take(store, desk.file([order], spoil=nameless))

    night = await desk.night(store)

    assert dict(night.summary.by_state) == {"MATCHED": 2, "EXPLAINED": 1}


def happened(desk: Desk, order: Order, event: str, at_ms: int, detail: dict[str, object] | None = None) -> None:
    """An event in the payment service's history, behind which no hour inside looks: its place is below zero."""
    place = uuid.uuid4().int % 2**31
    desk.rows(
        "INSERT INTO payment.history (slot, seq, ord, tenant, checkout_id, version, type, payment_order_id, status, detail, "
        "at_ms) VALUES (%s, %s, 0, %s, %s, %s, %s, %s, '', %s, %s)",
        slot_of(order.tenant, order.checkout_id), -place, order.tenant, order.checkout_id, place, event, order.order_id,
        json.dumps(detail or {}, separators=(",", ":")), at_ms,
    )  # fmt: skip
