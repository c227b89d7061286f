"""`zerosum bench checkout --against naive`: the knees of ours and the textbook's in turn, to a thousand sellers and to one.

Open loop: the same load generator, steps and rules for both (+25 % a step; p95 below 300 ms, no error; held again for 20 s), on
the same database server and with a PSP that answers at once. An address is all that differs: the token that ours verifies
goes to the textbook too, which does not look. What the textbook is given stands in `textbook.py`. It begins at a tenth of our
first rate. Source: speed.md "The bench", "Goals".

Invariant: ours and the textbook's climbs alternate, and every ratio is of neighbours.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from rich.console import Console

from loadtest.bench import hot
from loadtest.bench.against import HOT, OURS, SPREAD, over
from loadtest.bench.checkout import HELD_S, system_cpu_ms
from loadtest.bench.finding import Cell, Finding, few_pairs, spread_of
from loadtest.bench.kept import read_acknowledged
from loadtest.bench.load import run_load
from loadtest.bench.plan import LoadPlan
from loadtest.bench.psp_profile import P95_LIMIT_MS
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.staircase import STEP, Climb, Step, climb, cpu_a_checkout, step_of
from loadtest.bench.textbook import GIVEN, PROCESSES, Killed, Textbook, kill_both, textbook_beside
from loadtest.clock import wall_ms
from loadtest.plot import Chart, Line
from loadtest.probe import NAIVE, cpu_ms_by_process
from servers.keys import token_path
from servers.supervisor import System

DEMANDS: Final[Mapping[str, Demand]] = {SPREAD: hot.SPREAD, HOT: hot.HOT}

FIRST_SHARE: Final = 0.1
"""Of our first rate, where the textbook's first climb begins: 5/s beside 50/s."""

_BEFORE_THE_KNEE: Final = STEP**2
"""Where later climbs begin, for both: two steps below the knee before."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Neighbouring climbs."""

    sellers: str
    ours: Climb
    theirs: Climb


@dataclass(frozen=True, slots=True)
class Found:
    """All pairs, and what was stored when the database had been killed."""

    pairs: Sequence[Pair]
    killed: Killed


class Offering(Protocol):
    """Whatever a rate can be offered to, as `Stage` does."""

    async def offer(self, demand: Demand, tps: float, seconds: float, *, is_long: bool = False) -> Step:
        """Offers the rate for so long after a warm-up."""
        ...


async def compare(
    system: System, stage: Stage, console: Console, *, rounds: int, tps: float, seconds: float
) -> Found:  # fmt: skip
    """So many rounds of ours, theirs, spread, then hot; ours from `tps`. Then the kill. Raises Unavailable."""
    await stage.behave(DEMANDS[SPREAD].psp)
    async with textbook_beside(system) as textbook:
        folder = system.settings.data_dir
        beside = TextbookStage(textbook, token_path(folder, "service"), folder, console)
        pairs = await climbs(stage, beside, rounds=rounds, tps=tps, seconds=seconds)
        return Found(pairs, await kill_both(system, textbook, stage.journals, read_acknowledged(beside.journals)))


async def climbs(ours: Offering, theirs: Offering, *, rounds: int, tps: float, seconds: float) -> list[Pair]:
    """In turn; each system's later climbs of a kind begin below the knee that it had before."""
    pairs: list[Pair] = []
    begin_ours, begin_theirs = dict.fromkeys(DEMANDS, tps), dict.fromkeys(DEMANDS, tps * FIRST_SHARE)
    for _ in range(rounds):
        for sellers, demand in DEMANDS.items():
            mine = await climb(_tried(ours, demand, seconds), begin_ours[sellers])
            other = await climb(_tried(theirs, demand, seconds), begin_theirs[sellers])
            pairs.append(Pair(sellers, mine, other))
            for begin, climbed in ((begin_ours, mine), (begin_theirs, other)):
                begin[sellers] = (climbed.knee_per_s or begin[sellers]) / _BEFORE_THE_KNEE
    return pairs


def _tried(offering: Offering, demand: Demand, seconds: float) -> Callable[[float, bool], Awaitable[Step]]:
    async def tried(rate: float, is_long: bool) -> Step:
        return await offering.offer(demand, rate, max(HELD_S, seconds) if is_long else seconds, is_long=is_long)

    return tried


