"""The differential test: one history on two stores, and where they tell it differently.

The memory store is given the very slots of the other one, so that the same batches are sent to both and everything can be
compared as it is: what each step is told, and in the end every row, the hashes of the logs included.

Steps begun at once really overlap on SQL. What they were told must be what the memory store tells in one of their serial
orders; those that SQL sent back (40001) are not among them, and are run again, alone, on both.

Invariant: the memory store may abort more, it never commits what SQL refuses, and where both commit the rows are equal.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from tests.contract.interleaving import COMMITS, SLOTS, Cast, Copy, History, Moment, Step, Verb
from zerosum.domain.identity import Tenant
from zerosum.errors import CommitAmbiguous, RowHeld, RowsRefused, SerializationConflict, Superseded
from zerosum.ports import Batch, Clash, Committed, Loaded, SlotHead, Store
from zerosum.store.mapping import Row, key_of
from zerosum.store.memory import MemoryStore, Trouble
from zerosum.store.memory_table import Key
from zerosum.store.table import METADATA

LONG_AGO_MS = 1_700_000_000_000
FAR_AHEAD_MS = 4_000_000_000_000
"""A batch in three is of the year 2096: its to-dos are not due by any database's clock."""

TRIES = 20
"""Alone, a step meets a conflict with nobody of its own history; with the database's own work once in a while."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a step ended: what the store returned, or the name of what it raised and what that says."""

    name: str
    result: Any = None

    @property
    def word(self) -> str:
        """In short: the name, with the table of a clash and the number of what landed."""
        match self.result:
            case Clash():
                return f"{self.name} {self.result.table}"
            case int():
                return f"{self.name} {self.result}"
            case _:
                return self.name


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two stores part. `moment` is None where only the rows at the end differ."""

    moment: Moment | None
    by_memory: object
    by_other: object


@dataclass(frozen=True, slots=True)
class Action:
    """A step with what the copy sends for it."""

    step: Step
    batch: Batch[Any] | None
    heads: tuple[SlotHead, ...]
    slots: tuple[int, ...]


Rows = Mapping[Key, Row]
Tables = Mapping[str, Rows]
Reader = Callable[[Cast], Tables]
"""All rows of a cast, by table."""


class Sides:
    """One history's two stores: the memory store on trial, and the one that each copy holds of the other kind.

    `heard`: for each moment so far, in short, how its steps ended.
    """

    def __init__(self, memory: MemoryStore[Any], others: Sequence[Store[Any]], read: Reader, tenant: Tenant) -> None:
        self.memory = memory
        self.others = others
        self.read = read
        self.cast = Cast(memory.aggregate.service, tenant)
        self.heard: list[list[str]] = []
        self._late: list[tuple[Store[Any], Batch[Any]]] = []
        self._copies: list[Copy] = []
        self._since: Mapping[int, int] = {}

    async def difference(self, history: History) -> Difference | None:
        """The first place where the two tell the history differently."""
        await self._begin()
        for number, moment in enumerate(history):
            self.heard.append([])
            now_ms = (LONG_AGO_MS, LONG_AGO_MS, FAR_AHEAD_MS)[number % 3] + number
            actions = [self._action(step, now_ms) for step in moment]
            found = await (self._alone(actions[0]) if len(actions) == 1 else self._at_once(actions))
            if found is not None:
                return found
        return self._rows_that_differ()

    async def _begin(self) -> None:
        heads = await self.others[0].take_slots(SLOTS, "test")
        self.memory.clock = _fixed((await self.others[0].load(self.cast.wanted)).now_ms)
        for head in heads:
            row = {"slot": head.slot, "epoch": head.epoch, "seq": head.seq, "hash": head.hash, "deployment": "test"}
            self.memory.tables["slots"].put_back((head.slot,), row)
        self._since = {head.slot: head.seq for head in heads}
        self._copies = [Copy(self.cast, {head.slot: head for head in heads}) for _ in self.others]

    def _action(self, step: Step, now_ms: int) -> Action:
        copy = self._copies[step.copy]
        batch = copy.batch(step.turns, now_ms) if step.verb in COMMITS else None
        slots = tuple(sorted({SLOTS[number] for number in step.entities})) or tuple(sorted(set(SLOTS)))
        return Action(step, batch, tuple(copy.heads[slot] for slot in slots), slots)

    # ---- one step ----

    async def _alone(self, action: Action) -> Difference | None:
        expected = await _in_the_end(lambda: self._on_memory(action))
        told = await _in_the_end(lambda: self._on_other(action))
        if not _agree(action, expected, told):
            return Difference((action.step,), expected, told)
        self._learn(action, told)
        return None

    def _learn(self, action: Action, told: Told) -> None:
        self.heard[-1].append(told.word)
        self._copies[action.step.copy].learn(action.step, action.batch, told.result)

    async def _on_memory(self, action: Action) -> Told:
        match action.step.verb:
            case Verb.LAND:
                return Told("Landed", self.memory.land_late())
            case Verb.LOST | Verb.APPLIED | Verb.LATE as fate:
                self.memory.trouble_next(_TROUBLES[fate])
        return await _told(self._carried_out(self.memory, action))

    async def _on_other(self, action: Action) -> Told:
        store, batch = self.others[action.step.copy], action.batch
        match action.step.verb:
            case Verb.LAND:
                return await self._land()
            case Verb.LATE if batch is not None:
                self._late.append((store, batch))
            case Verb.APPLIED if batch is not None:
                told = await _told(store.commit(batch))
                if told.name not in {"Committed", "Clash"}:
                    return told
        if action.step.verb in _TROUBLES:
            return Told(CommitAmbiguous.__name__)
        return await _told(self._carried_out(store, action))

    async def _land(self) -> Told:
        late, self._late = self._late, []
        landed = [await _in_the_end(lambda: _told(store.commit(batch))) for store, batch in late]  # noqa: B023 - awaited within its turn
        return Told("Landed", sum(told.name == "Committed" for told in landed))

    async def _carried_out(self, store: Store[Any], action: Action) -> Any:
        match action.step.verb:
            case Verb.TAKE | Verb.RESTART:
                return tuple(await store.take_slots(action.slots, "test"))
            case Verb.RETAKE:
                return tuple(await store.retake_slots(action.heads))
            case Verb.LOAD:
                return replace(await store.load(self.cast.wanted), now_ms=0)
            case Verb.SWEEP:
                due = await store.due_todos(action.slots, 0, 1_000_000)
                return tuple(todo for todo in due if todo.entity.tenant == self.cast.tenant)
            case _:
                assert action.batch is not None
                return await store.commit(action.batch)

    # ---- several at once ----

    async def _at_once(self, actions: Sequence[Action]) -> Difference | None:
        ends = await asyncio.gather(*(self._on_other(action) for action in actions))
        heard = [index for index, end in enumerate(ends) if end.name != SerializationConflict.__name__]
        if not await self._explains(actions, ends, heard):
            return Difference(tuple(action.step for action in actions), "no serial order", ends)
        for index in heard:
            self._learn(actions[index], ends[index])
        for index in set(range(len(ends))) - set(heard):
            if found := await self._alone(actions[index]):
                return found
        return None

    async def _explains(self, actions: Sequence[Action], ends: Sequence[Told], heard: Sequence[int]) -> bool:
        """Whether some serial order of those heard is told like that; the memory store is left as it leads to."""
        before = _picture(self.memory)
        for order in itertools.permutations(heard):
            told = [(index, await self._on_memory(actions[index])) for index in order]
            if all(_agree(actions[index], expected, ends[index]) for index, expected in told):
                return True
            _restore(self.memory, before)
        return False

    # ---- the rows ----

    def _rows_that_differ(self) -> Difference | None:
        mine, other = memory_rows(self.memory, self.cast), self.read(self.cast)
        for name in mine:
            for key in sorted({*mine[name], *other[name]}):
                one, two = mine[name].get(key), other[name].get(key)
                is_older = name == "slot_log" and key[1] <= self._since[key[0]]
                if one != two and not is_older:
                    return Difference(None, (name, one), (name, two))
        return None


def _fixed(now_ms: int) -> Callable[[], int]:
    return lambda: now_ms


_TROUBLES: Mapping[Verb, Trouble] = {
    Verb.LOST: Trouble.AMBIGUOUS_LOST, Verb.APPLIED: Trouble.AMBIGUOUS_APPLIED, Verb.LATE: Trouble.AMBIGUOUS_LATE,
}  # fmt: skip


# ---- how a step ended ----------------------------------------------------------------------------------------------


async def _told(call: Awaitable[Any]) -> Told:
    try:
        result = await call
    except Superseded as superseded:
        return Told("Superseded", str(superseded))  # it names the slots lost
    except RowHeld:
        return Told(SerializationConflict.__name__)  # a row that another holds: the same again may pass
    except (CommitAmbiguous, RowsRefused, SerializationConflict) as error:
        return Told(type(error).__name__)
    match result:
        case Committed() | Clash() | Loaded():
            return Told(type(result).__name__, result)
        case _:
            return Told("Told", result)


async def _in_the_end(attempt: Callable[[], Awaitable[Told]]) -> Told:
    told = await attempt()
    for _ in range(TRIES):
        if told.name != SerializationConflict.__name__:
            break
        told = await attempt()
    return told


def _agree(action: Action, by_memory: Told, by_other: Told) -> bool:
    """The same; or both refuse a text that cannot travel (U+0000), SQL before any statement is sent, so before the fence."""
    if by_memory == by_other:
        return True
    is_unsendable = action.batch is not None and "\\x00" in repr((action.batch.turns, action.batch.changes))
    return is_unsendable and by_other.name == RowsRefused.__name__ and by_memory.name != "Committed"


# ---- rows ----------------------------------------------------------------------------------------------------------


def memory_rows(store: MemoryStore[Any], cast: Cast) -> Tables:
    """All rows of the cast in a memory store."""
    return {name: _of_cast(table.rows.values(), name, cast) for name, table in store.tables.items()}


def sql_rows(connection: Connection, cast: Cast) -> Tables:
    """All rows of the cast in a database."""
    found = {}
    for table in METADATA.tables.values():
        if table.schema == cast.service:
            mine = "tenant" in table.columns
            asked = select(table).where(table.columns["tenant"] == cast.tenant) if mine else select(table)
            found[table.name] = _of_cast([dict(row) for row in connection.execute(asked).mappings()], table.name, cast)
    connection.rollback()
    return found


def _of_cast(rows: Any, name: str, cast: Cast) -> Rows:
    table = METADATA.tables[f"{cast.service}.{name}"]
    key = key_of(table)
    return {
        tuple(row[column] for column in key): row
        for row in rows
        if (row["tenant"] == cast.tenant if "tenant" in row else row["slot"] in SLOTS)
    }


def _picture(store: MemoryStore[Any]) -> Tables:
    """All rows as they are: a row is replaced when it changes, never changed."""
    return {name: dict(table.rows) for name, table in store.tables.items()}


def _restore(store: MemoryStore[Any], picture: Tables) -> None:
    for name, table in store.tables.items():
        changed = [key for key, row in table.rows.items() if picture[name].get(key) is not row]
        for key in changed:
            table.remove(key)
        for key, row in picture[name].items():
            if key not in table.rows:
                table.put_back(key, row)


# ---- made smaller --------------------------------------------------------------------------------------------------


async def shrunk(history: History, still_differs: Callable[[History], Awaitable[bool]]) -> History:
    """A history without any step or turn that the difference does not need."""
    kept, position = history, 0
    smaller = _smaller(kept)
    while position < len(smaller):
        if await still_differs(smaller[position]):
            kept = smaller[position]
            smaller, position = _smaller(kept), min(position, len(_smaller(kept)))
        else:
            position += 1
    return kept


def _smaller(history: History) -> list[History]:
    """The history with one moment, step or turn less, in each possible way."""
    found = [history[:index] + history[index + 1 :] for index in range(len(history))]
    for index, moment in enumerate(history):
        for number, step in enumerate(moment):
            others = moment[:number], moment[number + 1 :]
            if len(moment) > 1:
                found.append((*history[:index], others[0] + others[1], *history[index + 1 :]))
            for turn in range(len(step.turns) if len(step.turns) > 1 else 0):
                less = replace(step, turns=step.turns[:turn] + step.turns[turn + 1 :])
                found.append((*history[:index], (*others[0], less, *others[1]), *history[index + 1 :]))
    return found
