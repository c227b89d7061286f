"""Our own ledger as the bench posts to it in process: shard, batcher and SQL store as they are, without Ray and gRPC.

The shard does not pace: in production lists come to it over Ray 50 ms apart, here every waiter calls at once when it has its
answer.

Invariant: what is measured is the production path from `Shard.submit` to the commit, with hash chain, command rows and fence.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from actors.answer import Applied
from actors.clock import SystemClock
from actors.posting import ledger_binding
from actors.shard import Shard
from loadtest.own_database import at_database, make_database
from loadtest.peers.peer import CURRENCY, Posting
from zerosum import limits
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Entry, Journal, Movement, clearing_account, journal, seller_pending_account
from zerosum.domain.money import Money
from zerosum.errors import OutcomeUnknown
from zerosum.store.migrate import migrate
from zerosum.store.opening import open_store

_TENANT = Tenant("bench")
_OPENING_CALL = 500


class HousePeer:
    """Implements `Peer`. `url`: of its own database, by the ledger's role."""

    def __init__(self, admin_url: str, ledger_url: str, database: str) -> None:
        self._admin_url = make_database(admin_url, database)
        self._url = at_database(ledger_url, database)

    async def open(self, sellers: Sequence[str]) -> None:
        """Migrates, takes every slot, and opens an owner for each seller by a first journal."""
        migrate(self._admin_url)
        self._store = open_store("ledger", self._url)
        self._shard: Shard[Any, Any] = Shard(
            binding=ledger_binding(), store=self._store, slots=range(limits.SLOTS), deployment="bench",
            clock=SystemClock(), pace_ms=0, expects_replays=False,
        )  # fmt: skip
        await self._shard.start(None)
        for at in range(0, len(sellers), _OPENING_CALL):
            await self.post([Posting(f"open-{seller}", seller, 100) for seller in sellers[at : at + _OPENING_CALL]])

    async def post(self, postings: Sequence[Posting]) -> None:
        """One list of commands to the shard. Raises OutcomeUnknown where one of them is not known to be posted."""
        answers = await self._shard.submit([_journal(posting) for posting in postings])
        for answer in answers:
            if not isinstance(answer, Applied):
                raise OutcomeUnknown(f"a journal was answered {answer}")

    async def stored(self) -> set[str]:
        """Journals with both entries."""
        with psycopg.connect(self._admin_url) as connection:
            found = connection.execute("SELECT journal_id FROM ledger.entries GROUP BY journal_id HAVING count(*) = 2")
            return {journal_id for (journal_id,) in found}

    async def close(self) -> None:
        """Stops the shard."""
        await self._shard.stop()
        await self._store.close()


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