@dataclass(slots=True)
class TextbookStage:
    """Offers rates to the textbook. `journals`: of what it acknowledged."""

    textbook: Textbook
    token_file: Path
    folder: Path
    console: Console
    journals: list[Path] = field(default_factory=list)

    async def offer(self, demand: Demand, tps: float, seconds: float, *, is_long: bool = False) -> Step:
        """As `Stage.offer`. Nothing is owed after its answers, so nothing has to drain."""
        plan = self._plan(demand, tps, seconds)
        before, after = dict[str, float](), dict[str, float]()

        async def counting() -> None:
            before.update(cpu_ms_by_process())

        async def offered() -> None:
            after.update(cpu_ms_by_process())

        load = await run_load(plan, on_counting=counting, on_offered=offered)
        self.journals.append(plan.journal)
        step = step_of(load.calls, offered_per_s=tps, seconds=seconds, limit_ms=demand.limit_ms, is_long=is_long)
        spent = {name: after[name] - before.get(name, 0.0) for name in after.keys() & PROCESSES}
        step = replace(step, cpu_ms=cpu_a_checkout(step, spent))
        self.console.print(
            f"naive, {'held' if not step.not_held else 'NOT HELD'}: {tps:.1f}/s for {seconds:.0f} s, "
            f"{step.final_per_s:.1f}/s final, p95 {step.latency.p95_ms or 0:.0f} ms  {step.not_held}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return step

    def _plan(self, demand: Demand, tps: float, seconds: float) -> LoadPlan:
        number = len(self.journals) + 1
        folder = self.folder / f"naive-{number}"
        folder.mkdir()
        return LoadPlan(
            target=",".join(self.textbook.addresses), token_file=str(self.token_file), folder=str(folder), tps=tps,
            seconds=seconds, seed=number, run_id=f"{wall_ms():x}", orders=demand.orders, hot_share=demand.hot_share,
        )  # fmt: skip


# ---- telling -------------------------------------------------------------------------------------------------------

COLUMNS: Final = (
    "sellers", "knee/s, ours", "p95 ms", "CPU ms", "knee/s, naive", "p95 ms of naive", "CPU ms of naive",
    "knee, ours : naive",
)  # fmt: skip


def finding_of(found: Found, *, command: str) -> Finding:
    """A row for spread and one for hot; ratios of neighbours."""
    groups = {sellers: [pair for pair in found.pairs if pair.sellers == sellers] for sellers in DEMANDS}
    none_held = sum(pair.theirs.knee_per_s is None for pair in found.pairs)
    told = ", ".join(f"{sellers} {_over(pairs) or '-'} x" for sellers, pairs in groups.items())
    finding = Finding(
        bench="checkout", command=command, headline=f"knee over naive's: {told}", columns=COLUMNS,
        rows=tuple(_row(sellers, pairs) for sellers, pairs in groups.items()),
        notes=(
            f"open loop, one order a checkout, PSP answering at once; p95 held to {P95_LIMIT_MS:.0f} ms; steps of +25 %, so "
            "that a knee is a step more or less; figures at the knee, CPU without load, PSP and bench",
            GIVEN,
            *few_pairs(min(map(len, groups.values()))),
            *([f"naive held no rate at all in {none_held} of its climbs: no ratio has them"] if none_held else []),
        ),
        charts=(_chart(groups),),
    )  # fmt: skip
    return found.killed.told_in(finding)


_Groups = Mapping[str, Sequence[Pair]]


def _over(pairs: Sequence[Pair]) -> Cell:
    """A climb that held nothing is a knee of 0."""
    return over([pair.ours.knee_per_s or 0.0 for pair in pairs], [pair.theirs.knee_per_s or 0.0 for pair in pairs])


def _row(sellers: str, pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    ours, theirs = [pair.ours for pair in pairs], [pair.theirs for pair in pairs]
    return (sellers, *_side(ours, system_cpu_ms), *_side(theirs, _textbook_cpu_ms), _over(pairs))


def _textbook_cpu_ms(step: Step) -> float:
    return sum(step.cpu_ms.values())


def _side(found: Sequence[Climb], cpu_ms: Callable[[Step], float]) -> tuple[Cell, ...]:
    """Knee, p95 and CPU there."""
    at_the_knee = [each.steps[-1] for each in found if each.knee_per_s is not None]
    return (
        spread_of(each.knee_per_s or 0.0 for each in found),
        spread_of(step.latency.p95_ms for step in at_the_knee if step.latency.p95_ms is not None),
        spread_of(cpu_ms(step) for step in at_the_knee),
    )


def _chart(groups: _Groups) -> Chart:
    """Of the last round: its rates are those around all knees."""
    climbs_of = {
        f"{name}, {sellers}": climbed
        for sellers, pairs in groups.items()
        for name, climbed in ((OURS, pairs[-1].ours), (NAIVE, pairs[-1].theirs))
    }
    return Chart(
        title="p95 of checkouts against their rate, last round", unit="ms", x_unit="/s", is_log=True, limit=P95_LIMIT_MS,
        lines=tuple(
            Line(name, f"--c{place}", tuple(sorted(
                (step.offered_per_s, step.latency.p95_ms) for step in climbed.steps if not step.is_long
            )))
            for place, (name, climbed) in enumerate(climbs_of.items(), start=1)
        ),
    )  # fmt: skip
