"""`zerosum bench grow`: what becomes of the ledger when it is large: postings a second and reads, from 10^4 to 10^7 entries.

The books of another tenant are filled beside ours (`grow_books.py`) until both together have so many entries, so that every
index is as deep as it would be; then postings go to 2,000 sellers, and reads are timed:

    page             the first 100 entries of a seller of ours
    next page        100 entries of the house's clearing account beside, from anywhere in the midst of them
    balance          of a seller of ours: a row
    house balance    of the clearing account beside: its checkpoints and what came after them

Then the same over 1 to 10^6 accounts. What is timed adds entries itself, so that each row tells how many there were before and
after, counted. Last, the database is killed under load, as in `post`. Source: speed.md "Growth".

Invariant: what is timed is the production path; only the books that lie beside it are written by the bench.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtest.bench import machine
from loadtest.bench.card import Card, take_card
from loadtest.bench.finding import Cell, Finding, console_for, spread_of
from loadtest.bench.grow_books import BESIDE, HOUSE, Books
from loadtest.bench.page import draw_and_tell
from loadtest.bench.post import kill_under_load
from loadtest.bench.post_load import Case, Lane, Load
from loadtest.bench.system import folder_of
from loadtest.own_database import at_database, own_server
from loadtest.peers.house import HousePeer
from loadtest.peers.peer import CURRENCY
from loadtest.plot import Chart, Line
from loadtest.sample import Percentiles, percentiles
from servers.collector import settle
from zerosum.domain.identity import Tenant
from zerosum.domain.journal import seller_pending_account
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.ledger_reader import SqlLedgerReader
from zerosum.store.opening import open_reader

ENTRIES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
ACCOUNTS: Final = (1, 10_000, 1_000_000)
SELLERS: Final = 2_000
"""Each is opened by a journal: 4,000 entries, which leaves 6,000 to fill up to the smallest size."""

SECONDS_MAX: Final = {(ENTRIES[0], "entries"): 0.3}
"""At 3,000 postings a second a run of 0.3 s adds 1,800 entries: with its warm-up and three rounds 10^4 become 1.7 x 10^4."""

READS: Final = {"page": 300, "next page": 300, "balance": 300, "house balance": 100}
"""How often each is read. The house's balance sums up to 64 x 1,000 entries: a hundred take seconds."""

PAGE_ROWS: Final = 100

_CASE: Final = Case("spread", 64, 1)
_DATABASE: Final = "grow_zerosum"
_TENANT: Final = Tenant("bench")


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured at one size: so many entries or accounts. Rates in postings a second; reads by name, in ms.

    `before`, `after`: entries of the whole ledger around the runs, their warm-up among them, as the database counts them.
    """

    count: int
    unit: str
    before: int
    after: int
    rates: Sequence[float]
    reads: Mapping[str, Percentiles]

    def __str__(self) -> str:
        return f"{self.count:,} {self.unit if self.count > 1 else self.unit.removesuffix('s')}"

    @property
    def per_s(self) -> float:
        """The median rate."""
        spread = spread_of(self.rates)
        return spread.median if spread is not None else 0.0


@dataclass(frozen=True, slots=True)
class Growth:
    """All sizes, how many postings were acknowledged and how many of them a killed database had lost."""

    sizes: Sequence[Size]
    acknowledged: int
    lost: int
    cards: tuple[Card, Card] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How far, how often, how long each run."""

    entries_max: int = ENTRIES[-1]
    accounts_max: int = ACCOUNTS[-1]
    rounds: int = 3
    seconds: float = 2.0
    has_cards: bool = True


def bench_grow(settings: Settings, asked: Asked, *, command: str, json_file: Path | None) -> int:
    """On a database of its own, which is removed; its page goes below the data folder. 0 when nothing acknowledged was lost."""
    console = console_for(json_file)
    with own_server() as (server, folder):
        found = asyncio.run(_Ledger(server, folder, asked, console).run())
    return draw_and_tell(finding_of(found, command=command), folder_of(settings, "grow"), console, json_file)


