"""`zerosum bench checkout`: the highest rate of checkouts that the system holds, and what a checkout costs on the way there.

Open loop: buyers come when they come. Steps of +25 % until p95 is above 300 ms or anything fails; the knee is the last step,
held once more for 20 s. Then half of it is offered as long, and 50/s where the climb did not: what we add while there is room.
Several times over. Source: speed.md "The bench", "Goals".

Invariant: a knee is told as the median of its rounds with their range, never as the best.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from loadtest.bench.finding import Cell, Finding, spread_of
from loadtest.bench.sample_file import Ending
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.staircase import STEP, Climb, Step, climb
from loadtest.plot import Chart, Line
from loadtest.probe import GENERATOR, NOT_THE_SYSTEM, SIMULATOR

HELD_S: Final = 20.0
"""How long the knee is held."""

GOAL_PER_S: Final = 50.0
"""What the specification asks for at most, and where speed.md's goals want the latency that we add."""

LATE_MAX_MS: Final = 10.0
"""A generator whose sends are later than this at p95 has not enough of the machine; its lateness is in the latencies."""

_BEFORE_THE_KNEE: Final = STEP**3
"""Where later rounds begin: three steps below the last knee, which is about its half."""

COLUMNS: Final = (
    "offered/s", "held", "final/s", "p50 ms", "p95 ms", "p99 ms", "added p95 ms", "shed", "unknown", "batch",
    "CPU ms: system", "PSP", "load",
)  # fmt: skip

_COLOURS: Final = ("--c1", "--c2", "--c3", "--c4", "--c5", "--p50", "--p99")
_COLOUR_OF_OTHERS: Final = "--c6"


async def climbs(stage: Stage, demand: Demand, *, count: int, tps: float, seconds: float) -> list[Climb]:
    """So many, the first from `tps`, the others from below the knee before them."""
    found: list[Climb] = []
    await stage.behave(demand.psp)
    for _ in range(count):
        climbed = await one_climb(stage, demand, tps=tps, seconds=seconds)
        found.append(replace(climbed, below=await _below(stage, demand, climbed, max(HELD_S, seconds))))
        knee = found[-1].knee_per_s
        tps = max(1.0, knee / _BEFORE_THE_KNEE) if knee is not None else tps / _BEFORE_THE_KNEE
    return found


async def one_climb(stage: Stage, demand: Demand, *, tps: float, seconds: float) -> Climb:
    """A climb whose last step is the knee, held for long."""

    async def offer(rate: float, is_long: bool) -> Step:
        return await stage.offer(demand, rate, max(HELD_S, seconds) if is_long else seconds, is_long=is_long)

    return await climb(offer, tps)


async def _below(stage: Stage, demand: Demand, climbed: Climb, seconds: float) -> tuple[Step, ...]:
    """Half the knee, and the 50/s of the goals where they are below it and were not a step of the climb."""
    if climbed.knee_per_s is None:
        return ()
    known = {step.offered_per_s for step in climbed.steps}
    rates = [climbed.knee_per_s / 2, *({GOAL_PER_S} - known if climbed.knee_per_s >= GOAL_PER_S else ())]
    return tuple([await stage.offer(demand, rate, seconds, is_long=True) for rate in dict.fromkeys(rates)])


def lowest_knee(found: Sequence[Climb]) -> float:
    """A rate that the system holds; where none was held, the lowest that was tried."""
    return min(each.knee_per_s or min(step.offered_per_s for step in each.steps) for each in found)


# ---- telling -------------------------------------------------------------------------------------------------------


def finding_of(found: Sequence[Climb], demand: Demand, *, command: str) -> Finding:
    """The climbs as one finding."""
    steps = [step for each in found for step in (*each.steps, *each.below)]
    knees = [each.knee_per_s or 0.0 for each in found]
    return Finding(
        bench="checkout", command=command, headline=f"knee: {statistics.median(knees):,.0f} checkouts/s",
        columns=COLUMNS, rows=tuple(_row(group) for group in _groups(steps, _by_rate_and_length)),
        notes=tuple(_notes(found, knees, steps, demand)), charts=charts(steps), rate_per_s=statistics.median(knees),
    )  # fmt: skip


def system_cpu_ms(step: Step) -> float:
    """CPU a checkout of everything but the load, the PSP and the one that measures."""
    return sum(ms for name, ms in step.cpu_ms.items() if name not in NOT_THE_SYSTEM)


def _groups(steps: Sequence[Step], key: Callable[[Step], tuple[float, bool]]) -> list[list[Step]]:
    """Steps of the same key together, by their keys in order."""
    groups: dict[tuple[float, bool], list[Step]] = {}
    for step in steps:
        groups.setdefault(key(step), []).append(step)
    return [groups[each] for each in sorted(groups)]


