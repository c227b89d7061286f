"""The SQL store: a batch is committed whole, under the fence of its slots, or not at all.

The order of statements is that of `plan.py`; every one of them must take as many rows as it was given. The first that does
not ends the transaction: ROLLBACK, and a `Clash` that names the turns concerned. Nothing is retried here: the shard decides.

The fence: each slot's head moves by compare-and-swap on (epoch, seq). When it does not move,
- another epoch, or no such slot: Superseded; this copy must end;
- the same epoch and another seq: a commit of this very copy, whose end was in doubt, has landed. That is CommitAmbiguous:
  take the slots again (which also fences whatever may still be on its way), load, and run the same commands again.

Invariant: what `commit` returns or raises is what happened; only CommitAmbiguous (and the caller's own cancellation, which
lets the transaction run to its end) leaves it open.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, TextClause, text

from zerosum.domain.identity import EntityKey, Tenant
from zerosum.errors import CommitAmbiguous, RowsRefused, Superseded
from zerosum.ports import Batch, Clash, Committed, DueTodo, Loaded, SlotHead, Wanted
from zerosum.store import failure, statement
from zerosum.store.chain import GENESIS
from zerosum.store.database import Database
from zerosum.store.loading import load, rows_of
from zerosum.store.mapping import Aggregate, Row
from zerosum.store.plan import Plan, Step, Verb, clash, plan
from zerosum.store.table import TODOS

S = TypeVar("S")


class SqlStore(Generic[S]):
    """Implements `ports.Store` for one service on PostgreSQL or CockroachDB."""

    def __init__(self, database: Database, aggregate: Aggregate[S]) -> None:
        self.database = database
        self._aggregate = aggregate

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        """Raises the epoch of each slot and returns the heads, in slot order. Creates slots that were never taken."""
        return await self.database.write_again(
            lambda connection: _take(connection, self._aggregate, sorted(set(slots)), deployment)
        )

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        """Raises the epoch of slots this copy still owns, all or none, and returns their true heads.

        Raises Superseded where another epoch is found. When this commit itself ends in doubt (CommitAmbiguous) and had
        landed, the next call finds its own epoch foreign and raises Superseded: the copy ends, which is safe.
        """
        return await self.database.write_unless_conflict(lambda connection: _retake(connection, self._aggregate, heads))

    async def load(self, wanted: Wanted) -> Loaded[S]:
        """Reads what is wanted and the clock in one snapshot; the clock alone costs one statement."""
        return await self.database.read(lambda connection: load(connection, self._aggregate, wanted))

    async def commit(self, batch: Batch[S]) -> Committed | Clash:
        """Commits the batch. A caller that is cancelled meanwhile must treat it as CommitAmbiguous."""
        prepared = plan(self._aggregate, batch)
        if not prepared.heads:
            return Committed(())  # an empty batch: no statement
        met = await self.database.write(lambda connection: _write(connection, self._aggregate, prepared, batch))
        return met or Committed(prepared.heads)

    async def due_todos(self, slots: Sequence[int], overdue_ms: int, rows_max: int) -> Sequence[DueTodo]:
        """To-dos that are OPEN and due for so long, oldest first. Only the payment service has any."""
        if self._aggregate.service != "payment" or not slots:
            return ()
        values = {"slots": statement.int_array(slots), "overdue_ms": overdue_ms, "rows_max": rows_max}
        rows = await self.database.hint(lambda connection: connection.execute(DUE, values).all())
        return [DueTodo(EntityKey(Tenant(tenant), checkout_id), todo_id) for tenant, checkout_id, todo_id in rows]

    async def close(self) -> None:
        """Lets running transactions end, then closes every connection."""
        await self.database.close()


# ---- commit --------------------------------------------------------------------------------------------------------


def _write(connection: Connection, aggregate: Aggregate[S], prepared: Plan, batch: Batch[S]) -> Clash | None:
    _move_slots(connection, aggregate, prepared)
    for step in prepared.steps:
        stored = _carry_out(connection, aggregate, step)
        if len(stored) < len(step.rows):
            connection.rollback()
            return clash(step, stored, batch.turns)
    return None


def _move_slots(connection: Connection, aggregate: Aggregate[S], prepared: Plan) -> None:
    move = statement.move_slots(aggregate.slots)
    rows: list[Row] = [
        {"slot": head.slot, "epoch": head.epoch, "seq": head.seq - 1, "hash": head.hash} for head in prepared.heads
    ]
    # A lock timeout here is a conflict like any: another copy holds these slots, no row of this batch is at fault.
    moved = connection.execute(move.clause, move.parameters(rows)).all()
    if len(moved) < len(rows):
        raise _fenced(connection, aggregate, prepared)
    if len(_carry_out(connection, aggregate, prepared.slot_log)) < len(rows):
        raise RowsRefused("slot_log already has these heads")


def _fenced(connection: Connection, aggregate: Aggregate[S], prepared: Plan) -> Exception:
    """Why the slots did not move, read in the same snapshot."""
    select = statement.select(aggregate.slots, ("slot",))
    rows = [{"slot": head.slot} for head in prepared.heads]
    found = {row["slot"]: row["epoch"] for row in rows_of(connection, select.clause, select.parameters(rows))}
    connection.rollback()
    lost = sorted(head.slot for head in prepared.heads if found.get(head.slot) != head.epoch)
    if lost:
        return Superseded(f"a newer copy owns slots {lost} of {aggregate.service}")
    return CommitAmbiguous(f"an earlier commit of this copy has landed in {aggregate.service}: take the slots again")


def _carry_out(connection: Connection, aggregate: Aggregate[S], step: Step) -> Sequence[Any]:
    fixed = aggregate.fixed.get(step.table.name, frozenset())
    match step.verb:
        case Verb.INSERT:
            prepared = statement.insert(step.table)
        case Verb.UPDATE:
            prepared = statement.update(step.table, fixed)
        case Verb.SWAP:
            prepared = statement.swap(step.table, fixed)
    try:
        return connection.execute(prepared.clause, prepared.parameters(step.rows)).all()
    except failure.DATABASE_ERRORS as error:
        if failure.sqlstate(error) == failure.LOCK_TIMEOUT:
            # One of these rows is held by another shard that has stopped: the batch is divided until it stands alone.
            raise RowsRefused(f"a row of {step.table.fullname} is held too long ({failure.LOCK_TIMEOUT})") from None
        raise


# ---- slots ---------------------------------------------------------------------------------------------------------


def _take(connection: Connection, aggregate: Aggregate[S], slots: Sequence[int], deployment: str) -> list[SlotHead]:
    insert = statement.insert(aggregate.slots)
    rows: list[Row] = [
        {"slot": slot, "epoch": 0, "seq": 0, "hash": GENESIS, "deployment": deployment} for slot in slots
    ]
    connection.execute(insert.clause, insert.parameters(rows))
    values = {"slots": statement.int_array(slots), "deployment": deployment}
    taken = connection.execute(_TAKE[aggregate.service], values).all()
    return sorted((SlotHead(*row) for row in taken), key=lambda head: head.slot)


def _retake(connection: Connection, aggregate: Aggregate[S], heads: Sequence[SlotHead]) -> list[SlotHead]:
    raised = statement.raise_epochs(aggregate.slots)
    rows: list[Row] = [{"slot": head.slot, "epoch": head.epoch} for head in sorted(heads, key=lambda head: head.slot)]
    taken = connection.execute(raised.clause, raised.parameters(rows)).all()
    if len(taken) < len(rows):
        connection.rollback()
        lost = sorted({head.slot for head in heads} - {row[0] for row in taken})
        raise Superseded(f"a newer copy owns slots {lost} of {aggregate.service}")
    return sorted((SlotHead(*row) for row in taken), key=lambda head: head.slot)


_TAKE: Mapping[str, TextClause] = {
    service: text(
        f"UPDATE {service}.slots SET epoch = epoch + 1, deployment = :deployment "  # noqa: S608 - a name of ours
        "WHERE slot = ANY(CAST(:slots AS INT4[])) RETURNING slot, epoch, seq, hash"
    )
    for service in ("payment", "wallet", "ledger")
}

# ---- to-dos -----------------------------------------------------------------------------------------------------

DUE = text(
    f"SELECT tenant, checkout_id, todo_id FROM {TODOS.fullname} WHERE state = 'OPEN' "  # noqa: S608 - a name of ours
    "AND slot = ANY(CAST(:slots AS INT4[])) AND due_at_ms <= "
    # Not clock_timestamp(): no index serves a comparison with what changes within a statement.
    "CAST(floor(extract(epoch FROM statement_timestamp()) * 1000) AS INT8) - CAST(:overdue_ms AS INT8) "
    "ORDER BY due_at_ms, slot, tenant, checkout_id, todo_id LIMIT CAST(:rows_max AS INT8)"
)
