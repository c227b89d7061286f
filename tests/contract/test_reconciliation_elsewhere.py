"""What nights know of one another: a line settles once whatever file tells it, and a movement has what any night gave it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from loadtest.bench.reconcile_books import Order
from simulator.psp.settlement import AT, ORDER, REFUND_KEY, Row
from tests.contract.reconciliation_desk import Desk, File, telling, without
from tests.contract.reconciliation_services import World
from zerosum.domain.identity import slot_of
from zerosum.errors import Bug
from zerosum.reconciling import RunRow, RunState
from zerosum.store.reconciliation import line as reconciliation_line
from zerosum.store.reconciliation import nightly as reconciliation_nightly
from zerosum.store.reconciliation.store import Reconciliation

MANY = 10_000
NEXT_DAY, THIRD_DAY = "2026-03-03", "2026-03-04"
LONG_MS = 400 * 86_400_000


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seam between two pages is met."""
    monkeypatch.setattr(reconciliation_line, "PAGE_LINES", 2)
    monkeypatch.setattr(reconciliation_nightly, "STAGE_CHECKOUTS", 2)


def gross(orders: list[Order]) -> int:
    """What these orders charged."""
    return sum(order.money.amount_minor for order in orders)


async def settled(store: Reconciliation, world: World) -> int:
    """What settlement has taken out of clearing by now."""
    await store.outbox(world.peers()).deliver(MANY)
    return -world.sums().get("psp:psp:clearing:USD", 0)


def nothing(desk: Desk, day: int) -> File:
    """The file of a day on which nothing moved."""
    return desk.file([], day=day, spoil=lambda _: [])


def nameless(rows: list[Row]) -> list[Row]:
    """Neither object nor order, tenant or checkout."""
    names = ("payment_intent_id", ORDER, *(f"payment_metadata[{each}]" for each in ("tenant", "checkout_id")))
    return [["" if at in {AT[name] for name in names} else cell for at, cell in enumerate(row)] for row in rows]


# ---- a line told again ---------------------------------------------------------------------------------------------


async def test_a_late_file_that_tells_what_the_next_days_file_told_settles_nothing_again(
    desk: Desk, world: World
) -> None:
    """The day ran without its file, the next day's file carried its lines, and then the late one tells them again."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(3)
    desk.write(orders)
    await desk.night(store)
    await desk.take(store, desk.file(orders, day=1))
    await desk.night(store, NEXT_DAY)
    await desk.take(store, desk.file(orders))

    run = await desk.night(store, is_again=True)

    assert await settled(store, world) == gross(orders)
    assert desk.cases() == [("duplicate_line", "automatic", "RESOLVED")] * 3
    assert dict(run.summary.by_state) == {"MISMATCH": 3, "EXPLAINED": 4}


async def test_a_charge_told_again_tomorrow_settles_once_though_its_refund_is_in_flight(
    desk: Desk, world: World
) -> None:
    """The refund keeps the order among those that are carried: its charge is looked at again, and has its line."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    refund(desk, orders[0], "UNKNOWN")
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    await desk.take(store, desk.file(orders, day=1))

    await desk.night(store, NEXT_DAY)

    assert await settled(store, world) == gross(orders)
    assert desk.cases() == [("duplicate_line", "automatic", "RESOLVED")]


async def test_another_line_for_a_charge_that_has_one_is_a_second_charge_in_any_night(desk: Desk) -> None:
    """Another id is another movement of the PSP's: it is never matched, though the order was carried."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    refund(desk, orders[0], "UNKNOWN")
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    await desk.take(store, desk.file(orders, day=1, spoil=telling(balance_transaction_id=f"txn_2_{desk.psp}")))

    await desk.night(store, NEXT_DAY)

    assert desk.cases() == [("duplicate_charge", "manual", "OPEN")]


async def test_lines_without_any_name_are_known_by_their_id_in_whatever_file(desk: Desk, world: World) -> None:
    """They have no object to be known by; the PSP's id of the line is all there is."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(3)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=nameless))
    await desk.night(store)
    await desk.take(store, desk.file(orders, day=1, spoil=nameless))

    await desk.night(store, NEXT_DAY)

    assert await settled(store, world) == gross(orders)
    assert desk.cases() == [("duplicate_line", "automatic", "RESOLVED")] * 3


