"""What `bench cost` and `fan` make of their readings: a count a checkout, ratios of neighbours, what was lost."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from loadtest.bench import cost
from loadtest.bench.card import Card
from loadtest.bench.cost import AT_REST_S, CLOCK_S, IDLE, RATES, Cost, Reading, Stretch, counts_of, cpu_chart, rest_s
from loadtest.bench.cost import finding_of as cost_finding
from loadtest.bench.fan import COLUMNS, WIDTHS
from loadtest.bench.fan import finding_of as fan_finding
from loadtest.bench.finding import Finding, Spread, few_pairs
from loadtest.bench.idle import idle_bytes
from loadtest.bench.page import render_finding
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.staircase import Step, step_of
from loadtest.plot import draw
from loadtest.probe import database_figures
from servers.metric import Metrics
from zerosum.store.wire import Traffic

CARD = Card(10_000.0, 8_000.0, 30_000.0, 400.0, 1_000.0)
OTHERS = {"load generator": 5.0, "simulator": 5.0, "bench": 5.0}


def _step(rate: float, shards_ms: float) -> Step:
    calls = (Call(0, 100, 10_000, Kind.CHECKOUT, Ending.FINAL),)
    step = step_of(calls, offered_per_s=rate, seconds=10.0, limit_ms=300.0)
    return replace(step, cpu_ms={"shards": shards_ms, **OTHERS})


def _stretch(seconds: float, counts: Mapping[str, float], cpu_ms: Mapping[str, float] | None = None) -> Stretch:
    """So much rose within so many seconds."""
    before = dict.fromkeys(counts, 100.0)
    after = {name: 100.0 + count for name, count in counts.items()}
    return Stretch(Reading(7.0, before, {}), Reading(7.0 + seconds, after, cpu_ms or {}))


AT_REST = _stretch(10.0, {})
"""A system that does nothing by itself."""


def test_a_count_is_what_rose_between_two_readings_divided_by_the_checkouts_between_them() -> None:
    paid = Cost(_step(10.0, 2.0), _stretch(30.0, {"commits": 60.0, "wal_bytes": 10_000.0}), 20, AT_REST)

    assert (paid.each("commits"), paid.each("wal_bytes"), paid.each("inserted")) == (3.0, 500.0, 0.0)


def test_what_the_clock_does_is_no_part_of_a_checkout() -> None:
    """At one checkout a second the sweeps and watches were most of what was counted: 17.4 commits where the code makes 6."""
    idle = _stretch(20.0, {"statements": 200.0}, {"shards": 1_400.0})
    step = replace(_step(1.0, 100.0), cpu_ms={"shards": 1_000.0}, endings={Ending.FINAL: 10})
    paid = Cost(step, _stretch(40.0, {"statements": 400.0 + 10 * 74.0}), 10, idle)

    assert idle.a_second("statements") == 10.0
    assert paid.each("statements") == pytest.approx(74.0)
    assert paid.cpu_ms("shards") == 1_000.0 - 70.0 * step.seconds / 10


@pytest.mark.parametrize("passed_s", [0.0, 1.0, 22.5, 27.0, 28.0, 41.7])
def test_every_stretch_is_a_whole_number_of_the_slowest_clocks_rounds(passed_s: float) -> None:
    """Every 30 s the ledger's checkpoints are 64 transactions: in 15 s there are none of them, or all."""
    waited_s = rest_s(passed_s)

    assert AT_REST_S <= waited_s < AT_REST_S + CLOCK_S
    assert (passed_s + waited_s) % CLOCK_S == pytest.approx(0.0, abs=1e-6)


def test_cpu_that_the_clock_took_more_of_than_the_load_is_none() -> None:
    """Ticks are 10 ms: noise of an idle process is no negative cost."""
    paid = Cost(_step(10.0, 2.0), AT_REST, 10, _stretch(10.0, {}, {"shards": 9_000.0}))

    assert paid.cpu_ms("shards") == 0.0


def test_what_is_sent_to_databases_is_of_every_shard_and_server_and_turns_are_of_checkouts() -> None:
    """A checkout is also a call of the wallet server and one of the ledger server to a shard of theirs."""
    figures = {
        "payment": {
            "0": {"turns": 6.0, "batches": 4.0, "calls": 2.0, "round_trips": 10.0, "statements": 49.0, "commits": 4.0},
            "1": {"turns": 3.0, "batches": 2.0, "calls": 1.0},
        },
        "wallet": {"0": {"turns": 50.0, "batches": 9.0, "calls": 10.0, "round_trips": 4.0, "commits": 1.0}},
        "ledger": {"0": {"turns": 70.0, "batches": 9.0, "calls": 20.0, "statements": 13.0}},
        "reconciliation": {},
    }
    servers = [{"round_trips": 3.0, "statements": 9.0, "commits": 0.0}, {}]

    assert counts_of(figures, servers) == {
        "turns": 9.0, "batches": 6.0, "calls": 33.0, "round_trips": 17.0, "statements": 71.0, "commits": 5.0
    }  # fmt: skip


def test_what_a_server_sends_to_its_database_is_read_from_the_page_it_tells_it_on(tmp_path: Path) -> None:
    metrics, page = Metrics(), tmp_path / "metrics"
    metrics.database(Traffic(round_trips=3, statements=9))
    metrics.shard(0, {"round_trips": 50})
    page.write_bytes(generate_latest(metrics.registry))

    assert database_figures(page.as_uri()) == {"round_trips": 3.0, "statements": 9.0, "commits": 0.0}


