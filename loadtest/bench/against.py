"""`zerosum bench hot --against naive`: checkouts to one seller and to a thousand, ours and the textbook's in turn.

Closed loop: each of so many callers sends its next checkout when it has its answer, so both do all they can. A run begins with
a few seconds that do not count; then its rate is of the answers that arrive within its seconds, so that neither the start nor
the last answers, which take the textbook a few seconds, are charged to anybody. Ours posts to wallet and ledger behind its
answer: how long that took after the last one is told, and its CPU counts. What the textbook is given stands in `textbook.py`.

Invariant: ours and the textbook's alternate, and every ratio is of one round: in the table of neighbours, in the headline of
each at the number of callers that is best for it, by the median of all rounds.
"""

import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count, product
from typing import Final

import grpc

from loadtest.bench.crowd import Answer, Crowd, acknowledged_of, write_journal
from loadtest.bench.finding import Cell, Finding, Spread, few_pairs, ratios, spread_of
from loadtest.bench.generator import CHANNEL_OPTIONS
from loadtest.bench.plan import SELLERS, lanes
from loadtest.bench.sample_file import Ending
from loadtest.bench.stage import Stage
from loadtest.bench.textbook import GIVEN, PROCESSES, Killed, kill_both, textbook_beside
from loadtest.calls import SERVICE
from loadtest.clock import wall_ms
from loadtest.journeys import CREATE
from loadtest.plot import Chart, Line
from loadtest.probe import NAIVE, NOT_THE_SYSTEM, cpu_ms_by_process
from loadtest.sample import percentiles
from loadtest.shape import ONE_CURRENCY, Shape, checkouts
from servers.keys import token_path
from servers.supervisor import System

OURS: Final = "ours"
SPREAD: Final = "spread"
HOT: Final = "hot"
WARM_UP_S: Final = 5.0
"""Of every run, at one seller too, where the slowest of the textbook's first answers take about that long."""

DEADLINE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """The seconds of a run that count, on the crowd's clock."""

    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Rate and latency: of final answers in its window. CPU in ms a checkout of all of it, of the system alone.

    `failed`: checkouts that brought no final answer. `turned_away`: tries that were told to come again. `drained_s`: from the
    last answer until nothing was owed any more.
    """

    per_s: float
    p95_ms: float
    cpu_ms: float
    failed: int = 0
    turned_away: int = 0
    drained_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Neighbouring runs."""

    sellers: str
    in_flight: int
    ours: Run
    theirs: Run


@dataclass(frozen=True, slots=True)
class Found:
    """All pairs, and what was stored when the database had been killed."""

    pairs: Sequence[Pair]
    killed: Killed


@dataclass(slots=True)
class _Side:
    """One of the two systems. `acknowledged`: by checkout id, whether it was told final."""

    name: str
    crowd: Crowd
    acknowledged: dict[str, bool] = field(default_factory=dict)


async def compare(
    system: System, stage: Stage, *, in_flight: Sequence[int], rounds: int, seconds: float
) -> Found:  # fmt: skip
    """So many rounds of every number of callers; then the kill. Raises Unavailable."""
    folder = system.settings.data_dir
    token = token_path(folder, "service").read_text(encoding="ascii").strip()
    async with AsyncExitStack() as stack:
        textbook = await stack.enter_async_context(textbook_beside(system))
        ours = _Side(OURS, await _crowd(stack, [system.settings.payment_address], ("authorization", f"Bearer {token}")))
        theirs = _Side(NAIVE, await _crowd(stack, textbook.addresses))
        pairs = [pair async for pair in _Match(stage, ours, theirs).pairs(in_flight, rounds, seconds)]
        journal = folder / "acknowledged.txt"
        write_journal(journal, ours.acknowledged)
        return Found(pairs, await kill_both(system, textbook, [journal], theirs.acknowledged))


