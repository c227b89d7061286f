"""`zerosum bench reconcile` itself, on a small file: books, file, damage of every kind, another process that reconciles."""

import json

import pytest

from loadtest.bench.finding import STANDARD_OUTPUT
from loadtest.bench.reconcile import bench_reconcile
from simulator.psp.damage import KINDS


@pytest.mark.slow
def test_every_kind_of_damage_is_found_in_its_class_without_a_false_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 4, the figures: status 0 says that all of it holds. L1 to L9."""
    status = bench_reconcile(lines=400, rate=0.2, seed=3, json_file=STANDARD_OUTPUT)

    told = json.loads(capsys.readouterr().out)
    assert (status, told["holds"], told["false_alarms"]) == (0, True, [])
    assert told["planted"].keys() == KINDS.keys()
    assert told["found"] == told["in_class"] == told["planted"]
