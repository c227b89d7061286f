"""Roll-up checkpoints: the sum of an account's entries in one slot up to a `seq`, so that a balance need not read them all.

Only accounts without a balance row get them. A checkpoint is a fact about rows that never change: whoever computes it
computes the same, and writing it twice writes it once.

Invariant: a checkpoint at `seq` is the exact sum of the account's entries of that slot with at most that `seq`.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import text

from zerosum.limits import CHECKPOINT_EVERY_ENTRIES
from zerosum.store import statement
from zerosum.store.database import Database
from zerosum.store.ledger_reader import owner_of
from zerosum.store.mapping import Row, key_of
from zerosum.store.session import Session
from zerosum.store.table import ACCOUNTS, CHECKPOINTS
from zerosum.store.wire import compiled


async def roll_up(database: Database, slots: Sequence[int], every_entries: int = CHECKPOINT_EVERY_ENTRIES) -> int:
    """Writes a checkpoint for each account that had more entries since its last one; returns how many it wrote.

    One transaction a slot; idempotent; anybody may run it at any time. Raises Unavailable, Misconfigured.
    """
    written = 0
    for slot in slots:
        written += await database.write_again(partial(_roll_slot, slot=slot, every_entries=every_entries))
    return written


async def _roll_slot(session: Session, *, slot: int, every_entries: int) -> int:
    values = {"slot": slot, "every_entries": every_entries}
    (reply,) = (await session.send([_GROWN.call(values)])).all()
    grown: list[Row] = [dict(zip(_COLUMNS, row, strict=True)) for row in reply]
    owned = [row | {"owner": owner} for row in grown if (owner := owner_of(row["account"])) is not None]
    kept = await _with_balance_row(session, owned) if owned else set()
    rows = [row for row in grown if (row["tenant"], row["account"]) not in kept]
    if not rows:
        return 0
    (written,) = (await session.send([session.call(statement.insert(CHECKPOINTS), rows)])).all()
    return len(written)


async def _with_balance_row(session: Session, owned: list[Row]) -> set[tuple[str, str]]:
    select = statement.select(ACCOUNTS, key_of(ACCOUNTS))
    (reply,) = (await session.send([session.call(select, owned)])).all()
    return {(row["tenant"], row["account"]) for row in select.rows(reply)}


_COLUMNS = ("slot", "tenant", "account", "seq", "balance_minor", "entry_count")

# Who may need one: accounts with an entry after the slot's newest checkpoint of any account. An account that grows beyond
# the limit does so by an entry after the last run, and every earlier checkpoint is of an earlier run.
_GROWN = compiled(
    text(
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
)
