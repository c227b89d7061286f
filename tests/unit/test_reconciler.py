"""The reconciler's process: everything once, whatever dies, and a late file makes its day run again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors import reconciler as actors_reconciler
from actors.inbox import Inbox
from actors.reconciler import RunAsked, keep
from tests.unit.reconciler_fakes import House
from tests.unit.server_fakes import MemoryLog
from zerosum.errors import Bug, Unavailable
from zerosum.reconciling import SCHEDULE, RunKey, RunKind, RunRow

YESTERDAY = RunKey(RunKind.NIGHTLY, "stripe", "2026-11-25")
HOUR = RunKey(RunKind.INSIDE, "", "2026-11-26T07")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house of its own."""
    return House(tmp_path)


# ---- the schedule at work ------------------------------------------------------------------------------------------


async def test_a_tick_runs_what_is_due_and_the_next_finds_nothing_more(house: House) -> None:
    reconciler = house.copy()
    await reconciler.tick()
    await reconciler.tick()

    assert house.ran() == [(YESTERDAY, 1), (HOUR, 1)]
    assert (reconciler.figures.ticks, reconciler.figures.runs) == (2, 2)


async def test_a_run_that_failed_is_told_as_an_error(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for people: they must hear of it."""
    log = ErrorLog()
    monkeypatch.setattr(actors_reconciler, "_log", log)
    house.runs.failing = {YESTERDAY}

    await house.copy().tick()

    assert [(line["run"], line["state"]) for line in log.errors] == [("2026-11-25-1", "FAILED")]
    assert [line["state"] for line in log.lines] == ["DONE"]


class ErrorLog(MemoryLog):
    """Keeps errors apart."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[dict[str, Any]] = []

    def error(self, event: str, **line: Any) -> None:
        """Keeps the line."""
        self.errors.append({"event": event, **line})


async def test_two_days_of_a_psp_are_run_one_after_another(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night asks what the others have found; it must not miss what one finds at the same moment."""
    at_work: list[int] = [0]
    real = house.runs.run

    async def counted(key: RunKey, holder: str, *, is_again: bool = False, asked_by: str = SCHEDULE) -> RunRow | None:
        at_work.append(at_work[-1] + 1)
        await asyncio.sleep(0)
        at_work.append(at_work[-1] - 1)
        return await real(key, holder, is_again=is_again, asked_by=asked_by)

    monkeypatch.setattr(house.runs, "run", counted)
    reconciler = house.copy()
    days = [RunKey(RunKind.NIGHTLY, "stripe", f"2026-11-{day}") for day in (23, 24, 25)]
    await asyncio.gather(*(reconciler.run(RunAsked(day, is_again=False, asked_by="ada")) for day in days))

    assert house.ran() == [(day, 1) for day in days]
    assert max(at_work) == 1


async def test_two_copies_make_each_run_once(house: House) -> None:
    """Row P26's rule for runs: whoever is second gets the stored row."""
    await asyncio.gather(house.copy("one").tick(), house.copy("two").tick())

    assert sorted(key.period for key, _ in house.ran()) == sorted({YESTERDAY.period, HOUR.period})


async def test_a_late_file_makes_its_day_run_again(house: House) -> None:
    """Row L11: the run at the deadline saw no file; the file comes; the next attempt sees it."""
    reconciler = house.copy()
    await reconciler.tick()
    house.files.now_ms = house.runs.now_ms + 1
    house.put("day.csv", manifest="{}")
    house.runs.now_ms += 2
    await reconciler.tick()
    await reconciler.tick()

    assert house.ran() == [(YESTERDAY, 1), (HOUR, 1), (YESTERDAY, 2)]


async def test_a_re_issue_of_a_day_long_ago_is_judged_once_though_its_run_is_no_longer_listed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether such a day has run is asked by its key: the newest runs tell nothing of it."""
    monkeypatch.setattr(actors_reconciler, "_LOOKED_AT", 7)
    old = RunKey(RunKind.NIGHTLY, "stripe", "2026-01-02")
    reconciler = house.copy()
    await house.runs.run(old, "one")
    await reconciler.tick()
    house.files.day, house.files.now_ms = old.period, house.runs.now_ms + 1
    house.put("day.csv", manifest="{}")
    house.runs.now_ms += 2
    for _ in range(3):
        await reconciler.tick()

    assert [ran for ran in house.ran() if ran[0] == old] == [(old, 1), (old, 2)]


async def test_a_file_that_was_committed_while_its_day_began_to_run_makes_it_run_again_once(house: House) -> None:
    """It was decided before the run began and seen after it: its clock alone would leave it out for ever."""
    house.put("day.csv", manifest="{}")
    reconciler = house.copy()
    house.files.now_ms, house.runs.now_ms = 5, 10
    await Inbox(house.root, house.files, ["stripe"]).look()
    house.runs.unseen = set(house.files.rows)
    await reconciler.tick()
    house.runs.unseen = set()
    await reconciler.tick()
    await reconciler.tick()

    assert [ran for ran in house.ran() if ran[0] == YESTERDAY] == [(YESTERDAY, 1), (YESTERDAY, 2)]


async def test_a_run_that_died_midway_is_gone_on_with_by_the_next_copy(house: House) -> None:
    """Row P31: the same attempt, once in the table."""
    house.runs.left_running.add(YESTERDAY)
    await house.copy("one").tick()
    await house.copy("two").tick()

    assert {(row.key, row.attempt, row.holder) for row in house.runs.rows} == {(YESTERDAY, 1, "two"), (HOUR, 1, "one")}


@pytest.mark.parametrize("trouble", [Unavailable("the statement took too long"), ValueError("a parser's own")])
async def test_a_night_that_stumbles_at_every_tick_holds_up_neither_the_other_days_nor_what_is_to_be_sent(
    house: House, trouble: Exception
) -> None:
    """What two people approved is sent, and every other day is judged, however long the oldest one is in trouble."""
    oldest = RunKey(RunKind.NIGHTLY, "stripe", "2026-11-24")
    house.files.day = oldest.period
    house.put("day.csv", manifest="{}")
    house.runs.troubles[oldest] = trouble
    reconciler, sent = house.copy(), []
    for _ in range(2):
        house.outbox.waiting = 1
        await reconciler.tick()
        sent.append(house.outbox.waiting)

    assert house.ran() == [(YESTERDAY, 1), (HOUR, 1)]
    assert sent == [0, 0]
    assert (reconciler.figures.ticks, reconciler.figures.ticks_failed) == (2, 2)


async def test_what_cannot_be_sent_is_told_and_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ErrorLog()
    monkeypatch.setattr(actors_reconciler, "_log", log)
    house.outbox.waiting, house.outbox.away = 1, 1
    reconciler = house.copy()
    await reconciler.tick()
    first = house.outbox.waiting
    await reconciler.tick()

    assert (first, house.outbox.waiting, reconciler.figures.ticks_failed) == (1, 0, 1)
    assert [line["at"] for line in log.lines if line["event"] == "the reconciler waits"] == ["outbox"]


async def test_what_waits_is_sent_to_the_last_one(house: House) -> None:
    house.outbox.waiting = 1_203
    reconciler = house.copy()
    await reconciler.tick()

    assert (house.outbox.waiting, reconciler.figures.sent) == (0, 1_203)


async def test_a_run_names_who_asked_for_it_and_one_that_is_due_names_the_schedule(house: House) -> None:
    """Another attempt opens and closes cases and may start fixes: in whose name it was begun stands in its row."""
    reconciler = house.copy()
    await reconciler.tick()
    due = {row.asked_by for row in house.runs.rows}
    again = await reconciler.run(RunAsked(YESTERDAY, is_again=True, asked_by="ada"))

    assert due == {SCHEDULE}
    assert again is not None
    assert (again.attempt, again.asked_by) == (2, "ada")


async def test_a_run_that_is_asked_for_joins_the_one_under_way(house: House) -> None:
    """Two people press the button: one run."""
    reconciler = house.copy()
    rows = await asyncio.gather(
        *(reconciler.run(RunAsked(YESTERDAY, is_again=False, asked_by="ada")) for _ in range(3))
    )

    assert house.ran() == [(YESTERDAY, 1)]
    assert {row.run_id for row in rows if row} == {house.runs.rows[0].run_id}


async def test_a_run_that_takes_long_goes_on_after_its_asker_was_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: it is being done. It is not abandoned."""
    gate = asyncio.Event()
    inner = house.runs.run

    async def slow(key: RunKey, holder: str, *, is_again: bool = False, asked_by: str = SCHEDULE) -> RunRow | None:
        await gate.wait()
        return await inner(key, holder, is_again=is_again, asked_by=asked_by)

    monkeypatch.setattr(house.runs, "run", slow)
    reconciler = house.copy()
    told = await reconciler.run(RunAsked(YESTERDAY, is_again=False, asked_by="ada"), within_s=0)
    gate.set()
    after = await reconciler.run(RunAsked(YESTERDAY, is_again=False, asked_by="ada"))

    assert told is None
    assert after is not None
    assert house.ran() == [(YESTERDAY, 1)]


@pytest.mark.parametrize("trouble", [Unavailable("away"), Bug("a broken invariant"), ValueError("a parser's own")])
async def test_no_trouble_ends_the_loop(house: House, trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one tick stumbles over, the next begins anew."""
    reconciler, ticks = house.copy(), 0

    async def look(_: Inbox) -> int:
        nonlocal ticks
        ticks += 1
        if ticks < 3:
            raise trouble
        return 0

    async def sleep(_: float) -> None:
        if ticks >= 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(Inbox, "look", look)
    with pytest.raises(asyncio.CancelledError):
        await keep(reconciler, 1.0, sleep)

    assert reconciler.figures.ticks_failed == 2
    assert house.ran() == [(YESTERDAY, 1), (HOUR, 1)]