class _Ledger:
    """One run of the bench on a server that is up."""

    def __init__(self, server: EmbeddedPostgres, folder: Path, asked: Asked, console: Console) -> None:
        self._server = server
        self._folder = folder
        self._urls = server.urls()
        self._asked = asked
        self._say: Callable[[str], None] = lambda what: console.print(what, style="dim", highlight=False)
        peer = HousePeer(self._urls["admin"], self._urls["ledger"], _DATABASE)
        self._lane = Lane("zerosum", peer)
        self._books = Books(at_database(self._urls["admin"], _DATABASE))

    async def run(self) -> Growth:
        """Books, cards, all sizes, the kill."""
        peer, sellers = self._lane.peer, [f"seller-{number:07}" for number in range(SELLERS)]
        await asyncio.to_thread(self._books.prepare)
        await peer.open(sellers)
        settle()
        before = await self._card()
        sizes = [*await self._of_entries(sellers), *await self._of_accounts()]
        after = await self._card()
        self._say("killing the database under load")
        lost = await kill_under_load(self._server, [self._lane], self._load(sellers))
        await peer.close()
        cards = (before, after) if before is not None and after is not None else None
        return Growth(sizes, len(self._lane.acknowledged), lost[self._lane.name], cards)

    async def _of_entries(self, sellers: Sequence[str]) -> list[Size]:
        sizes = []
        for entries in (size for size in ENTRIES if size <= self._asked.entries_max):
            self._say(f"filling the ledger to {entries:,} entries")
            await asyncio.to_thread(self._books.fill, entries)
            sizes.append(await self._measure(entries, "entries", sellers))
        return sizes

    async def _of_accounts(self) -> list[Size]:
        sizes = []
        for accounts in (size for size in ACCOUNTS if size <= self._asked.accounts_max):
            self._say(f"opening accounts: {accounts:,}")
            wide = [f"wide-{accounts}-{number:07}" for number in range(accounts)]
            await asyncio.to_thread(self._books.open, _TENANT, wide)
            sizes.append(await self._measure(accounts, "accounts", wide))
        return sizes

    async def _measure(self, count: int, unit: str, sellers: Sequence[str]) -> Size:
        self._say(f"posting to {len(sellers):,} sellers")
        load, before = self._load(sellers), await asyncio.to_thread(self._books.entries)
        seconds = min(self._asked.seconds, SECONDS_MAX.get((count, unit), math.inf))
        await load.run(self._lane, _CASE, min(1.0, seconds))
        rates = [(await load.run(self._lane, _CASE, seconds)).per_s for _ in range(self._asked.rounds)]
        after = await asyncio.to_thread(self._books.entries)
        reader = open_reader("ledger", at_database(self._urls["ledger"], _DATABASE))
        try:
            return Size(count, unit, before, after, rates, await self._reads(reader, sellers))
        finally:
            await reader.close()

    def _load(self, sellers: Sequence[str]) -> Load:
        """Of ids that none before had."""
        return Load(sellers, seed=len(self._lane.acknowledged) + 1)

    async def _reads(self, reader: SqlLedgerReader, sellers: Sequence[str]) -> dict[str, Percentiles]:
        chance = random.Random(1)

        def account() -> str:
            return seller_pending_account(chance.choice(sellers), CURRENCY)

        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "page": lambda: reader.entries(_TENANT, account(), PAGE_ROWS, ""),
            "next page": lambda: reader.entries(BESIDE, HOUSE, PAGE_ROWS, self._books.somewhere(chance)),
            "balance": lambda: reader.balance(_TENANT, account()),
            "house balance": lambda: reader.balance(BESIDE, HOUSE),
        }  # fmt: skip
        return {name: percentiles([await _timed_ms(ways[name]) for _ in range(count)]) for name, count in READS.items()}

    async def _card(self) -> Card | None:
        if not self._asked.has_cards:
            return None
        self._say("taking the machine's card")
        return await asyncio.to_thread(take_card, self._urls["admin"], self._folder)


async def _timed_ms(read: Callable[[], Awaitable[Any]]) -> float:
    began_s = time.perf_counter()
    await read()
    return (time.perf_counter() - began_s) * 1e3


# ---- telling -----------------------------------------------------------------------------------------------------

COLUMNS: Final = (
    "size", "entries before", "after", "postings/s", "of the first",
    *(f"{name} {share} ms" for name in READS for share in ("p50", "p99")),
)  # fmt: skip
_COLOURS: Final = dict(zip(READS, ("--c1", "--c2", "--c3", "--c4"), strict=True))


def finding_of(found: Growth, *, command: str) -> Finding:
    """One row a size; a series is compared with its own first."""
    by_entries, by_accounts = ([size for size in found.sizes if size.unit == unit] for unit in ("entries", "accounts"))
    first, last = by_entries[0], by_entries[-1]
    lost = f"{found.lost} of {found.acknowledged:,} acknowledged postings are not there after the database was killed"
    return Finding(
        bench="grow", command=command, columns=COLUMNS, cards=found.cards, facts=machine.facts(),
        headline=f"rate at {last} over {first}: {last.per_s / first.per_s:.2f}",
        rows=(*_rows(by_entries), *_rows(by_accounts)), losses=(lost,) if found.lost else (),
        notes=(
            f"postings spread over the sellers, {_CASE.in_flight} in flight, 1 a call; pages of {PAGE_ROWS} entries; the next "
            "page and the house's balance are of the books that lie beside",
            "entries before and after are of the whole ledger, counted; what is timed adds them, so that the runs at the "
            f"smallest size last {min(SECONDS_MAX.values())} s at most",
            f"{found.acknowledged:,} acknowledged postings looked for after the database was killed",
        ),
        charts=(*_charts(by_entries), *_charts(by_accounts)),
    )  # fmt: skip


def _rows(sizes: Sequence[Size]) -> list[tuple[Cell, ...]]:
    return [
        (
            str(size), size.before, size.after, spread_of(size.rates), size.per_s / sizes[0].per_s,
            *(figure for name in READS for figure in (size.reads[name].p50_ms, size.reads[name].p99_ms)),
        )
        for size in sizes
    ]  # fmt: skip


def _charts(sizes: Sequence[Size]) -> tuple[Chart, ...]:
    """Rate and reads against what grows, which is told in powers of ten."""
    if not sizes:
        return ()

    def line(name: str, colour: str, figure: Callable[[Size], float | None]) -> Line:
        return Line(name, colour, tuple((float(size.count), figure(size)) for size in sizes))

    def p99_ms(size: Size, name: str) -> float | None:
        return size.reads[name].p99_ms

    drawn = partial(Chart, is_x_log=True, x_unit="")
    rates = (
        line("highest", "--p50", lambda size: max(size.rates)), line("median", "--p95", lambda size: size.per_s),
        line("lowest", "--p99", lambda size: min(size.rates)),
    )  # fmt: skip
    reads = tuple(line(f"{name}, p99", colour, partial(p99_ms, name=name)) for name, colour in _COLOURS.items())
    unit = sizes[0].unit
    return (
        drawn(title=f"Postings a second against {unit}", unit="/s", lines=rates),
        drawn(title=f"Reads against {unit}", unit="ms", is_log=True, lines=reads),
    )
