"""Memory stores with one rule taken out: what the differential test must tell apart.

Invariant: each lacks one rule only; all else is the memory store's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zerosum.ports import Batch, Clash, Committed
from zerosum.store.catalog import aggregate_of
from zerosum.store.mapping import Row
from zerosum.store.memory import MemoryStore
from zerosum.store.memory_table import Key, MemoryTable
from zerosum.store.plan import SEEN, Plan, Step

Undo = list[tuple[MemoryTable, Key, Row | None]]
Clock = Callable[[], int]


class Unversioned(MemoryStore[Any]):
    """Swaps roots of any version."""

    def _carry_out(self, step: Step, undo: Undo) -> list[Key]:
        table = self.tables[step.table.name]
        for row in step.rows:
            stored = table.rows.get(table.key(row))
            if SEEN in row and stored is not None:
                row[SEEN] = stored["version"]
        return super()._carry_out(step, undo)


class Unfenced(MemoryStore[Any]):
    """Takes any epoch for the present one."""

    def _move_slots(self, prepared: Plan, undo: Undo) -> None:
        slots = self.tables["slots"].rows
        heads = [replace(head, epoch=slots[head.slot,]["epoch"]) for head in prepared.heads]
        super()._move_slots(replace(prepared, heads=heads), undo)


class Forked(MemoryStore[Any]):
    """Takes any seq for the one before."""

    def _move_slots(self, prepared: Plan, undo: Undo) -> None:
        slots = self.tables["slots"].rows
        heads = [replace(head, seq=slots[head.slot,]["seq"] + 1) for head in prepared.heads]
        super()._move_slots(replace(prepared, heads=heads), undo)


class Leaking(MemoryStore[Any]):
    """Keeps what a clash should undo."""

    def _apply(self, prepared: Plan, batch: Batch[Any]) -> Committed | Clash:
        result = super()._apply(prepared, batch)
        if isinstance(result, Clash):
            for step in prepared.steps[:1]:
                self._carry_out(step, [])
        return result


class Forgetful(MemoryStore[Any]):
    """Takes a command whose key it knows for a new one."""

    def _carry_out(self, step: Step, undo: Undo) -> list[Key]:
        stored = super()._carry_out(step, undo)
        return [self.tables["commands"].key(row) for row in step.rows] if step.table.name == "commands" else stored


class Unchecked(MemoryStore[Any]):
    """Stores what a CHECK forbids."""

    def __init__(self, service: str, clock: Clock) -> None:
        super().__init__(aggregate_of(service), clock)
        for table in self.tables.values():
            table._checks = []


def _without(kind: type[MemoryStore[Any]]) -> Callable[[str, Clock], MemoryStore[Any]]:
    return lambda service, clock: kind(aggregate_of(service), clock)


def _not_unique(name: str) -> Callable[[str, Clock], MemoryStore[Any]]:
    """A store whose table of this name takes a row that meets another in anything but its primary key."""

    def made(service: str, clock: Clock) -> MemoryStore[Any]:
        store: MemoryStore[Any] = MemoryStore(aggregate_of(service), clock)
        if name in store.tables:
            for unique in store.tables[name]._uniques:
                unique.held = _Blind()
        return store

    return made


class _Blind(dict[Key, Key]):
    """Holds the newest row's key, and never says that it holds one to whoever asks before inserting."""

    def get(self, key: Key, default: Any = None) -> Any:
        return default

    def pop(self, key: Key, default: Any = None) -> Any:
        return super().pop(key, default)


BROKEN: Mapping[str, Callable[[str, Clock], MemoryStore[Any]]] = {
    "versions are not compared": _without(Unversioned),
    "epochs are not compared": _without(Unfenced),
    "the head's seq is not compared": _without(Forked),
    "a clash leaves rows behind": _without(Leaking),
    "a known key is taken for new": _without(Forgetful),
    "CHECKs are not read": Unchecked,
    "an order id is not unique": _not_unique("payment_orders"),
    "an order may have two live attempts": _not_unique("attempts"),
    "a webhook is not unique": _not_unique("inbox"),
    "a transfer or journal entry is not unique": _not_unique("entries"),
    "a journal is not unique": _not_unique("journals"),
}
