"""The parts of chaos that need no system: the wire, the proxy's cuts, the deck, the results' file, the verdict."""

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from subprocess import TimeoutExpired
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest.chaos import process
from loadtest.chaos.arena import Arena
from loadtest.chaos.case import CASES, MATRIX, Harm, Journey
from loadtest.chaos.frontend import Frontend, Message
from loadtest.chaos.monkey import TARGETS, WRONG_MAX, Strike, Target, deck, rampage, strike
from loadtest.chaos.proxy import Cut, DatabaseProxy
from loadtest.chaos.result import Result, Results
from loadtest.chaos.run import chaos
from loadtest.chaos.scenario import Scenario, told
from loadtest.chaos.story import Plan, Story, last_line
from loadtest.chaos.wait import NeverCame, Patience, until
from servers.supervisor import System
from zerosum.settings import Settings


def message(kind: bytes, body: bytes) -> bytes:
    """A message of the frontend."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


STARTUP = (8 + 5).to_bytes(4, "big") + (196_608).to_bytes(4, "big") + b"user\0"
SYNC = message(b"S", b"")
COMMIT = message(b"B", b"\0commit\0") + message(b"E", b"\0\0\0\0\0") + SYNC


def prepared(begin: bytes) -> bytes:
    """A session that has prepared BEGIN and COMMIT and is in a transaction."""
    parses = message(b"P", b"begin\0" + begin + b"\0\0\0") + message(b"P", b"commit\0COMMIT\0\0\0")
    return STARTUP + parses + message(b"B", b"\0begin\0") + SYNC


WRITE = prepared(b"BEGIN ISOLATION LEVEL SERIALIZABLE")
READ = prepared(b"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")


@pytest.mark.parametrize("piece", [1, 7, 1_000])
def test_only_the_commit_of_a_write_is_a_commit_however_its_bytes_come(piece: int) -> None:
    """A reader's COMMIT decides nothing: to cut it would prove nothing."""
    found = []
    for session in (WRITE + COMMIT, READ + COMMIT):
        frontend, messages = Frontend(), list[Message]()
        for at in range(0, len(session), piece):
            messages += frontend.feed(session[at : at + piece])
        assert b"".join(each.data for each in messages) == session
        found.append([each.is_commit for each in messages].count(True))

    assert found == [1, 0]


@asynccontextmanager
async def sink() -> AsyncIterator[tuple[int, "asyncio.Future[bytes]"]]:
    """A server of one connection: its port, and what it was sent until that ended."""
    got, ended = bytearray(), asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while data := await reader.read(1_000):
                got.extend(data)
        writer.close()
        ended.set_result(bytes(got))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], ended
    finally:
        server.close()


@pytest.mark.parametrize("cut", Cut)
async def test_a_cut_at_commit_ends_the_connection_before_or_after_the_server_has_it(cut: Cut) -> None:
    """D2: the client is left in doubt either way; what the server has is what tells them apart."""
    async with sink() as (port, ended):
        proxy = DatabaseProxy(port)
        await proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        ports = process.ports_to(os.getpid(), proxy.port)
        order = proxy.cut_at_commit(ports, cut)
        writer.write(WRITE + COMMIT)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        got, hit = await ended, await order.carried_out
        await proxy.stop()

    assert {hit} == ports
    assert got == WRITE + COMMIT if cut is Cut.AFTER else WRITE.startswith(got)


