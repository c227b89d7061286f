"""`zerosum bench shed`: past the knee the system takes on what it can serve in time and turns the rest away, and loses nothing.

The knee is found (or given), then twice that is offered for a minute, then half of it. What is turned away is
RESOURCE_EXHAUSTED with RetryInfo: a single one without makes the run void, since its caller comes back at once. Whether p95
kept to the limit is told in words. Source: issue 5, point 7.

Invariant: latency is of what was taken on, from the intended instant; what was turned away is counted, never timed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.bench.checkout import one_climb
from loadtest.bench.finding import Cell, Finding
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.stage import Demand, Offered, Stage
from loadtest.bench.staircase import Step
from loadtest.plot import Chart, Line
from loadtest.sample import Percentiles, percentiles

TIMES: Final = 2.0
"""The knee, so often."""

STEP_S: Final = 5.0
"""Of a step on the way to the knee."""

WINDOW_S: Final = 10.0
AFTERWARDS_S: Final = 10.0
COLUMNS: Final = ("window", "offered/s", "final/s", "turned away/s", "without answer", "p50 ms", "p95 ms", "p99 ms")


@dataclass(frozen=True, slots=True)
class Window:
    """Calls of some seconds of the load."""

    from_s: float
    seconds: float
    calls: tuple[Call, ...]

    def per_s(self, *endings: Ending) -> float:
        """Checkouts a second that ended so."""
        return self.count(*endings) / self.seconds

    def count(self, *endings: Ending) -> int:
        """Checkouts that ended so."""
        return sum(call.ending in endings for call in self.calls)


@dataclass(frozen=True, slots=True)
class Overload:
    """What was seen. `after`: the step at half the knee that follows at once."""

    knee_per_s: float
    offered: Offered
    after: Step


async def overload(stage: Stage, demand: Demand, *, knee: float | None, tps: float, seconds: float) -> Overload | None:
    """Finds the knee unless it is given, and goes beyond it. None: no rate was held, so there is nothing to go beyond."""
    await stage.behave(demand.psp)
    knee_per_s = knee or (await one_climb(stage, demand, tps=tps, seconds=STEP_S)).knee_per_s
    if knee_per_s is None:
        return None
    offered = await stage.load(demand, knee_per_s * TIMES, seconds)
    after = await stage.offer(demand, knee_per_s / TIMES, AFTERWARDS_S)
    return Overload(knee_per_s, offered, after)


# ---- telling -------------------------------------------------------------------------------------------------------


def windows_of(calls: Sequence[Call], *, from_s: float, seconds: float, window_s: float = WINDOW_S) -> list[Window]:
    """The checkouts by the window in which they were meant to be sent; the last may be shorter."""
    windows, at_s = [], 0.0
    while at_s < seconds:
        length_s = min(window_s, seconds - at_s)
        first_us, last_us = ((from_s + edge_s) * 1_000_000 for edge_s in (at_s, at_s + length_s))
        mine = (call for call in calls if call.kind is Kind.CHECKOUT and first_us <= call.offset_us < last_us)
        windows.append(Window(at_s, length_s, tuple(mine)))
        at_s += length_s
    return windows


def finding_of(seen: Overload | None, *, command: str) -> Finding:
    """The overload as a finding; of none that there was no knee, in words."""
    if seen is None:
        return Finding(
            bench="shed", command=command, headline="no knee, and nothing beyond it", columns=COLUMNS, rows=(),
            doubts=("no rate was held: twice the knee was not offered",),
        )  # fmt: skip
    load, plan = seen.offered.load, seen.offered.load.plan
    windows = windows_of(load.calls, from_s=plan.warm_up_s, seconds=plan.seconds)
    (whole,) = windows_of(load.calls, from_s=plan.warm_up_s, seconds=plan.seconds, window_s=plan.seconds)
    told = _final(whole)
    turned_away = whole.count(Ending.SHED) / max(len(whole.calls), 1)
    return Finding(
        bench="shed", command=command, columns=COLUMNS,
        headline=f"at {TIMES:g} x the knee of {seen.knee_per_s:,.0f}/s: {whole.per_s(Ending.FINAL):,.0f} final/s, "
        f"p95 {told.p95_ms or 0:,.0f} ms, {turned_away:.0%} turned away",
        rows=(*(_row(f"{each.from_s:.0f} s", each) for each in windows), _row("all of it", whole)),
        charts=_charts(windows, seen.offered.limit_ms),
        doubts=(f"{load.unhinted} calls were turned away without RetryInfo",) if load.unhinted else (),
        notes=(
            _judged(told, seen.offered.limit_ms),
            f"turned away without RetryInfo: {load.unhinted}",
            f"without an answer: {whole.count(Ending.UNKNOWN)}; codes: "
            + ", ".join(f"{code} {count}" for code, count in sorted(load.codes.items())),
            f"then {seen.after.offered_per_s:,.0f}/s: p95 {seen.after.latency.p95_ms or 0:,.0f} ms, "
            f"{seen.after.not_held or 'held'}",
        ),
    )  # fmt: skip


def _judged(told: Percentiles, limit_ms: float) -> str:
    """The latency goal of what was taken on, in words."""
    if told.p95_ms is None:
        return f"p95 of what was taken on: missed, nothing was answered (limit {limit_ms:,.0f} ms)"
    word = "kept" if told.p95_ms <= limit_ms else "missed"
    return f"p95 of what was taken on: {word}, {told.p95_ms:,.0f} ms (limit {limit_ms:,.0f} ms)"


def _final(window: Window) -> Percentiles:
    return percentiles(call.latency_us / 1_000 for call in window.calls if call.ending is Ending.FINAL)


def _row(name: str, window: Window) -> tuple[Cell, ...]:
    told = _final(window)
    return (
        name, len(window.calls) / window.seconds, window.per_s(Ending.FINAL), window.per_s(Ending.SHED),
        window.count(Ending.UNKNOWN), told.p50_ms, told.p95_ms, told.p99_ms,
    )  # fmt: skip


def _charts(windows: Sequence[Window], limit_ms: float) -> tuple[Chart, ...]:
    def line(name: str, colour: str, values: Sequence[float | None]) -> Line:
        middles = [window.from_s + window.seconds / 2 for window in windows]
        return Line(name, colour, tuple(zip(middles, values, strict=True)))

    told = [_final(window) for window in windows]
    return (
        Chart(
            title="Latency of what was taken on", unit="ms", is_log=True, limit=limit_ms,
            lines=(
                line("p99", "--p99", [each.p99_ms for each in told]), line("p95", "--p95", [each.p95_ms for each in told]),
                line("p50", "--p50", [each.p50_ms for each in told]),
            ),
        ),
        Chart(
            title="Answers", unit="a second",
            lines=(
                line("final", "--c2", [each.per_s(Ending.FINAL) for each in windows]),
                line("turned away", "--c3", [each.per_s(Ending.SHED) for each in windows]),
                line("without an answer", "--c4", [each.per_s(Ending.UNKNOWN) for each in windows]),
            ),
        ),
    )  # fmt: skip
