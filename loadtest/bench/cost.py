"""`zerosum bench cost`: what one checkout of one order costs, counted on real processes: alone, at 10 and at 50 a second.

    commits, statements, round trips   that shards and servers sent to the database, by their own counters
    rows, WAL                          of the database, by its own
    turns, batch                       of the checkout shards, by their figures
    calls through Ray                  of every server to its shards, by the shards' figures: commands, and what became of them
    RPCs                               that the servers took, the load's own among them
    CPU                                by process, the load generator and the PSP apart
    processes                          of the system, at rest after the last rate
    idle memory                        of what is settled and still in a shard's memory (`idle.py`); after a minute it leaves

What the clock does (sweeps, watches, ticks) is no part of a checkout: it is counted on an idle system before any load, and so
much for each second is taken out of every count and of the CPU.

Times do not repeat, counts nearly do: those of a lone checkout are held exactly by tests/sim/test_cost.py. Source: speed.md.

Invariant: a count is a difference of two readings of a system at rest, without what the clock does between them, divided by
the checkouts between them. Nothing that the bench itself asks of the system is in a count.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from loadtest.bench.finding import Cell, Finding
from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.staircase import Step
from loadtest.bench.system import admin_url, metrics_pages
from loadtest.plot import Chart, Line
from loadtest.probe import NOT_THE_SYSTEM, cpu_ms_by_process, database_figures, grpc_calls, shard_figures
from servers.supervisor import System
from servers.wiring import database_url
from zerosum.limits import CHECKPOINT_EVERY_S

RATES: Final = (1.0, 10.0, 50.0)
"""Checkouts a second: nearly alone, and the two ends of what the specification asks for."""

IDLE: Final = 100_000
"""Idle entities are told by so many. Source: speed.md "The bench" (cost)."""

AT_REST_S: Final = 3.0
"""The database tells its counters, and shards theirs, a second or two late."""

CLOCK_S: Final = float(CHECKPOINT_EVERY_S)
"""The slowest thing a system does by the clock, a burst of 64 transactions. Every stretch is a whole number of these long, so
that each of them, the idle one too, has its share: else a checkout at 1/s is now 2 commits and now 10."""

_COUNTERS: Final = """
SELECT (SELECT sum(n_tup_ins) FROM pg_stat_user_tables), (SELECT sum(n_tup_upd) FROM pg_stat_user_tables),
       pg_current_wal_lsn() - '0/0'::pg_lsn
