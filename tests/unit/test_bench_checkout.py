"""What the knee's rounds become: table, notes, plots; and that whatever was acknowledged and is not stored voids them."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import pytest

from loadtest.bench.added import added
from loadtest.bench.checkout import COLUMNS, climbs, finding_of, lowest_knee, system_cpu_ms
from loadtest.bench.command import demand_of, with_kept
from loadtest.bench.finding import Finding, Spread, few_pairs
from loadtest.bench.hot import finding_of as hot_finding_of
from loadtest.bench.kept import Kept, compare, read_acknowledged
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.stage import Stage
from loadtest.bench.staircase import Climb, Step, step_of
from loadtest.sample import percentiles
from loadtest.shape import ONE_CURRENCY, Shape, checkouts
from zerosum.errors import Misconfigured

DEMAND = demand_of(psp="zero", orders=1, mix="0:1")


def _step(rate: float, latency_ms: int, *, is_long: bool = False) -> Step:
    calls = (Call(0, 100, latency_ms * 1_000, Kind.CHECKOUT, Ending.FINAL),)
    step = step_of(calls, offered_per_s=rate, seconds=10.0, limit_ms=300.0, is_long=is_long)
    return replace(
        step, cpu_ms={"shards": 2.0, "database": 1.0, "load generator": 0.5, "simulator": 0.25, "bench": 9.0}
    )


def _climb(knee: float | None, *steps: Step) -> Climb:
    return Climb(steps, knee)


def _finding(*climbs: Climb, psp: str = "zero", orders: int = 1) -> Finding:
    demand = demand_of(psp=psp, orders=orders, mix="2:1")
    return finding_of(climbs, demand, command="zerosum bench checkout")


def test_the_knee_is_the_median_of_the_rounds_and_their_range_is_told() -> None:
    """Issue 5: medians and ranges, the headline last."""
    finding = _finding(*(_climb(knee, _step(50.0, 10)) for knee in (100.0, 80.0, 125.0)), orders=3)

    assert finding.headline == "knee: 100 checkouts/s"
    assert any("100 (80 to 125) checkouts/s, 300 orders/s" in note for note in finding.notes)
    assert any("3 orders a checkout, 2 reads beside each" in note for note in finding.notes)


class Scripted:
    """A stage whose system answers in 10 ms up to its capacity, and in 1 s beyond."""

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self.offered: list[tuple[float, float, bool]] = []

    async def behave(self, _: object) -> None:
        pass

    async def offer(self, _: object, tps: float, seconds: float, *, is_long: bool = False) -> Step:
        self.offered.append((tps, seconds, is_long))
        return _step(tps, 10 if tps <= self._capacity else 1_000, is_long=is_long)


@pytest.mark.parametrize(
    ("tps", "capacity", "below"),
    [(50.0, 70.0, [31.25]), (41.0, 70.0, [32.03125, 50.0]), (80.0, 100.0, [50.0]), (20.0, 30.0, [12.5])],
)
async def test_half_the_knee_is_held_too_and_fifty_a_second_where_the_climb_had_no_such_step(
    tps: float, capacity: float, below: list[float]
) -> None:
    """Speed.md, goals: added p95 at 50/s and at half the knee. Beyond the knee 50/s are no rate to be told of."""
    stage = Scripted(capacity)

    (found,) = await climbs(cast(Stage, stage), DEMAND, count=1, tps=tps, seconds=3.0)

    assert [step.offered_per_s for step in found.below] == below
    assert stage.offered[-len(below) :] == [(rate, 20.0, True) for rate in below]


async def test_where_no_rate_was_held_there_is_no_half_of_it() -> None:
    (found,) = await climbs(cast(Stage, Scripted(0.0)), DEMAND, count=1, tps=50.0, seconds=3.0)

    assert found.below == ()


def test_the_latency_we_add_is_told_at_half_the_knee_and_at_fifty_a_second() -> None:
    """The step at 50/s may be one of the climb, that at half the knee follows it; both stand in the table."""
    at = {
        rate: replace(_step(rate, 10), added=percentiles([ms])) for rate, ms in ((50.0, 4.0), (62.5, 9.0), (31.25, 3.0))
    }
    climbed = replace(_climb(62.5, at[50.0], at[62.5]), below=(at[31.25],))

    assert "added p95: 3 ms at half the knee, 4 ms at 50/s" in _finding(climbed).notes
    assert len(_finding(climbed).rows) == 3
    assert (
        "added p95: not measured at half the knee, not measured at 50/s"
        in _finding(_climb(None, _step(20.0, 900))).notes
    )


def test_steps_of_a_rate_stand_in_one_row_and_long_ones_apart() -> None:
    first = _climb(50.0, _step(50.0, 10), _step(62.5, 400), _step(50.0, 12, is_long=True))
    second = _climb(50.0, _step(50.0, 30), _step(62.5, 200), _step(50.0, 14, is_long=True))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in _finding(first, second).rows]

    assert [(row["offered/s"], row["held"]) for row in rows] == [
        ("50.0 for 10 s", "2 of 2"), ("50.0 for 10 s", "2 of 2"), ("62.5 for 10 s", "1 of 2")
    ]  # fmt: skip
    assert rows[0]["p95 ms"] == Spread((10.0, 30.0))
    assert rows[2]["p95 ms"] == Spread((400.0, 200.0))


def test_the_load_the_psp_and_the_bench_itself_are_not_the_systems_cpu() -> None:
    """Speed.md: CPU a payment without the generator."""
    assert system_cpu_ms(_step(50.0, 10)) == 3.0


def test_added_latency_is_what_the_psp_did_not_take_payment_by_payment() -> None:
    """Speed.md: ours - the simulator's own log of its delay. Orders go side by side: the slowest counts."""
    shape = Shape(orders_min=2, orders_max=2, sellers=3, hot_share=0.0, currencies=ONE_CURRENCY)
    baskets = list(islice(checkouts(shape, seed=1, run_id="r"), 3))
    delays = {baskets[0].orders[0].payment_order_id: 200, baskets[0].orders[1].payment_order_id: 150}
    calls = [
        Call(0, 0, 230_000, Kind.CHECKOUT, Ending.FINAL, 0),
        Call(0, 0, 9_000, Kind.CHECKOUT, Ending.SHED, 1),
        Call(0, 0, 12_000, Kind.CHECKOUT, Ending.FINAL, 2),
        Call(0, 0, 5_000, Kind.READ, Ending.READ),
    ]

    ours = added(calls, baskets, delays)

    assert (ours.count, ours.p50_ms, ours.p95_ms) == (2, 12.0, 30.0)
    (row,) = _finding(_climb(50.0, replace(_step(50.0, 230), added=ours))).rows
    assert dict(zip(COLUMNS, row, strict=True))["added p95 ms"] == Spread((30.0,))


