"""What `zerosum bench hot --against naive` tells: ratios of neighbours, each at its best, and who lost what."""

from loadtest.bench.against import COLUMNS, HOT, SPREAD, Found, Pair, Run, Window, finding_of, run_of
from loadtest.bench.card import Card
from loadtest.bench.crowd import Answer
from loadtest.bench.finding import Finding, Spread, few_pairs
from loadtest.bench.kept import Kept
from loadtest.bench.sample_file import Ending
from loadtest.bench.textbook import Killed

KEPT = Kept(9, fresh=1)
CARD = Card(10_000.0, 8_000.0, 30_000.0, 400.0, 1_000.0)


def _pair(sellers: str, callers: int, ours_per_s: float, theirs_per_s: float, failed: int = 0) -> Pair:
    return Pair(sellers, callers, Run(ours_per_s, 90.0, 4.0), Run(theirs_per_s, 900.0, 20.0, failed))


def _told(*pairs: Pair, theirs: Kept = KEPT, ours: Kept = KEPT) -> Finding:
    return finding_of(Found(pairs, Killed(ours, theirs)), command="c")


def test_a_rate_is_of_the_answers_that_arrive_within_the_window() -> None:
    """Neither the start nor the draining is charged to anybody: a textbook whose answers take six seconds had half of a run of
    five to drain. The callers are at it before the window and after it."""
    answers = [Answer(f"co-{at}", at - 2.0, float(at), Ending.FINAL) for at in range(20)]

    run = run_of(answers, Window(5.0, 15.0), cpu_ms=200.0, drained_s=3.0)

    assert run == Run(per_s=1.0, p95_ms=2_000.0, cpu_ms=10.0, drained_s=3.0)


def test_only_final_answers_are_a_rate_and_every_checkout_that_was_taken_on_took_cpu() -> None:
    """A checkout that is turned away three times and then taken on is one."""
    answers = [
        Answer("co-1", 0.0, 1.0, Ending.FINAL, tries=4), Answer("co-2", 0.0, 1.0, Ending.PENDING),
        Answer("co-3", 0.0, 1.0, Ending.SHED, tries=2), Answer("co-4", 0.0, 1.0, Ending.UNKNOWN),
    ]  # fmt: skip

    run = run_of(answers, Window(0.0, 2.0), cpu_ms=10.0)

    assert run == Run(per_s=0.5, p95_ms=1_000.0, cpu_ms=5.0, failed=3, turned_away=5)


PAIRS = (
    _pair(SPREAD, 16, 200, 100), _pair(HOT, 16, 150, 50), _pair(SPREAD, 16, 300, 100), _pair(HOT, 16, 300, 60),
    _pair(SPREAD, 64, 800, 80), _pair(HOT, 64, 720, 20, failed=3), _pair(SPREAD, 64, 1_000, 80), _pair(HOT, 64, 1_000, 20),
)  # fmt: skip


def test_each_ratio_in_the_table_is_of_neighbours() -> None:
    """Speed.md, rules of the bench."""
    rows = {row[0]: row for row in _told(*PAIRS).rows}

    place = COLUMNS.index("rate, ours : naive")
    assert {name: row[place] for name, row in rows.items()} == {
        "spread, 16 in flight": Spread((2.0, 3.0)), "hot, 16 in flight": Spread((3.0, 5.0)),
        "spread, 64 in flight": Spread((10.0, 12.5)), "hot, 64 in flight": Spread((36.0, 50.0)),
    }  # fmt: skip


def test_the_headline_takes_each_where_it_does_best_round_by_round() -> None:
    """Speed.md, rules: ratio per neighbouring pair, median and range. By their medians the textbook is best at 16 callers, ours
    at 64: of the first round 800 : 100 and 720 : 50, of the second 1,000 : 100 and 1,000 : 60. A ratio of medians is none."""
    assert _told(*PAIRS).headline == (
        "over naive, each at its best: spread 9 (8 to 10) x (64 and 16 in flight), "
        "hot 15.5 (14.4 to 16.7) x (64 and 16 in flight)"
    )


def test_a_round_in_which_naive_answered_nothing_has_no_ratio() -> None:
    """A run of an hour must not end in a division by nothing, and nothing is not a rate to be better than."""
    pairs = (
        _pair(SPREAD, 16, 200, 100), _pair(HOT, 16, 150, 0), _pair(SPREAD, 16, 300, 100), _pair(HOT, 16, 300, 60),
    )  # fmt: skip

    assert _told(*pairs).rows[1][COLUMNS.index("rate, ours : naive")] == Spread((5.0,))


def test_the_chart_has_the_median_rate_of_each_by_its_callers() -> None:
    (chart,) = _told(*PAIRS).charts

    assert {line.name: line.points for line in chart.lines} == {
        "ours, spread": ((16, 250), (64, 900)), "ours, hot": ((16, 225), (64, 860)),
        "naive, spread": ((16, 100), (64, 80)), "naive, hot": ((16, 55), (64, 20)),
    }  # fmt: skip


def test_hot_is_held_against_the_spread_of_the_same_round() -> None:
    notes = _told(*PAIRS).notes

    assert "hot over spread, ours: 0.88 (0.75 to 1) at 16, 0.95 (0.9 to 1) at 64" in notes
    assert few_pairs(2)[0] in notes
    assert "3 checkouts of naive brought no final answer" in notes
    assert [note for note in notes if "turned callers away" in note] == []


def test_what_a_killed_database_had_lost_voids_the_run() -> None:
    """Either's; and a run in which the kill met nothing fresh shows nothing."""
    lost = "1 of 9 checkouts were acknowledged and not stored: co-1"

    assert _told(*PAIRS).void_because == ()
    assert _told(*PAIRS, ours=Kept(9, ("co-1",), fresh=1)).void_because == (lost,)
    assert _told(*PAIRS, theirs=Kept(9, ("co-1",))).void_because == (f"naive: {lost}",)
    assert _told(*PAIRS, theirs=Kept(9, ("co-1",))).status == 1
    assert _told(*PAIRS, ours=Kept(9)).void_because == Kept(9).doubts