async def _crowd(stack: AsyncExitStack, addresses: Sequence[str], *metadata: tuple[str, str]) -> Crowd:
    """Callers spread over all addresses, by as many channels for either system."""
    channels = [
        await stack.enter_async_context(grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS))
        for address in lanes(addresses)
    ]
    calls = [channel.unary_unary(SERVICE + CREATE) for channel in channels]
    return Crowd([partial(call, timeout=DEADLINE_S, metadata=metadata) for call in calls], seed=1)


class _Match:
    """Both sides in turn."""

    def __init__(self, stage: Stage, ours: _Side, theirs: _Side) -> None:
        self._stage = stage
        self._numbers = count(1)
        self._ours = ours
        self._theirs = theirs

    async def pairs(self, in_flight: Sequence[int], rounds: int, seconds: float) -> AsyncIterator[Pair]:
        """Ours, theirs, spread, hot, at each number of callers; and again."""
        for _ in range(rounds):
            for callers, sellers in product(in_flight, (SPREAD, HOT)):
                mine = await self._run(self._ours, sellers, callers, seconds)
                yield Pair(sellers, callers, mine, await self._run(self._theirs, sellers, callers, seconds))

    async def _run(self, side: _Side, sellers: str, callers: int, seconds: float) -> Run:
        shape = Shape(
            orders_min=1, orders_max=1, sellers=SELLERS, hot_share=float(sellers == HOT), currencies=ONE_CURRENCY
        )
        baskets = checkouts(shape, seed=next(self._numbers), run_id=f"{wall_ms():x}")
        before_ms, from_s = _cpu_ms(side), time.monotonic() + WARM_UP_S
        window = Window(from_s, from_s + seconds)
        answers = await side.crowd.run(baskets, callers=callers, until_s=window.until_s)
        drained_s = await self._stage.drain() if side.name == OURS else 0.0
        side.acknowledged |= acknowledged_of(answers)
        return run_of(answers, window, cpu_ms=_cpu_ms(side) - before_ms, drained_s=drained_s)


def run_of(answers: Sequence[Answer], window: Window, *, cpu_ms: float, drained_s: float = 0.0) -> Run:
    """A run's figures. `cpu_ms`: of all of it, which is over all checkouts that were taken on."""
    final = [each for each in answers if each.ending is Ending.FINAL]
    inside = [each for each in final if window.from_s <= each.ended_s < window.until_s]
    return Run(
        per_s=len(inside) / (window.until_s - window.from_s),
        p95_ms=percentiles((each.ended_s - each.sent_s) * 1_000 for each in inside).p95_ms or 0.0,
        cpu_ms=cpu_ms / max(len(acknowledged_of(answers)), 1), failed=len(answers) - len(final),
        turned_away=sum(each.tries - (each.ending is not Ending.SHED) for each in answers), drained_s=drained_s,
    )  # fmt: skip


def _cpu_ms(side: _Side) -> float:
    spent = cpu_ms_by_process()
    names = spent.keys() - NOT_THE_SYSTEM if side.name == OURS else spent.keys() & PROCESSES
    return sum(spent[name] for name in names)


# ---- telling -------------------------------------------------------------------------------------------------------

COLUMNS: Final = (
    "checkouts", "ours/s", "p95 ms", "CPU ms", "naive/s", "p95 ms of naive", "CPU ms of naive", "rate, ours : naive",
    "CPU, naive : ours",
)  # fmt: skip

_Groups = dict[tuple[int, str], list[Pair]]


