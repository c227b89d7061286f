"""What the knee's rounds become: table, notes, plots; and that whatever was acknowledged and is not stored voids them."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from loadtest.bench.added import added
from loadtest.bench.card import Card
from loadtest.bench.checkout import COLUMNS, finding_of, lowest_knee, system_cpu_ms
from loadtest.bench.command import demand_of, with_kept
from loadtest.bench.finding import Finding, Spread, few_pairs
from loadtest.bench.hot import finding_of as hot_finding_of
from loadtest.bench.kept import Kept, compare, read_acknowledged
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.staircase import Climb, Step, step_of
from loadtest.shape import ONE_CURRENCY, Shape, checkouts
from zerosum.errors import Misconfigured

CARD = Card(10_000.0, 8_000.0, 30_000.0, 400.0, 1_000.0)


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
