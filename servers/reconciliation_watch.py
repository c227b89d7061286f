"""What the reconciliation server watches while it serves: the queue's age, suspense, the last runs, what failed, late files.

Labels are classes, currencies and kinds of runs: never an id, a tenant or a value. Invariant: a watch changes nothing but the
mark that an alarm about a late file has been raised.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence

from prometheus_client import CollectorRegistry, Gauge

from servers.log import logger_of
from zerosum.domain.discrepancy import Class
from zerosum.domain.money import Money
from zerosum.errors import Retryable
from zerosum.finance_queue import Ageing, FinanceQueue, Suspense
from zerosum.reconciling import FileRow, Files, LateFile, RunKind, RunRow, Runs, RunState

_log = logger_of("reconciliation")

EVERY_S = 15.0
"""Four looks a minute; people answer in hours."""
_RUNS_LOOKED_AT = 50


class QueueGauges:
    """What Prometheus sees of the queue and of the runs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge("zerosum_mismatches_open", "Cases not closed", ("mismatch_class",), registry=registry)
        self._oldest = Gauge("zerosum_mismatch_oldest_seconds", "Age of the oldest open case", registry=registry)
        self._overdue = Gauge("zerosum_mismatches_overdue", "Cases open for too long", registry=registry)
        self._suspense = Gauge(
            "zerosum_suspense_minor",
            "What stands in suspense, in minor units",
            ("currency", "direction"),
            registry=registry,
        )
        self._suspense_oldest = Gauge(
            "zerosum_suspense_oldest_seconds",
            "For how long the oldest part in suspense has stood",
            ("currency",),
            registry=registry,
        )
        self._currencies = set[str]()
        self._explained = Gauge(
            "zerosum_reconciliation_explained",
            "Explained share of the newest run, in millionths",
            ("kind",),
            registry=registry,
        )
        self._ended = Gauge(
            "zerosum_reconciliation_ended_seconds",
            "When the newest run ended, since 1970",
            ("kind",),
            registry=registry,
        )
        self._failed = Gauge(
            "zerosum_reconciliation_failed", "Days and hours whose run failed for good", ("kind",), registry=registry
        )
        self._refused = Gauge(
            "zerosum_settlement_files_refused", "Refused files that none was accepted for since", registry=registry
        )
        self._late = Gauge("zerosum_settlement_files_late", "Settlement files due and not there", registry=registry)

    def queue(self, ageing: Ageing) -> None:
        """How old the open cases are, and what stands in suspense."""
        cases: Counter[Class] = Counter()
        for band in ageing.bands:
            cases[band.group] += band.cases
        for group in Class:
            self._open.labels(group).set(cases[group])
        self._oldest.set(ageing.oldest_ms // 1_000)
        self._overdue.set(ageing.overdue)
        self._held(ageing.suspense)

    def _held(self, suspense: Sequence[Suspense]) -> None:
        """By currency; one that was told before, and where nothing stands any more, is nought."""
        held = {each.came.currency: each for each in suspense}
        self._currencies |= held.keys()
        for currency in self._currencies:
            nothing = Money(0, currency)
            each = held.get(currency, Suspense(nothing, nothing, 0, 0))
            self._suspense.labels(currency, "came").set(each.came.amount_minor)
            self._suspense.labels(currency, "went").set(each.went.amount_minor)
            self._suspense_oldest.labels(currency).set(each.oldest_ms // 1_000)

    def run(self, run: RunRow) -> None:
        """The newest run of its kind that has ended."""
        self._explained.labels(run.key.kind).set(run.summary.explained_ppm)
        self._ended.labels(run.key.kind).set((run.ended_at_ms or 0) // 1_000)

    def failed(self, runs: Collection[RunRow]) -> None:
        """What has failed and was not made good."""
        for kind in RunKind:
            self._failed.labels(kind).set(len({run.key for run in runs if run.key.kind is kind}))

    def refused(self, files: int) -> None:
        """So many files were refused, and none was accepted for them since."""
        self._refused.set(files)

    def late(self, files: int) -> None:
        """So many files are late."""
        self._late.set(files)


async def watch_queue(
    *,
    queue: FinanceQueue,
    runs: Runs,
    files: Files,
    gauges: QueueGauges,
    overdue_after_ms: int,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Looks for ever. Raises an alert (log line, metric) while cases are older than the limit, and once for each late file,
    each refused file and each failed run; its metric stands until the file is there, or the run is made good."""
    alerted, told, told_files = 0, set[str](), set[str]()
    while True:
        try:
            for kind in RunKind:
                ended = (row for row in await runs.list(kind, _RUNS_LOOKED_AT, "") if row.state is RunState.DONE)
                if (newest := next(ended, None)) is not None:
                    gauges.run(newest)
            failed = await runs.failed()
            gauges.failed(failed)
            for run in failed:
                if run.run_id not in told:
                    _log.error("a reconciliation run failed", run=run.run_id, reason=run.summary.reason)
            told = {run.run_id for run in failed}
            refused = await files.refused()
            gauges.refused(len(refused))
            for file in refused:
                if file.file_id not in told_files:
                    _tell_refused(file)
            told_files = {file.file_id for file in refused}
            late = await files.late()
            gauges.late(len(late))
            for each in late:
                _tell_late(each)
            # last: what it reads grows with suspense, and where it takes too long all other alarms have been raised
            ageing = await queue.ageing(overdue_after_ms)
            gauges.queue(ageing)
            if ageing.overdue != alerted:
                _log.warning("cases open for too long", cases=ageing.overdue, older_than_ms=overdue_after_ms)
            alerted = ageing.overdue
        except Retryable as away:
            _log.warning("the queue cannot be looked at", reason=str(away))
        await sleep(EVERY_S)


def _tell_refused(file: FileRow) -> None:
    _log.error(
        "a settlement file was refused, and none counts for it", psp=file.psp, file=file.name, file_id=file.file_id,
        reason=file.reason,
    )  # fmt: skip


def _tell_late(file: LateFile) -> None:
    if file.is_new:
        _log.error("a settlement file is late", psp=file.psp, day=file.day)
