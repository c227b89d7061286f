"""What a bench tells: spreads, ratios, when a run is void, and the same finding as table, JSON and page."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.bench import command
from loadtest.bench.card import Card, differences
from loadtest.bench.finding import Finding, cell_text, few_pairs, number, ratios, spread_of, tell
from loadtest.bench.page import draw_and_tell, render_finding
from loadtest.plot import Chart, Line
from zerosum.settings import Settings

CARD = Card(10_000.0, 8_000.0, 30_000.0, 400.0, 1_000.0)


def _finding(**others: object) -> Finding:
    finding = Finding(
        bench="checkout",
        command="zerosum bench checkout",
        headline="knee: 123 checkouts/s",
        columns=("rate", "p95 ms"),
        rows=(("100/s", spread_of([9.0, 12.0, 10.0])), ("125/s", None)),
        cards=(CARD, CARD),
        facts={"machine": "a <fast> one"},
    )
    return replace(finding, **others)  # type: ignore[arg-type] # fields by name


def _told(finding: Finding) -> list[str]:
    page = StringIO()
    tell(finding, Console(file=page, width=120))
    return page.getvalue().splitlines()


def test_cards_that_differ_by_more_than_a_fifth_in_any_figure_make_a_run_void() -> None:
    """Speed.md: a run whose cards differ by more than 20 % is void, whichever way."""
    fifth = replace(CARD, fdatasync_per_s=12_000.0)
    slower, faster = replace(CARD, ray_hop_us=1_201.0), replace(CARD, ray_hop_us=832.0)

    assert differences(CARD, fifth) == ()
    assert differences(CARD, slower) == ("Ray hop, µs 1,000 before, 1,201 after (+20%)",)
    assert differences(CARD, faster) == ("Ray hop, µs 1,000 before, 832 after (-17%)",)


def test_a_figure_that_one_card_lacks_is_not_compared() -> None:
    """There is no Ray where a bench needs none."""
    assert differences(replace(CARD, ray_hop_us=None), CARD) == ()


def test_several_measurements_are_told_as_median_and_range() -> None:
    assert str(spread_of([300.0, 100.0, 210.0])) == "210 (100 to 300)"
    assert str(spread_of([7.0])) == "7"
    assert spread_of([]) is None


def test_ratios_are_of_neighbours_never_of_best_against_worst() -> None:
    """A B A B: each of ours is held against the one measured beside it."""
    spread = ratios([10.0, 30.0, 20.0], [5.0, 10.0, 20.0])

    assert spread is not None
    assert spread.values == (2.0, 3.0, 1.0)


def test_a_ratio_of_fewer_than_five_pairs_is_told_as_one() -> None:
    """Speed.md, rules of the bench: at least five pairs."""
    assert few_pairs(5) == ()
    assert few_pairs(4) == ("fewer than 5 pairs (4): what they differ by may be chance",)


def test_figures_keep_three_digits() -> None:
    assert [number(value) for value in (12_345.6, 99.94, 12.0, 0.123)] == ["12,346", "99.9", "12", "0.12"]
    assert cell_text(None) == "-"


def test_the_headline_is_the_last_line() -> None:
    """Issue 5: a table, the headline last."""
    lines = _told(_finding())

    assert lines[-1] == "knee: 123 checkouts/s"
    assert any("10 (9 to 12)" in line for line in lines)
    assert not any("VOID" in line for line in lines)


def test_a_void_run_says_so_and_why() -> None:
    changed = replace(CARD, grpc_echo_us=600.0, fdatasync_per_s=5_000.0)
    finding = _finding(
        cards=(CARD, changed), losses=("2 of 9 are not stored",), doubts=("3 without RetryInfo",)
    )  # fmt: skip

    assert finding.void_because == (
        "2 of 9 are not stored",
        "3 without RetryInfo",
        "the machine changed meanwhile: fdatasync a second 10,000 before, 5,000 after (-50%); "
        "gRPC echo, µs 400 before, 600 after (+50%)",
    )
    assert len([line for line in _told(finding) if line.startswith("VOID")]) == 3


def test_a_headline_that_is_a_rate_or_cpu_is_told_in_units_of_the_machine(tmp_path: Path) -> None:
    """Speed.md: the card is reported as "machine units" beside each figure."""
    finding, file = _finding(rate_per_s=123.0, cpu_us=1_000.0), tmp_path / "bench.json"
    tell(finding, Console(file=StringIO()), file)
    line = "0.0041 per one-row commit of the card at 64 clients; 2.5 gRPC echoes of the card"

    assert _told(finding)[-2] == f"in units of this machine: {line}"
    assert list(json.loads(file.read_text())["machine_units"].values()) == [123.0 / 30_000.0, 2.5]
    assert line in render_finding(finding)
    assert line in render_finding(replace(finding, doubts=("odd",)))


def test_without_a_card_or_a_rate_there_are_no_units_of_the_machine() -> None:
    assert _finding(rate_per_s=123.0, cards=None).machine_units == {}
    assert not any("units" in line for line in _told(_finding()))


def test_a_bench_ends_with_status_1_when_something_acknowledged_is_lost_and_only_then(tmp_path: Path) -> None:
    """Speed.md, rules: acknowledged = stored. A figure, a doubt or a machine that changed is told, and is no verdict."""
    changed = (CARD, replace(CARD, grpc_echo_us=600.0))
    findings = (_finding(), _finding(doubts=("odd",), cards=changed), _finding(losses=("1 of 9 is not stored",)))

    statuses = [draw_and_tell(finding, tmp_path, Console(file=StringIO()), None) for finding in findings]

    assert statuses == [0, 0, 1]
    assert "1 of 9 is not stored" in (tmp_path / "checkout.html").read_text()


@pytest.mark.parametrize(
    "run",
    [
        partial(command.run_checkout, psp="zero", orders=1, mix="0:1", tps=1, seconds=1, count=1),
        partial(command.run_hot, tps=1, seconds=1, count=1),
        partial(command.run_hot_against_naive, in_flight=[1], seconds=1, count=1),
        partial(command.run_checkout_against_naive, tps=1, seconds=1, count=1),
        partial(command.run_post_over_rpc, against=[], seconds=1, count=1),
        partial(command.run_shed, psp="zero", at=1, tps=1, seconds=10),
        partial(command.run_fan, orders_per_s=1, seconds=1, count=1),
        partial(command.run_cost, seconds=1),
    ],
    ids=lambda run: run.func.__name__,
)
def test_every_command_that_kills_its_database_ends_with_what_its_finding_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., int]
) -> None:
    """`post --rpc` told of the loss in red and ended with 0."""

    async def measured(*_: object) -> Finding:
        return _finding(losses=("1 of 9 is not stored",))

    monkeypatch.setattr(command, "_measured", measured)

    assert run(Settings(data_dir=tmp_path), json_file=None) == 1


def test_the_json_has_every_figure_by_name(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "bench.json"
    tell(_finding(), Console(file=StringIO()), file)
    told = json.loads(file.read_text())

    assert told["rows"][0] == {
        "rate": "100/s", "p95 ms": {"median": 10.0, "min": 9.0, "max": 12.0, "values": [9.0, 12.0, 10.0]}
    }  # fmt: skip
    assert (told["rows"][1]["p95 ms"], told["is_void"], told["headline"]) == (None, False, "knee: 123 checkouts/s")
    assert told["cards"]["before"]["ray_hop_us"] == 1_000.0


def test_the_page_escapes_what_was_found_and_draws_its_charts() -> None:
    chart = Chart(title="Latency", unit="ms", lines=(Line("p95", "--p95", ((50.0, 9.0), (100.0, 10.0))),), x_unit="/s")
    page = render_finding(_finding(charts=(chart,)))

    assert "a &lt;fast&gt; one" in page
    assert page.count("<svg ") == 2
    assert "100 /s" in page


def test_the_page_tells_what_the_machine_could_do_before_and_after_and_by_how_much_that_moved() -> None:
    page = render_finding(_finding(cards=(CARD, replace(CARD, grpc_echo_us=500.0, ray_hop_us=None))))

    assert (
        '<td class="id">gRPC echo, µs</td><td class="n">400</td><td class="n">500</td><td class="n">+25%</td>' in page
    )
    assert '<td class="id">Ray hop, µs</td><td class="n">1,000</td><td class="n">-</td><td class="n">-</td>' in page


def test_the_page_of_a_void_run_is_headed_so() -> None:
    page = render_finding(_finding(doubts=("lost",)))

    assert "<h1>Void</h1>" in page
