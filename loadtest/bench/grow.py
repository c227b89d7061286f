"""`zerosum bench grow`: what becomes of the ledger when it is large: postings a second and reads, from 10^4 to 10^7 entries.

The books of another tenant are filled beside ours, so that every index is as deep as it would be; then postings go to 10,000
sellers as in `post`, and pages and balances of single sellers are read. Then the same over 1 to 10^6 accounts. Source:
speed.md "Growth".

Invariant: what is timed is the production path; only the books that lie beside it are written by the bench.
"""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from loadtest.bench import machine
from loadtest.bench.card import Card, take_card
from loadtest.bench.finding import Cell, Finding, console_for, spread_of, tell
from loadtest.bench.post import Case, Lane, Load
from loadtest.own_database import at_database
from loadtest.peers.house import HousePeer
from loadtest.peers.peer import CURRENCY
from loadtest.sample import Percentiles, percentiles
from servers.collector import settle
from zerosum.domain.identity import Tenant, slot_of
from zerosum.domain.journal import seller_pending_account
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.opening import open_reader

ENTRIES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
ACCOUNTS: Final = (1, 10_000, 1_000_000)
SELLERS: Final = 10_000
READS: Final = 300
PAGE_ROWS: Final = 100

_CASE: Final = Case("spread", 64, 1)
_DATABASE: Final = "grow_zerosum"
_TENANT: Final = Tenant("bench")
_FILL_STEP: Final = 500_000

