"""Memory under a steady load: the system apart from what stands beside it, and whether it still grows."""

import pytest

from loadtest.bench.finding import Finding
from loadtest.bench.steady import COLUMNS, Reading, finding_of


def _finding(*readings: Reading) -> Finding:
    return finding_of(readings, command="zerosum bench memory")


def _cells(finding: Finding, process: str) -> dict[str, object]:
    (row,) = (row for row in finding.rows if row[0] == process)
    return dict(zip(COLUMNS, row, strict=True))


GROWING_BOOK = [Reading(60.0 * minute, {"shards": 300.0, "simulator": 50.0 + 5.0 * minute}) for minute in range(8)]


def test_what_the_psp_keeps_is_not_growth_of_the_system() -> None:
    """The simulator keeps its book in memory, as a third party may."""
    finding = _finding(*GROWING_BOOK)

    assert _cells(finding, "simulator")["MB a minute, last three"] == pytest.approx(5.0)
    assert _cells(finding, "the system")["MB a minute, last three"] == pytest.approx(0.0)
    assert finding.headline == "memory: 300 MB after 420 s, +0.0 MB a minute in the last three"


def test_a_shard_that_leaks_is_seen_though_it_did_not_at_first() -> None:
    """The last three minutes count, and not what a start takes once."""
    readings = [Reading(60.0 * minute, {"shards": 300.0 + 2.0 * max(minute - 4, 0)}) for minute in range(8)]

    assert _cells(_finding(*readings), "shards") == {
        "process": "shards", "at first, MB": 300.0, "after the load, MB": 306.0,
        "MB a minute, last three": pytest.approx(2.0),
    }  # fmt: skip


def test_a_process_that_ended_counts_as_nothing_from_then_on() -> None:
    finding = _finding(Reading(0.0, {"edge": 80.0, "bench": 40.0}), Reading(10.0, {"bench": 40.0}))

    assert _cells(finding, "edge")["after the load, MB"] == 0.0
    assert finding.headline.startswith("memory: 0 MB")
