"""What `zerosum bench post` tells of its pairs: ratios of neighbours, and that a figure with a loss does not count."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from loadtest.bench import post_load
from loadtest.bench.finding import Spread, few_pairs
from loadtest.bench.post_finding import COLUMNS, Balances, Result, charts, finding_of
from loadtest.bench.post_load import Case, Figure, Lane, Load, Pair, Reading
from loadtest.peers.peer import Posting
from loadtest.sample import percentiles
from zerosum.errors import SerializationConflict

HOT, SPREAD = Case("hot", 64, 1), Case("spread", 1, 1)


def _pair(case: Case, ours_per_s: float, theirs_per_s: float, peer: str = "naive") -> Pair:
    return Pair(case, peer, Figure(ours_per_s, 40.0, 10.0), Figure(theirs_per_s, 400.0, 100.0))


def _result(*pairs: Pair, lost: int = 0, not_installed: tuple[str, ...] = ()) -> Result:
    lanes = [Lane("zerosum", Tired(), acknowledged=["a"] * 500), Lane("naive", Tired(), given_up=4)]
    return Result(pairs, lanes, {"zerosum": 0, "naive": lost}, not_installed)


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

    assert told.rows[0][4:] == (None, None, None, None, None)
    assert few_pairs(1)[0] not in told.notes  # nothing is compared
    assert any(note.startswith("hordak is not installed") for note in told.notes)


def test_without_a_case_to_tell_the_headline_is_the_best_by_median_and_not_by_one_lucky_run() -> None:
    """Over gRPC: never best against worst."""
    lucky = [_pair(SPREAD, per_s, 1) for per_s in (1, 1, 9_000)]

    told = finding_of(_result(*lucky, *(_pair(HOT, 50, 1) for _ in range(3))), "c", doors="over gRPC", headline=None)

    assert told.headline == "post over gRPC (hot, 64 in flight, 1 a call): 50/s; 50 x naive"
    assert few_pairs(3)[0] in told.notes


def test_a_balance_read_is_told_with_its_ratio_its_latency_and_how_much_the_account_has() -> None:
    """Speed.md, goals: balance read over hordak. The ratio is of neighbours too."""
    pairs = [Pair(Reading(1_000), "naive", Figure(900.0, 1.0, 1.0), Figure(rate, 1.0, 1.0)) for rate in (9.0, 3.0)]
    took = {"zerosum": percentiles([1.0]), "naive": percentiles([100.0, 300.0])}
    read = Balances(pairs, {"zerosum": 1_001, "naive": 1_000}, took)

    told = finding_of(replace(_result(_pair(HOT, 2, 1)), balances=read), "c")

    assert told.headline.endswith("2 x naive; balance of 1,000 entries, 1 reader: 200 (100 to 300) x naive")
    assert told.rows[1][0] == "balance of 1,000 entries, 1 reader"
    assert "a balance read at naive: p50 100, p99 300 ms of 2; the account has 1,000 entries there" in told.notes


def test_rates_are_drawn_by_callers_a_line_a_peer() -> None:
    """A case of one crowd alone is a point, which is no chart."""
    more = Case("hot", 256, 1)
    pairs = [_pair(HOT, 100, 10), _pair(HOT, 300, 30), _pair(more, 500, 5), _pair(SPREAD, 1, 1)]

    (chart,) = charts(pairs)

    assert chart.title == "Postings a second against callers, hot, 1 a call"
    assert {line.name: line.points for line in chart.lines} == {
        "zerosum": ((64.0, 200.0), (256.0, 500.0)),
        "naive": ((64.0, 20.0), (256.0, 5.0)),
    }


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
    monkeypatch.setattr(
        post_load, "time", SimpleNamespace(monotonic=lambda: float(next(looks)), process_time=lambda: 0.0)
    )

    await Load(["seller-1"], seed=1).run(lane, Case("hot", 2, 3), seconds=12)  # a second a look

    assert lane.given_up > 0
    assert lane.acknowledged
    assert len(lane.acknowledged) % 3 == 0
    assert "naive gave up 4 calls" in finding_of(_result(_pair(HOT, 2, 1)), "c").notes


class Counting(Tired):
    """A peer that counts who is posted to."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: Counter[str] = Counter()

    async def post(self, postings: Sequence[Posting]) -> None:
        self.posted.update(posting.seller for posting in postings)


@pytest.mark.parametrize(
    ("sellers", "low", "high"), [("spread", 0.05, 0.15), ("hot", 1.0, 1.0), ("zipf", 0.29, 0.39)], ids=str
)
async def test_the_first_of_ten_sellers_gets_its_share_of_the_postings(
    sellers: str, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spread: a tenth. Zipf: 1 / (1 + 1/2 + .. + 1/10) = 0.34. Seeded: the same postings every time."""
    peer, looks = Counting(), count()
    monkeypatch.setattr(
        post_load, "time", SimpleNamespace(monotonic=lambda: float(next(looks)), process_time=lambda: 0.0)
    )

    await Load([f"seller-{number}" for number in range(10)], seed=1).run(
        Lane("counting", peer), Case(sellers, 1, 100), seconds=20
    )

    assert low <= peer.posted["seller-0"] / peer.posted.total() <= high
