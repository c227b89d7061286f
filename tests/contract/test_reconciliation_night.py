"""A night: a PSP's files against our books, once, whoever runs it and however often it dies."""

import asyncio
from typing import Any

import pytest

from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import DAY, Desk, without
from tests.contract.reconciliation_premise import LONG_MS
from zerosum.errors import Bug, Misconfigured, Superseded, Unavailable
from zerosum.reconciling import RunKey, RunKind, RunState
from zerosum.store.reconciliation import compare as reconciliation_compare
from zerosum.store.reconciliation import line as reconciliation_line
from zerosum.store.reconciliation import nightly as reconciliation_nightly
from zerosum.store.reconciliation import prune as reconciliation_prune
from zerosum.store.reconciliation import settle as reconciliation_settle
from zerosum.store.reconciliation.run import Claim, RunBook

NEXT_DAY = "2026-03-03"
"""Longer than the test's days are ago: nothing is missing yet."""


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many steps of few rows, so that every seam between two pages is met."""
    monkeypatch.setattr(reconciliation_line, "PAGE_LINES", 3)
    monkeypatch.setattr(reconciliation_nightly, "STAGE_CHECKOUTS", 4)
    monkeypatch.setattr(reconciliation_settle, "PART_LINES", 5)
    monkeypatch.setattr(reconciliation_compare, "CHUNK_ITEMS", 2)


async def test_a_clean_day_is_explained_to_the_last_item(desk: Desk) -> None:
    """I12: every line and every order of the day in exactly one state, and nothing for people."""
    store = desk.open()
    orders = [*desk.orders(10), *desk.orders(2, is_charged=False)]
    desk.write(orders)
    await desk.take(store, desk.file(orders))

    run = await desk.night(store)

    assert run.state is RunState.DONE
    assert (run.summary.lines, run.summary.movements, run.summary.explained_ppm) == (11, 12, 1_000_000)
    assert dict(run.summary.by_state) == {"MATCHED": 20, "EXPLAINED": 3}
    assert desk.cases() == []
    items = desk.items(run)
    assert len(items) == 23
    assert {f"order/charge/1/{desk.tenant}/{order.order_id}" for order in orders} <= items.keys()


async def test_an_order_missing_in_our_books_is_an_unknown_charge(desk: Desk) -> None:
    """D10: an old backup was restored; the PSP's line is all that is left of the order, and people hear of it."""
    store = desk.open()
    orders = desk.orders(5)
    desk.write(orders[:4])
    await desk.take(store, desk.file(orders))

    run = await desk.night(store)

    assert desk.cases() == [("unknown_charge", "unclassified", "OPEN")]
    assert dict(run.summary.by_class) == {"unclassified": 1}
    assert desk.rows("SELECT count(*) FROM reconciliation.leftovers WHERE run_id = %s", run.run_id) == [(0,)]


async def test_an_order_whose_answer_was_lost_is_reported_to_the_payment_service(desk: Desk) -> None:
    """P32: as an ordinary fact under the line's own key, in the outbox in the commit that found it."""
    store = desk.open()
    (order,) = desk.orders(1)
    desk.write([order])
    desk.stand("UNKNOWN", "EXECUTING")
    await desk.take(store, desk.file([order]))

    await desk.night(store)

    assert desk.cases() == [("unresolved_order", "automatic", "FIXING")]
    ((key, kind, state),) = desk.rows(
        "SELECT d.key, d.kind, d.state FROM reconciliation.deliveries AS d JOIN reconciliation.mismatches AS m "
        "ON m.mismatch_id = d.mismatch_id WHERE m.psp = %s",
        desk.psp,
    )
    assert (key.split("/")[0], kind, state) == (desk.psp, "report", "OPEN")


