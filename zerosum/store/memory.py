"""The memory store: the rules of the SQL store on dicts, for tests and for the deterministic world.

It carries out the same plan, over tables made from the same metadata, under the same fence. It may abort more than SQL
does, and never commits what SQL refuses; one contract suite holds both. Time is a clock handed in; chance there is none.

Trouble is injected: `trouble_next` puts a fault in line for the next commits, `is_away` cuts the database off.

Invariant: a commit is applied whole or undone whole, between two awaits.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Generic, TypeVar

from zerosum.domain.identity import CommandKey, EntityKey, Tenant, slot_of
from zerosum.errors import CommitAmbiguous, RowsRefused, SerializationConflict, Superseded, Unavailable
from zerosum.ports import NOTHING, Batch, Clash, Committed, DueTodo, Loaded, SlotHead, StoredCommand, Wanted
from zerosum.store.catalog import aggregate_of
from zerosum.store.chain import GENESIS
from zerosum.store.mapping import Aggregate, Row, command_of
from zerosum.store.memory_table import Key, MemoryTable
from zerosum.store.plan import SEEN, Plan, Step, Verb, clash, plan
from zerosum.store.table import METADATA

S = TypeVar("S")


class Trouble(Enum):
    """What the next commit meets."""

    CONFLICT = "40001: nothing is committed"
    AMBIGUOUS_APPLIED = "its end is in doubt; it was committed"
    AMBIGUOUS_LOST = "its end is in doubt; it was not committed"
    AMBIGUOUS_LATE = "its end is in doubt; it is committed when `land_late` is called, if the fence still lets it"


def memory_store(service: str, clock: Callable[[], int]) -> "MemoryStore[Any]":
    """A store of "payment", "wallet" or "ledger" in memory. `clock` gives milliseconds: a test's or the world's."""
    return MemoryStore(aggregate_of(service), clock)


class MemoryStore(Generic[S]):
    """Implements `ports.Store`. Several shards may share one; `tables` are there to be looked at, by table name."""

    def __init__(self, aggregate: Aggregate[S], clock: Callable[[], int]) -> None:
        self.aggregate = aggregate
        self.clock = clock
        self.is_away = False
        self.tables: Mapping[str, MemoryTable] = {
            table.name: MemoryTable(table) for table in METADATA.tables.values() if table.schema == aggregate.service
        }
        self._in_line: deque[Trouble] = deque()
        self._late: list[tuple[Plan, Batch[S]]] = []
        self._read: dict[EntityKey, tuple[Row, S]] = {}
        """What rows stood for when they were last read, and the root's row by which it is still so: whatever changes an
        entity replaces that row (a swap of its version), and taking it back brings the very row again."""

    # ---- what a test does to it ----

    def trouble_next(self, *troubles: Trouble) -> None:
        """The next commits meet these, one each, in this order."""
        self._in_line.extend(troubles)

    def land_late(self) -> int:
        """Lets every late commit try to land; returns how many the fence and the rows still took."""
        late, self._late = self._late, []
        return sum(self._lands(prepared, batch) for prepared, batch in late)

    def clear(self, but: frozenset[str] = frozenset()) -> None:
        """Lets all rows go but those of the tables named: only for a world whose rows were audited."""
        self._read.clear()
        for name, table in self.tables.items():
            if name not in but:
                table.clear()

    # ---- the store ----

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        """See `ports.Store`."""
        self.check_reachable()
        heads = []
        table = self.tables["slots"]
        for slot in sorted(set(slots)):
            before = table.rows.get((slot,), {"slot": slot, "epoch": 0, "seq": 0, "hash": GENESIS})
            row = {**before, "epoch": before["epoch"] + 1, "deployment": deployment}
            table.put_back((slot,), row)
            heads.append(SlotHead(slot, row["epoch"], row["seq"], row["hash"]))
        return heads

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        """See `ports.Store`."""
        self.check_reachable()
        table = self.tables["slots"]
        found = {head.slot: table.rows.get((head.slot,), {"epoch": -1}) for head in heads}
        lost = sorted(head.slot for head in heads if found[head.slot]["epoch"] != head.epoch)
        if lost:
            raise Superseded(f"a newer copy owns slots {lost} of {self.aggregate.service}")
        raised = [{**found[slot], "epoch": found[slot]["epoch"] + 1} for slot in sorted(found)]
        for row in raised:
            table.put_back((row["slot"],), row)
        return [SlotHead(row["slot"], row["epoch"], row["seq"], row["hash"]) for row in raised]

    async def load(self, wanted: Wanted) -> Loaded[S]:
        """See `ports.Store`."""
        self.check_reachable()
        if wanted == NOTHING:
            return Loaded(self.clock(), {}, {}, {}, {})
        entities = {key: self.entity(key) for key in wanted.entities}
        commands = {key: self._command(key) for key in wanted.commands}
        return Loaded(
            now_ms=self.clock(),
            entities={key: state for key, state in entities.items() if state is not None},
            commands={key: command for key, command in commands.items() if command is not None},
            claims=self._claims(wanted.claims),
            deliveries=self._deliveries(wanted.deliveries),
        )

    async def commit(self, batch: Batch[S]) -> Committed | Clash:
        """See `ports.Store`."""
        self.check_reachable()
        prepared = plan(self.aggregate, batch)
        match self._in_line.popleft() if self._in_line else None:
            case Trouble.CONFLICT:
                raise SerializationConflict("a conflict was ordered (40001)")
            case Trouble.AMBIGUOUS_LOST:
                raise CommitAmbiguous("a lost commit was ordered")
            case Trouble.AMBIGUOUS_LATE:
                self._late.append((prepared, batch))
                raise CommitAmbiguous("a late commit was ordered")
            case Trouble.AMBIGUOUS_APPLIED:
                self._apply(prepared, batch)
                raise CommitAmbiguous("an applied commit was ordered to be in doubt")
            case None:
                return self._apply(prepared, batch)

    async def due_todos(
        self, slots: Sequence[int], overdue_ms: int, rows_max: int, after: DueTodo | None = None
    ) -> Sequence[DueTodo]:
        """See `ports.Store`."""
        self.check_reachable()
        if "todos" not in self.tables:
            return ()
        now_ms = self.clock() - overdue_ms
        overdue = [
            (row["due_at_ms"], key)
            for key, row in self.tables["todos"].in_index("todos_due")
            if row["due_at_ms"] <= now_ms
        ]
        if not overdue:
            return ()
        mine = set(slots)
        since = (after.due_at_ms, (slot_of(*after.entity), *after.entity, after.todo_id)) if after is not None else None
        due = sorted(each for each in overdue if each[1][0] in mine and (since is None or each > since))
        return [DueTodo(EntityKey(key[1], key[2]), key[3], due_at_ms) for due_at_ms, key in due[:rows_max]]

    async def close(self) -> None:
        """Nothing is open."""

    # ---- reading ----

    def check_reachable(self) -> None:
        """Raises Unavailable while the database is away."""
        if self.is_away:
            raise Unavailable("the database is away by order")

    def entity(self, key: EntityKey) -> S | None:
        """The entity as stored."""
        root = self.root(key)
        if root is None:
            return None
        read = self._read.get(key)
        if read is not None and read[0] is root:
            return read[1]
        prefix = (slot_of(*key), *key)
        children = {table.name: self.tables[table.name].of_entity(prefix) for table in self.aggregate.children}
        state = self.aggregate.state_of(root, children)
        self._read[key] = root, state
        return state

    def root(self, key: EntityKey) -> Row | None:
        """The entity's own row."""
        return self.tables[self.aggregate.root.name].rows.get((slot_of(*key), *key))

    def _command(self, key: CommandKey) -> StoredCommand | None:
        row = self.tables["commands"].rows.get((slot_of(*key), *key))
        return None if row is None else command_of(row)

    def claim(self, key: EntityKey) -> EntityKey | None:
        """The checkout that holds a payment order of this id."""
        row = self.tables["payment_orders"].holder({"tenant": key.tenant, "payment_order_id": key.id})
        return None if row is None else EntityKey(Tenant(row["tenant"]), row["checkout_id"])

    def _claims(self, keys: Sequence[EntityKey]) -> dict[EntityKey, EntityKey]:
        if "payment_orders" not in self.tables:
            return {}
        found = {key: self.claim(key) for key in keys}
        return {key: holder for key, holder in found.items() if holder is not None}

    def _deliveries(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        if "inbox" not in self.tables:
            return {}
        found = {key: self.tables["inbox"].holder({"psp": key[0], "event_id": key[1]}) for key in keys}
        return {key: row["body_sha256"] for key, row in found.items() if row is not None}

    # ---- committing ----

    def _lands(self, prepared: Plan, batch: Batch[S]) -> bool:
        try:
            return isinstance(self._apply(prepared, batch), Committed)
        except (Superseded, CommitAmbiguous, RowsRefused):
            return False

    def _apply(self, prepared: Plan, batch: Batch[S]) -> Committed | Clash:
        undo: list[tuple[MemoryTable, Key, Row | None]] = []
        try:
            self._move_slots(prepared, undo)
            for step in prepared.steps:
                stored = self._carry_out(step, undo)
                if len(stored) < len(step.rows):
                    _undo(undo)
                    return clash(step, stored, batch.turns)
        except (Superseded, CommitAmbiguous, RowsRefused):
            _undo(undo)
            raise
        return Committed(prepared.heads)

    def _move_slots(self, prepared: Plan, undo: list[tuple[MemoryTable, Key, Row | None]]) -> None:
        table = self.tables["slots"]
        found = [(head, table.rows.get((head.slot,), _NO_SLOT)) for head in prepared.heads]
        lost = [head.slot for head, before in found if before["epoch"] != head.epoch]
        if lost:
            raise Superseded(f"a newer copy owns slots {lost} of {self.aggregate.service}")
        if [head for head, before in found if before["seq"] != head.seq - 1]:
            raise CommitAmbiguous(
                f"an earlier commit of this copy has landed in {self.aggregate.service}: take the slots again"
            )
        for head, before in found:
            undo.append((table, (head.slot,), before))
            table.replace((head.slot,), {**before, "seq": head.seq, "hash": head.hash})
        if len(self._carry_out(prepared.slot_log, undo)) < len(prepared.heads):
            raise RowsRefused("slot_log already has these heads")

    def _carry_out(self, step: Step, undo: list[tuple[MemoryTable, Key, Row | None]]) -> list[Key]:
        """Returns the keys of the rows that were taken. A row that is inserted is the plan's own: nobody changes it."""
        table, stored = self.tables[step.table.name], []
        if step.verb is Verb.INSERT:
            for row in step.rows:
                table.judge_values(row)
                table.judge(row)
            for row in step.rows:
                key = table.key(row)
                if table.insert(key, row):
                    undo.append((table, key, None))
                    stored.append(key)
            return stored
        for row in step.rows:
            table.judge_values(row)
        for row in step.rows:
            key = table.key(row)
            before = table.rows.get(key)
            if before is not None and before.get("version") == row.get(SEEN, before.get("version")):
                changed = {**before, **row}
                changed.pop(SEEN, None)
                table.judge(changed)  # only now: SQL checks what it stores, not what finds no row
                table.replace(key, changed)
                undo.append((table, key, before))
                stored.append(key)
        return stored


_NO_SLOT: Row = {"epoch": -1, "seq": -1}


def _undo(undo: list[tuple[MemoryTable, Key, Row | None]]) -> None:
    for table, key, before in reversed(undo):
        if before is None:
            table.remove(key)
        else:
            table.put_back(key, before)
