"""The textbook's posting as a peer: a balance row read, raised and written, and two entries, SERIALIZABLE with retry.

Invariant: the steps are those of `loadtest/naive`, in one transaction a posting.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import psycopg

from loadtest.naive import step
from loadtest.naive.database import NaiveDatabase
from loadtest.naive.model import Wallet
from loadtest.own_database import make_database
from loadtest.peers.peer import CURRENCY, Posting

_FILL: Final = (
    """
    INSERT INTO ledger_entry (payment_order_id, account, amount_minor, currency)
    SELECT 'fill-' || n, CASE side WHEN 0 THEN %(clearing)s ELSE %(seller)s END, CASE side WHEN 0 THEN 100 ELSE -100 END,
           %(currency)s
    FROM generate_series(1, %(count)s) AS n CROSS JOIN generate_series(0, 1) AS side
    """,
    "UPDATE wallet SET balance_minor = balance_minor + 100 * %(count)s WHERE owner = %(owner)s AND currency = %(currency)s",
    "VACUUM ANALYZE ledger_entry, wallet",
)


class NaivePeer:
    """Implements `Peer`. It has no call of many: a list is posted one after the other."""

    def __init__(self, admin_url: str, database: str) -> None:
        self._url = make_database(admin_url, database)

    async def open(self, sellers: Sequence[str]) -> None:
        """Makes the tables and a wallet for each seller."""
        self._database = NaiveDatabase(self._url)
        self._database.make_tables()
        await self._database.transact(partial(step.open_wallets, owners=sellers, currency=CURRENCY))

    async def post(self, postings: Sequence[Posting]) -> None:
        """Raises SerializationConflict where it gave up after 10 s, DBAPIError where the database is away."""
        for posting in postings:
            await self._database.transact(
                partial(
                    step.post, posting_id=posting.posting_id, owner=posting.seller, currency=CURRENCY,
                    amount_minor=posting.amount_minor,
                )
            )  # fmt: skip

    async def fill(self, seller: str, entries: int) -> int:
        """Both entries of each posting, and the wallet's balance."""
        values = {"seller": f"seller:{seller}:{CURRENCY}", "clearing": f"{step.CLEARING}:{CURRENCY}", "currency": CURRENCY,
                  "owner": seller, "count": entries}  # fmt: skip
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in _FILL:
                connection.execute(statement, values)
            row = connection.execute("SELECT count(*) FROM ledger_entry WHERE account = %(seller)s", values).fetchone()
            return int(row[0]) if row is not None else 0

    async def balance(self, seller: str) -> int:
        """The wallet's row, read in a transaction of its own as every step is."""
        wallet = await self._database.transact(lambda session: session.get_one(Wallet, (seller, CURRENCY)))
        return wallet.balance_minor

    async def stored(self) -> set[str]:
        """Postings with both entries."""
        with psycopg.connect(self._url) as connection:
            found = connection.execute(
                "SELECT payment_order_id FROM ledger_entry GROUP BY payment_order_id HAVING count(*) = 2"
            )
            return {posting_id for (posting_id,) in found}

    async def close(self) -> None:
        """Closes the connections."""
        self._database.close()

    def remark(self) -> str:
        """How often the database refused one of its transactions for another's sake."""
        return f"{self._database.conflicts:,} conflicts (40001)"