async def test_a_day_shift_is_expected_and_closes_by_itself_the_next_day(desk: Desk) -> None:
    """L8: what the cut-off moved to the next file is no exception, neither tonight nor tomorrow."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(6)
    desk.write(orders)
    await desk.take(store, desk.file(orders[:5]))
    late = f"order/charge/1/{desk.tenant}/{orders[5].order_id}"

    tonight = await desk.night(store)
    await desk.take(store, desk.file(orders[5:], day=1))
    tomorrow = await desk.night(store, NEXT_DAY)

    assert desk.items(tonight)[late] == "EXPECTED"
    assert desk.items(tomorrow) == {late: "MATCHED"} | {
        item: state for item, state in desk.items(tomorrow).items() if item.startswith("line/")
    }
    assert desk.cases() == []


async def test_a_line_that_does_not_come_is_missing_and_one_that_comes_late_closes_the_case(desk: Desk) -> None:
    """L1: people hear of it after the deadline; the machine closes it, with an act that says why."""
    store = desk.open(line_due_ms=0)
    orders = desk.orders(4)
    desk.write(orders)
    await desk.take(store, desk.file(orders[:3]))
    await desk.night(store)
    before = desk.cases()

    await desk.take(store, desk.file(orders[3:], day=1))
    run = await desk.night(store, NEXT_DAY)

    assert before == [("missing_line", "manual", "OPEN")]
    assert desk.cases() == [("missing_line", "manual", "RESOLVED")]
    assert dict(run.summary.by_state) == {"MATCHED": 2, "EXPLAINED": 1}
    acts = desk.rows(
        "SELECT a.act, a.actor FROM reconciliation.acts AS a JOIN reconciliation.mismatches AS m "
        "ON m.mismatch_id = a.mismatch_id WHERE m.psp = %s",
        desk.psp,
    )
    assert acts == [("close_alone", "reconciler")]


async def test_lines_without_any_name_are_matched_by_amount_and_day(desk: Desk) -> None:
    """Pass 3: currency, amount and day are enough where only one order fits."""
    store = desk.open()
    orders = desk.orders(4)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=_nameless))

    run = await desk.night(store)

    assert dict(run.summary.by_state)["MATCHED"] == 8
    assert desk.rows("SELECT DISTINCT matched_by FROM reconciliation.items WHERE run_id = %s", run.run_id) != []
    assert desk.cases() == []


def _nameless(rows: list[Row]) -> list[Row]:
    names = (
        "payment_intent_id",
        *(f"payment_metadata[{each}]" for each in ("tenant", "checkout_id", "payment_order_id")),
    )
    return [["" if at in {AT[name] for name in names} else cell for at, cell in enumerate(row)] for row in rows]


# ---- once, and to the end ------------------------------------------------------------------------------------------


async def test_a_run_that_is_done_is_not_done_again(desk: Desk) -> None:
    """Each run once: the second scheduler reads what the first one found."""
    store = desk.open()
    orders = desk.orders(3)
    desk.write(orders)
    await desk.take(store, desk.file(orders))

    first, second = await desk.night(store), await desk.night(store)

    assert first == second


async def test_two_schedulers_at_once_run_it_once(desk: Desk) -> None:
    """The insert decides; the other one hears that somebody is at it, or what was found."""
    one, other = desk.open(), desk.open()
    orders = desk.orders(6)
    desk.write(orders)
    await desk.take(one, desk.file(orders))
    key = RunKey(RunKind.NIGHTLY, desk.psp, DAY)

    both = await asyncio.gather(one.runs.run(key, "a"), other.runs.run(key, "b"))

    done = [run for run in both if run is not None]
    assert len(done) >= 1
    assert {run.run_id for run in done} == {f"nightly-{desk.psp}-{DAY}-1"}
    assert desk.rows("SELECT count(*) FROM reconciliation.runs WHERE psp = %s", desk.psp) == [(1,)]


async def test_a_run_that_dies_anywhere_goes_on_and_ends_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """P31: whoever takes over goes on behind the last step. Method: die at every step, in turn, each time one further."""
    orders = desk.orders(9)
    desk.write(orders)
    patient = desk.open(lease_ms=1, line_due_ms=0)
    await desk.take(patient, desk.file(orders, spoil=without(orders[4].order_id)))
    real = RunBook.step
    deaths = 0

    async def dies(self: RunBook, claim: Claim, *rest: Any) -> Claim:
        nonlocal deaths
        went_on = await real(self, claim, *rest)
        deaths += 1
        if deaths % 2:
            raise Unavailable("the process is gone, its step committed")
        return went_on

    monkeypatch.setattr(RunBook, "step", dies)
    run = None
    while run is None:
        try:
            run = await patient.runs.run(RunKey(RunKind.NIGHTLY, desk.psp, DAY), "x")
        except Unavailable:
            continue
    monkeypatch.setattr(RunBook, "step", real)
    undisturbed = await desk.night(patient, is_again=True)

    assert deaths > 10
    assert desk.rows("SELECT count(*) FROM reconciliation.leftovers WHERE run_id = %s", run.run_id) == [(0,)]
    assert desk.rows("SELECT count(*) FROM reconciliation.movements WHERE run_id = %s", run.run_id) == [(0,)]
    assert run.summary == undisturbed.summary
    assert await desk.differences(patient, run, undisturbed) == []
    assert desk.cases() == [("missing_line", "manual", "OPEN")]


async def test_what_old_nights_left_is_pruned_once_no_kept_day_begins_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three orders wait for ever: each night hands them on. With two days kept, a night begins with none older than these."""
    monkeypatch.setattr(reconciliation_prune, "PAGE_LINES", 2)
    store = desk.open(line_due_ms=LONG_MS, kept_days=2)
    desk.write(desk.orders(3))
    days = [f"2026-03-{number:02}" for number in range(2, 8)]

    left = []
    for day in days:
        await desk.night(store, day)
        left.append(desk.rows(
            "SELECT r.period, count(*) FROM reconciliation.movements AS m JOIN reconciliation.runs AS r ON r.run_id = m.run_id "
            "WHERE m.psp = %s GROUP BY r.period ORDER BY r.period", desk.psp,
        ))  # fmt: skip
    again = await desk.night(store, days[-2], is_again=True)

    assert left[3] == [(day, 3) for day in days[:4]]
    assert left[5] == [(day, 3) for day in days[2:]]
    assert dict(again.summary.by_state) == {"EXPECTED": 3}


