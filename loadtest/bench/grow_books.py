"""Books that lie beside ours, as years of postings would have left them: every table that a posting writes, every index.

The numbers of slots begin far above them, as if a shard had written all of it: 50 postings in a commit, which fall on 35 of the
64 slots (64 (1 - (63/64)^50)), so that of ten journals of a slot seven begin a row of `slot_log`. The house's clearing account
has a checkpoint wherever a roll-up would have written one. Nothing of it is hashed: `ledger verify` would object.

Invariant: a journal that lies beside has all rows of a posted one but for its owner's balance, which nobody reads.
"""

import random
from collections.abc import Sequence
from typing import Final

import psycopg

from loadtest.peers.peer import CURRENCY
from zerosum.domain.identity import Tenant, slot_of
from zerosum.domain.journal import clearing_account, seller_pending_account
from zerosum.limits import CHECKPOINT_EVERY_ENTRIES, SLOTS
from zerosum.store.chain import GENESIS
from zerosum.store.migrate import migrate
from zerosum.store.paging import position_text

BESIDE: Final = Tenant("beside")
HOUSE: Final = clearing_account("stripe", CURRENCY)
SELLERS_BESIDE: Final = 157 * SLOTS
"""10,048: thousands as in production, and so many that all journals of one seller are of one slot."""

FIRST_SEQ: Final = 1_000_000
"""From here on the shard numbers its commits; 10^7 entries beside need 54,700 numbers a slot."""

_STEP: Final = 500_000
_VACUUM: Final = "VACUUM ANALYZE ledger.journals, ledger.entries, ledger.commands, ledger.slot_log, ledger.checkpoints"
_VALUES: Final = {
    "tenant": BESIDE, "house": HOUSE, "currency": CURRENCY, "amount": 100, "at_ms": 1_790_000_000_000, "slots": SLOTS,
    "sellers": SELLERS_BESIDE,
}  # fmt: skip

_STEP_TABLE: Final = "CREATE TEMP TABLE step (n INT8, slot INT4, seq INT8, ord INT4, owner TEXT, id TEXT)"

# Journal n is the (n / 64)-th of its slot. Ten journals take seven numbers of its log; they are counted from ten on. The
# commands, whose slot is that of a hash of their key, go in by key: half a million of them touch every page of the index, and
# in order each page once. All others go in as they would have come.
_FILL: Final = (
    "TRUNCATE step",
    """
    INSERT INTO step
    SELECT n, n %% %(slots)s, (n / %(slots)s + 10) * 7 / 10,
           CAST((n / %(slots)s + 9) * 7 / 10 = (n / %(slots)s + 10) * 7 / 10 AS INT4),
           'seller-' || n %% %(sellers)s, 'capture-1-' || md5(n::text) || left(md5(n::text), 8)
    FROM generate_series(CAST(%(first)s AS INT8), CAST(%(last)s AS INT8)) AS n
    """,
    """
    INSERT INTO ledger.journals (slot, seq, ord, tenant, owner, version, journal_id, movement, payment_order_id, at_ms)
    SELECT slot, seq, ord, %(tenant)s, owner, n, id, 'capture', 'o-' || n, %(at_ms)s FROM step
    """,
    """
    INSERT INTO ledger.entries (slot, seq, ord, line, tenant, journal_id, account, currency, amount_minor, at_ms)
    SELECT slot, seq, ord, line, %(tenant)s, id,
           CASE line WHEN 0 THEN %(house)s ELSE 'seller:' || owner || ':pending:' || %(currency)s END,
           %(currency)s, CASE line WHEN 0 THEN 1 ELSE -1 END * %(amount)s, %(at_ms)s
    FROM step CROSS JOIN generate_series(0, 1) AS line ORDER BY n, line
    """,
    """
    INSERT INTO ledger.commands (slot, tenant, method, key, fingerprint, entity_id, outcome, at_ms)
    SELECT get_byte(decode(md5(id), 'hex'), 0) %% %(slots)s AS command_slot, %(tenant)s, 'PostJournals', id,
           '1:' || md5(id) || md5(id), owner, NULL, %(at_ms)s
    FROM step ORDER BY command_slot, id
    """,
    """
    INSERT INTO ledger.slot_log (slot, seq, epoch, hash, at_ms)
    SELECT slot, seq, 1, sha256(id::bytea), %(at_ms)s FROM step WHERE ord = 0
    """,
)

