"""CPU of a family of processes between two readings: what ends in between is neither lost nor subtracted.

Method: real children that compute until their own clock of CPU says so, and end when they are told to.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtest.probe import ProcessCpu, cpu_ms_by_process, cpu_reading, cpu_spent_ms

SERVER = """
import os, signal, sys, time
if sys.argv[2] == "ignoring":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def compute(ms):
    end = time.process_time() + ms / 1_000
    while time.process_time() < end:
        pass
go, ended = os.pipe(), os.pipe()
worker = os.fork()
if worker == 0:
    compute(300)
    os.write(ended[1], b".")
    os.read(go[0], 1)
    compute(200)
    os._exit(0)
os.read(ended[0], 1)
print("computed", flush=True)
sys.stdin.readline()
os.write(go[1], b".")
try:
    os.waitpid(worker, 0)
except ChildProcessError:
    pass
print("ended", flush=True)
sys.stdin.readline()
"""
"""A server with a worker, as a postmaster with a backend: 300 ms of CPU, a pause, 200 more, the worker's end."""


@contextmanager
def _server(habit: str) -> Iterator["subprocess.Popen[str]"]:
    """`habit`: "waiting" for its worker's end, or "ignoring" it, as a raylet does. It passes for a part of the database."""
    command = [sys.executable, "-c", SERVER, "postgres", habit]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server
        finally:
            server.kill()


def _reach(server: "subprocess.Popen[str]", state: str) -> None:
    assert server.stdout is not None
    assert server.stdout.readline() == f"{state}\n"


def _go_on(server: "subprocess.Popen[str]") -> None:
    assert server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()


def test_a_worker_that_ends_between_two_readings_is_counted_with_its_kind() -> None:
    """200 ms are its own of the time between; its 300 from before are neither counted again nor taken away."""
    with _server("waiting") as server:
        _reach(server, "computed")
        before, total = cpu_reading(), cpu_ms_by_process()["database"]
        _go_on(server)
        _reach(server, "ended")
        spent = cpu_spent_ms(before, cpu_reading())

        assert 180.0 <= spent["database"] < 300.0
        assert cpu_ms_by_process()["database"] - total >= 180.0


def test_a_worker_whose_end_nobody_waits_for_is_not_taken_away() -> None:
    """What it spent at the end is lost with it; what it had spent before was no less for that."""
    with _server("ignoring") as server:
        _reach(server, "computed")
        before = cpu_reading()
        _go_on(server)
        _reach(server, "ended")
        spent = cpu_spent_ms(before, cpu_reading())

        assert 0.0 <= spent["database"] < 180.0


def _cpu(name: str, parent: int, own_ms: float, waited_for_ms: float = 0.0) -> ProcessCpu:
    return ProcessCpu(name, parent, own_ms, waited_for_ms)


@pytest.mark.parametrize(
    ("what", "before", "after", "spent"),
    [
        ("goes on", {(2, 0): _cpu("edge", 1, 50.0)}, {(2, 0): _cpu("edge", 1, 80.0)}, {"edge": 30.0}),
        ("is new", {}, {(2, 0): _cpu("edge", 1, 80.0)}, {"edge": 80.0}),
        (
            "is another by the same number",
            {(2, 0): _cpu("edge", 1, 500.0)}, {(2, 7): _cpu("edge", 1, 80.0)}, {"edge": 80.0},
        ),
        (
            "ends, its parent of another kind",
            {(1, 0): _cpu("bench", 0, 10.0, 40.0), (2, 0): _cpu("edge", 1, 500.0)},
            {(1, 0): _cpu("bench", 0, 15.0, 570.0)}, {"bench": 5.0, "edge": 30.0},
        ),
        (
            "ends with a child of its own",
            {(1, 0): _cpu("bench", 0, 10.0), (2, 0): _cpu("edge", 1, 500.0), (3, 0): _cpu("edge", 2, 100.0)},
            {(1, 0): _cpu("bench", 0, 10.0, 625.0)}, {"bench": 0.0, "edge": 25.0},
        ),
        (
            "comes and goes",
            {(1, 0): _cpu("database", 0, 10.0, 40.0)}, {(1, 0): _cpu("database", 0, 10.0, 60.0)}, {"database": 20.0},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_a_process_spends_that(
    what: str,
    before: dict[tuple[int, int], ProcessCpu],
    after: dict[tuple[int, int], ProcessCpu],
    spent: dict[str, float],
) -> None:
    """Each is told by its kind; what ended unseen, by its parent's."""
    assert cpu_spent_ms(before, after) == spent, what