async def test_a_holder_that_was_taken_over_commits_nothing_more(desk: Desk) -> None:
    """The epoch is the fence: a scheduler that slept through its lease ends."""
    store = desk.open(lease_ms=1)
    book = RunBook(store.database, 1)
    key = RunKey(RunKind.NIGHTLY, desk.psp, DAY)
    first = await book.claim(key, "first", is_again=False)
    second = await _claim_when_free(book, key)
    assert isinstance(first, Claim)

    with pytest.raises(Superseded):
        await book.step(first, {"phase": "stage"})

    assert (first.epoch, second.epoch) == (1, 2)
    assert desk.rows("SELECT progress FROM reconciliation.runs WHERE psp = %s", desk.psp) == [("{}",)]


async def _claim_when_free(book: RunBook, key: RunKey) -> Claim:
    while True:
        found = await book.claim(key, "second", is_again=False)
        if isinstance(found, Claim):
            return found


async def test_a_run_under_a_living_holder_is_left_to_it(desk: Desk) -> None:
    """A lease is a minute, and each step renews it."""
    store = desk.open()
    key = RunKey(RunKind.NIGHTLY, desk.psp, DAY)
    await RunBook(store.database).claim(key, "alive", is_again=False)

    assert await store.runs.run(key, "other") is None


async def test_a_psp_without_a_contract_is_misconfigured(desk: Desk) -> None:
    """Its fees could not be judged: better no run than a wrong one."""
    with pytest.raises(Misconfigured):
        await desk.open().runs.run(RunKey(RunKind.NIGHTLY, f"nobody-{desk.psp}", DAY), "x")


