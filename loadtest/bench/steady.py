"""`zerosum bench memory`: proportional memory of everything under one steady rate, read every ten seconds.

Invariant: what is read is the whole family of processes, shared pages counted once; the PSP and the load generator, which
are not the system, are told apart from it.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from loadtest.bench.finding import Cell, Finding
from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.stage import Demand, Stage
from loadtest.plot import Chart, Line
from loadtest.probe import NOT_THE_SYSTEM, memory_mb_by_process

READ_EVERY_S: Final = 10.0
LAST_S: Final = 180.0
"""Growth is told over the last three minutes: what a start-up takes once is over by then."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was held at one instant of the load, in MB, by what the processes are."""

    at_s: float
    held_mb: Mapping[str, float]

    @property
    def system_mb(self) -> float:
        """Without the PSP, the load generator and the bench."""
        return sum(mb for name, mb in self.held_mb.items() if name not in NOT_THE_SYSTEM)


async def memory_under(stage: Stage, console: Console, *, tps: float, seconds: float) -> list[Reading]:
    """In the order read, the last one after the load; never empty."""
    readings: list[Reading] = []
    began_s = time.monotonic()

    async def read() -> None:
        readings.append(Reading(time.monotonic() - began_s, await asyncio.to_thread(memory_mb_by_process)))
        console.print(f"{readings[-1].at_s:6.0f} s  {readings[-1].system_mb:7.0f} MB", highlight=False)

    loading = asyncio.create_task(stage.offer(Demand(psp=PSP_PROFILES["zero"]), tps, seconds))
    while not loading.done():
        await read()
        await asyncio.wait({loading}, timeout=READ_EVERY_S)
    await loading
    await read()
    return readings


COLUMNS: Final = ("process", "at first, MB", "after the load, MB", "MB a minute, last three")


def finding_of(readings: Sequence[Reading], *, command: str) -> Finding:
    """Memory by process, what is not the system below it."""
    last = readings[-1]
    names = sorted(
        {name for each in readings for name in each.held_mb}, key=lambda name: (name in NOT_THE_SYSTEM, name)
    )
    system = [(each.at_s, each.system_mb) for each in readings]
    growth = _mb_a_minute(system)
    return Finding(
        bench="memory", command=command, columns=COLUMNS,
        headline=f"memory: {last.system_mb:,.0f} MB after {last.at_s:.0f} s, {growth:+.1f} MB a minute in the last three",
        rows=(_row("the system", system), *(_row(name, _held(readings, name)) for name in names)),
        notes=("the system is everything but " + ", ".join(sorted(NOT_THE_SYSTEM)),),
        charts=(
            Chart(
                title="Memory by process", unit="MB",
                lines=tuple(
                    Line(name, f"--c{1 + place % 6}", tuple(_held(readings, name))) for place, name in enumerate(names)
                ),
            ),
        ),
    )  # fmt: skip


def _held(readings: Sequence[Reading], name: str) -> list[tuple[float, float]]:
    return [(each.at_s, each.held_mb.get(name, 0.0)) for each in readings]


def _row(name: str, held: Sequence[tuple[float, float]]) -> tuple[Cell, ...]:
    return name, held[0][1], held[-1][1], _mb_a_minute(held)


def _mb_a_minute(held: Sequence[tuple[float, float]]) -> float:
    """The slope of the straight line nearest to the last readings; 0 of a single one."""
    last = [(at_s, mb) for at_s, mb in held if at_s >= held[-1][0] - LAST_S]
    if len(last) < 2:  # noqa: PLR2004 - a line needs two points
        return 0.0
    return statistics.linear_regression(*zip(*last, strict=True)).slope * 60
