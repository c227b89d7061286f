"""`zerosum bench fan`: what more sellers in a checkout cost: 1, 3, 10 and 30 orders each, at one rate of orders.

An order more shares its checkout's call, turns and commits, and adds rows and calls of the PSP of its own; all orders of a
checkout are charged in parallel. Source: speed.md "Growth".

Invariant: every width is offered the same orders a second, in turn, so that what the machine does meets all of them.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from loadtest.bench.checkout import system_cpu_ms
from loadtest.bench.finding import Cell, Finding, few_pairs, ratios, spread_of
from loadtest.bench.psp_profile import PspProfile
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.staircase import Step
from loadtest.plot import Chart, Line

WIDTHS: Final = (1, 3, 10, 30)
"""Orders a checkout; 30 is the most that one takes."""

_TOLD: Final = 10
COLUMNS: Final = (
    "sellers",
    "checkouts/s",
    "orders/s",
    "p50 ms",
    "p95 ms",
    "CPU ms an order, system",
    "of one seller's",
)

Found = Mapping[int, Sequence[Step]]
"""Width -> its steps, a round each."""


async def steps(stage: Stage, psp: PspProfile, *, count: int, orders_per_s: float, seconds: float) -> Found:
    """So many rounds, each width once in each."""
    found: dict[int, list[Step]] = {width: [] for width in WIDTHS}
    await stage.behave(psp)
    for _ in range(count):
        for width in WIDTHS:
            demand = Demand(psp=psp, orders=width)
            found[width].append(await stage.offer(demand, orders_per_s / width, seconds))
    return found


def finding_of(found: Found, *, command: str) -> Finding:
    """The rounds as one finding; ratios are of neighbours."""
    ten, one = (_cpu_an_order(found[width], width) for width in (_TOLD, 1))
    return Finding(
        bench="fan", command=command, headline=f"CPU an order at {_TOLD} sellers over one: {ratios(ten, one)}",
        columns=COLUMNS, rows=tuple(_row(width, found) for width in WIDTHS),
        notes=(f"{len(found[1])} rounds, the widths in turn", *few_pairs(len(found[1]))),
        charts=charts(found),
    )  # fmt: skip


def _row(width: int, found: Found) -> tuple[Cell, ...]:
    mine = found[width]
    cpu_ms = _cpu_an_order(mine, width)
    return (
        str(width), spread_of(step.final_per_s for step in mine), spread_of(step.final_per_s * width for step in mine),
        spread_of(step.latency.p50_ms for step in mine if step.latency.p50_ms is not None),
        spread_of(step.latency.p95_ms for step in mine if step.latency.p95_ms is not None),
        spread_of(cpu_ms), ratios(cpu_ms, _cpu_an_order(found[1], 1)),
    )  # fmt: skip


def _cpu_an_order(steps_of_width: Sequence[Step], width: int) -> list[float]:
    return [system_cpu_ms(step) / width for step in steps_of_width]


def charts(found: Found) -> tuple[Chart, ...]:
    """CPU an order, and latency, against the sellers of a checkout; of several rounds the median."""

    def line(name: str, colour: str, figures: Callable[[int], Sequence[float | None]]) -> Line:
        known = {width: [value for value in figures(width) if value is not None] for width in WIDTHS}
        return Line(
            name,
            colour,
            tuple((width, statistics.median(values) if values else None) for width, values in known.items()),
        )

    cpu = Chart(
        title="CPU an order by the sellers of its checkout", unit="ms", x_unit="", is_x_log=True, x_ticks=WIDTHS,
        lines=(line("the system", "--c1", lambda width: _cpu_an_order(found[width], width)),),
    )  # fmt: skip
    latency = Chart(
        title="Latency of checkouts by their sellers", unit="ms", x_unit="", is_x_log=True, x_ticks=WIDTHS,
        limit=found[1][0].limit_ms,
        lines=(
            line("p95", "--p95", lambda width: [step.latency.p95_ms for step in found[width]]),
            line("p50", "--p50", lambda width: [step.latency.p50_ms for step in found[width]]),
        ),
    )  # fmt: skip
    return cpu, latency