def _by_rate_and_length(step: Step) -> tuple[float, bool]:
    return round(step.offered_per_s, 1), step.is_long


def _by_rate(step: Step) -> tuple[float, bool]:
    return round(step.offered_per_s, 1), False


def _row(group: Sequence[Step]) -> tuple[Cell, ...]:
    def of(figure: Callable[[Step], float | None]) -> Cell:
        return spread_of(value for step in group if (value := figure(step)) is not None)

    first = group[0]
    return (
        f"{first.offered_per_s:,.1f} for {first.seconds:.0f} s",
        f"{sum(not step.not_held for step in group)} of {len(group)}",
        of(lambda step: step.final_per_s), of(lambda step: step.latency.p50_ms), of(lambda step: step.latency.p95_ms),
        of(lambda step: step.latency.p99_ms),
        of(lambda step: step.added.p95_ms),
        _ended(group, Ending.SHED), _ended(group, Ending.UNKNOWN), of(lambda step: step.average_batch),
        of(system_cpu_ms), of(lambda step: step.cpu_ms.get(SIMULATOR)), of(lambda step: step.cpu_ms.get(GENERATOR)),
    )  # fmt: skip


def _ended(group: Sequence[Step], ending: Ending) -> int:
    """How many calls of all these steps together."""
    return sum(step.endings.get(ending, 0) for step in group)


def _notes(found: Sequence[Climb], knees: Sequence[float], steps: Sequence[Step], demand: Demand) -> list[str]:
    asked = f"{demand.orders} order{'s' if demand.orders > 1 else ''} a checkout"
    beside = f", {demand.reads} reads beside each" if demand.reads else ""
    notes = [
        f"PSP {demand.psp.name}: {demand.psp.summary}; {asked}{beside}; p95 held to {demand.limit_ms:.0f} ms",
        f"knee, median of {len(found)}: {spread_of(knees)} checkouts/s, "
        f"{statistics.median(knees) * demand.orders:,.0f} orders/s",
    ]
    halves = [each.below[0] for each in found if each.below]
    goals = [step for step in steps if step.offered_per_s == GOAL_PER_S]
    notes.append(f"added p95: {_added(halves)} at half the knee, {_added(goals)} at {GOAL_PER_S:g}/s")
    reasons = {step.not_held for each in found for step in each.steps[-2:] if step.not_held}
    notes += [f"past the knee: {'; '.join(sorted(reasons))}"] if reasons else []
    late_ms = max(step.late_p95_ms for step in steps)
    notes += [f"the load generator itself sent up to {late_ms:.0f} ms late at p95"] if late_ms > LATE_MAX_MS else []
    return notes


def _added(steps: Sequence[Step]) -> str:
    """The latency that we add at p95 in these steps, in words."""
    told = spread_of(step.added.p95_ms for step in steps if step.added.p95_ms is not None)
    return f"{told} ms" if told else "not measured"


def charts(steps: Sequence[Step]) -> tuple[Chart, ...]:
    """Latency against rate, and CPU a checkout by process against rate; of several steps at a rate the median."""
    groups = _groups(steps, _by_rate)
    rates = [group[0].offered_per_s for group in groups]

    def line(name: str, colour: str, figure: Callable[[Step], float | None]) -> Line:
        return Line(name, colour, tuple(zip(rates, (_median(group, figure) for group in groups), strict=True)))

    latency = Chart(
        title="Latency of checkouts against their rate", unit="ms", x_unit="/s", is_log=True, limit=steps[0].limit_ms,
        lines=(
            line("p99", "--p99", lambda step: step.latency.p99_ms),
            line("p95", "--p95", lambda step: step.latency.p95_ms),
            line("p50", "--p50", lambda step: step.latency.p50_ms),
        ),
    )  # fmt: skip
    names = _dearest(steps)
    shown = [line(name, colour, partial(_cpu, (name,))) for name, colour in zip(names, _COLOURS, strict=False)]
    others = line("all others", _COLOUR_OF_OTHERS, partial(_cpu, tuple(names[len(_COLOURS) :])))
    cpu = Chart(
        title="CPU a checkout by process", unit="ms", x_unit="/s", is_stacked=True,
        lines=(*shown, *([others] if len(names) > len(shown) else [])),
    )  # fmt: skip
    return latency, cpu


def _dearest(steps: Sequence[Step]) -> list[str]:
    """Processes by the CPU they took, the most first."""
    spent: Counter[str] = Counter()
    for step in steps:
        spent.update(step.cpu_ms)
    return [name for name, _ in spent.most_common()]


def _cpu(names: Sequence[str], step: Step) -> float:
    return sum(step.cpu_ms.get(name, 0.0) for name in names)


def _median(group: Sequence[Step], figure: Callable[[Step], float | None]) -> float | None:
    values = [value for step in group if (value := figure(step)) is not None]
    return statistics.median(values) if values else None
