"""What `zerosum bench post` tells of its pairs: ratios of neighbours, and that a figure with a loss does not count."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from loadtest.bench import post
from loadtest.bench.finding import Spread, few_pairs
from loadtest.bench.post import COLUMNS, Case, Figure, Lane, Load, Pair, Result, finding_of
from loadtest.peers.peer import Posting
from zerosum.errors import SerializationConflict

HOT, SPREAD = Case("hot", 64, 1), Case("spread", 1, 1)


def _pair(case: Case, ours_per_s: float, theirs_per_s: float, peer: str = "naive") -> Pair:
    return Pair(case, peer, Figure(ours_per_s, 30.0, 10.0), Figure(theirs_per_s, 300.0, 100.0))


def _result(*pairs: Pair, lost: int = 0, not_installed: tuple[str, ...] = ()) -> Result:
    return Result(pairs, {"zerosum": 500, "naive": 70}, {"zerosum": 0, "naive": lost}, not_installed, {"naive": 4})


def test_each_ratio_is_of_the_runs_that_stood_beside_one_another() -> None:
    """Speed.md, rules of the bench: ratio per neighbouring pair, never best against worst."""
    told = finding_of(_result(_pair(HOT, 100, 10), _pair(HOT, 900, 300), _pair(HOT, 400, 80)), "c")

    (row,) = told.rows
    assert few_pairs(3)[0] in told.notes
    assert row[COLUMNS.index("rate, ours : theirs")] == Spread((10.0, 3.0, 5.0))
    assert row[COLUMNS.index("CPU, theirs : ours")] == Spread((10.0, 10.0, 10.0))


def test_the_headline_is_of_64_callers_at_one_seller() -> None:
    """The case the goals are about; the median of all rounds, beside each peer's ratio."""
    pairs = [_pair(SPREAD, 7, 1), _pair(HOT, 100, 10), _pair(HOT, 300, 10), _pair(HOT, 200, 50, "hordak")]

    told = finding_of(_result(*pairs), "c")

    assert told.headline == "post (hot, 64 in flight, 1 a call): 200/s; 20 (10 to 30) x naive; 4 x hordak"
    assert len(told.rows) == 3


def test_a_loss_voids_the_figures_and_names_who_lost() -> None:
    """Acknowledged = stored, else the figure does not count."""
    kept, lossy = finding_of(_result(_pair(HOT, 2, 1)), "c"), finding_of(_result(_pair(HOT, 2, 1), lost=3), "c")

    assert kept.void_because == ()
    assert lossy.void_because == ("naive has lost 3 acknowledged postings",)
    assert (kept.status, lossy.status) == (0, 1)


def test_what_a_peer_has_to_say_of_its_run_stands_below_the_table() -> None:
    """So the 40001 rate of four shards is told."""
    told = finding_of(
        replace(_result(_pair(HOT, 2, 1)), remarks={"zerosum": "4 shards: 3 conflicts", "naive": ""}), "c"
    )

    assert [note for note in told.notes if note.startswith(("zerosum", "naive,"))] == ["zerosum, 4 shards: 3 conflicts"]


def test_ours_alone_and_peers_that_are_not_installed_are_told_as_such() -> None:
    alone = Pair(HOT, "", Figure(5.0, 1.0, 1.0), None)

    told = finding_of(_result(alone, not_installed=("hordak",)), "c")

    assert told.rows[0][3:] == (None, None, None, None, None)
    assert few_pairs(1)[0] not in told.notes  # nothing is compared
    assert any(note.startswith("hordak is not installed") for note in told.notes)


class Tired:
    """A peer that gives up every other call."""

    def __init__(self) -> None:
        self._calls = 0

    async def open(self, sellers: Sequence[str]) -> None: ...

    async def post(self, postings: Sequence[Posting]) -> None:
        await asyncio.sleep(0)
        self._calls += 1
        if self._calls % 2:
            raise SerializationConflict("no")

    async def stored(self) -> set[str]:
        return set()

    async def close(self) -> None: ...

    def remark(self) -> str:
        return ""


async def test_a_call_that_a_peer_gives_up_is_counted_and_its_caller_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The textbook does so in a crowd at one seller, after 10 s of conflicts: that is a figure, not the end of the bench."""
    lane, looks = Lane("tired", Tired()), count()
    monkeypatch.setattr(post, "time", SimpleNamespace(monotonic=lambda: float(next(looks)), process_time=lambda: 0.0))

    await Load(["seller-1"], seed=1).run(lane, Case("hot", 2, 3), seconds=12)  # a second a look

    assert lane.given_up > 0
    assert lane.acknowledged
    assert len(lane.acknowledged) % 3 == 0
    assert "naive gave up 4 calls" in finding_of(_result(_pair(HOT, 2, 1)), "c").notes
