"""What stands behind the commands of `zerosum bench`: a system is started, measured, stopped; the finding is told.

A run on a system: the card, the measurement, the card again with the system at rest, and as the last act the kill of the
database in the midst of a load (`kept.py`), which no figure and no card can see.

Invariant: one card before and one after each run, on the very system that is measured, stands in every finding; the status is
the finding's own: 1 when something acknowledged is not stored, and 0 whatever the figures are.
"""

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from loadtest.bench import against, against_knee, checkout, cost, fan, hot, machine, post_rpc, shed, steady
from loadtest.bench.card import NAMES, Card
from loadtest.bench.finding import Finding, console_for, tell
from loadtest.bench.idle import idle_bytes
from loadtest.bench.kept import TPS, Kept
from loadtest.bench.page import draw_and_tell
from loadtest.bench.post import check_known
from loadtest.bench.post_finding import finding_of as told_of_posts
from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.system import card_of, folder_of, own_system
from loadtest.probe import processes_by_name
from servers.supervisor import System
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

READS_MAX = 100
"""Reads to a checkout. From the first step's 50 checkouts/s on that is 5,000 reads/s: more than one generator can send."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A finding without the machine's part of it, which is put beside it here.

    `demand`, at `tps` a second: under what load the database is killed at last; None: nothing is killed here.
    """

    finding: Finding
    demand: Demand | None = None
    tps: float = TPS


Measure = Callable[[System, Stage], Awaitable[Measured]]


def run_card(settings: Settings, *, json_file: Path | None) -> int:
    """Takes the card of a system of its own at rest. 0 when it could measure."""
    console = console_for(json_file)
    taken = asyncio.run(_card(settings, console))
    rows = tuple((NAMES[name], value) for name, value in asdict(taken).items())
    headline = f"card: {taken.commits_of_64_clients_per_s:,.0f} one-row commits/s by 64 clients"
    finding = Finding(
        bench="card", command="zerosum bench card", headline=headline, columns=("what", "figure"), rows=rows,
        facts=machine.facts(),
    )  # fmt: skip
    tell(finding, console, json_file)
    return 0


def run_checkout(
    settings: Settings,
    *,
    psp: str,
    orders: int,
    mix: str,
    tps: float,
    seconds: float,
    count: int,
    json_file: Path | None,
) -> int:
    """Finds the knee. Raises Misconfigured, Unavailable."""
    demand = demand_of(psp=psp, orders=orders, mix=mix)
    command = f"zerosum bench checkout --psp {psp} --orders {orders} --mix {mix} --tps {tps:g} --rounds {count}"

    async def measure(_: System, stage: Stage) -> Measured:
        found = await checkout.climbs(stage, demand, count=count, tps=tps, seconds=seconds)
        finding = checkout.finding_of(found, demand, command=f"{command} --seconds {seconds:g}")
        return Measured(finding, demand, checkout.lowest_knee(found))

    return _tell(settings, "checkout", measure, json_file)


def run_hot(settings: Settings, *, tps: float, seconds: float, count: int, json_file: Path | None) -> int:
    """The knee of one hot seller beside that of a thousand, in turn."""

    async def measure(_: System, stage: Stage) -> Measured:
        pairs = await hot.pairs(stage, count=count, tps=tps, seconds=seconds)
        command = f"zerosum bench hot --tps {tps:g} --seconds {seconds:g} --rounds {count}"
        return Measured(
            hot.finding_of(pairs, command=command), hot.HOT, checkout.lowest_knee([each for _, each in pairs])
        )

    return _tell(settings, "hot", measure, json_file)


def run_hot_against_naive(
    settings: Settings, *, in_flight: Sequence[int], seconds: float, count: int, json_file: Path | None
) -> int:
    """Ours and the textbook in turn."""

    async def measure(system: System, stage: Stage) -> Measured:
        found = await against.compare(system, stage, in_flight=in_flight, rounds=count, seconds=seconds)
        callers = ",".join(map(str, in_flight))
        command = f"zerosum bench hot --against naive --in-flight {callers} --seconds {seconds:g} --rounds {count}"
        return Measured(against.finding_of(found, command=command))

    return _tell(settings, "hot", measure, json_file)


def run_checkout_against_naive(
    settings: Settings, *, tps: float, seconds: float, count: int, json_file: Path | None
) -> int:  # fmt: skip
    """The knees of ours and the textbook's in turn."""

    async def measure(system: System, stage: Stage) -> Measured:
        console = console_for(json_file)
        found = await against_knee.compare(system, stage, console, rounds=count, tps=tps, seconds=seconds)
        command = f"zerosum bench checkout --against naive --tps {tps:g} --seconds {seconds:g} --rounds {count}"
        return Measured(against_knee.finding_of(found, command=command))

    return _tell(settings, "checkout", measure, json_file)


