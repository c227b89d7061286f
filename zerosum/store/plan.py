"""A batch of turns as rows: what the SQL store sends and the memory store applies, in one fixed order.

    slots, slot_log      the fence and the log's head
    commands             who asked for what, once for ever
    root                 new entities, then compare-and-swap on `version`
    all else             table by table in the order of `table.py`; updates before inserts, so that a closed attempt
                         makes room for the next one in the same commit

Invariant: every row of a step knows the turn or entity it came from, so that a row the database does not take can be
named as a `Clash`; nothing of a batch is ever left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Table

from zerosum.domain.identity import EntityKey, slot_of
from zerosum.errors import Bug, RowsRefused
from zerosum.ports import Batch, Change, Clash, SlotHead, TurnRecord
from zerosum.store.chain import next_head
from zerosum.store.mapping import Aggregate, LogRow, Row, command_row, is_line, is_log, key_of
from zerosum.store.table import METADATA

S = TypeVar("S")

TABLE_ORDER: Mapping[str, int] = {key: position for position, key in enumerate(METADATA.tables)}
"""Tables as `table.py` lists them."""

SEEN = "seen"
"""The extra column of a compare-and-swap: the version the root had when it was read."""


class Verb(IntEnum):
    """What a step does. SWAP is an update of roots whose version is still the one seen."""

    UPDATE = 0
    SWAP = 1
    INSERT = 2


class Origin(NamedTuple):
    """Where a row comes from. `turn`: position in the batch, None where all turns of the entity share the row."""

    entity: EntityKey
    turn: int | None = None


@dataclass(slots=True)
class Step:
    """One statement: rows of one table in key order, and the origin of each."""

    table: Table
    verb: Verb
    rows: list[Row] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch as rows. `heads` are those after it: before it each slot had the same epoch and a `seq` less by one."""

    heads: Sequence[SlotHead]
    slot_log: Step
    steps: Sequence[Step]


def plan(aggregate: Aggregate[S], batch: Batch[S]) -> Plan:
    """The rows of a batch.

    Raises Bug where the batch contradicts itself (a slot without a head, a version out of line, a fixed column changed) or a
    mapping stumbles over a state, so that the shard can divide the batch.
    Raises RowsRefused where a text is not valid Unicode, which no database takes and no hash covers.
    """
    try:
        return _plan(aggregate, batch)
    except UnicodeEncodeError:
        raise RowsRefused("a text cannot be stored: it is not valid Unicode") from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as slip:
        raise Bug(f"the rows of a batch cannot be made: {type(slip).__name__}") from slip


def _plan(aggregate: Aggregate[S], batch: Batch[S]) -> Plan:
    slots = _slots_of(batch)
    steps = _Steps()
    _commands(aggregate, batch, steps)
    changes = {change.key: change for change in batch.changes}
    for change in batch.changes:
        _entity_rows(aggregate, change, slots[change.key], steps)
    heads = _log_rows(aggregate, batch, changes, slots, steps)
    slot_log = Step(aggregate.slot_log, Verb.INSERT)
    for head in heads:
        row = {"slot": head.slot, "seq": head.seq, "epoch": head.epoch, "hash": head.hash, "at_ms": batch.now_ms}
        slot_log.rows.append(row)
    return Plan(tuple(heads), slot_log, steps.in_order())


def clash(step: Step, stored: Iterable[tuple[Any, ...]], turns: Sequence[TurnRecord]) -> Clash:
    """Names the turns and entities of those rows of a step that the database did not take, given the keys it took.

    A key twice in one step counts once for the first row.
    """
    left = Counter(stored)
    key = key_of(step.table)
    entities: set[EntityKey] = set()
    positions: set[int] = set()
    for row, origin in zip(step.rows, step.origins, strict=True):
        row_key = tuple(row[name] for name in key)
        if left[row_key] > 0:
            left[row_key] -= 1
            continue
        if origin.turn is None:
            entities.add(origin.entity)
            positions.update(index for index, turn in enumerate(turns) if turn.entity == origin.entity)
        else:
            positions.add(origin.turn)
    return Clash(step.table.fullname, frozenset(positions), frozenset(entities))


# ---- the parts -----------------------------------------------------------------------------------------------------


class _Steps:
    """Collects rows by (table, verb)."""

    def __init__(self) -> None:
        self._by_target: dict[tuple[Table, Verb], Step] = {}

    def add(self, table: Table, verb: Verb, row: Row, origin: Origin) -> None:
        target = (table, verb)
        step = self._by_target.get(target)
        if step is None:
            step = self._by_target[target] = Step(table, verb)
        step.rows.append(row)
        step.origins.append(origin)

    def in_order(self) -> list[Step]:
        """Commands, roots (new ones first), then the rest by table, updates first; each step's rows in key order."""
        steps = [self._by_target[target] for target in sorted(self._by_target, key=_rank)]
        for step in steps:
            if len(step.rows) > 1:
                keys = list(map(_key_reader(step.table), step.rows))
                order = sorted(range(len(keys)), key=keys.__getitem__)
                step.rows = [step.rows[position] for position in order]
                step.origins = [step.origins[position] for position in order]
        return steps


