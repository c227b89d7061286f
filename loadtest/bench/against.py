"""`zerosum bench hot --against naive`: checkouts to one seller and to a thousand, ours and the textbook's in turn.

Closed loop: each of so many callers sends its next checkout when it has its answer, so both do all they can. Ours answers when
the order is final and posts to wallet and ledger behind the answer: its clock runs until nothing is owed any more. The textbook
has a database of its own on the same server and a PSP simulator of its own, without webhooks. Ours idles while it is measured.

Invariant: ours and the textbook's alternate; every ratio is of neighbours, but for the headline, which is each at its best.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import psycopg

from loadtest.bench.finding import Cell, Finding, few_pairs, ratios, spread_of
from loadtest.bench.kept import kill_and_compare
from loadtest.bench.plan import SELLERS
from loadtest.bench.stage import Stage
from loadtest.bench.system import PSP_AT_ONCE
from loadtest.calls import SERVICE, ProtoCodec
from loadtest.clock import wall_ms
from loadtest.journeys import CREATE
from loadtest.naive import step
from loadtest.naive.database import NaiveDatabase
from loadtest.naive_process import naive_process
from loadtest.outcome import FINAL_STATUSES
from loadtest.own_database import at_database
from loadtest.probe import NAIVE, NOT_THE_SYSTEM, cpu_ms_by_process
from loadtest.sample import percentiles
from loadtest.shape import HOT_SELLER, ONE_CURRENCY, Shape, checkouts
from servers.keys import read_key, token_path
from servers.supervisor import System
from zerosum.errors import Unavailable
from zerosum.store.embedded import EmbeddedPostgres

OURS: Final = "ours"
DATABASE: Final = "naive"
SPREAD: Final = "spread"
HOT: Final = "hot"
WARM_UP_S: Final = 2.0
DEADLINE_S: Final = 60.0

_THEIRS: Final = frozenset({NAIVE, "database"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run. CPU in milliseconds a checkout, of the system alone. `failed`: calls that brought no final answer."""

    per_s: float
    p95_ms: float
    cpu_ms: float
    failed: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Neighbouring runs."""

    sellers: str
    in_flight: int
    ours: Run
    theirs: Run


@dataclass(frozen=True, slots=True)
class Found:
    """All pairs, and what a killed database had lost."""

    pairs: Sequence[Pair]
    acknowledged: int
    losses: Sequence[str]


@dataclass(slots=True)
class _Door:
    """One of the two systems, as its callers see it."""

    name: str
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()
    acknowledged: list[str] = field(default_factory=list)


async def compare(
    system: System, stage: Stage, *, in_flight: Sequence[int], rounds: int, seconds: float
) -> Found:  # fmt: skip
    """So many rounds at each number of callers; then the kill. Raises Unavailable."""
    folder = system.settings.data_dir
    async with AsyncExitStack() as stack:
        theirs_at = await stack.enter_async_context(_textbook(system, folder))
        token = token_path(folder, "service").read_text(encoding="ascii").strip()
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target))
            for target in (system.settings.payment_address, theirs_at)
        ]
        ours = _Door(OURS, channels[0], (("authorization", f"Bearer {token}"),))
        crowd = _Crowd(stage, ours, _Door(NAIVE, channels[1]))
        pairs = [pair async for pair in crowd.pairs(in_flight, rounds, seconds)]
        journal = folder / "acknowledged.txt"
        journal.write_text("".join(f"{each} final\n" for each in ours.acknowledged), encoding="ascii")
        kept = await kill_and_compare(system, [journal])
        lost = len(set(crowd.theirs.acknowledged) - await asyncio.to_thread(_stored, system))
    losses = [*kept.losses, *([f"naive has lost {lost} acknowledged checkouts"] if lost else [])]
    return Found(pairs, kept.acknowledged + len(crowd.theirs.acknowledged), losses)


class _Crowd:
    """The callers of both."""

    def __init__(self, stage: Stage, ours: _Door, theirs: _Door) -> None:
        self._stage = stage
        self._codec = ProtoCodec()
        self._numbers = count(1)
        self.ours = ours
        self.theirs = theirs

    async def pairs(self, in_flight: Sequence[int], rounds: int, seconds: float) -> AsyncIterator[Pair]:
        """Ours, theirs, spread, hot, and again."""
        for callers in in_flight:
            for door in (self.ours, self.theirs):
                await self._run(door, SPREAD, callers, min(WARM_UP_S, seconds))
            for _ in range(rounds):
                for sellers in (SPREAD, HOT):
                    mine = await self._run(self.ours, sellers, callers, seconds)
                    yield Pair(sellers, callers, mine, await self._run(self.theirs, sellers, callers, seconds))

    async def _run(self, door: _Door, sellers: str, callers: int, seconds: float) -> Run:
        shape = Shape(
            orders_min=1, orders_max=1, sellers=SELLERS, hot_share=float(sellers == HOT), currencies=ONE_CURRENCY
        )
        baskets = checkouts(shape, seed=next(self._numbers), run_id=f"{wall_ms():x}")
        latencies_ms: list[float] = []
        failed: list[str] = []
        before_ms, began_s = _cpu_ms(door), time.monotonic()
        caller = partial(self._caller, door, baskets, began_s + seconds, latencies_ms, failed)
        await asyncio.gather(*(caller() for _ in range(callers)))
        if door.name == OURS:
            await self._stage.drain()
        elapsed_s, done = time.monotonic() - began_s, max(len(latencies_ms), 1)
        return Run(
            len(latencies_ms) / elapsed_s, percentiles(latencies_ms).p95_ms or 0.0,
            (_cpu_ms(door) - before_ms) / done, len(failed),
        )  # fmt: skip

    async def _caller(
        self, door: _Door, baskets: Iterator[Any], end_s: float, latencies_ms: list[float], failed: list[str]
    ) -> None:
        call = door.channel.unary_unary(SERVICE + CREATE)
        while (sent_s := time.monotonic()) < end_s:
            basket = next(baskets)
            try:
                body = await call(self._codec.submit(basket), timeout=DEADLINE_S, metadata=door.metadata)
            except grpc.aio.AioRpcError as error:
                failed.append(error.code().name)
                continue
            if all(status in FINAL_STATUSES for _, status in self._codec.told(body)):
                latencies_ms.append((time.monotonic() - sent_s) * 1_000)
                door.acknowledged.append(basket.checkout_id)
            else:
                failed.append("not final")


def _cpu_ms(door: _Door) -> float:
    spent = cpu_ms_by_process()
    names = spent.keys() - NOT_THE_SYSTEM if door.name == OURS else spent.keys() & _THEIRS
    return sum(spent[name] for name in names)


# ---- the textbook beside us ----------------------------------------------------------------------------------------


@asynccontextmanager
async def _textbook(system: System, folder: Path) -> AsyncIterator[str]:
    """The textbook's server with a wallet for every seller, and its simulator; its address."""
    api_key, admin_url = read_key(folder, "psp_api_key"), _admin_url(system)
    async with AsyncExitStack() as stack:
        psp_url = await asyncio.to_thread(stack.enter_context, _simulator(folder / "psp-of-naive", api_key))
        process = await asyncio.to_thread(
            stack.enter_context,
            naive_process(admin_url=admin_url, psp_url=psp_url, api_key=api_key, database=DATABASE),
        )
        database = NaiveDatabase(at_database(admin_url, DATABASE))
        owners = [HOT_SELLER, *(f"seller-{number:04d}" for number in range(1, SELLERS + 1))]
        await database.transact(partial(step.open_wallets, owners=owners, currency=ONE_CURRENCY[0][0]))
        database.close()
        yield process.address