"""

_OF_SHARDS: Final = ("calls", "round_trips", "statements", "commits")
_OF_CHECKOUT_SHARDS: Final = ("turns", "batches")

_COUNTED: Final = (
    ("commits", "commits", 1.0), ("round trips to the database", "round_trips", 1.0), ("statements", "statements", 1.0),
    ("rows inserted", "inserted", 1.0), ("rows updated", "updated", 1.0), ("WAL, KB", "wal_bytes", 1_024.0),
    ("turns of the checkout shards", "turns", 1.0), ("calls through Ray", "calls", 1.0), ("RPCs", "rpcs", 1.0),
)  # fmt: skip

_COLOURS: Final = ("--c1", "--c2", "--c3", "--c4", "--c5", "--p50", "--p99")
_COLOUR_OF_OTHERS: Final = "--c6"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a system has counted at an instant, in seconds of a clock that only grows; every count only grows, too.

    `counts`: by the names in `_COUNTED`. `cpu_ms`: by process.
    """

    at_s: float
    counts: Mapping[str, float]
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What lies between two readings of a system at rest."""

    before: Reading
    after: Reading

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.after.at_s - self.before.at_s

    def rose(self, name: str) -> float:
        """Of a counter."""
        return self.after.counts.get(name, 0.0) - self.before.counts.get(name, 0.0)

    def a_second(self, name: str) -> float:
        """Of a counter, on the mean."""
        return self.rose(name) / self.seconds

    def cpu_ms_a_second(self, process: str) -> float:
        """Of a process, on the mean."""
        return (self.after.cpu_ms.get(process, 0.0) - self.before.cpu_ms.get(process, 0.0)) / self.seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """One rate: its step, and what was counted around it. `checkouts`: all that were offered, warm-up included.

    `idle`: the same system, before it had anything to do.
    """

    step: Step
    stretch: Stretch
    checkouts: int
    idle: Stretch

    def each(self, name: str) -> float:
        """Of a counter, a checkout, without what the clock does. Noise of an idle system may make it a little less than 0."""
        counted = self.stretch.rose(name) - self.idle.a_second(name) * self.stretch.seconds
        return counted / max(self.checkouts, 1)

    def cpu_ms(self, process: str) -> float:
        """Of a process, a checkout that was taken on, without what it takes of every second while nobody asks for anything."""
        idle_ms = self.idle.cpu_ms_a_second(process) * self.step.seconds / max(self.step.taken_on, 1)
        return max(0.0, self.step.cpu_ms.get(process, 0.0) - idle_ms)


async def costs(system: System, stage: Stage, *, seconds: float) -> list[Cost]:
    """An idle stretch, then each rate for so long; the slowest for longer, so that there is something to count.

    With the rest after each, a stretch takes half a minute or a whole one.
    """
    demand = Demand(psp=PSP_PROFILES["zero"])
    await stage.behave(demand.psp)
    before, _ = await _at_rest(system)
    last, known = await _at_rest(system, before.at_s)
    idle, found = Stretch(before, last), []
    for tps in RATES:
        step = await stage.offer(demand, tps, seconds * (2 if tps == RATES[0] else 1))
        after, stored = await _at_rest(system, last.at_s)
        found.append(Cost(step, Stretch(last, after), stored - known, idle))
        last, known = after, stored
    return found


async def _at_rest(system: System, since_s: float | None = None) -> tuple[Reading, int]:
    """The counters, once all have been told, and how many checkouts are stored. `since_s`: where the stretch began."""
    await asyncio.sleep(AT_REST_S if since_s is None else rest_s(time.monotonic() - since_s))
    return await asyncio.to_thread(_read, system), await asyncio.to_thread(_checkouts, system)


def rest_s(passed_s: float) -> float:
    """How long to wait until all counters have been told, and the stretch is a whole number of the slowest clock's rounds."""
    return AT_REST_S + -(passed_s + AT_REST_S) % CLOCK_S


def _read(system: System) -> Reading:
    at_s, cpu_ms, pages = time.monotonic(), cpu_ms_by_process(), metrics_pages(system)
    figures: dict[str, Mapping[str, Mapping[str, float]]] = {
        service: shard_figures(page) for service, page in pages.items()
    }
    counts = counts_of(figures, [database_figures(page) for page in pages.values()])
    with psycopg.connect(admin_url(system).replace("+psycopg", ""), autocommit=True) as connection:
        row = connection.execute(_COUNTERS).fetchone()
    assert row is not None  # the counters are always there
    counts |= zip(("inserted", "updated", "wal_bytes"), map(float, row), strict=True)
    counts["rpcs"] = sum(map(grpc_calls, pages.values()))
    return Reading(at_s, counts, cpu_ms)


