"""What Prometheus and the log see of the queue: every class has a figure, also nought; late files and old cases are alerts."""

import asyncio
import io
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from servers import reconciliation_watch
from servers.reconciliation_watch import QueueGauges, watch_queue
from tests.unit.reconciler_fakes import MemoryFiles, MemoryRuns
from tests.unit.server_fakes import MemoryLog
from zerosum.domain.discrepancy import Class
from zerosum.domain.money import Money
from zerosum.errors import Unavailable
from zerosum.finance_queue import Ageing, Band, Suspense
from zerosum.reconciling import Incoming, LateFile, RunKey, RunKind, RunRow, RunState, Summary


def test_the_figures_of_the_queue_are_sums_over_ages_and_nought_where_there_is_nothing() -> None:
    registry = CollectorRegistry()
    gauges = QueueGauges(registry)
    gauges.queue(Ageing([Band(0, 24, Class.MANUAL, 2), Band(24, 72, Class.MANUAL, 3)], 90_500, 1))
    gauges.queue(Ageing([Band(0, 24, Class.UNCLASSIFIED, 1)], 10_000, 0))

    def cases(group: Class) -> float | None:
        return registry.get_sample_value("zerosum_mismatches_open", {"mismatch_class": group})

    assert [cases(group) for group in (Class.MANUAL, Class.UNCLASSIFIED, Class.AUTOMATIC)] == [0, 1, 0]
    assert registry.get_sample_value("zerosum_mismatch_oldest_seconds") == 10
    assert registry.get_sample_value("zerosum_mismatches_overdue") == 0


def test_suspense_has_figures_by_currency_and_direction_and_is_nought_where_it_was_cleared() -> None:
    """L11: a figure of yesterday that stands for ever would be an alert about nothing."""
    registry = CollectorRegistry()
    gauges = QueueGauges(registry)
    euros = Suspense(Money(1_250, "EUR"), Money(300, "EUR"), 2, 90_500)
    gauges.queue(Ageing([], 0, 0, [euros, Suspense(Money(0, "USD"), Money(7, "USD"), 1, 1_000)]))
    gauges.queue(Ageing([], 0, 0, [Suspense(Money(50, "USD"), Money(7, "USD"), 2, 16_000)]))

    def held(currency: str) -> list[float | None]:
        return [
            registry.get_sample_value("zerosum_suspense_minor", {"currency": currency, "direction": direction})
            for direction in ("came", "went")
        ] + [registry.get_sample_value("zerosum_suspense_oldest_seconds", {"currency": currency})]

    assert held("EUR") == [0, 0, 0]
    assert held("USD") == [50, 7, 16]
    gauges.queue(Ageing([], 0, 0, [euros]))
    assert held("EUR") == [1_250, 300, 90]


def test_the_explained_share_and_late_files_are_told() -> None:
    registry = CollectorRegistry()
    gauges = QueueGauges(registry)
    key = RunKey(RunKind.NIGHTLY, "stripe", "2026-11-25")
    gauges.run(RunRow("r", key, 1, "1", RunState.DONE, "h", Summary(explained_ppm=990_000), 1, 7_000))
    gauges.late(2)

    assert registry.get_sample_value("zerosum_reconciliation_explained", {"kind": "nightly"}) == 990_000
    assert registry.get_sample_value("zerosum_reconciliation_ended_seconds", {"kind": "nightly"}) == 7
    assert registry.get_sample_value("zerosum_settlement_files_late") == 2


class Ages:
    """A queue that is as old as it is told to be, look after look; None: the database is away."""

    def __init__(self, *overdue: int | None) -> None:
        self._overdue = list(overdue)

    async def ageing(self, overdue_after_ms: int) -> Ageing:
        """The next of them."""
        overdue = self._overdue.pop(0)
        if overdue is None:
            raise Unavailable("the database is away")
        return Ageing([], 0, overdue)

    async def sleep(self, _: float) -> None:
        """Ends the watch after the last look."""
        if not self._overdue:
            raise asyncio.CancelledError


class LateFiles(MemoryFiles):
    """One file is late; it is new to the first who asks."""

    def __init__(self) -> None:
        super().__init__()
        self._is_new = True

    async def late(self) -> Sequence[LateFile]:
        """The file."""
        is_new, self._is_new = self._is_new, False
        return [LateFile("stripe", "2026-11-25", 1, is_new)]


async def _watched(monkeypatch: pytest.MonkeyPatch, ages: Ages) -> tuple[MemoryLog, CollectorRegistry]:
    """What is said and shown while these ages are looked at, one after the other."""
    log, registry = MemoryLog(), CollectorRegistry()
    monkeypatch.setattr(reconciliation_watch, "_log", log)
    with pytest.raises(asyncio.CancelledError):
        await watch_queue(
            queue=ages, runs=MemoryRuns(MemoryFiles()), files=LateFiles(), gauges=QueueGauges(registry), overdue_after_ms=1,  # type: ignore[arg-type]  # as much of a queue as is watched
            sleep=ages.sleep,
        )  # fmt: skip
    return log, registry