def run_post_over_rpc(
    settings: Settings, *, against: Sequence[str], seconds: float, count: int, json_file: Path | None
) -> int:
    """PostJournals on a system of its own, beside peers behind a shim. Raises Misconfigured, Unavailable."""
    check_known(against)

    async def measure(system: System, _: Stage) -> Measured:
        result = await post_rpc.measure(system, against, rounds=count, seconds=seconds)
        command = f"zerosum bench post --rpc --against '{','.join(against)}' --seconds {seconds:g} --rounds {count}"
        return Measured(told_of_posts(result, command, doors="over gRPC", headline=None))

    return _tell(settings, "post", measure, json_file)


def run_shed(
    settings: Settings, *, psp: str, at: float | None, tps: float, seconds: float, json_file: Path | None
) -> int:
    """Twice the knee, for some seconds; `at`: the knee, if it is known."""
    demand = demand_of(psp=psp, orders=1, mix="0:1")

    async def measure(_: System, stage: Stage) -> Measured:
        seen = await shed.overload(stage, demand, knee=at, tps=tps, seconds=seconds)
        where, rate = (f"--knee {seen.knee_per_s:g}", seen.knee_per_s) if seen else (f"--tps {tps:g}", TPS)
        command = f"zerosum bench shed --psp {psp} {where} --seconds {seconds:g}"
        return Measured(shed.finding_of(seen, command=command), demand, rate)

    return _tell(settings, "shed", measure, json_file)


def run_fan(settings: Settings, *, orders_per_s: float, seconds: float, count: int, json_file: Path | None) -> int:
    """What more sellers in a checkout cost."""

    async def measure(_: System, stage: Stage) -> Measured:
        psp = PSP_PROFILES["zero"]
        found = await fan.steps(stage, psp, count=count, orders_per_s=orders_per_s, seconds=seconds)
        command = f"zerosum bench fan --orders-per-s {orders_per_s:g} --seconds {seconds:g} --rounds {count}"
        return Measured(fan.finding_of(found, command=command), Demand(psp=psp), orders_per_s)

    return _tell(settings, "fan", measure, json_file)


def run_cost(settings: Settings, *, seconds: float, json_file: Path | None) -> int:
    """What a checkout costs, counted."""

    async def measure(system: System, stage: Stage) -> Measured:
        found = await cost.costs(system, stage, seconds=seconds)
        idle, processes = idle_bytes(), processes_by_name()
        command = f"zerosum bench cost --seconds {seconds:g}"
        finding = cost.finding_of(found, idle, processes, command=command, losses=())
        return Measured(finding, Demand(psp=PSP_PROFILES["zero"]))

    return _tell(settings, "cost", measure, json_file)


def run_memory(settings: Settings, *, tps: float, seconds: float, json_file: Path | None) -> int:
    """Memory over time under a steady load, by process."""
    command = f"zerosum bench memory --tps {tps:g} --seconds {seconds:g}"

    async def measure(_: System, stage: Stage) -> Measured:
        readings = await steady.memory_under(stage, console_for(json_file), tps=tps, seconds=seconds)
        return Measured(steady.finding_of(readings, command=command))

    return _tell(settings, "memory", measure, json_file)


def demand_of(*, psp: str, orders: int, mix: str) -> Demand:
    """What is asked for. `mix`: reads to writes, "2:1", at most 100:1; "0:1" = writes only. Raises Misconfigured."""
    if psp not in PSP_PROFILES:
        raise Misconfigured(f"there is no PSP profile {psp!r}; there are {', '.join(PSP_PROFILES)}")
    wanted = re.fullmatch(r"([0-9]{1,3}):1", mix)
    if wanted is None or int(wanted[1]) > READS_MAX:
        raise Misconfigured(f"--mix: a mix is reads to one write, such as 2:1, at most {READS_MAX}:1, and not {mix!r}")
    return Demand(psp=PSP_PROFILES[psp], orders=orders, reads=int(wanted[1]))


# ---- a run -----------------------------------------------------------------------------------------------------------


def _tell(settings: Settings, what: str, measure: Measure, json_file: Path | None) -> int:
    console = console_for(json_file)
    folder = folder_of(settings, what)
    finding = asyncio.run(_measured(settings, folder, console, measure))
    return draw_and_tell(finding, folder, console, json_file)


async def _measured(settings: Settings, folder: Path, console: Console, measure: Measure) -> Finding:
    async with own_system(settings, folder, console) as system:
        stage = Stage(system, folder, console)
        await stage.rest()
        before = await card_of(system)
        measured = await measure(system, stage)
        await stage.rest()
        finding = replace(measured.finding, cards=(before, await card_of(system)), facts=machine.facts())
        if measured.demand is None:
            return finding
        return with_kept(finding, await stage.kill(measured.demand, measured.tps))


def with_kept(finding: Finding, kept: Kept) -> Finding:
    """The finding, and what became of everything that was acknowledged when the database was killed."""
    return replace(
        finding, losses=(*finding.losses, *kept.losses), doubts=(*finding.doubts, *kept.doubts),
        notes=(*finding.notes, kept.note),
    )  # fmt: skip


async def _card(settings: Settings, console: Console) -> Card:
    folder = folder_of(settings, "card")
    try:
        async with own_system(settings, folder, console) as system:
            await Stage(system, folder, console).rest()
            return await card_of(system)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