def test_plots_have_latency_and_cpu_against_the_rate() -> None:
    latency, cpu = _finding(_climb(50.0, _step(62.5, 40), _step(50.0, 10), _step(50.0, 20, is_long=True))).charts

    assert [line.points for line in latency.lines if line.name == "p95"] == [((50.0, 15.0), (62.5, 40.0))]
    assert (latency.x_unit, latency.limit, cpu.is_stacked) == ("/s", 300.0, True)
    assert [line.name for line in cpu.lines] == ["bench", "shards", "database", "load generator", "simulator"]


def test_processes_that_cost_little_share_a_colour() -> None:
    """Seven colours can be told apart; the dearest have them."""
    step = replace(_step(50.0, 10), cpu_ms={f"process {number}": float(number) for number in range(1, 10)})
    _, cpu = _finding(_climb(50.0, step)).charts

    assert [line.name for line in cpu.lines] == [*(f"process {number}" for number in range(9, 2, -1)), "all others"]
    assert cpu.lines[-1].points == ((50.0, 3.0),)


def test_a_run_whose_acknowledged_checkouts_are_not_all_stored_does_not_count() -> None:
    """Speed.md: after each run kill -9 the database and check acknowledged = stored, else the figure does not count."""
    kept = compare({"a": True, "b": False, "c": True, "d": True}, {"a": True, "b": False, "c": False})
    finding = with_kept(_finding(_climb(50.0, _step(50.0, 10))), replace(kept, fresh=1))

    assert (kept.missing, kept.undone) == (("d",), ("c",))
    assert finding.void_because == (
        "1 of 4 checkouts were acknowledged and not stored: d",
        "1 of 4 checkouts were told final and stored otherwise: c",
    )
    assert finding.status == 1