async def test_alerts_are_raised_when_something_changes_and_not_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old cases: a line whenever their number changes. A late file: one line for ever (L11). An outage ends nothing."""
    log, registry = await _watched(monkeypatch, Ages(0, 2, 2, None, 3, 0))

    told = [(line["event"], line.get("cases")) for line in log.lines]
    assert told == [
        ("a settlement file is late", None), ("cases open for too long", 2), ("the queue cannot be looked at", None),
        ("cases open for too long", 3), ("cases open for too long", 0),
    ]  # fmt: skip
    assert registry.get_sample_value("zerosum_settlement_files_late") == 1


async def test_a_queue_that_cannot_be_looked_at_hides_no_late_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reads of the ledger may take longer than a statement may: the other alarms are raised before."""
    log, registry = await _watched(monkeypatch, Ages(None))

    assert [line["event"] for line in log.lines] == ["a settlement file is late", "the queue cannot be looked at"]
    assert registry.get_sample_value("zerosum_settlement_files_late") == 1


async def test_a_refused_file_is_an_alert_once_and_a_figure_until_one_is_accepted_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also a re-issue of a day that has its file: the calendar calls that day neither late nor corrected."""
    log, registry, files, ages = MemoryLog(), CollectorRegistry(), MemoryFiles(), Ages(0, 0, 0, 0)
    monkeypatch.setattr(reconciliation_watch, "_log", log)
    figures: list[float | None] = []
    coming = {1: b"bad: the re-issue", 3: b"the re-issue, whole"}

    async def come(content: bytes) -> None:
        await files.take(io.BytesIO(content), Incoming("stripe", "day.csv", "", "test"))

    await come(b"the day's first file")

    async def sleep(seconds: float) -> None:
        figures.append(registry.get_sample_value("zerosum_settlement_files_refused"))
        await ages.sleep(seconds)
        if content := coming.get(len(figures)):
            await come(content)

    with pytest.raises(asyncio.CancelledError):
        await watch_queue(
            queue=ages, runs=MemoryRuns(MemoryFiles()), files=files, gauges=QueueGauges(registry), overdue_after_ms=1,  # type: ignore[arg-type]  # as much of a queue as is watched
            sleep=sleep,
        )  # fmt: skip

    assert figures == [0, 1, 1, 0]
    assert [(line["event"], line["reason"]) for line in log.lines] == [
        ("a settlement file was refused, and none counts for it", "rows differ")
    ]


async def test_a_failed_run_is_an_alert_once_and_a_figure_until_an_attempt_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of its day is judged or settled. Looks: it has failed, still so, an attempt failed too, and it is made good."""
    log, registry, runs = MemoryLog(), CollectorRegistry(), MemoryRuns(MemoryFiles())
    monkeypatch.setattr(reconciliation_watch, "_log", log)
    day, ages = RunKey(RunKind.NIGHTLY, "stripe", "2026-11-25"), Ages(0, 0, 0, 0)
    figures: list[float | None] = []
    runs.failing = {day}
    await runs.run(day, "h")

    async def sleep(seconds: float) -> None:
        figures.append(registry.get_sample_value("zerosum_reconciliation_failed", {"kind": "nightly"}))
        await ages.sleep(seconds)
        if len(figures) == 3:
            runs.failing.clear()
        if len(figures) > 1:
            await runs.run(day, "h", is_again=True)

    with pytest.raises(asyncio.CancelledError):
        await watch_queue(
            queue=ages, runs=runs, files=MemoryFiles(), gauges=QueueGauges(registry), overdue_after_ms=1,  # type: ignore[arg-type]  # as much of a queue as is watched
            sleep=sleep,
        )  # fmt: skip

    assert figures == [1, 1, 1, 0]
    assert registry.get_sample_value("zerosum_reconciliation_failed", {"kind": "inside"}) == 0
    assert [(line["event"], line["run"]) for line in log.lines] == [
        ("a reconciliation run failed", "2026-11-25-1"), ("a reconciliation run failed", "2026-11-25-2"),
    ]  # fmt: skip


async def test_while_no_run_ends_the_figure_stays_at_the_last_one_that_did() -> None:
    """An alert's rule reads it: a run that is begun again and again is never FAILED. Method: one that failed, too."""
    registry, runs, ages = CollectorRegistry(), MemoryRuns(MemoryFiles()), Ages(0)
    for hour, state, ended_at_ms in (
        ("01", RunState.DONE, 7_000),
        ("02", RunState.FAILED, 8_000),
        ("03", RunState.RUNNING, None),
    ):
        key = RunKey(RunKind.INSIDE, "", f"2026-11-26T{hour}")
        runs.rows.append(RunRow(hour, key, 1, "1", state, "h", Summary(), 1, ended_at_ms))

    with pytest.raises(asyncio.CancelledError):
        await watch_queue(
            queue=ages, runs=runs, files=MemoryFiles(), gauges=QueueGauges(registry), overdue_after_ms=1,  # type: ignore[arg-type]  # as much of a queue as is watched
            sleep=ages.sleep,
        )  # fmt: skip

    assert registry.get_sample_value("zerosum_reconciliation_ended_seconds", {"kind": "inside"}) == 7
