"""What two attempts at a day say differently, all of it and nothing else; and who asked for each."""

from dataclasses import replace

import pytest

from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import DAY, Desk
from zerosum.domain.discrepancy import RULES, Action, Class, Kind
from zerosum.domain.fee_contract import STRIPE
from zerosum.readers import Page
from zerosum.reconciling import SCHEDULE, Difference, RunKey, RunKind, RunRow, RunState
from zerosum.store.reconciliation import compare as reconciliation_compare
from zerosum.store.reconciliation.run import Claim, RunBook

LONG_MS = 400 * 86_400_000
"""Longer than the test's days are ago: nothing is missing yet."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seam between two chunks is met."""
    monkeypatch.setattr(reconciliation_compare, "CHUNK_ITEMS", 2)


async def test_a_line_that_a_corrected_file_leaves_out_or_adds_is_told_and_none_that_only_moved(desk: Desk) -> None:
    """The PSP's id names a line in both files: those behind it stand one line further up, and are the same."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(6)
    desk.write(orders)
    taken = await desk.take(store, desk.file(orders[:5]))
    first = await desk.night(store)
    corrected = await desk.take(store, desk.file([*orders[:2], *orders[3:]]))
    second = await desk.night(store, is_again=True)

    gone, came = desk.lines(taken.file.file_id)[2][1], desk.lines(corrected.file.file_id)[4][1]

    def charge(number: int) -> str:
        return f"order/charge/1/{desk.tenant}/{orders[number].order_id}"

    assert set(await desk.differences(store, first, second)) == {
        Difference(f"line/{gone}", "MATCHED", ""),
        Difference(f"line/{came}", "", "MATCHED"),
        Difference(charge(2), "MATCHED", "EXPECTED"),
        Difference(charge(5), "EXPECTED", "MATCHED"),
    }


async def test_a_line_that_is_listed_twice_is_one_with_two_outcomes(desk: Desk) -> None:
    """P29: of a line that a file lists twice the second is set aside; where the corrected file lists it once, that is told."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(4)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=_second_line_twice))
    first = await desk.night(store)
    corrected = await desk.take(store, desk.file(orders))
    second = await desk.night(store, is_again=True)

    twice = desk.lines(corrected.file.file_id)[1][1]

    assert await desk.differences(store, first, second) == [
        Difference(f"line/{twice}", "MATCHED | MISMATCH duplicate_line (automatic): proposed none", "MATCHED")
    ]


def _second_line_twice(rows: list[Row]) -> list[Row]:
    return [*rows, rows[1]]


# ---- who asked -----------------------------------------------------------------------------------------------------


async def test_an_attempt_keeps_who_asked_for_it_whoever_ends_it_or_looks_at_it_later(desk: Desk) -> None:
    """P31: another holder goes on with it, in the same name; who asks for a run that there is has begun none."""
    store = desk.open(lease_ms=1)
    key = RunKey(RunKind.NIGHTLY, desk.psp, DAY)
    first = await desk.night(store)
    begun = await RunBook(store.database, 1).claim(key, "dies", is_again=True, asked_by="ada")
    taken_over = None
    while taken_over is None:  # until the lease of a millisecond is over
        taken_over = await store.runs.run(key, "another", is_again=True, asked_by="ben")
    looked_at = await desk.night(store, asked_by="eve")

    assert isinstance(begun, Claim)
    assert (first.attempt, first.asked_by) == (1, SCHEDULE)
    assert (taken_over.attempt, taken_over.state, taken_over.asked_by) == (2, RunState.DONE, "ada")
    assert looked_at == taken_over
    listed = [run for run in await store.runs.list(RunKind.NIGHTLY, 100, "") if run.key == key]
    assert [run.asked_by for run in listed] == ["ada", SCHEDULE]


async def test_runs_are_listed_newest_first_by_page_of_one_kind_and_of_all(desk: Desk) -> None:
    """Every row once, whatever the kinds between; after a run that is not there comes nothing."""
    store = desk.open()
    book = RunBook(store.database)
    keys = [RunKey(kind, desk.psp, f"2026-01-0{day}") for day in range(1, 4) for kind in RunKind]
    for key in keys:
        assert isinstance(await book.claim(key, "me", is_again=False), Claim)

    listed = {kind: [run for run in await _all_runs(book, kind) if run.key in keys] for kind in (*RunKind, None)}
    newest_first = sorted(listed[None], key=lambda run: (run.started_at_ms, run.run_id), reverse=True)
    assert {run.key for run in listed[None]} == set(keys)
    assert (len(listed[None]), listed[None]) == (len(keys), newest_first)
    for kind in RunKind:
        assert listed[kind] == [run for run in listed[None] if run.key.kind is kind]
    assert await book.list(None, 10, "nobody") == []


async def _all_runs(book: RunBook, kind: RunKind | None) -> list[RunRow]:
    """Two a page."""
    rows: list[RunRow] = []
    while page := await book.list(kind, 2, rows[-1].run_id if rows else ""):
        rows += page
    return rows


# ---- other rules ---------------------------------------------------------------------------------------------------


