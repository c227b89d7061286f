"""The parts of chaos that need no system: the wire, the proxy's cuts, the deck, the results' file, the verdict."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from loadtest.chaos import process
from loadtest.chaos.case import MATRIX, Harm
from loadtest.chaos.frontend import Frontend, Message
from loadtest.chaos.monkey import TARGETS, Strike, deck
from loadtest.chaos.proxy import Cut, DatabaseProxy
from loadtest.chaos.result import Result, Results
from loadtest.chaos.story import Plan, Story, last_line


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
    assert same.missing(["a kill", "b kill", "c kill"]) == ["b kill", "c kill"]
    assert other.missing(["a kill"]) == ["a kill"]


def test_whatever_went_wrong_is_a_reason_and_silence_is_none() -> None:
    """Clean is said of what was done and audited, never of what was left out."""
    plan = Plan(minutes=0, seed=1, points="few", stop_s=1, tps=1, split_brain=False, rpc_failures=True)
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


def test_the_matrix_has_every_case_with_every_harm_under_a_name_of_its_own() -> None:
    names = {cell.name for cell in MATRIX}

    assert len(names) == len(MATRIX) == 72
    assert {cell.harm for cell in MATRIX} == set(Harm)