def counts_of(
    figures: Mapping[str, Mapping[str, Mapping[str, float]]], servers: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Counts by name, from service -> shard -> figures, and the figures of each server's own way to its database.

    Turns and batches are those of the checkout shards; calls through Ray, and what was sent to databases, those of all.
    """
    every = [each for shards in figures.values() for each in shards.values()]
    checkouts = list(figures.get("payment", {}).values())
    counts = {name: sum(each.get(name, 0.0) for each in (*every, *servers)) for name in _OF_SHARDS}
    return counts | {name: sum(each.get(name, 0.0) for each in checkouts) for name in _OF_CHECKOUT_SHARDS}


def _checkouts(system: System) -> int:
    url = database_url(system.settings, "auditor").replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM payment.payment_events").fetchone()
    return int(row[0]) if row else 0


# ---- telling ---------------------------------------------------------------------------------------------------------


def finding_of(
    found: Sequence[Cost],
    idle_bytes: Mapping[str, float],
    processes: Mapping[str, int],
    *,
    command: str,
    losses: Sequence[str],
) -> Finding:
    """The rates side by side, and a second of the idle system. `idle_bytes`: of one entity, by kind. `processes`: by kind."""
    idle, last = found[0].idle, found[-1]
    rows: list[tuple[Cell, ...]] = [
        (name, *(cost.each(counter) / unit for cost in found), idle.a_second(counter) / unit)
        for name, counter, unit in _COUNTED
    ]
    rows.append(("turns a commit of the checkout shards", *(cost.step.average_batch for cost in found), None))
    dearest = _dearest(found)
    rows += [
        (f"CPU ms: {name}", *(cost.cpu_ms(name) for cost in found), idle.cpu_ms_a_second(name)) for name in dearest
    ]
    ours = [name for name in dearest if name not in NOT_THE_SYSTEM]
    cpu_ms = sum(map(last.cpu_ms, ours))
    return Finding(
        bench="cost", command=command,
        columns=("a checkout of one order", *(f"{tps:g}/s" for tps in RATES), "idle, a second"),
        headline=f"cost at {RATES[-1]:g}/s: {last.each('commits'):.2f} commits, {last.each('round_trips'):.1f} round trips, "
        f"{last.each('inserted') + last.each('updated'):.0f} rows, {cpu_ms:.1f} ms of CPU of the system a checkout",
        rows=tuple(rows), losses=tuple(losses), notes=tuple(_notes(found, idle_bytes, processes)),
        charts=(cpu_chart(found, ours),), cpu_us=cpu_ms * 1_000,
    )  # fmt: skip


def _notes(found: Sequence[Cost], idle_bytes: Mapping[str, float], processes: Mapping[str, int]) -> list[str]:
    ours = {name: count for name, count in sorted(processes.items()) if name not in NOT_THE_SYSTEM}
    others = [name for name in _dearest(found) if name in NOT_THE_SYSTEM]
    memory = (
        f"{each * IDLE / 2**20:,.0f} MB for {IDLE:,} {kind} ({each:,.0f} bytes each)"
        for kind, each in idle_bytes.items()
    )
    return [
        "idle, a second: what the system does by the clock (sweeps, watches, checkpoints), counted for "
        f"{found[0].idle.seconds:.0f} s before any load; so much for each second has been taken out of the other columns",
        "commits, round trips, statements: of shards and servers, by their own counters; what the bench asks is not in them. "
        "BEGIN and the end of a transaction are statements; a commit is of one that may write",
        "calls through Ray: of every server to its shards; those that ask for figures are left out",
        f"idle memory: {', '.join(memory)}; by fewer of each in a shard's own table; none after a minute of idleness",
        f"CPU of {', '.join(others)}: not the system's, and not in the headline",
        f"processes: {sum(ours.values())} ({', '.join(f'{name} {count}' for name, count in ours.items())})",
    ]


def cpu_chart(found: Sequence[Cost], processes: Sequence[str]) -> Chart:
    """CPU a checkout by process against the rate, the dearest at the bottom; the rest of them together."""
    shown, others = processes[: len(_COLOURS)], processes[len(_COLOURS) :]

    def line(name: str, colour: str, which: Sequence[str]) -> Line:
        return Line(name, colour, tuple((cost.step.offered_per_s, sum(map(cost.cpu_ms, which))) for cost in found))

    lines = [line(name, colour, [name]) for name, colour in zip(shown, _COLOURS, strict=False)]
    if others:
        lines.append(line(others[0] if len(others) == 1 else "all others", _COLOUR_OF_OTHERS, others))
    return Chart(
        title="CPU a checkout by process of the system",
        unit="ms",
        x_unit="/s",
        is_stacked=True,
        is_x_log=True,
        x_ticks=RATES,
        lines=tuple(lines),
    )


def _dearest(found: Sequence[Cost]) -> list[str]:
    """The system's processes, then the others, by the CPU that a checkout takes of them at the last rate, the most first."""
    names = {name for cost in found for name in cost.step.cpu_ms}
    return sorted(names, key=lambda name: (name in NOT_THE_SYSTEM, -found[-1].cpu_ms(name), name))