def test_a_kill_that_nothing_was_acknowledged_before_is_a_doubt_and_no_loss() -> None:
    """With old rows alone a database that gives up its last second would pass."""
    finding = with_kept(_finding(_climb(50.0, _step(50.0, 10))), Kept(acknowledged=7, fresh=0))

    assert finding.void_because == ("nothing was acknowledged in the second before the database was killed",)
    assert finding.status == 0


def test_how_much_was_looked_for_stands_in_the_finding() -> None:
    finding = with_kept(_finding(_climb(50.0, _step(50.0, 10))), Kept(acknowledged=1_234, fresh=56))

    assert finding.void_because == ()
    assert finding.notes[-1].startswith("1,234 acknowledged checkouts looked for")
    assert finding.notes[-1].endswith("56 of them acknowledged in the second before")


def test_the_database_is_killed_under_a_rate_that_every_climb_held() -> None:
    """Where none was held: the lowest that was tried."""
    first, second = _climb(100.0, _step(100.0, 10)), _climb(80.0, _step(50.0, 10), _step(80.0, 10))

    assert lowest_knee([first, second]) == 80.0
    assert lowest_knee([first, _climb(None, _step(50.0, 900), _step(40.0, 900))]) == 40.0


def test_what_became_final_after_it_was_told_open_is_kept() -> None:
    assert compare({"a": False}, {"a": True}).losses == ()


def test_the_journals_of_all_loads_are_read_together(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two")]
    files[0].write_text("co-1 final\nco-2 open\n")
    files[1].write_text("co-3 final\n")

    assert read_acknowledged(files) == {"co-1": True, "co-2": False, "co-3": True}


def test_where_no_rate_was_held_the_knee_is_zero() -> None:
    assert _finding(_climb(None, _step(50.0, 900))).headline == "knee: 0 checkouts/s"


def test_hot_over_spread_is_the_ratio_of_neighbouring_climbs() -> None:
    """Speed.md: ratio per neighbouring pair, median and range."""
    pairs = [(_climb(100.0, _step(100.0, 10)), _climb(hot, _step(hot, 10))) for hot in (90.0, 80.0, 100.0)]
    finding = hot_finding_of(pairs, command="zerosum bench hot")

    assert finding.headline == "hot over spread: 0.9 (0.8 to 1)"
    assert few_pairs(3)[0] in finding.notes


def test_a_pair_in_which_spread_held_no_rate_has_no_ratio_and_is_a_doubt() -> None:
    """Over a knee of nothing there is no ratio: divided by 1 it was the hot seller's knee, in the hundreds."""
    good, bad = (_climb(knee, _step(100.0, 10)) for knee in (100.0, None))
    some, none = (hot_finding_of(pairs, command="c") for pairs in ([(good, good), (bad, good)], [(bad, good)]))

    assert (some.headline, none.headline) == ("hot over spread: 1", "hot over spread: no ratio, spread held no rate")
    assert some.void_because == ("in 1 of 2 pairs spread held no rate: they have no ratio",)
    assert few_pairs(1)[0] in some.notes


@pytest.mark.parametrize(
    ("psp", "mix"),
    [("stripe", "0:1"), ("zero", "2"), ("zero", "1:2"), ("zero", "-1:1"), ("zero", "101:1"), ("zero", "9999999999:1")],
)
def test_a_demand_that_makes_no_sense_is_refused(psp: str, mix: str) -> None:
    with pytest.raises(Misconfigured, match=r"PSP profile|a mix is"):
        demand_of(psp=psp, orders=1, mix=mix)


def test_the_largest_mix_is_taken() -> None:
    """Verifies the test above."""
    assert demand_of(psp="zero", orders=1, mix="100:1").reads == 100