async def test_an_id_that_tells_another_story_in_a_later_file_goes_to_people(desk: Desk) -> None:
    """As within one file: nobody knows which of the two holds, and neither is closed by the machine."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    await desk.take(store, desk.file(orders, day=1, spoil=telling(gross="9.00", net="8.41")))

    await desk.night(store, NEXT_DAY)

    assert ("ambiguous", "unclassified", "OPEN") in desk.cases()


async def test_a_line_that_only_set_aside_ones_tell_besides_is_settled_by_the_corrected_file(
    desk: Desk, world: World
) -> None:
    """Told in two files, settled by the first; what takes the first one's place settles it, for nobody else does."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(3)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    await desk.take(store, desk.file(orders, day=1))
    await desk.night(store, NEXT_DAY)
    await desk.take(store, desk.file(orders[:2]))

    corrected = await desk.night(store, is_again=True)
    again = await desk.night(store, NEXT_DAY, is_again=True)

    assert await settled(store, world) == gross(orders[:2])
    assert desk.items(corrected)[_charge(desk, orders[0])] == "MATCHED"
    assert desk.items(again).keys() >= {_charge(desk, orders[2])}


async def test_what_another_copy_settles_while_a_run_is_at_work_is_not_settled_again(
    desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two days at once, by two copies: the transaction that settles decides; the run that is late FAILS, and is run again."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(2)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    await desk.take(store, desk.file(orders, day=1))
    settle = reconciliation_nightly._STEPS["settle"]

    async def overtaken(night: Any) -> None:
        monkeypatch.setattr(reconciliation_nightly, "_STEPS", {**reconciliation_nightly._STEPS, "settle": settle})
        await desk.night(store, NEXT_DAY)
        await settle(night)

    monkeypatch.setattr(reconciliation_nightly, "_STEPS", {**reconciliation_nightly._STEPS, "settle": overtaken})
    failed = await desk.night(store)
    once = await settled(store, world)
    again = await desk.night(store, is_again=True)

    assert (failed.state, again.state) == (RunState.FAILED, RunState.DONE)
    assert once == await settled(store, world) == gross(orders)
    assert desk.cases() == [("duplicate_line", "automatic", "RESOLVED")] * 2


# ---- what a movement has got ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [telling(**{ORDER: "order-of-somebody"}), nameless], ids=["wrong", "none"])
async def test_a_charge_whose_line_came_with_another_reference_or_none_is_not_missing_later(
    desk: Desk, spoil: Callable[[list[Row]], list[Row]]
) -> None:
    """Its order is carried, for a refund is in flight: what it has got is told by the item of the night that paired it."""
    store, orders = desk.open(line_due_ms=0), desk.orders(1)
    desk.write(orders)
    refund(desk, orders[0], "UNKNOWN")
    await desk.take(store, desk.file(orders, spoil=spoil))
    await desk.night(store)
    before = desk.cases()

    await desk.take(store, nothing(desk, 1))
    run = await desk.night(store, NEXT_DAY)

    assert desk.cases() == before
    assert desk.items(run)[_charge(desk, orders[0])] == "EXPLAINED"


async def test_a_movement_that_a_corrected_file_took_its_line_from_has_none(desk: Desk) -> None:
    """Only files that are still accepted count, also before their day is run again."""
    store, orders = desk.open(line_due_ms=0), desk.orders(2)
    desk.write(orders)
    refund(desk, orders[1], "UNKNOWN")
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    await desk.take(store, desk.file(orders, spoil=without(orders[1].order_id)))
    await desk.take(store, nothing(desk, 1))

    run = await desk.night(store, NEXT_DAY)

    assert desk.items(run)[_charge(desk, orders[1])] == "MISMATCH"


async def test_a_line_of_a_day_whose_run_failed_explains_nothing(
    desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has judged it, and it is not settled: people hear of it until the day is run again."""
    store, orders = desk.open(line_due_ms=0), desk.orders(2)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    await desk.take(store, nothing(desk, 1))

    def broken(*_: Any) -> Any:
        raise Bug("something that cannot be")

    with monkeypatch.context() as patch:
        patch.setattr(reconciliation_nightly, "match_object", broken)
        failed = await desk.night(store)
    run = await desk.night(store, NEXT_DAY)

    assert failed.state is RunState.FAILED
    assert await settled(store, world) == 0
    assert dict(run.summary.by_kind) == {"missing_line": 2}


async def test_a_line_that_waits_for_its_days_run_is_expected_and_then_matched(desk: Desk) -> None:
    """Nights run out of order after downtime: neither missing, nor explained before somebody has judged it."""
    store, orders = desk.open(line_due_ms=0), desk.orders(3)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    await desk.take(store, nothing(desk, 1))

    early = await desk.night(store, NEXT_DAY)
    own = await desk.night(store)
    later = await desk.night(store, THIRD_DAY)

    charges = {_charge(desk, order) for order in orders}
    assert [_of(desk, run, charges) for run in (early, own, later)] == [{"EXPECTED"}, {"MATCHED"}, {"EXPLAINED"}]
    assert desk.cases() == []


# ---- what comes to an order after its own night --------------------------------------------------------------------


async def test_a_refund_made_after_its_orders_night_is_looked_for_until_its_line_comes(desk: Desk) -> None:
    """Its order is in no run's books any more: the refund brings it back."""
    store, orders = desk.open(line_due_ms=0), desk.orders(3)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    first = await desk.night(store)
    for order in orders:
        refund(desk, order, "DONE", at_ms=_read_to_ms(desk, first))

    night = await desk.night(store, NEXT_DAY)
    refunds = {f"order/refund/1/{desk.tenant}/{order.order_id}" for order in orders}
    missing = desk.cases()
    await desk.take(store, desk.file(orders[:2], day=2, spoil=lambda rows: [_back(row) for row in rows]))
    later = await desk.night(store, THIRD_DAY)

    assert _of(desk, night, refunds) == {"MISMATCH"}
    assert _of(desk, night, {_charge(desk, order) for order in orders}) == {"EXPLAINED"}
    assert missing == [("missing_line", "manual", "OPEN")] * 3
    assert dict(later.summary.by_kind) == {}
    assert sorted(desk.cases()) == [("missing_line", "manual", state) for state in ("OPEN", "RESOLVED", "RESOLVED")]


async def test_a_second_charge_that_payment_finds_after_its_orders_night_is_looked_for(desk: Desk) -> None:
    """Money came, says the payment service; a line must come."""
    store, orders = desk.open(line_due_ms=0), desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    first = await desk.night(store)
    second_charge(desk, orders[0], at_ms=_read_to_ms(desk, first))

    run = await desk.night(store, NEXT_DAY)

    assert desk.items(run) == {
        _charge(desk, orders[0]): "EXPLAINED", _charge(desk, orders[0], number=1_001): "MISMATCH",
    }  # fmt: skip
    assert dict(run.summary.by_kind) == {"missing_line": 1}


# ---- rows ----------------------------------------------------------------------------------------------------------


def refund(desk: Desk, order: Order, state: str, at_ms: int = 0) -> None:
    """A refund of the whole order in the payment service's books."""
    request = {
        "psp": desk.psp, "object_id": order.object_id, "amount_minor": order.money.amount_minor,
        "currency": order.money.currency,
    }  # fmt: skip
    desk.rows(
        "INSERT INTO payment.operations (slot, tenant, checkout_id, payment_order_id, kind, number, attempt, key, request, "
        "state, answer, started_at_ms) VALUES (%s, %s, %s, %s, 'refund', 1, 1, %s, %s, %s, '', %s)",
        slot_of(order.tenant, order.checkout_id), order.tenant, order.checkout_id, order.order_id,
        f"refund-{order.order_id}", json.dumps(request), state, at_ms or order.at_ms + 1_000,
    )  # fmt: skip


def second_charge(desk: Desk, order: Order, at_ms: int) -> None:
    """A case of the payment service: another object was charged for the order."""
    desk.rows(
        "INSERT INTO payment.mismatches (slot, tenant, checkout_id, mismatch_id, number, payment_order_id, kind, psp, "
        "psp_object_id, amount_minor, currency, detail, state, opened_at_ms) "
        "VALUES (%s, %s, %s, 'second_charge/x', 1, %s, 'second_charge', %s, 'pi_second', %s, %s, '', 'OPEN', %s)",
        slot_of(order.tenant, order.checkout_id), order.tenant, order.checkout_id, order.order_id, desk.psp,
        order.money.amount_minor, order.money.currency, at_ms,
    )  # fmt: skip


def _back(row: Row) -> Row:
    """The line of a charge as that of its refund."""
    back = list(row)
    back[AT["balance_transaction_id"]], back[AT["reporting_category"]] = (
        row[AT["balance_transaction_id"]] + "_re",
        "refund",
    )
    back[AT["gross"]] = back[AT["net"]] = f"-{row[AT['gross']]}"
    back[AT["fee"]] = "0.00"
    back[AT[REFUND_KEY]] = f"refund-{row[AT[ORDER]]}"
    return back


def _read_to_ms(desk: Desk, run: RunRow) -> int:
    """The first instant that the run did not read: the next one begins with it."""
    ((progress,),) = desk.rows("SELECT progress FROM reconciliation.runs WHERE run_id = %s", run.run_id)
    read_to: Mapping[str, int] = json.loads(progress)
    return read_to["before_ms"]


def _charge(desk: Desk, order: Order, number: int = 1) -> str:
    return f"order/charge/{number}/{desk.tenant}/{order.order_id}"


def _of(desk: Desk, run: RunRow, items: set[str]) -> set[str]:
    found = desk.items(run)
    return {found.get(item, "") for item in items}
