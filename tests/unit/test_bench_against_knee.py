"""`zerosum bench checkout --against naive`: climbs in turn by the same rules, ratios of neighbours."""

from dataclasses import dataclass, field

import pytest

from loadtest.bench.against import HOT, SPREAD
from loadtest.bench.against_knee import COLUMNS, DEMANDS, Found, Pair, climbs, finding_of
from loadtest.bench.finding import Spread, few_pairs
from loadtest.bench.kept import Kept
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.stage import Demand
from loadtest.bench.staircase import Climb, Step, step_of
from loadtest.bench.textbook import Killed


def _step(rate: float, seconds: float = 10.0, *, is_held: bool = True, is_long: bool = False) -> Step:
    calls = (Call(0, 0, 100_000 if is_held else 400_000, Kind.CHECKOUT, Ending.FINAL),)
    return step_of(calls, offered_per_s=rate, seconds=seconds, limit_ms=300.0, is_long=is_long)


@dataclass(slots=True)
class Holding:
    """Holds a rate up to one for each kind of demand. `heard`: of all that are asked together."""

    name: str
    heard: list[tuple[str, str, float, float]]
    up_to: dict[str, float] = field(default_factory=dict)

    async def offer(self, demand: Demand, tps: float, seconds: float, *, is_long: bool = False) -> Step:
        sellers = next(name for name, each in DEMANDS.items() if each == demand)
        self.heard.append((self.name, sellers, tps, seconds))
        return _step(tps, seconds, is_held=tps <= self.up_to[sellers], is_long=is_long)


async def test_ours_and_the_textbook_climb_in_turn_from_their_own_first_rates_by_the_same_steps() -> None:
    """Speed.md, rules: A B A B. Later climbs begin two steps below the knee that each had, and the knee is held for 20 s."""
    heard: list[tuple[str, str, float, float]] = []
    ours, theirs = Holding("ours", heard, {SPREAD: 60.0, HOT: 55.0}), Holding("naive", heard, {SPREAD: 7.0, HOT: 3.0})

    pairs = await climbs(ours, theirs, rounds=2, tps=50.0, seconds=4.0)

    assert [(pair.sellers, pair.ours.knee_per_s, pair.theirs.knee_per_s) for pair in pairs] == [
        (SPREAD, 50.0, 6.25), (HOT, 50.0, 2.56), (SPREAD, 50.0, pytest.approx(6.25)), (HOT, 50.0, pytest.approx(2.56)),
    ]  # fmt: skip
    turns = list(dict.fromkeys((name, sellers) for name, sellers, *_ in heard))
    assert turns == [("ours", SPREAD), ("naive", SPREAD), ("ours", HOT), ("naive", HOT)]
    asked = [(tps, seconds) for name, sellers, tps, seconds in heard if (name, sellers) == ("naive", SPREAD)]
    assert asked == [
        (5.0, 4.0), (6.25, 4.0), (7.8125, 4.0), (6.25, 20.0), (4.0, 4.0), (5.0, 4.0), (6.25, 4.0), (7.8125, 4.0), (6.25, 20.0),
    ]  # fmt: skip


def _climb(knee: float | None) -> Climb:
    return Climb((_step(1.0, is_held=False),) if knee is None else (_step(knee, is_long=True),), knee)


def _pair(sellers: str, ours: float | None, theirs: float | None) -> Pair:
    return Pair(sellers, _climb(ours), _climb(theirs))


KEPT = Kept(9, fresh=1)
PAIRS = (
    _pair(SPREAD, 100.0, 50.0), _pair(HOT, 90.0, 9.0), _pair(SPREAD, 150.0, 50.0), _pair(HOT, None, 10.0),
    _pair(SPREAD, 400.0, None), _pair(HOT, 160.0, 8.0),
)  # fmt: skip


def test_the_ratio_of_knees_is_of_neighbours_and_of_climbs_that_held_something() -> None:
    """Where naive held nothing there is no ratio, which favours it; where ours held nothing it is 0."""
    finding = finding_of(Found(PAIRS, Killed(KEPT, KEPT)), command="c")
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in finding.rows}

    assert finding.headline == "knee over naive's: spread 2.5 (2 to 3) x, hot 10 (0 to 20) x"
    assert rows[SPREAD]["knee/s, naive"] == Spread((50.0, 50.0, 0.0))
    assert rows[HOT]["knee/s, ours"] == Spread((90.0, 0.0, 160.0))
    assert "naive held no rate at all in 1 of its climbs: no ratio has them" in finding.notes
    assert few_pairs(3)[0] in finding.notes


def test_what_either_has_lost_voids_the_comparison() -> None:
    found = Found(PAIRS, Killed(KEPT, Kept(9, ("co-1",))))

    assert finding_of(found, command="c").void_because == (
        "naive: 1 of 9 checkouts were acknowledged and not stored: co-1",
    )
