"""Named crash points: dead silent when off, deadly once when ordered. The kill itself is real: in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zerosum.crash import Act, Point, Process, arm, place_order, reach

PASSES = """
import sys
from pathlib import Path
from zerosum.crash import Point, Process, arm, reach
arm(Path(sys.argv[1]), Process.PAYMENT_SHARD)
for number in range(1, 4):
    print(number, flush=True)
    reach(Point.PSP_BEFORE, "confirm")
"""
"""Passes one point three times."""


def passes(folder: Path) -> tuple[int, str]:
    """Exit status and the passes that were begun."""
    ended = subprocess.run(
        [sys.executable, "-c", PASSES, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.replace("\n", "")


def test_points_do_nothing_where_no_folder_is_set(tmp_path: Path) -> None:
    """Off is the default: an order that lies there is nobody's."""
    order = tmp_path / "payment-shard@commit.before"
    order.write_text("1")
    arm(None, Process.PAYMENT_SHARD)

    for point in Point:
        reach(point)

    assert order.exists()


def test_process_dies_at_the_pass_it_was_ordered_to_and_not_again_after_its_restart(tmp_path: Path) -> None:
    """An order is carried out once; what is left says by whom."""
    fired = place_order(tmp_path, Process.PAYMENT_SHARD, Point.PSP_BEFORE, detail="confirm", nth=2)

    first, second = passes(tmp_path), passes(tmp_path)

    assert (first, second) == ((-signal.SIGKILL, "12"), (0, "123"))
    assert fired.read_text().isdecimal()
    assert [path.name for path in tmp_path.iterdir()] == ["payment-shard@psp.before@confirm.fired"]


def test_order_for_another_process_or_another_detail_is_not_obeyed(tmp_path: Path) -> None:
    """An order names who is to die, where, and at which call."""
    place_order(tmp_path, Process.LEDGER_SHARD, Point.COMMIT_BEFORE)
    place_order(tmp_path, Process.PAYMENT_SHARD, Point.PSP_BEFORE, detail="prepare")

    assert passes(tmp_path) == (0, "123")


def test_order_without_a_detail_is_for_any(tmp_path: Path) -> None:
    """The verb may be left open."""
    place_order(tmp_path, Process.PAYMENT_SHARD, Point.PSP_BEFORE)

    assert passes(tmp_path) == (-signal.SIGKILL, "1")


def test_process_that_is_told_to_stop_stands_at_the_point_and_goes_on_from_there(tmp_path: Path) -> None:
    """SIGSTOP at a point: nothing after it has run, and everything after it runs once the process is let go."""
    fired = place_order(tmp_path, Process.PAYMENT_SHARD, Point.PSP_BEFORE, nth=2, act=Act.STOP)
    with subprocess.Popen([sys.executable, "-c", PASSES, str(tmp_path)], stdout=subprocess.PIPE, text=True) as passing:
        _, told = os.waitpid(passing.pid, os.WUNTRACED)
        assert passing.stdout is not None
        begun = passing.stdout.readline() + passing.stdout.readline()
        stopped_by = fired.read_text()
        passing.send_signal(signal.SIGCONT)
        rest = passing.stdout.read()

    assert os.WIFSTOPPED(told)
    assert (begun, rest) == ("1\n2\n", "3\n")
    assert stopped_by == str(passing.pid)
    assert passing.returncode == 0


def test_order_that_can_never_be_carried_out_is_refused(tmp_path: Path) -> None:
    """A test that waits for a death that cannot come would say nothing."""
    with pytest.raises(ValueError, match="never passes"):
        place_order(tmp_path, Process.WALLET_SHARD, Point.PSP_BEFORE)
