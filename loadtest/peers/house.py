"""Our own ledger as the bench posts to it in process: shard, batcher and SQL store as they are, without Ray and gRPC.

The shards do not pace: in production lists come to them over Ray 50 ms apart, here every waiter calls at once when it has its
answer. Several share the slots as in production, each with a connection of its own, and commit side by side.

Invariant: what is measured is the production path from `Shard.submit` to the commit, with hash chain, command rows and fence.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from actors.answer import Applied
from actors.clock import SystemClock
from actors.front import shard_of, slots_of_shard
from actors.posting import ledger_binding
from actors.shard import Shard
from loadtest.own_database import at_database, make_database
from loadtest.peers.peer import CURRENCY, Posting
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, slot_of
from zerosum.domain.journal import Entry, Journal, Movement, clearing_account, journal, seller_pending_account
from zerosum.domain.money import Money
from zerosum.errors import Bug, OutcomeUnknown
from zerosum.store.migrate import migrate
from zerosum.store.opening import open_reader, open_store
from zerosum.store.sql import SqlStore

_TENANT = Tenant("bench")
_OPENING_CALL = 500

# What is posted has numbers from 1 on and versions from 1 on; a journal that is filled in stands at -n with version -n.
_FILL: Final = (
    """
    INSERT INTO ledger.journals (slot, seq, ord, tenant, owner, version, journal_id, movement, payment_order_id, at_ms)
    SELECT %(slot)s, -n, 0, %(tenant)s, %(owner)s, -n, 'fill-' || n, 'capture', 'fill-' || n, 1790000000000
    FROM generate_series(1, %(count)s) AS n
    """,
    """
    INSERT INTO ledger.entries (slot, seq, ord, line, tenant, journal_id, account, currency, amount_minor, at_ms)
    SELECT %(slot)s, -n, 0, line, %(tenant)s, 'fill-' || n, CASE line WHEN 0 THEN %(clearing)s ELSE %(seller)s END,
           %(currency)s, CASE line WHEN 0 THEN 100 ELSE -100 END, 1790000000000
    FROM generate_series(1, %(count)s) AS n CROSS JOIN generate_series(0, 1) AS line
    """,
    """
    UPDATE ledger.accounts SET balance_minor = balance_minor - 100 * %(count)s, entry_count = entry_count + %(count)s
    WHERE slot = %(slot)s AND tenant = %(tenant)s AND owner = %(owner)s AND account = %(seller)s
    """,
    "VACUUM ANALYZE ledger.journals, ledger.entries, ledger.accounts",
)
_COUNT: Final = "SELECT count(*) FROM ledger.entries WHERE tenant = %(tenant)s AND account = %(seller)s"


class HousePeer:
    """Implements `Peer`. Its database is made on the server; the shards come to it by the ledger's role."""

    def __init__(self, admin_url: str, ledger_url: str, database: str, *, shards: int = 1) -> None:
        self._admin_url = make_database(admin_url, database)
        self._url = at_database(ledger_url, database)
        self._count = shards
        self._shards: list[Shard[Any, Any]] = []
        self._stores: list[SqlStore[Any]] = []

    async def open(self, sellers: Sequence[str]) -> None:
        """Migrates, takes every slot, and opens an owner for each seller by a first journal."""
        migrate(self._admin_url)
        self._reader = open_reader("ledger", self._url)
        for number in range(self._count):
            store = open_store("ledger", self._url)
            shard: Shard[Any, Any] = Shard(
                binding=ledger_binding(), store=store, slots=slots_of_shard(number, self._count), deployment="bench",
                clock=SystemClock(), pace_ms=0, expects_replays=False,
            )  # fmt: skip
            await shard.start(None)
            self._stores.append(store)
            self._shards.append(shard)
        for at in range(0, len(sellers), _OPENING_CALL):
            await self.post([Posting(f"open-{seller}", seller, 100) for seller in sellers[at : at + _OPENING_CALL]])

    async def post(self, postings: Sequence[Posting]) -> None:
        """A list of commands to each shard concerned. Raises OutcomeUnknown where one of them is not known to be posted."""
        lists: dict[int, list[Journal]] = {}
        for posting in postings:
            number = shard_of(EntityKey(_TENANT, posting.seller), self._count)
            lists.setdefault(number, []).append(_journal(posting))
        for answers in await asyncio.gather(*(self._shards[number].submit(each) for number, each in lists.items())):
            for answer in answers:
                if not isinstance(answer, Applied):
                    raise OutcomeUnknown(f"a journal was answered {answer}")

    async def fill(self, seller: str, entries: int) -> int:
        """Journals and entries in the seller's slot, below every number that a shard gives, and the balances' rows."""
        account = seller_pending_account(seller, CURRENCY)
        values = {"slot": slot_of(_TENANT, seller), "tenant": _TENANT, "owner": seller, "seller": account, "count": entries,
                  "clearing": clearing_account("stripe", CURRENCY), "currency": CURRENCY}  # fmt: skip
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            for statement in _FILL:
                connection.execute(statement, values if "%(" in statement else None)
            row = connection.execute(_COUNT, values).fetchone()
            return int(row[0]) if row is not None else 0

    async def balance(self, seller: str) -> int:
        """As GetBalance reads it. Raises Bug: the seller was never opened."""
        found = await self._reader.balance(_TENANT, seller_pending_account(seller, CURRENCY))
        if found is None:
            raise Bug(f"{seller} has no balance")
        return -found.balance_minor

    async def stored(self) -> set[str]:
        """Journals with both entries; of its own tenant, whatever lies beside."""
        whole = "SELECT journal_id FROM ledger.entries WHERE tenant = %s GROUP BY journal_id HAVING count(*) = 2"
        with psycopg.connect(self._admin_url) as connection:
            found = connection.execute(whole, [_TENANT])
            return {journal_id for (journal_id,) in found}

    async def close(self) -> None:
        """Stops the shards."""
        for shard, store in zip(self._shards, self._stores, strict=True):
            await shard.stop()
            await store.close()
        await self._reader.close()

    def remark(self) -> str:
        """How often the database refused one of the shards' batches for another's sake."""
        conflicts = sum(shard.figures.conflicts for shard in self._shards)
        batches = sum(shard.figures.batches for shard in self._shards)
        return f"{self._count} shard{'s' if self._count > 1 else ''}: {conflicts:,} conflicts (40001) in {batches:,} batches"


def _journal(posting: Posting) -> Journal:
    entries = (
        Entry(clearing_account("stripe", CURRENCY), Money(posting.amount_minor, CURRENCY)),
        Entry(seller_pending_account(posting.seller, CURRENCY), Money(-posting.amount_minor, CURRENCY)),
    )
    made = journal(
        tenant=_TENANT, journal_id=Key(posting.posting_id), owner=posting.seller, movement=Movement.CAPTURE,
        entries=entries, order_id=OrderId(posting.posting_id),
    )  # fmt: skip
    assert isinstance(made, Journal)  # it balances by its making
    return made