@pytest.mark.parametrize(
    ("met", "reason"),
    [
        (Bug("two and two are five"), "two and two are five"),
        (ValueError("a parser's \0 own"), 'ValueError("a parser\'s \\x00 own")'),
        (KeyError("a name"), "KeyError('a name')"),
    ],
)
async def test_a_run_that_meets_what_cannot_be_fails_once_and_may_be_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, met: Exception, reason: str
) -> None:
    """It would stumble again at every tick: it says why, and waits for people."""
    store = desk.open()
    orders = desk.orders(2)
    desk.write(orders)
    await desk.take(store, desk.file(orders))

    def broken(*_: Any) -> Any:
        raise met

    with monkeypatch.context() as patched:
        patched.setattr(reconciliation_nightly, "conclude", broken)
        failed = await desk.night(store)
    again = await desk.night(store)
    waiting = [run for run in await store.runs.failed() if run.key.psp == desk.psp]
    mended = await desk.night(store, is_again=True)

    assert (failed.state, failed.summary.reason) == (RunState.FAILED, reason)
    assert again == failed
    assert (mended.state, mended.attempt) == (RunState.DONE, 2)
    assert waiting == [failed]
    assert [run for run in await store.runs.failed() if run.key.psp == desk.psp] == []


# ---- again ---------------------------------------------------------------------------------------------------------


async def test_a_corrected_file_and_another_attempt_tell_the_difference_and_close_what_is_right_now(
    desk: Desk,
) -> None:
    """Point 6: re-running an old day shows what changed; a case that only the old file had closes with an act."""
    store = desk.open(line_due_ms=0)
    orders = desk.orders(5)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=_wrong_fee))
    first = await desk.night(store)
    assert desk.cases() == [("wrong_fee", "manual", "OPEN")]

    await desk.take(store, desk.file(orders, spoil=lambda rows: rows[::-1]))
    second = await desk.night(store, is_again=True)

    assert (first.attempt, second.attempt) == (1, 2)
    assert desk.cases() == [("wrong_fee", "manual", "RESOLVED")]
    ((line_id,),) = desk.rows("SELECT line_id FROM reconciliation.mismatches WHERE psp = %s", desk.psp)
    order = f"order/charge/1/{desk.tenant}/{orders[0].order_id}"
    differences = await desk.differences(store, first, second)
    assert [(each.item, each.before.split(" (")[0], each.after) for each in differences] == [
        (f"line/{line_id}", "MISMATCH wrong_fee", "MATCHED"),
        (order, "MISMATCH wrong_fee", "MATCHED"),
    ]
    assert [run.run_id for run in await store.runs.list(RunKind.NIGHTLY, 100, "") if run.key.psp == desk.psp] == [
        second.run_id, first.run_id,
    ]  # fmt: skip


async def test_an_open_case_is_told_as_the_newest_file_has_it(desk: Desk) -> None:
    """The same line is wrong in the corrected file too, in another way: one case, with the values of now."""
    store = desk.open()
    orders = desk.orders(2)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=_wrong_fee))
    await desk.night(store)
    told = "SELECT theirs FROM reconciliation.mismatches WHERE psp = %s"
    before = desk.rows(told, desk.psp)

    await desk.take(store, desk.file(orders, spoil=lambda rows: _wrong_fee(rows, "2.00", "8.00")))
    await desk.night(store, is_again=True)

    assert len(before) == 1
    assert "2.00" in desk.rows(told, desk.psp)[0][0]
    assert "2.00" not in before[0][0]


def _wrong_fee(rows: list[Row], fee: str = "1.00", net: str = "9.00") -> list[Row]:
    first = list(rows[0])
    first[AT["fee"]], first[AT["net"]] = fee, net
    return [first, *rows[1:]]


async def test_the_same_day_again_finds_the_same(desk: Desk) -> None:
    """Same files, same rules, same items: attempts differ in nothing, and no case is opened twice."""
    store = desk.open(line_due_ms=0)
    orders = desk.orders(7)
    desk.write(orders[:6])
    await desk.take(store, desk.file(orders[1:]))

    first, second = await desk.night(store), await desk.night(store, is_again=True)

    assert first.summary == second.summary
    assert await desk.differences(store, first, second) == []
    assert [kind for kind, _, _ in desk.cases()] == ["missing_line", "unknown_charge"]
