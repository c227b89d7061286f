"""What twice the knee becomes: windows, and what was turned away."""

from loadtest.bench.finding import Finding
from loadtest.bench.load import Load
from loadtest.bench.plan import LoadPlan
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.shed import COLUMNS, Overload, finding_of, windows_of
from loadtest.bench.stage import Offered
from loadtest.bench.staircase import step_of
from loadtest.sample import NO_SAMPLES

PLAN = LoadPlan(target="a:1", token_file="t", folder=".", tps=4.0, seconds=15.0, warm_up_s=3.0, seed=1, run_id="r")


def _call(at_s: float, ending: Ending, latency_ms: int = 200, kind: Kind = Kind.CHECKOUT) -> Call:
    return Call(round(at_s * 1_000_000), 0, latency_ms * 1_000, kind, ending)


CALLS = (
    _call(3.0, Ending.FINAL, 100), _call(12.9, Ending.SHED, 1), _call(5.0, Ending.READ, kind=Kind.READ),
    _call(13.0, Ending.FINAL, 300), _call(17.9, Ending.UNKNOWN, 15_000),
)  # fmt: skip


def _finding(*, calls: tuple[Call, ...] = CALLS, unhinted: int = 0, limit_ms: float = 300.0) -> Finding:
    load = Load(PLAN, calls, 1.0, {"OK": 3, "RESOURCE_EXHAUSTED": 1, "DEADLINE_EXCEEDED": 1}, unhinted)
    after = step_of((_call(0, Ending.FINAL),), offered_per_s=1.0, seconds=1.0, limit_ms=300.0)
    seen = Overload(2.0, Offered(load, limit_ms, NO_SAMPLES, {}, None), after)
    return finding_of(seen, command="zerosum bench shed")


def test_calls_stand_in_the_window_in_which_they_were_meant_to_be_sent() -> None:
    """Windows of ten seconds after the warm-up; the last is as long as what is left. Reads stand beside, not in it."""
    windows = windows_of(CALLS, from_s=3.0, seconds=15.0)

    assert [(each.from_s, each.seconds, len(each.calls)) for each in windows] == [(0.0, 10.0, 2), (10.0, 5.0, 2)]
    assert windows[1].per_s(Ending.FINAL) == 0.2


def test_latency_is_of_what_was_taken_on_and_the_rest_is_counted() -> None:
    """A refusal in 1 ms would flatter the median; a call without an answer has no latency."""
    whole = dict(zip(COLUMNS, _finding().rows[-1], strict=True))

    assert (whole["p50 ms"], whole["p95 ms"], whole["without answer"]) == (100.0, 300.0, 1)
    assert _finding().headline == "at 2 x the knee of 2/s: 0 final/s, p95 300 ms, 25% turned away"


def test_what_the_codes_were_and_whether_they_named_a_time_is_told() -> None:
    notes = _finding().notes

    assert "turned away without RetryInfo: 0" in notes
    assert any("RESOURCE_EXHAUSTED 1" in note for note in notes)


def test_a_call_that_is_turned_away_without_a_time_to_come_again_voids_the_run() -> None:
    """Issue 5, point 7: RESOURCE_EXHAUSTED with RetryInfo. Nothing is lost by it: the status stays 0."""
    assert _finding().void_because == ()
    assert _finding(unhinted=2).void_because == ("2 calls were turned away without RetryInfo",)
    assert _finding(unhinted=2).status == 0


def test_whether_what_was_taken_on_kept_its_latency_is_told_in_words() -> None:
    """The figure is told, and that it is above the limit."""
    none_final = tuple(call for call in CALLS if call.ending is not Ending.FINAL)

    assert "p95 of what was taken on: kept, 300 ms (limit 300 ms)" in _finding().notes
    assert "p95 of what was taken on: missed, 300 ms (limit 299 ms)" in _finding(limit_ms=299.0).notes
    assert "p95 of what was taken on: missed, nothing was answered (limit 300 ms)" in _finding(calls=none_final).notes


def test_where_no_rate_was_held_there_is_no_figure_beyond_the_knee() -> None:
    """Twice a rate that was not held says nothing about a knee: the run is void, in words. No call was lost by it."""
    finding = finding_of(None, command="zerosum bench shed")

    assert (finding.headline, finding.rows) == ("no knee, and nothing beyond it", ())
    assert finding.void_because == ("no rate was held: twice the knee was not offered",)
    assert finding.status == 0
