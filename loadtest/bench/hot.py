"""`zerosum bench hot`: the knee of checkouts to one hot seller beside the knee of checkouts to a thousand, in turn.

What a row lock makes slow is the seller everybody buys from; the ratio of neighbouring climbs is the figure. Source: speed.md.

Invariant: spread and hot alternate on one system, so that what the machine does meets both.
"""

from collections.abc import Sequence
from typing import Final

from loadtest.bench.checkout import charts, one_climb, system_cpu_ms
from loadtest.bench.finding import Cell, Finding, few_pairs, ratios, spread_of
from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.staircase import STEP, Climb, Step

SPREAD: Final = Demand(psp=PSP_PROFILES["zero"])
HOT: Final = Demand(psp=PSP_PROFILES["zero"], hot_share=1.0)

COLUMNS: Final = ("seller", "knee/s", "p95 ms at the knee", "CPU ms at the knee, system")

Pair = tuple[Climb, Climb]
"""Spread, hot."""


async def pairs(stage: Stage, *, count: int, tps: float, seconds: float) -> list[Pair]:
    """So many climbs of each, spread first; later ones begin two steps below the knee of the first."""
    found: list[Pair] = []
    await stage.behave(SPREAD.psp)
    for _ in range(count):
        spread = await one_climb(stage, SPREAD, tps=tps, seconds=seconds)
        tps = max(1.0, (spread.knee_per_s or tps) / STEP**2)
        found.append((spread, await one_climb(stage, HOT, tps=tps, seconds=seconds)))
    return found


def finding_of(found: Sequence[Pair], *, command: str) -> Finding:
    """The pairs as one finding; the ratio is of neighbours. A pair in which spread has no knee has no ratio, and is a doubt."""
    spread, hot = ([pair[place] for pair in found] for place in (0, 1))
    told = [(hot_knee, knee) for knee, hot_knee in ((_knee(one), _knee(other)) for one, other in found) if knee]
    ratio = ratios([hot_knee for hot_knee, _ in told], [knee for _, knee in told])
    missing = len(found) - len(told)
    return Finding(
        bench="hot", command=command, headline=f"hot over spread: {ratio or 'no ratio, spread held no rate'}",
        columns=COLUMNS, rows=(_row("a thousand", spread), _row("one", hot)),
        doubts=(f"in {missing} of {len(found)} pairs spread held no rate: they have no ratio",) if missing else (),
        charts=charts([step for each in hot for step in each.steps]),
        notes=(
            f"{len(found)} pairs of climbs, spread and hot in turn; the plots are of the hot seller", *few_pairs(len(told))
        ),
    )  # fmt: skip


def _row(name: str, found: Sequence[Climb]) -> tuple[Cell, ...]:
    last = [step for each in found if (step := _held(each)) is not None]
    return (
        name, spread_of(_knee(each) for each in found),
        spread_of(step.latency.p95_ms for step in last if step.latency.p95_ms is not None),
        spread_of(system_cpu_ms(step) for step in last),
    )  # fmt: skip


def _knee(found: Climb) -> float:
    return found.knee_per_s or 0.0


def _held(found: Climb) -> Step | None:
    """The long step of the knee."""
    return found.steps[-1] if found.knee_per_s is not None else None
