"""Orders that have no attempt when their night reads them: the risk check is away for longer than a night takes to come."""

from typing import Any

import pytest

from loadtest.bench.reconcile_books import Order
from tests.contract.reconciliation_desk import Desk
from tests.contract.test_reconciliation_elsewhere import NEXT_DAY, THIRD_DAY
from zerosum.store.reconciliation import line as reconciliation_line
from zerosum.store.reconciliation import nightly as reconciliation_nightly


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seam between two pages is met."""
    monkeypatch.setattr(reconciliation_line, "PAGE_LINES", 2)
    monkeypatch.setattr(reconciliation_nightly, "STAGE_CHECKOUTS", 2)


async def test_an_order_that_had_no_attempt_in_its_night_is_looked_for_once_it_is_charged(desk: Desk) -> None:
    """Its checkout is read once: nobody else would bring it into a later night."""
    store, orders = desk.open(line_due_ms=0), desk.orders(3)
    desk.write(orders)
    taken = _take_attempts(desk, orders)
    items = {f"order/charge/1/{desk.tenant}/{order.order_id}" for order in orders}

    waiting = await desk.night(store)
    _give_back(desk, taken, "SUCCESS")
    charged = await desk.night(store, NEXT_DAY)
    await desk.take(store, desk.file(orders, day=2))
    told = await desk.night(store, THIRD_DAY)

    assert desk.items(waiting) == dict.fromkeys(items, "EXPECTED")
    assert desk.items(charged) == dict.fromkeys(items, "MISMATCH")
    assert desk.cases() == [("missing_line", "manual", "RESOLVED")] * 3
    assert dict(told.summary.by_kind) == {}


async def test_an_order_that_never_gets_an_attempt_leaves_the_nights_when_it_ends(desk: Desk) -> None:
    """The risk check blocks it at last: no money can have moved at any PSP, and no line is waited for."""
    store, orders = desk.open(line_due_ms=0), desk.orders(3)
    desk.write(orders)
    _take_attempts(desk, orders)

    first, second = [await desk.night(store, day) for day in ("2026-03-02", NEXT_DAY)]
    desk.rows("UPDATE payment.payment_orders SET payment_order_status = 'FAILED' WHERE tenant = %s", desk.tenant)
    third = await desk.night(store, THIRD_DAY)

    assert [dict(run.summary.by_state) for run in (first, second, third)] == [{"EXPECTED": 3}, {"EXPECTED": 3}, {}]
    assert desk.cases() == []


def _take_attempts(desk: Desk, orders: list[Order]) -> list[tuple[Any, ...]]:
    """The orders are stored, and nothing else: their attempts, to be given back."""
    desk.rows("DELETE FROM payment.operations WHERE tenant = %s RETURNING key", desk.tenant)
    desk.rows("UPDATE payment.payment_orders SET payment_order_status = 'NOT_STARTED' WHERE tenant = %s", desk.tenant)
    taken = desk.rows("DELETE FROM payment.attempts WHERE tenant = %s RETURNING *", desk.tenant)
    assert len(taken) == len(orders)
    return taken


def _give_back(desk: Desk, attempts: list[tuple[Any, ...]], status: str) -> None:
    for attempt in attempts:
        desk.rows("INSERT INTO payment.attempts VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", *attempt)
    desk.rows("UPDATE payment.payment_orders SET payment_order_status = %s WHERE tenant = %s", status, desk.tenant)
