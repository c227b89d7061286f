"""Roll-up checkpoints: the sum of an account's entries in one slot up to a `seq`, so that a balance need not read them all.

Only accounts without a balance row get them. A checkpoint is a fact about rows that never change: whoever computes it
computes the same, and writing it twice writes it once.

Invariant: a checkpoint at `seq` is the exact sum of the account's entries of that slot with at most that `seq`.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from zerosum.limits import CHECKPOINT_EVERY_ENTRIES
from zerosum.store import statement
from zerosum.store.database import Database
from zerosum.store.ledger_reader import owner_of
from zerosum.store.loading import rows_of
from zerosum.store.mapping import Row
from zerosum.store.table import CHECKPOINTS


async def roll_up(database: Database, slots: Sequence[int], every_entries: int = CHECKPOINT_EVERY_ENTRIES) -> int:
    """Writes a checkpoint for each account that had more entries since its last one; returns how many it wrote.

    One transaction a slot; idempotent; anybody may run it at any time. Raises Unavailable, Misconfigured.
    """
    written = 0
    for slot in slots:
        written += await database.write_again(lambda connection, slot=slot: _roll_slot(connection, slot, every_entries))  # type: ignore[misc]  # mypy cannot infer a default
    return written


def _roll_slot(connection: Connection, slot: int, every_entries: int) -> int:
    grown = rows_of(connection, _GROWN, {"slot": slot, "every_entries": every_entries})
    rows: list[Row] = [row for row in grown if not _has_balance_row(connection, row)]
    if not rows:
        return 0
    insert = statement.insert(CHECKPOINTS)
    return len(connection.execute(insert.clause, insert.parameters(rows)).all())


def _has_balance_row(connection: Connection, row: Row) -> bool:
    owner = owner_of(row["account"])
    if owner is None:
        return False
    values = {"slot": row["slot"], "tenant": row["tenant"], "owner": owner, "account": row["account"]}
    return connection.execute(_BALANCE_ROW, values).first() is not None


# Who may need one: accounts with an entry after the slot's newest checkpoint of any account. An account that grows beyond
# the limit does so by an entry after the last run, and every earlier checkpoint is of an earlier run.
_GROWN = text(
    "WITH head AS (SELECT slot, seq FROM ledger.slots WHERE slot = CAST(:slot AS INT4)), "
    "moved AS (SELECT DISTINCT n.tenant, n.account FROM ledger.entries AS n WHERE n.slot = CAST(:slot AS INT4) AND n.seq > "
    "coalesce((SELECT max(k.seq) FROM ledger.checkpoints AS k WHERE k.slot = CAST(:slot AS INT4)), 0)) "
    "SELECT h.slot, m.tenant, m.account, h.seq, "
    "CAST(coalesce(c.balance_minor, 0) + e.balance_minor AS INT8) AS balance_minor, "
    "CAST(coalesce(c.entry_count, 0) + e.entry_count AS INT8) AS entry_count "
    "FROM head AS h CROSS JOIN moved AS m "
    "LEFT JOIN LATERAL (SELECT k.seq, k.balance_minor, k.entry_count FROM ledger.checkpoints AS k WHERE k.slot = h.slot "
    "AND k.tenant = m.tenant AND k.account = m.account ORDER BY k.seq DESC LIMIT 1) AS c ON true "
    "CROSS JOIN LATERAL (SELECT coalesce(sum(n.amount_minor), 0) AS balance_minor, count(*) AS entry_count "
    "FROM ledger.entries AS n WHERE n.tenant = m.tenant AND n.account = m.account AND n.slot = h.slot "
    "AND n.seq > coalesce(c.seq, 0)) AS e "
    "WHERE e.entry_count > CAST(:every_entries AS INT8) ORDER BY m.tenant, m.account"
)

_BALANCE_ROW = text(
    "SELECT 1 FROM ledger.accounts WHERE slot = CAST(:slot AS INT4) AND tenant = :tenant AND owner = :owner "
    "AND account = :account"
)