# Before the 10 k-th number stand 10 k - 10 journals, whose numbers in the log are below 7 k.
_CHECKPOINTS: Final = """
    INSERT INTO ledger.checkpoints (slot, tenant, account, seq, balance_minor, entry_count)
    SELECT slot, %(tenant)s, %(house)s, 7 * (1 + count / 10) - 1, %(amount)s * count, count
    FROM generate_series(0, %(slots)s - 1) AS slot,
         generate_series(CAST(%(first)s AS INT8), CAST(%(last)s AS INT8), CAST(%(every)s AS INT8)) AS count
"""


class Books:
    """The ledger's database as its administrator sees it: a plain URL. `checkpoint_every`: entries of an account in a slot."""

    def __init__(self, admin_url: str, *, checkpoint_every: int = CHECKPOINT_EVERY_ENTRIES) -> None:
        self._url = admin_url
        self._checkpoint_every = (checkpoint_every // 10 + 1) * 10  # the first one that is more, in whole tens
        self._filled = 0

    def prepare(self) -> None:
        """Schema, slots whose numbers begin above what is filled, the sellers beside. Before any shard takes its slots."""
        migrate(self._url)
        with psycopg.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO ledger.slots (slot, epoch, seq, hash, deployment) VALUES (%s, 0, %s, %s, 'bench')",
                [(slot, FIRST_SEQ, GENESIS) for slot in range(SLOTS)],
            )
        self.open(BESIDE, [f"seller-{number}" for number in range(SELLERS_BESIDE)])

    def entries(self) -> int:
        """How many the ledger holds in all, counted: those beside, and those that were posted."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute("SELECT count(*) FROM ledger.entries").fetchone()
        return int(row[0]) if row is not None else 0

    def fill(self, entries: int) -> None:
        """Until the ledger holds so many entries in all, two a journal; nothing where it holds them already."""
        first = self._filled
        end = first + max(0, entries - self.entries()) // 2
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(_STEP_TABLE)
            for start in range(first, end, _STEP):
                for statement in _FILL:
                    values = _VALUES | {"first": start, "last": min(start + _STEP, end) - 1}
                    connection.execute(statement, values if "%(" in statement else None)
            every = self._checkpoint_every
            due = {"first": (first // SLOTS // every + 1) * every, "last": end // SLOTS, "every": every}
            connection.execute(_CHECKPOINTS, _VALUES | due)
            connection.execute(_VACUUM)
        self._filled = end

    def open(self, tenant: Tenant, owners: Sequence[str]) -> None:
        """Owners and their accounts as a first journal leaves them."""
        with psycopg.connect(self._url) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY ledger.owners FROM STDIN") as copy:
                for owner in owners:
                    copy.write_row((slot_of(tenant, owner), tenant, owner, 0, 1, 1))
            with cursor.copy("COPY ledger.accounts FROM STDIN") as copy:
                for owner in owners:
                    account = seller_pending_account(owner, CURRENCY)
                    copy.write_row((slot_of(tenant, owner), tenant, owner, account, CURRENCY, 0, 0))
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE ledger.owners, ledger.accounts")

    def somewhere(self, chance: random.Random) -> str:
        """A position among the entries of the house's account, any with the same chance: where a next page begins."""
        n = chance.randrange(self._filled)
        return position_text("ledger_entries", (n % SLOTS, (n // SLOTS + 10) * 7 // 10, 0, 0))
