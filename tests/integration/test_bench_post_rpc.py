"""What `zerosum bench post --rpc` does beside its system: pairs with a peer behind the shim, and a kill under load.

The ledger server is left out: our own ledger stands for it in process, so that no whole system is started.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest.bench import kept, post_rpc
from loadtest.bench.post_finding import Result
from loadtest.bench.post_load import CRASH, Case, Figure, Lane, Load
from loadtest.own_database import own_server
from loadtest.peers.table import OURS, ours
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

CASES = (Case("hot", 4, 1), Case("spread", 2, 5))
FALL_LIMIT_S = 60.0


class Supervised:
    """Stands for a system: a database that is started again when it was killed."""

    def __init__(self, server: EmbeddedPostgres, data_dir: Path) -> None:
        self.settings = Settings(data_dir=data_dir)
        self._server = server
        self._pid = server.pid
        self.ended: int | None = None
        self.again = Thread(target=self._start_again)
        self.again.start()

    def database_pid(self) -> int | None:
        return self._pid

    def _start_again(self) -> None:
        self.ended = self._server.wait(FALL_LIMIT_S)
        self._server.start()
        self._pid = self._server.pid


@pytest.fixture
def server() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """And its folder."""
    with own_server() as made:
        yield made


def test_pairs_are_measured_over_the_shim_and_the_database_is_killed_while_everybody_posts(
    server: tuple[EmbeddedPostgres, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed.md, rules: peers in turn, RPC with RPC; after each run kill -9 and acknowledged = stored.

    A kill at rest loses nothing of a database without fsync either.
    """
    embedded, folder = server
    monkeypatch.setattr(post_rpc, "RpcPeer", lambda _: ours(embedded.urls()))
    monkeypatch.setattr(post_rpc, "SELLERS", 20)
    posting_at_kill = _watched(monkeypatch)
    system: Any = Supervised(embedded, folder)

    result = asyncio.run(_measure(system))

    system.again.join()
    assert system.ended == -signal.SIGKILL
    assert [(pair.case, pair.peer) for pair in result.pairs] == [(case, "naive") for case in CASES for _ in range(2)]
    assert all(lane.acknowledged for lane in result.lanes)
    assert result.lost == {OURS: 0, "naive": 0}
    assert posting_at_kill[0] == {OURS, "naive"}


async def _measure(system: Any) -> Result:
    return await post_rpc.measure(system, ["naive"], rounds=2, seconds=0.2, cases=CASES)


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Who was posting when a process was killed, kill by kill."""
    run, posting, at_kill = Load.run, set[str](), list[set[str]]()

    async def watched(self: Load, lane: Lane, case: Case, seconds: float) -> Figure:
        posting.update([lane.name] if case == CRASH else [])
        try:
            return await run(self, lane, case, seconds)
        finally:
            posting.discard(lane.name)

    def kill(pid: int, number: int) -> None:
        at_kill.append(set(posting))
        os.kill(pid, number)

    monkeypatch.setattr(Load, "run", watched)
    monkeypatch.setattr(kept, "os", SimpleNamespace(kill=kill))
    return at_kill
