"""What Prometheus sees of the queue: every class has a figure, also nought; the newest run's share; late files."""

from prometheus_client import CollectorRegistry

from servers.reconciliation_watch import QueueGauges
from zerosum.domain.discrepancy import Class
from zerosum.finance_queue import Ageing, Band
from zerosum.reconciling import RunKey, RunKind, RunRow, RunState, Summary


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


def test_the_explained_share_and_late_files_are_told() -> None:
    registry = CollectorRegistry()
    gauges = QueueGauges(registry)
    key = RunKey(RunKind.NIGHTLY, "stripe", "2026-11-25")
    gauges.run(RunRow("r", key, 1, "1", RunState.DONE, "h", Summary(explained_ppm=990_000), 1, 7_000))
    gauges.late(2)

    assert registry.get_sample_value("zerosum_reconciliation_explained", {"kind": "nightly"}) == 990_000
    assert registry.get_sample_value("zerosum_reconciliation_ended_seconds", {"kind": "nightly"}) == 7
    assert registry.get_sample_value("zerosum_settlement_files_late") == 2