_FILL: Final = (
    """
    INSERT INTO ledger.journals (slot, seq, ord, tenant, owner, version, journal_id, movement, payment_order_id, at_ms)
    SELECT n %% 64, -n, 0, 'beside', 'seller-' || n %% 10000, n, md5(n::text), 'capture', 'o-' || n, 1790000000000
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    """,
    """
    INSERT INTO ledger.entries (slot, seq, ord, line, tenant, journal_id, account, currency, amount_minor, at_ms)
    SELECT n %% 64, -n, 0, line, 'beside', md5(n::text),
           CASE line WHEN 0 THEN 'psp:stripe:clearing:USD' ELSE 'seller:seller-' || n %% 10000 || ':pending:USD' END,
           'USD', CASE line WHEN 0 THEN 100 ELSE -100 END, 1790000000000
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, generate_series(0, 1) AS line
    """,
)
"""Numbers of logs that are filled go down from zero: those that a shard gives go up."""


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured at one size. Rates in postings a second, reads in milliseconds."""

    what: str
    rates: Sequence[float]
    page: Percentiles
    balance: Percentiles


@dataclass(frozen=True, slots=True)
class Asked:
    """How far, how often, how long each run."""

    entries_max: int = ENTRIES[-1]
    accounts_max: int = ACCOUNTS[-1]
    rounds: int = 3
    seconds: float = 2.0
    has_cards: bool = True


def bench_grow(asked: Asked, *, command: str, json_file: Path | None) -> int:
    """On a database of its own, which is removed. 0 when nothing acknowledged was lost."""
    console = console_for(json_file)
    folder = Path(tempfile.mkdtemp(prefix="zerosum-bench-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        before = take_card(server.urls()["admin"], folder) if asked.has_cards else None
        sizes, lost = asyncio.run(_Growth(server, asked, console).run())
        after = take_card(server.urls()["admin"], folder) if asked.has_cards else None
    finally:
        server.stop()
        shutil.rmtree(folder)
    cards = (before, after) if before is not None and after is not None else None
    tell(finding_of(sizes, lost, command=command, cards=cards), console, json_file)
    return 1 if lost else 0


class _Growth:
    """One run of the bench on a server that is up."""

    def __init__(self, server: EmbeddedPostgres, asked: Asked, console: Console) -> None:
        self._urls = server.urls()
        self._asked = asked
        self._say: Callable[[str], None] = lambda what: console.print(what, style="dim", highlight=False)
        self._admin = at_database(self._urls["admin"], _DATABASE).replace("+psycopg", "")

    async def run(self) -> tuple[list[Size], int]:
        """All sizes; how many postings that were acknowledged are not there."""
        peer = HousePeer(self._urls["admin"], self._urls["ledger"], _DATABASE)
        sellers = [f"seller-{number:07}" for number in range(SELLERS)]
        await peer.open(sellers)
        settle()
        lane, sizes, filled = Lane("zerosum", peer), [], 0
        for entries in (size for size in ENTRIES if size <= self._asked.entries_max):
            self._say(f"filling the ledger to {entries:,} entries")
            await asyncio.to_thread(self._fill, filled // 2 + 1, entries // 2)
            filled = entries
            sizes.append(await self._measure(f"{entries:,} entries", lane, sellers))
        for accounts in (size for size in ACCOUNTS if size <= self._asked.accounts_max):
            what = f"{accounts:,} account{'s' if accounts > 1 else ''}"
            self._say(f"opening {what}")
            wide = [f"wide-{accounts}-{number:07}" for number in range(accounts)]
            await asyncio.to_thread(self._open, wide)
            sizes.append(await self._measure(what, lane, wide))
        stored = await asyncio.to_thread(self._stored, lane.acknowledged)
        await peer.close()
        return sizes, len(lane.acknowledged) - stored

    async def _measure(self, what: str, lane: Lane, sellers: Sequence[str]) -> Size:
        self._say(what)
        load = Load(sellers, seed=len(lane.acknowledged) + 1)
        await load.run(lane, _CASE, min(1.0, self._asked.seconds))
        rates = [(await load.run(lane, _CASE, self._asked.seconds)).per_s for _ in range(self._asked.rounds)]
        return Size(what, rates, *await self._reads(sellers))

    async def _reads(self, sellers: Sequence[str]) -> tuple[Percentiles, Percentiles]:
        reader = open_reader("ledger", at_database(self._urls["ledger"], _DATABASE))
        chance, pages, balances = random.Random(1), [], []
        try:
            for _ in range(READS):
                account = seller_pending_account(chance.choice(sellers), CURRENCY)
                began_s = time.perf_counter()
                await reader.entries(_TENANT, account, PAGE_ROWS, "")
                read_s = time.perf_counter()
                await reader.balance(_TENANT, account)
                pages.append((read_s - began_s) * 1e3)
                balances.append((time.perf_counter() - read_s) * 1e3)
        finally:
            await reader.close()
        return percentiles(pages), percentiles(balances)

    # ---- books that lie beside ---------------------------------------------------------------------------------

    def _fill(self, first: int, last: int) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            for start in range(first, last + 1, _FILL_STEP):
                for statement in _FILL:
                    connection.execute(statement, {"first": start, "last": min(start + _FILL_STEP - 1, last)})
            connection.execute("VACUUM ANALYZE ledger.entries, ledger.journals")

    def _open(self, owners: Sequence[str]) -> None:
        """Owners and their accounts as a first journal leaves them."""
        with psycopg.connect(self._admin) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY ledger.owners FROM STDIN") as copy:
                for owner in owners:
                    copy.write_row((slot_of(_TENANT, owner), _TENANT, owner, 0, 1, 1))
            with cursor.copy("COPY ledger.accounts FROM STDIN") as copy:
                for owner in owners:
                    account = seller_pending_account(owner, CURRENCY)
                    copy.write_row((slot_of(_TENANT, owner), _TENANT, owner, account, CURRENCY, 0, 0))
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE ledger.owners, ledger.accounts")

    def _stored(self, acknowledged: Sequence[str]) -> int:
        with psycopg.connect(self._admin) as connection:
            row = connection.execute(
                "SELECT count(*) FROM ledger.journals WHERE tenant = %s AND journal_id = ANY(%s)",
                (_TENANT, list(acknowledged)),
            ).fetchone()
        return int(row[0]) if row else 0


# ---- telling -----------------------------------------------------------------------------------------------------

COLUMNS: Final = ("the ledger has", "postings/s", "of the first", "page p50 ms", "p99 ms", "balance p50 ms", "p99 ms")


def finding_of(sizes: Sequence[Size], lost: int, *, command: str, cards: tuple[Card, Card] | None) -> Finding:
    """One row a size; a series is compared with its own first."""
    by_entries = [size for size in sizes if size.what.endswith("entries")]
    by_accounts = [size for size in sizes if size not in by_entries]
    ratio = _median(by_entries[-1]) / _median(by_entries[0])
    return Finding(
        bench="grow", command=command, columns=COLUMNS, cards=cards, facts=machine.facts(),
        headline=f"rate at {by_entries[-1].what} over {by_entries[0].what}: {ratio:.2f}",
        rows=(*_rows(by_entries), *_rows(by_accounts)),
        losses=(f"{lost} acknowledged postings are not there",) if lost else (),
        notes=(f"postings spread over the sellers, {_CASE.in_flight} in flight, 1 a call; pages of {PAGE_ROWS} entries",),
    )  # fmt: skip


def _rows(sizes: Sequence[Size]) -> list[tuple[Cell, ...]]:
    return [
        (
            size.what, spread_of(size.rates), _median(size) / _median(sizes[0]), size.page.p50_ms, size.page.p99_ms,
            size.balance.p50_ms, size.balance.p99_ms,
        )
        for size in sizes
    ]  # fmt: skip


def _median(size: Size) -> float:
    spread = spread_of(size.rates)
    return spread.median if spread is not None else 0.0