async def test_a_database_that_dies_ends_the_connection_of_its_client() -> None:
    """A client of a dead server that is never told so would wait for ever: the proxy would have invented a fault."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(die, "127.0.0.1", 0) as server:
        proxy = DatabaseProxy(server.sockets[0].getsockname()[1])
        await proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(WRITE)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await proxy.stop()

    assert process.ports_to(os.getpid(), proxy.port) == set()


def test_the_deck_holds_every_harm_of_every_target_and_is_the_same_for_a_seed() -> None:
    """Nobody is spared, and a run can be seen again."""
    size = sum(len(target.harms) for target in TARGETS.values())
    first, second = (list(islice(deck(random.Random(7), 2), size * 2)) for _ in range(2))

    assert first == second
    assert len(set(first[:size])) == size
    assert set(first[size:]) == set(first[:size])


def test_results_of_other_code_are_void_and_wrong_ones_are_missing(tmp_path: Path) -> None:
    """A second run goes on with what is missing; green of yesterday's code says nothing of today's."""
    good, bad = Result(cell="a kill", at_ms=1, recovery_s=1.0), Result(cell="b kill", at_ms=2, wrong="lost")
    kept = Results(tmp_path / "matrix.json", "code-1")
    kept.put(good)
    kept.put(bad)

    same, other = Results(tmp_path / "matrix.json", "code-1"), Results(tmp_path / "matrix.json", "code-2")

    assert same.get("a kill") == good
    assert same.missing({"a kill": 0.0, "b kill": 0.0, "c kill": 0.0}) == ["b kill", "c kill"]
    assert other.missing({"a kill": 0.0}) == ["a kill"]


def test_a_process_that_stood_still_for_two_seconds_has_not_stood_still_for_twenty(tmp_path: Path) -> None:
    """A quick run before does not answer for the whole one; the whole one does for the quick."""
    kept = Results(tmp_path / "matrix.json", "code")
    kept.put(Result(cell="a stop", at_ms=1, stop_s=2.0))
    kept.put(Result(cell="b stop", at_ms=1, stop_s=20.0))

    assert kept.missing({"a stop": 20.0, "b stop": 20.0}) == ["a stop"]
    assert kept.missing({"a stop": 2.0, "b stop": 2.0}) == []


def test_whatever_went_wrong_is_a_reason_and_silence_is_none() -> None:
    """Clean is said of what was done and audited, never of what was left out."""
    plan = Plan(
        minutes=0,
        seed=1,
        points="few",
        stop_s=1,
        tps=1,
        split_brain=False,
        lost_ray=False,
        disk_full=False,
        rpc_failures=True,
    )
    strike = Strike(t_ms=1, target="edge", harm=Harm.KILL, pids=(7,), recovery_s=None, wrong="never came back")
    done = [Result(cell=cell.name, at_ms=1) for cell in plan.cells]
    story = Story(
        plan=plan, results=[replace(done[0], wrong="charged twice"), *done[2:]], strikes=[strike], rpc_failures=0
    )

    assert story.reasons == [
        f"{done[0].cell}: charged twice",
        "kill edge (7): never came back",
        "1 cells were not carried out",
        "no call of Ray's was made to fail: nothing is proved of R1",
        "there was no audit",
    ]
    assert last_line(story.reasons).startswith("NOT CLEAN: ")
    assert last_line([]) == "CLEAN"


async def test_a_limit_is_longer_where_the_machine_does_not_let_us_run_and_never_twice_as_long() -> None:
    """A slow machine is not taken for a system that does not come back; a system that does not is told all the same."""
    now_s = 0.0
    patience = Patience(10.0, now_s=lambda: now_s)
    sleeping = asyncio.ensure_future(patience.sleep(0.0))
    await asyncio.sleep(0)
    now_s = 12.0
    await sleeping

    assert not patience.is_over
    now_s = 20.0
    assert not patience.is_over
    now_s = 20.1
    assert patience.is_over


async def test_trouble_while_looking_ends_no_wait_and_is_told_at_its_end() -> None:
    """Whoever is looked at may be half dead: half a document is a look that saw nothing."""
    looks = iter([ConnectionResetError("reset"), ValueError("half of it"), "there"])

    def look() -> str:
        if isinstance(seen := next(looks), Exception):
            raise seen
        return str(seen)

    def fail() -> bool:
        raise ValueError("half of it")

    assert await until("it is there", look, every_s=0.0) == "there"
    with pytest.raises(NeverCame, match="it is there; the last look failed: ValueError: half of it"):
        await until("it is there", fail, within_s=0.0)


async def test_a_scenario_in_trouble_is_told_as_wrong_with_its_reason() -> None:
    async def story() -> None:
        raise ConnectionResetError("the simulator ended")

    scenario = await told(Scenario(rows="R5", title="a name"), story())

    assert scenario.wrong == "ConnectionResetError: the simulator ended"


class Field:
    """An arena in which nobody can be cut at first: it was just ending."""

    def __init__(self, cuts: list[int]) -> None:
        self.cuts, self.proxy = cuts, self
        self.settings = SimpleNamespace(checkout_shards=2)

    def database_ports(self, _pid: int) -> set[int]:
        """Of whoever is there."""
        return {1}

    def cut_now(self, _ports: set[int] | None) -> int:
        """How many were cut."""
        return self.cuts.pop(0)


async def served_at_once(_arena: Any) -> None:
    """Nothing was hurt."""


async def never_served(_arena: Any) -> None:
    """As a system that does not come back."""
    raise NeverCame("nobody serves")


async def test_a_strike_that_hit_nobody_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm that was not done proves nothing: a process that was just ending has no connection to cut."""
    field: Any = Field([0, 0, 1])
    target = Target((Harm.CUT,), lambda _: [os.getpid()], served_at_once)
    monkeypatch.setattr("loadtest.chaos.monkey.TARGETS", {"edge": target})

    done = await strike(field, "edge", Harm.CUT, 0.0)

    assert (done.wrong, done.pids, field.cuts) == ("", (os.getpid(),), [])


