"""What `bench cost` and `fan` make of their readings: a count a checkout, ratios of neighbours, what was lost."""

from dataclasses import replace

from loadtest.bench.card import Card
from loadtest.bench.cost import IDLE, RATES, Cost, Reading, idle_bytes, shard_counts
from loadtest.bench.cost import finding_of as cost_finding
from loadtest.bench.fan import COLUMNS, WIDTHS
from loadtest.bench.fan import finding_of as fan_finding
from loadtest.bench.finding import Spread, few_pairs
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.staircase import Step, step_of

CARD = Card(10_000.0, 8_000.0, 30_000.0, 400.0, 1_000.0)
NOTHING = Reading(commits=0, inserted=0, updated=0, wal_bytes=0, turns=0, batches=0, calls=0, rpcs=0)


def _step(rate: float, shards_ms: float) -> Step:
    calls = (Call(0, 100, 10_000, Kind.CHECKOUT, Ending.FINAL),)
    step = step_of(calls, offered_per_s=rate, seconds=10.0, limit_ms=300.0)
    return replace(step, cpu_ms={"shards": shards_ms, "load generator": 5.0, "simulator": 5.0, "bench": 5.0})


def test_a_count_is_what_rose_between_two_readings_divided_by_the_checkouts_between_them() -> None:
    before = replace(NOTHING, commits=100.0, wal_bytes=1_000.0)
    cost = Cost(_step(10.0, 2.0), before, replace(before, commits=160.0, wal_bytes=11_000.0), checkouts=20)

    assert (cost.each("commits"), cost.each("wal_bytes"), cost.each("inserted")) == (3.0, 500.0, 0.0)


def test_calls_through_ray_are_those_of_every_server_and_turns_those_of_checkouts() -> None:
    """A checkout is also a call of the wallet server and one of the ledger server to a shard of theirs."""
    figures = {
        "payment": {"0": {"turns": 6.0, "batches": 4.0, "calls": 2.0}, "1": {"turns": 3.0, "batches": 2.0, "calls": 1.0}},
        "wallet": {"0": {"turns": 50.0, "batches": 9.0, "calls": 10.0}},
        "ledger": {"0": {"turns": 70.0, "batches": 9.0, "calls": 20.0}},
        "reconciliation": {},
    }  # fmt: skip

    assert shard_counts(figures) == (9.0, 6.0, 33.0)


def test_the_cost_is_told_for_every_rate_and_by_process() -> None:
    costs = [
        Cost(_step(rate, 2.0), NOTHING, replace(NOTHING, commits=30.0, calls=60.0, rpcs=20.0), 10) for rate in RATES
    ]
    processes = {"shards": 4, "database": 9, "load generator": 1, "simulator": 1, "bench": 1}
    finding = cost_finding(costs, 3_000.0, processes, command="c", losses=())
    rows = {row[0]: row[1:] for row in finding.rows}

    assert rows["commits"] == (3.0,) * len(RATES)
    assert rows["calls through Ray"] == (6.0,) * len(RATES)
    assert rows["RPCs"] == (2.0,) * len(RATES)
    assert rows["CPU ms: shards"] == (2.0,) * len(RATES)
    assert finding.headline == "cost at 50/s: 3.00 commits, 0 rows, 17.0 ms of CPU a checkout"
    assert "processes: 13 (database 9, shards 4)" in finding.notes
    assert any(f"286 MB for {IDLE:,} settled checkouts" in note for note in finding.notes)


def test_a_settled_checkout_in_memory_costs_kilobytes() -> None:
    """Speed.md: 10^5 idle entities must cost megabytes; an actor each would cost terabytes."""
    assert 500 < idle_bytes(50) < 10_000


def test_fan_compares_cpu_an_order_with_that_of_one_seller_round_by_round() -> None:
    found = {width: [_step(60.0 / width, 2.0 * width * share) for share in (0.5, 0.25)] for width in WIDTHS}
    found[1] = [_step(60.0, 2.0), _step(60.0, 1.0)]
    finding = fan_finding(found, command="c")
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in finding.rows}

    assert finding.headline == "CPU an order at 10 sellers over one: 0.5"
    assert few_pairs(2)[0] in finding.notes
    assert rows["10"]["CPU ms an order, system"] == Spread((1.0, 0.5))
    assert rows["10"]["of one seller's"] == Spread((0.5, 0.5))