@contextmanager
def _simulator(folder: Path, api_key: str) -> Iterator[str]:
    command = [
        sys.executable, "-m", "simulator.psp", "--data", str(folder), "--port", "0", "--seed", "1", *PSP_AT_ONCE,
    ]  # fmt: skip
    environment = {**os.environ, "PSP_API_KEY": api_key, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None  # asked for
            line = process.stdout.readline()
            if "listening on" not in line:
                raise Unavailable(f"the PSP simulator did not start: {line!r}")
            yield line.partition("listening on ")[2].split()[0]
        finally:
            process.terminate()


def _admin_url(system: System) -> str:
    return system.settings.database_url or EmbeddedPostgres(system.settings.data_dir / "postgres").urls()["admin"]


def _stored(system: System) -> set[str]:
    """Checkouts of the textbook's that are done, or of which no order is paid."""
    with psycopg.connect(at_database(_admin_url(system), DATABASE)) as connection:
        found = connection.execute(
            "SELECT checkout_id FROM payment_event JOIN payment_order USING (checkout_id) "
            "GROUP BY checkout_id, is_payment_done HAVING is_payment_done OR bool_and(status = 'FAILED')"
        )
        return {checkout_id for (checkout_id,) in found}


# ---- telling -------------------------------------------------------------------------------------------------------

COLUMNS: Final = (
    "checkouts", "ours/s", "p95 ms", "CPU ms", "naive/s", "p95 ms of naive", "CPU ms of naive", "rate, ours : naive",
    "CPU, naive : ours",
)  # fmt: skip


def finding_of(found: Found, *, command: str) -> Finding:
    """A row for each number of callers, spread and hot; ratios of neighbours."""
    groups: dict[tuple[int, str], list[Pair]] = {}
    for pair in found.pairs:
        groups.setdefault((pair.in_flight, pair.sellers), []).append(pair)
    failed = {
        name: sum(run.failed for run in runs)
        for name, runs in (
            (OURS, [pair.ours for pair in found.pairs]),
            (NAIVE, [pair.theirs for pair in found.pairs]),
        )
    }
    notes = [
        "closed loop, one order a checkout, PSP answering at once; CPU without load, PSP and bench",
        f"hot over spread, ours: {_hot_over_spread(groups)}",
        f"{found.acknowledged:,} acknowledged checkouts looked for after the database was killed",
        *few_pairs(min(map(len, groups.values()))),
        *(f"{count} calls of {name} brought no final answer" for name, count in failed.items() if count),
    ]
    return Finding(
        bench="hot", command=command, headline=_headline(groups), columns=COLUMNS,
        rows=tuple(_row(callers, sellers, pairs) for (callers, sellers), pairs in groups.items()),
        losses=tuple(found.losses), notes=tuple(notes),
    )  # fmt: skip


_Groups = dict[tuple[int, str], list[Pair]]


def _row(callers: int, sellers: str, pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    ours, theirs = [pair.ours for pair in pairs], [pair.theirs for pair in pairs]
    sides = [
        spread_of(figure)
        for runs in (ours, theirs)
        for figure in ([run.per_s for run in runs], [run.p95_ms for run in runs], [run.cpu_ms for run in runs])
    ]
    return (
        f"{sellers}, {callers} in flight", *sides, ratios([run.per_s for run in ours], [run.per_s for run in theirs]),
        ratios([run.cpu_ms for run in theirs], [run.cpu_ms for run in ours]),
    )  # fmt: skip


def _headline(groups: _Groups) -> str:
    """Each at the number of callers at which its median is best: a crowd slows the textbook and feeds our batches."""
    told = [
        f"{sellers} {_best(groups, sellers, is_ours=True) / _best(groups, sellers, is_ours=False):.1f} x"
        for sellers in (SPREAD, HOT)
    ]
    return f"over naive, each at its best: {', '.join(told)}"


def _best(groups: _Groups, sellers: str, *, is_ours: bool) -> float:
    return max(
        statistics.median((pair.ours if is_ours else pair.theirs).per_s for pair in pairs)
        for (_, each), pairs in groups.items()
        if each == sellers
    )


def _hot_over_spread(groups: _Groups) -> str:
    """Neighbours again: in each round ours ran spread, then hot."""
    return ", ".join(
        f"{ratios([pair.ours.per_s for pair in pairs], [pair.ours.per_s for pair in groups[callers, SPREAD]])} "
        f"at {callers}"
        for (callers, sellers), pairs in groups.items()
        if sellers == HOT
    )
