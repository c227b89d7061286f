"""Percentiles, samples and the live counters."""

import io
from pathlib import Path

import pytest

from loadtest.outcome import Outcome
from loadtest.sample import (
    Meter,
    Percentiles,
    Sample,
    Status,
    percentile,
    percentiles,
    read_samples,
    read_status,
    sample_line,
    write_status,
)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.5, 5.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(each) for each in range(1, 101)], 0.95, 95.0),
        ([float(each) for each in range(1, 101)], 0.99, 99.0),
        ([float(each) for each in range(1, 21)], 0.95, 19.0),
        ([float(each) for each in range(1, 11)], 0.99, 10.0),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    """The smallest value that at least the share of all values reach: one that occurred."""
    assert percentile(values, share) == expected


def test_no_values_have_no_percentile() -> None:
    """Nothing is not zero."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    assert percentiles([]) == Percentiles(0, None, None, None, None)


def test_percentiles_do_not_need_order() -> None:
    """The values come as they ended."""
    assert percentiles([3.0, 1.0, 2.0]) == Percentiles(3, 2.0, 3.0, 3.0, 3.0)


def test_a_torn_last_sample_is_left_out(tmp_path: Path) -> None:
    """A load that was killed leaves a file that can be read."""
    sample = Sample(7, "CreatePayment", 1.5, "OK", Outcome.FINAL, 2)
    path = tmp_path / "samples.jsonl"
    path.write_text(sample_line(sample) + sample_line(sample)[:20])

    assert read_samples(path) == [sample]


def test_live_percentiles_look_back_five_seconds_and_count_final_outcomes_only() -> None:
    """A pending answer is quick or slow for reasons of its own."""
    meter = Meter(io.StringIO(), started_ms=0.0)
    for t_ms, latency_ms, outcome in (
        (1_000, 900.0, Outcome.FINAL),
        (9_000, 10.0, Outcome.FINAL),
        (9_100, 10_000.0, Outcome.PENDING),
        (9_200, 3.0, Outcome.READ),
    ):
        meter.began()
        meter.ended(Sample(t_ms, "CreatePayment", latency_ms, "OK", outcome, 1))
    meter.began(orders=3)
    status = meter.status(10_000.0)

    assert (status.p50_ms, status.p99_ms) == (10.0, 10.0)
    assert (status.sent, status.answered, status.in_flight) == (5, 4, 1)
    assert (status.ok, status.pending, status.views, status.orders_sent) == (2, 1, 1, 3)
    assert status.rate_per_s == pytest.approx(0.6)


def test_the_status_file_brings_back_what_was_written(tmp_path: Path) -> None:
    """The demo's display reads it each second."""
    path = tmp_path / "status.json"
    assert read_status(path) is None
    write_status(path, Status(sent=3, p50_ms=1.5, codes={"UNAVAILABLE": 2}))

    assert read_status(path) == Status(sent=3, p50_ms=1.5, codes={"UNAVAILABLE": 2})
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]