async def test_an_old_day_by_another_class_and_action_of_a_kind_tells_these_and_nothing_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Specification: re-running an old day with new rules shows the difference. The case keeps the class it was opened with."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(4)
    desk.write(orders)
    taken = await desk.take(store, desk.file(orders, spoil=_dear))
    first = await desk.night(store)
    rule = replace(RULES[Kind.WRONG_FEE], group=Class.UNCLASSIFIED, action=Action.ASK_PSP)
    monkeypatch.setitem(RULES, Kind.WRONG_FEE, rule)
    second = await desk.night(store, is_again=True)

    values = "fee 0.59 USD by our books, 1.00 USD by the other side; at stake: -0.41 USD"
    postings = f"fees:psp:{desk.psp}:USD 0.41 USD, psp:{desk.psp}:clearing:USD -0.41 USD"
    before = f"MISMATCH wrong_fee (manual): {values}; proposed book_fee: {postings}"
    after = f"MISMATCH wrong_fee (unclassified): {values}; proposed ask_psp"
    assert await desk.differences(store, first, second) == [
        Difference(f"line/{desk.lines(taken.file.file_id)[0][1]}", before, after),
        Difference(f"order/charge/1/{desk.tenant}/{orders[0].order_id}", before, after),
    ]
    assert desk.cases() == [("wrong_fee", "manual", "OPEN")]


async def test_an_old_day_by_another_contract_tells_the_values_of_then_beside_those_of_now(desk: Desk) -> None:
    """The kind is the same, and the case holds the newest values alone: what the first attempt said stands with its items."""
    orders = desk.orders(1)
    desk.write(orders)
    store = desk.open(line_due_ms=LONG_MS)
    await desk.take(store, desk.file(orders, spoil=_dear))
    first = await desk.night(store)
    cheaper = desk.open(line_due_ms=LONG_MS, contract=replace(STRIPE, share_ppm=0))
    second = await desk.night(cheaper, is_again=True)

    line, order = await desk.differences(store, first, second)

    assert (line.before, line.after) == (order.before, order.after)
    assert "fee 0.59 USD by our books, 1.00 USD by the other side; at stake: -0.41 USD" in line.before
    assert "fee 0.30 USD by our books, 1.00 USD by the other side; at stake: -0.70 USD" in line.after


async def test_an_old_day_by_another_deadline_tells_the_movement_that_is_missing_by_it(desk: Desk) -> None:
    """A tolerance: the line that was expected is missing now. Lines and every other order are the same."""
    orders = desk.orders(4)
    desk.write(orders)
    patient, strict = desk.open(line_due_ms=LONG_MS), desk.open(line_due_ms=0)
    await desk.take(patient, desk.file(orders[:3]))
    first, second = await desk.night(patient), await desk.night(strict, is_again=True)

    (found,) = await desk.differences(patient, first, second)

    assert found.item == f"order/charge/1/{desk.tenant}/{orders[3].order_id}"
    assert found.before == "EXPECTED"
    assert found.after.startswith(
        "MISMATCH missing_line (manual): line 10.21 USD by our books, (nothing) by the other side"
    )


def _dear(rows: list[Row]) -> list[Row]:
    first = list(rows[0])
    first[AT["fee"]], first[AT["net"]] = "1.00", "9.00"
    return [first, *rows[1:]]


async def test_a_run_that_kept_nothing_with_its_items_is_told_by_its_cases(desk: Desk) -> None:
    """D11: an attempt of before revision 0005 against one of today. Method: its items as the column's default has them."""
    store = desk.open()
    orders = desk.orders(2)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=_dear))
    run = await desk.night(store)
    old = f"old-{run.run_id}"
    desk.rows(_RUN_AS_BEFORE, old, run.run_id)
    desk.rows(_ITEMS_AS_BEFORE, old, run.run_id)

    assert desk.rows("SELECT count(*) FROM reconciliation.items WHERE run_id = %s AND found = ''", old) == [(5,)]
    assert await store.runs.compare(old, run.run_id, 100, "") == Page([], "")


_RUN_AS_BEFORE = (
    "INSERT INTO reconciliation.runs (run_id, kind, psp, period, attempt, rules, state, holder, epoch, lease_until_ms, "
    "progress, summary, started_at_ms) SELECT %s, kind, psp, period, 0, rules, state, holder, epoch, lease_until_ms, "
    "progress, summary, started_at_ms FROM reconciliation.runs WHERE run_id = %s"
)
_ITEMS_AS_BEFORE = (
    "INSERT INTO reconciliation.items (run_id, item, partner, state, matched_by, mismatch_id) "
    "SELECT %s, item, partner, state, matched_by, mismatch_id FROM reconciliation.items WHERE run_id = %s"
)


# ---- pages ---------------------------------------------------------------------------------------------------------


async def test_large_days_that_agree_are_walked_a_part_a_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends in time whatever the size of the day: its page is empty then, and says where to go on."""
    monkeypatch.setattr(reconciliation_compare, "CHUNKS_MAX", 2)
    store = desk.open()
    orders = desk.orders(7)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    first, second = await desk.night(store), await desk.night(store, is_again=True)

    calls, page = 1, await store.runs.compare(first.run_id, second.run_id, 100, "")
    while page.after:
        assert page.rows == []
        calls, page = calls + 1, await store.runs.compare(first.run_id, second.run_id, 100, page.after)

    assert page == Page([], "")
    assert calls >= (8 + 7) // 4  # 8 lines and 7 orders, 2 a chunk and 2 chunks a call


async def test_a_position_of_nobodys_is_the_end(desk: Desk) -> None:
    """A token is opaque, and whoever made one up learns nothing by it."""
    assert await desk.open().runs.compare("one", "other", 100, "nothing") == Page([], "")