async def test_a_monkey_after_whom_nothing_comes_back_stops_and_has_told_each_strike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dead system is a verdict within minutes, not one that somebody's patience ends."""
    field: Any = Field([1] * 100)
    targets = {name: Target((Harm.CUT,), lambda _: [os.getpid()], never_served) for name in TARGETS}
    monkeypatch.setattr("loadtest.chaos.monkey.TARGETS", targets)
    monkeypatch.setattr("loadtest.chaos.monkey.PAUSE_S", (0.0, 0.0))
    seen = list[Strike]()

    async def tell(each: Strike) -> None:
        seen.append(each)

    await rampage(field, seed=7, seconds=3_600, stop_s=1.0, tell=tell)

    assert WRONG_MAX <= len(seen) <= 2 * WRONG_MAX
    assert {each.wrong for each in seen} == {"nobody serves"}


class FullMachine:
    """A database that has ended; its first start meets trouble."""

    pid = 7

    def __init__(self, trouble: Exception) -> None:
        self.starts = 0
        self._trouble = trouble

    def poll(self) -> int | None:
        """None once it runs."""
        return None if self.starts > 1 else 1

    def start(self) -> None:
        """Fails once."""
        self.starts += 1
        if self.starts == 1:
            raise self._trouble


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("can't start new thread"),
        TimeoutExpired("initdb", 10),
    ],
)
async def test_a_database_that_does_not_start_on_a_full_machine_is_tried_again(
    tmp_path: Path, trouble: Exception
) -> None:
    """D6: the supervisor goes on trying, whatever a start failed with: its own files do not fit on the disk, for one."""
    system = System(Settings(data_dir=tmp_path, database_url="postgresql://nowhere"), None)
    database = FullMachine(trouble)
    keeping = asyncio.create_task(system._keep_database(database))  # type: ignore[arg-type]  # what it needs of one

    await until("it runs", lambda: system.database_pid() == database.pid, within_s=10.0)
    keeping.cancel()

    assert database.starts == 2


def test_a_run_whose_system_does_not_start_ends_with_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run ends without saying why: the last line, the exit status and the page."""

    async def fail(_: Arena) -> None:
        raise RuntimeError("no database here")

    monkeypatch.setattr(Arena, "start", fail)
    options = {
        "minutes": 0,
        "seed": 1,
        "points": "none",
        "stop_s": 1,
        "tps": 1,
        "split_brain": False,
        "lost_ray": False,
    }

    status = chaos(Settings(data_dir=tmp_path), **options, disk_full=False, rpc_failures=False)

    assert status == 1
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith("NOT CLEAN: the system did not start: RuntimeError: no database here")
    )


def test_the_matrix_has_every_case_with_every_harm_under_a_name_of_its_own() -> None:
    names = {cell.name for cell in MATRIX}

    assert len(names) == len(MATRIX) == 3 * len(CASES)
    assert {cell.harm for cell in MATRIX} == set(Harm)
    assert {cell.case.journey for cell in MATRIX} == set(Journey)
