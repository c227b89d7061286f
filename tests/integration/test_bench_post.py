"""`zerosum bench post` itself, tiny: a real database, our shard and the textbook, a kill, and what is found after it."""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.post import PostPlan, bench_post
from loadtest.bench.post_load import Case, Reading
from loadtest.peers.peer import NotInstalled, Posting
from loadtest.peers.table import OURS, PEERS, ours
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

pytestmark = pytest.mark.slow

CASES = (Case("hot", 8, 1), Case("spread", 2, 10))


def _plan(*against: str, balance_entries: int = 0) -> PostPlan:
    return PostPlan(
        against=against, rounds=2, seconds=0.2, cases=CASES, sellers=20, has_cards=False, balance_entries=balance_entries
    )  # fmt: skip


class Forgetful:
    """A peer that acknowledges what it does not keep."""

    async def open(self, sellers: Sequence[str]) -> None: ...

    async def post(self, postings: Sequence[Posting]) -> None:
        await asyncio.sleep(0)

    async def stored(self) -> set[str]:
        return set()

    async def fill(self, seller: str, entries: int) -> int:
        return entries

    async def balance(self, seller: str) -> int:
        return 0

    async def close(self) -> None: ...

    def remark(self) -> str:
        return ""


def _absent(_: Any) -> Any:
    raise NotInstalled("absent is not installed")


def test_pairs_are_measured_and_everything_acknowledged_survives_the_kill(tmp_path: Path) -> None:
    """Speed.md, rules of the bench. Status 0 says that nothing was lost; who is not installed is left out."""
    peers = {**PEERS, "absent": _absent}
    status = bench_post(
        Settings(data_dir=tmp_path),
        _plan("naive", "absent", balance_entries=500),
        command="c",
        json_file=tmp_path / "post.json",
        peers=peers,
    )

    told = json.loads((tmp_path / "post.json").read_text())
    assert (status, told["is_void"]) == (0, False)
    ways = (*CASES, Reading(500))
    assert [(row["postings"], row["beside"]) for row in told["rows"]] == [(str(way), "naive") for way in ways]
    assert all(len(row["ours/s"]["values"]) == 2 for row in told["rows"])
    assert all(min(row["rate, ours : theirs"]["values"]) > 0 for row in told["rows"])
    assert any(note.endswith("the account has 501 entries there") for note in told["notes"])  # ours: one opened it
    assert any(note.startswith("absent is not installed") for note in told["notes"])
    (page,) = tmp_path.glob("bench/post-*/post.html")
    assert told["headline"].partition(":")[0] in page.read_text()


def test_shards_share_the_slots_and_conflicts_among_them_are_told(tmp_path: Path) -> None:
    """Issue 5, the 40001 rate of four ledger shards: each shard posts to the owners of its own slots, and says so."""
    peers = {OURS: partial(ours, shards=4)}
    status = bench_post(
        Settings(data_dir=tmp_path), _plan(), command="c", json_file=tmp_path / "post.json", peers=peers
    )

    told = json.loads((tmp_path / "post.json").read_text())
    assert status == 0
    assert any(note.startswith("zerosum, 4 shards: ") for note in told["notes"])


def test_a_peer_that_loses_what_it_acknowledged_voids_the_run(tmp_path: Path) -> None:
    """Else the quickest ledger would be one that keeps nothing."""
    peers = {**PEERS, "forgetful": lambda _: Forgetful()}
    status = bench_post(
        Settings(data_dir=tmp_path), _plan("forgetful"), command="c", json_file=tmp_path / "post.json", peers=peers
    )

    told = json.loads((tmp_path / "post.json").read_text())
    assert (status, told["is_void"]) == (1, True)
    assert told["void_because"][0].startswith("forgetful has lost")


def test_a_peer_nobody_knows_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no such peer: tigerbeetle"):
        bench_post(Settings(data_dir=tmp_path), _plan("tigerbeetle"), command="c", json_file=None)

    assert list(tmp_path.iterdir()) == []