def finding_of(found: Found, *, command: str) -> Finding:
    """A row for each number of callers, spread and hot; ratios of neighbours."""
    groups: _Groups = {}
    for pair in found.pairs:
        groups.setdefault((pair.in_flight, pair.sellers), []).append(pair)
    notes = [
        "closed loop, one order a checkout, PSP answering at once; CPU without load, PSP and bench",
        GIVEN,
        f"hot over spread, ours: {_hot_over_spread(groups)}",
        f"after the last answer ours had done what it owed within {max(pair.ours.drained_s for pair in found.pairs):.1f} s",
        *few_pairs(min(map(len, groups.values()))),
        *_trouble(OURS, [pair.ours for pair in found.pairs]),
        *_trouble(NAIVE, [pair.theirs for pair in found.pairs]),
    ]
    finding = Finding(
        bench="hot", command=command, headline=_headline(groups), columns=COLUMNS,
        rows=tuple(_row(callers, sellers, pairs) for (callers, sellers), pairs in groups.items()),
        notes=tuple(notes), charts=(_chart(groups),),
    )  # fmt: skip
    return found.killed.told_in(finding)


_LINES: Final = (
    (OURS, SPREAD, "--c1"), (OURS, HOT, "--c2"), (NAIVE, SPREAD, "--c3"), (NAIVE, HOT, "--c4"),
)  # fmt: skip


def _chart(groups: _Groups) -> Chart:
    """Medians."""
    return Chart(
        title="Checkouts a second by callers", unit="/s", x_unit="callers", is_x_log=True,
        lines=tuple(
            Line(f"{name}, {sellers}", colour, tuple(sorted(
                (callers, statistics.median(_rates(pairs, name)))
                for (callers, each), pairs in groups.items() if each == sellers
            )))
            for name, sellers, colour in _LINES
        ),
    )  # fmt: skip


def _trouble(name: str, runs: Sequence[Run]) -> list[str]:
    failed, turned_away = sum(run.failed for run in runs), sum(run.turned_away for run in runs)
    return [
        *([f"{failed} checkouts of {name} brought no final answer"] if failed else []),
        *(
            [f"{name} turned callers away {turned_away} times; they came again when they were told to"]
            if turned_away
            else []
        ),
    ]


def _row(callers: int, sellers: str, pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    ours, theirs = [pair.ours for pair in pairs], [pair.theirs for pair in pairs]
    sides = [
        spread_of(figure)
        for runs in (ours, theirs)
        for figure in ([run.per_s for run in runs], [run.p95_ms for run in runs], [run.cpu_ms for run in runs])
    ]
    return (
        f"{sellers}, {callers} in flight", *sides, over([run.per_s for run in ours], [run.per_s for run in theirs]),
        over([run.cpu_ms for run in theirs], [run.cpu_ms for run in ours]),
    )  # fmt: skip


def _headline(groups: _Groups) -> str:
    """Each where it does best, since a crowd slows the textbook and feeds our batches; round by round."""
    told = []
    for sellers in (SPREAD, HOT):
        rates = {
            name: {callers: _rates(pairs, name) for (callers, each), pairs in groups.items() if each == sellers}
            for name in (OURS, NAIVE)
        }
        best = {name: max(levels, key=partial(_median, levels)) for name, levels in rates.items()}
        ratio = over(rates[OURS][best[OURS]], rates[NAIVE][best[NAIVE]])
        told.append(f"{sellers} {ratio or '-'} x ({best[OURS]} and {best[NAIVE]} in flight)")
    return f"over naive, each at its best: {', '.join(told)}"


def over(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Ours over theirs, neighbour by neighbour. Where the other did nothing there is no ratio, which favours it."""
    both = [(one, other) for one, other in zip(ours, theirs, strict=True) if other]
    return ratios([one for one, _ in both], [other for _, other in both])


def _rates(pairs: Sequence[Pair], name: str) -> list[float]:
    """Of one of the two, in the order of the rounds."""
    return [(pair.ours if name == OURS else pair.theirs).per_s for pair in pairs]


def _median(levels: Mapping[int, Sequence[float]], callers: int) -> float:
    return statistics.median(levels[callers])


def _hot_over_spread(groups: _Groups) -> str:
    """In each round ours ran spread, then hot."""
    return ", ".join(
        f"{over(_rates(pairs, OURS), _rates(groups[callers, SPREAD], OURS))} at {callers}"
        for (callers, sellers), pairs in groups.items()
        if sellers == HOT
    )