@cache
def _key_reader(table: Table) -> "itemgetter[Any]":
    return itemgetter(*key_of(table))


@cache
def _rank(target: tuple[Table, Verb]) -> tuple[int, int, int]:
    table, verb = target
    if table.name == "commands":
        return 0, 0, 0
    if table.info["kind"] == "root":
        return 1, 0, -verb
    return 2, TABLE_ORDER[table.key], verb


def _slots_of(batch: Batch[S]) -> dict[EntityKey, int]:
    keys = {turn.entity for turn in batch.turns} | {change.key for change in batch.changes}
    return {key: slot_of(*key) for key in keys}


def _commands(aggregate: Aggregate[S], batch: Batch[S], steps: _Steps) -> None:
    for index, turn in enumerate(batch.turns):
        if turn.command is None:
            continue
        if turn.command.key.tenant != turn.command.entity.tenant:
            raise Bug(f"command {turn.command.key.key} is of another tenant than its entity")
        row = command_row(turn.command, batch.now_ms)
        steps.add(aggregate.commands, Verb.INSERT, row, Origin(turn.entity, index))


def _entity_rows(aggregate: Aggregate[S], change: Change[S], slot: int, steps: _Steps) -> None:
    origin = Origin(change.key)
    for table, before, after in aggregate.pairs(slot, change.before, change.after):
        if before is None:
            steps.add(table, Verb.INSERT, after, origin)
        elif table is aggregate.root:
            _check_fixed(aggregate, table, before, after)
            steps.add(table, Verb.SWAP, {**after, SEEN: before["version"]}, origin)
        elif before != after:
            _check_fixed(aggregate, table, before, after)
            steps.add(table, Verb.UPDATE, after, origin)


def _check_fixed(aggregate: Aggregate[S], table: Table, before: Row, after: Row) -> None:
    for name in aggregate.fixed.get(table.name, ()):
        if before[name] != after[name]:
            raise Bug(f"{table.fullname}.{name} is written once and may not change")


def _log_rows(
    aggregate: Aggregate[S],
    batch: Batch[S],
    changes: Mapping[EntityKey, Change[S]],
    slots: Mapping[EntityKey, int],
    steps: _Steps,
) -> list[SlotHead]:
    """Adds what the turns leave for ever, numbered within their slots; returns the touched heads after."""
    known = {head.slot: head for head in batch.heads}
    before = []
    for slot in sorted(set(slots.values())):
        if slot not in known:
            raise Bug(f"slot {slot} is written without its head")
        before.append(known[slot])
    logged: dict[int, dict[str, list[Row]]] = defaultdict(dict)
    origins = [Origin(turn.entity, index) for index, turn in enumerate(batch.turns)]
    for index, table, row in _in_turn_order(aggregate, batch, changes):
        origin = origins[index]
        slot = row["slot"] = slots[origin.entity]
        if is_log(table):
            row["seq"] = known[slot].seq + 1
            _append(table, row, logged[slot])
        steps.add(table, Verb.INSERT, row, origin)
    return [next_head(head, logged[head.slot], batch.now_ms) for head in before]


def _append(table: Table, row: Row, of_slot: dict[str, list[Row]]) -> None:
    """Numbers the row among the slot's rows of the table; ledger entries share their journal's number."""
    rows = of_slot.setdefault(str(table.name), [])  # SQLAlchemy's name is no plain str, as the fast encoder wants a key
    row["ord"] = len(of_slot["journals"]) - 1 if is_line(table) else len(rows)
    rows.append(row)


def _in_turn_order(aggregate: Aggregate[S], batch: Batch[S], changes: Mapping[EntityKey, Change[S]]) -> list[LogRow]:
    by_entity: dict[EntityKey, list[tuple[int, TurnRecord]]] = defaultdict(list)
    for index, turn in enumerate(batch.turns):
        by_entity[turn.entity].append((index, turn))
    rows: list[LogRow] = []
    for key, turns in by_entity.items():
        change = changes.get(key)
        _check_versions(key, change, turns)
        rows.extend(aggregate.log_rows(change, turns, batch.now_ms))
    rows.sort(key=lambda row: row[0])
    return rows


def _check_versions(key: EntityKey, change: Change[Any] | None, turns: Sequence[tuple[int, TurnRecord]]) -> None:
    """Versions rise by one with every event, from the state before to the state after."""
    version = change.before.version if change and change.before is not None else 0
    for _, turn in turns:
        if turn.events:
            if turn.first_version != version + 1:
                raise Bug(f"entity {key.id}: version {turn.first_version} does not follow {version}")
            version += len(turn.events)
    after = change.after.version if change else version
    if version != after or (change is None and version != 0):
        raise Bug(f"entity {key.id}: its events lead to version {version}, its state is {after}")