def _cost_finding() -> Finding:
    counts = {
        "commits": 30.0,
        "round_trips": 100.0,
        "statements": 400.0,
        "calls": 60.0,
        "rpcs": 20.0,
        "inserted": 470.0,
    }
    idle = _stretch(20.0, {"statements": 40.0}, {"shards": 0.0})
    costs = [Cost(_step(rate, 2.0), _stretch(20.0, {**counts, "statements": 440.0}), 10, idle) for rate in RATES]
    processes = {"shards": 4, "database": 9, "load generator": 1, "simulator": 1, "bench": 1}
    return cost_finding(costs, {"settled checkouts": 3_000.0, "wallets": 700.0}, processes, command="c", losses=())


def test_the_cost_is_told_for_every_rate_and_by_process_beside_a_second_of_the_idle_system() -> None:
    """Issue 5: commits, statements, round trips, Ray calls, RPCs, WAL bytes, CPU per process, idle memory per 100,000."""
    finding = _cost_finding()
    rows = {row[0]: row[1:] for row in finding.rows}

    assert rows["commits"] == (*(3.0,) * len(RATES), 0.0)
    assert rows["round trips to the database"] == (*(10.0,) * len(RATES), 0.0)
    assert rows["statements"] == (*(40.0,) * len(RATES), 2.0)
    assert rows["calls through Ray"] == (*(6.0,) * len(RATES), 0.0)
    assert rows["RPCs"] == (*(2.0,) * len(RATES), 0.0)
    assert rows["CPU ms: shards"] == (*(2.0,) * len(RATES), 0.0)
    assert all(len(row) == len(finding.columns) for row in finding.rows)
    assert (
        finding.headline
        == "cost at 50/s: 3.00 commits, 10.0 round trips, 47 rows, 2.0 ms of CPU of the system a checkout"
    )
    assert "processes: 13 (database 9, shards 4)" in finding.notes
    assert any(f"286 MB for {IDLE:,} settled checkouts" in note for note in finding.notes)
    assert any(f"67 MB for {IDLE:,} wallets" in note for note in finding.notes)


def test_the_page_of_the_cost_draws_cpu_by_process_against_the_rate() -> None:
    """Issue 5: an HTML page with plots, CPU per payment by process."""
    finding = _cost_finding()
    (chart,) = finding.charts

    assert {line.name: line.points for line in chart.lines} == {"shards": tuple((rate, 2.0) for rate in RATES)}
    page = render_finding(finding)
    assert "CPU a checkout by process" in page
    assert all(f">{rate:g} /s</text>" in page for rate in RATES)


def test_a_single_rate_is_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests/e2e/test_bench.py measures it: the axis had no length."""
    monkeypatch.setattr(cost, "RATES", (5.0,))
    chart = cpu_chart([Cost(_step(5.0, 2.0), AT_REST, 10, AT_REST)], ["shards"])

    assert ">5 /s</text>" in draw(chart, width=1_040, height=270)


def test_processes_beyond_the_colours_are_drawn_together() -> None:
    names = [f"p{number}" for number in range(9)]
    costs = [Cost(replace(_step(rate, 0.0), cpu_ms=dict.fromkeys(names, 2.0)), AT_REST, 10, AT_REST) for rate in RATES]

    eight, nine = cpu_chart(costs, names[:8]), cpu_chart(costs, names)

    assert [line.name for line in eight.lines] == names[:8]
    assert [line.name for line in nine.lines] == [*names[:7], "all others"]
    assert nine.lines[-1].points == tuple((rate, 4.0) for rate in RATES)


def test_an_idle_entity_in_memory_costs_kilobytes_with_its_place_and_key() -> None:
    """Speed.md: 10^5 idle entities must cost megabytes; an actor each would cost terabytes."""
    held = idle_bytes(50)

    assert list(held) == ["settled checkouts", "wallets", "ledger owners"]
    assert 2_000 < held["settled checkouts"] < 10_000
    assert 300 < held["wallets"] < 3_000
    assert 300 < held["ledger owners"] < 3_000


def test_fan_compares_cpu_an_order_with_that_of_one_seller_round_by_round() -> None:
    found = {width: [_step(60.0 / width, 2.0 * width * share) for share in (0.5, 0.25)] for width in WIDTHS}
    found[1] = [_step(60.0, 2.0), _step(60.0, 1.0)]
    finding = fan_finding(found, command="c")
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in finding.rows}

    assert finding.headline == "CPU an order at 10 sellers over one: 0.5"
    assert few_pairs(2)[0] in finding.notes
    assert rows["10"]["CPU ms an order, system"] == Spread((1.0, 0.5))
    assert rows["10"]["of one seller's"] == Spread((0.5, 0.5))


def test_fan_draws_cpu_an_order_and_p95_against_the_sellers() -> None:
    """Issue 5: an HTML page with plots. Of several rounds the median is drawn."""
    found = {width: [_step(60.0 / width, 2.0 * share) for share in (1.0, 3.0, 2.0)] for width in WIDTHS}
    cpu, latency = fan_finding(found, command="c").charts

    assert cpu.lines[0].points == tuple((width, 4.0 / width) for width in WIDTHS)
    assert {line.name: line.points for line in latency.lines}["p95"] == tuple((width, 10.0) for width in WIDTHS)
