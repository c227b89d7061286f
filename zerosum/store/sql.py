"""The SQL store: a batch is committed whole, under the fence of its slots, or not at all.

The order of statements is that of `plan.py`; they go out together, and every one of them must take as many rows as it was
given. The first that does not ends the transaction: ROLLBACK, and a `Clash` that names the turns concerned. Only when all
have, COMMIT is sent. Nothing is retried here: the shard decides.

The fence: each slot's head moves by compare-and-swap on (epoch, seq). When it does not move,
- another epoch, or no such slot: Superseded; this copy must end;
- the same epoch and another seq: a commit of this very copy, whose end was in doubt, has landed. That is CommitAmbiguous:
  take the slots again (which also fences whatever may still be on its way), load, and run the same commands again.

Invariant: what `commit` returns or raises is what happened; only CommitAmbiguous (and the caller's own cancellation, which
lets the transaction run to its end) leaves it open.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from sqlalchemy import text

from zerosum.domain.identity import EntityKey, Tenant, slot_of
from zerosum.errors import CommitAmbiguous, RowHeld, Superseded
from zerosum.ports import NOTHING, Batch, Clash, Committed, DueTodo, Loaded, SlotHead, Wanted
from zerosum.store import failure, statement
from zerosum.store.chain import GENESIS
from zerosum.store.database import Database
from zerosum.store.loading import CLOCK, load
from zerosum.store.mapping import Aggregate, Row
from zerosum.store.paging import Position, after_parameters, beyond
from zerosum.store.plan import Plan, Step, Verb, clash, plan
from zerosum.store.session import Replies, Session
from zerosum.store.table import SERVICES, TODOS
from zerosum.store.wire import Call, compiled

S = TypeVar("S")


class SqlStore(Generic[S]):
    """Implements `ports.Store` for one service on PostgreSQL or CockroachDB."""

    def __init__(self, database: Database, aggregate: Aggregate[S]) -> None:
        self.database = database
        self._aggregate = aggregate

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        """Raises the epoch of each slot and returns the heads, in slot order. Creates slots that were never taken."""
        return await self.database.write_again(
            lambda session: _take(session, self._aggregate, sorted(set(slots)), deployment)
        )

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        """Raises the epoch of slots this copy still owns, all or none, and returns their true heads.

        Raises Superseded where another epoch is found. When this commit itself ends in doubt (CommitAmbiguous) and had
        landed, the next call finds its own epoch foreign and raises Superseded: the copy ends, which is safe.
        """
        return await self.database.write_unless_conflict(lambda session: _retake(session, self._aggregate, heads))

    async def load(self, wanted: Wanted) -> Loaded[S]:
        """Reads what is wanted and the clock in one snapshot; the clock alone is one statement."""
        if wanted == NOTHING:
            return Loaded((await self.database.look(CLOCK))[0][0], {}, {}, {}, {})
        return await self.database.read(lambda session: load(session, self._aggregate, wanted))

    async def commit(self, batch: Batch[S]) -> Committed | Clash:
        """Commits the batch. A caller that is cancelled meanwhile must treat it as CommitAmbiguous."""
        prepared = plan(self._aggregate, batch)
        if not prepared.heads:
            return Committed(())  # an empty batch: no statement
        met = await self.database.write(lambda session: _write(session, self._aggregate, prepared, batch))
        return met or Committed(prepared.heads)

    async def due_todos(
        self, slots: Sequence[int], overdue_ms: int, rows_max: int, after: DueTodo | None = None
    ) -> Sequence[DueTodo]:
        """To-dos that are OPEN and due for so long, oldest first. Only the payment service has any."""
        if self._aggregate.service != "payment" or not slots:
            return ()
        values = {"slots": statement.int_array(slots), "overdue_ms": overdue_ms, "rows_max": rows_max}
        rows = await self.database.look(compiled(DUE).call(values | after_parameters(_due_position(after))))
        return [
            DueTodo(EntityKey(Tenant(tenant), checkout_id), todo, due_ms) for tenant, checkout_id, todo, due_ms in rows
        ]

    async def close(self) -> None:
        """Lets running transactions end, then closes every connection."""
        await self.database.close()


# ---- commit --------------------------------------------------------------------------------------------------------


async def _write(session: Session, aggregate: Aggregate[S], prepared: Plan, batch: Batch[S]) -> Clash | None:
    steps = (prepared.slot_log, *prepared.steps)
    replies = await session.send(
        [_fence(session, aggregate, prepared), *(_call(session, aggregate, step) for step in steps)]
    )
    if replies.rows and len(replies.rows[0]) < len(prepared.heads):
        await session.rollback()
        raise await _fenced(session, aggregate, prepared)
    for step, stored in zip(steps, replies.rows[1:], strict=False):
        if len(stored) < len(step.rows):
            await session.rollback()
            return clash(step, stored, batch.turns)
    _check_locks(replies, steps)
    replies.all()
    return None


def _fence(session: Session, aggregate: Aggregate[S], prepared: Plan) -> Call:
    rows: list[Row] = [
        {"slot": head.slot, "epoch": head.epoch, "seq": head.seq - 1, "hash": head.hash} for head in prepared.heads
    ]
    return session.call(statement.move_slots(aggregate.slots), rows)


async def _fenced(session: Session, aggregate: Aggregate[S], prepared: Plan) -> Superseded | CommitAmbiguous:
    """Why the slots did not move."""
    select = statement.select(aggregate.slots, ("slot",))
    (reply,) = (await session.send([session.call(select, [{"slot": head.slot} for head in prepared.heads])])).all()
    await session.rollback()
    found = {row["slot"]: row["epoch"] for row in select.rows(reply)}
    lost = sorted(head.slot for head in prepared.heads if found.get(head.slot) != head.epoch)
    if lost:
        return Superseded(f"a newer copy owns slots {lost} of {aggregate.service}")
    return CommitAmbiguous(f"an earlier commit of this copy has landed in {aggregate.service}: take the slots again")


def _call(session: Session, aggregate: Aggregate[S], step: Step) -> Call:
    fixed = aggregate.fixed.get(step.table.name, frozenset())
    match step.verb:
        case Verb.INSERT:
            return session.call(statement.insert(step.table), step.rows)
        case Verb.UPDATE:
            return session.call(statement.update(step.table, fixed), step.rows)
        case Verb.SWAP:
            return session.call(statement.swap(step.table, fixed), step.rows)


def _check_locks(replies: Replies, steps: Sequence[Step]) -> None:
    """A lock timeout is a conflict like any where the slots are held, by another copy; elsewhere it is about a row.

    That row is held by another shard that has stopped: the batch is divided until the row stands alone.
    """
    failed = len(replies.rows) - 1
    if replies.error is not None and failed >= 0 and failure.sqlstate(replies.error) == failure.LOCK_TIMEOUT:
        raise RowHeld(f"a row of {steps[failed].table.fullname} is held too long ({failure.LOCK_TIMEOUT})")


# ---- slots ---------------------------------------------------------------------------------------------------------

_TAKE = {
    service: compiled(
        text(
            f"UPDATE {service}.slots SET epoch = epoch + 1, deployment = :deployment "  # noqa: S608 - a name of ours
            f"WHERE slot = ANY(CAST(:slots AS INT4[])) RETURNING {', '.join(statement.HEAD)}"
        )
    )
    for service in SERVICES
}


async def _take(session: Session, aggregate: Aggregate[S], slots: Sequence[int], deployment: str) -> list[SlotHead]:
    rows: list[Row] = [
        {"slot": slot, "epoch": 0, "seq": 0, "hash": GENESIS, "deployment": deployment} for slot in slots
    ]
    values = {"slots": statement.int_array(slots), "deployment": deployment}
    take = _TAKE[aggregate.service].call(values)
    _, taken = (await session.send([session.call(statement.insert(aggregate.slots), rows), take])).all()
    return sorted((SlotHead(*row) for row in taken), key=lambda head: head.slot)


async def _retake(session: Session, aggregate: Aggregate[S], heads: Sequence[SlotHead]) -> list[SlotHead]:
    rows: list[Row] = [{"slot": head.slot, "epoch": head.epoch} for head in sorted(heads, key=lambda head: head.slot)]
    (taken,) = (await session.send([session.call(statement.raise_epochs(aggregate.slots), rows)])).all()
    if len(taken) < len(rows):
        await session.rollback()
        lost = sorted({head.slot for head in heads} - {row[0] for row in taken})
        raise Superseded(f"a newer copy owns slots {lost} of {aggregate.service}")
    return sorted((SlotHead(*row) for row in taken), key=lambda head: head.slot)


# ---- to-dos -----------------------------------------------------------------------------------------------------

_DUE_ORDER = ("due_at_ms", "slot", "tenant", "checkout_id", "todo_id")

DUE = text(
    f"SELECT tenant, checkout_id, todo_id, due_at_ms FROM {TODOS.fullname} WHERE state = 'OPEN' "  # noqa: S608 - our names
    "AND slot = ANY(CAST(:slots AS INT4[])) AND due_at_ms <= "
    # Not clock_timestamp(): no index serves a comparison with what changes within a statement.
    "CAST(floor(extract(epoch FROM statement_timestamp()) * 1000) AS INT8) - CAST(:overdue_ms AS INT8) "
    # The first condition is for the index, which a comparison of rows in another order than its own cannot use.
    f"AND due_at_ms >= CAST(:after_0 AS INT8) AND {beyond(_DUE_ORDER, ('INT8', 'INT4', 'TEXT', 'TEXT', 'TEXT'))} "
    f"ORDER BY {', '.join(_DUE_ORDER)} LIMIT CAST(:rows_max AS INT8)"
)


def _due_position(after: DueTodo | None) -> Position:
    """Where the list goes on; from its beginning one before every time there is."""
    return (after.due_at_ms, slot_of(*after.entity), *after.entity, after.todo_id) if after else (-1, 0, "", "", "")
