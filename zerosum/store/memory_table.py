"""Tables as dicts, held to the rules that their metadata states: keys, unique constraints, CHECKs, NOT NULL, ranges.

Rules are read from `table.py`; one that this file cannot read is a Bug at construction, so none is left out silently.

Invariant: a row SQL would refuse is refused here too, by the same outcome: not taken (a unique constraint met on insert) or
RowsRefused.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint

from zerosum.errors import Bug, RowsRefused
from zerosum.store.mapping import Row, key_of

Key = tuple[Any, ...]
Rule = Callable[[Row], bool]
_Column = tuple[str, bool, int, bool]
"""What a column takes: its name, NULL or not, integers below a bound (0: no integers), texts."""

_COMPARED = re.compile(r"(\w+) (>|>=|<>) (\d+)")
_WHERE_EQUAL = re.compile(r"(\w+) (=|<>) '(\w+)'")
_WHERE_IN = re.compile(r"(\w+) IN \(('\w+'(?:, '\w+')*)\)")
_ENTITY_COLUMNS = 3
"""Keys of roots, children, facts and private rows begin with (slot, tenant, id of the entity)."""


class MemoryTable:
    """One table, its rows by primary key."""

    def __init__(self, table: Table) -> None:
        rules = _rules_of(table)
        self.table = table
        self.rows: dict[Key, Row] = {}
        self.key = rules.key
        self._values = rules.values
        self._checks = rules.checks
        self._uniques = [_Unique(columns, where) for columns, where in rules.uniques]
        self._unique_over = {frozenset(unique.columns): unique for unique in self._uniques}
        self._conditions = rules.conditions
        self._partial: dict[str, dict[Key, None]] = {name: {} for name in self._conditions}
        self._has_entities = rules.has_entities
        self._by_entity: dict[Key, dict[Key, None]] = {}

    def of_entity(self, entity: Key) -> Sequence[Row]:
        """The rows whose key begins with (slot, tenant, id), in key order."""
        return [self.rows[key] for key in sorted(self._by_entity.get(entity, ()))]

    def in_index(self, name: str) -> Iterable[tuple[Key, Row]]:
        """The rows that an index with a condition holds, and their keys, in no order."""
        return [(key, self.rows[key]) for key in self._partial[name]]

    def holder(self, value: Mapping[str, Any]) -> Row | None:
        """The row that holds these values of a unique constraint over just these columns."""
        unique = self._unique_over[frozenset(value)]
        key = unique.held.get(tuple([value[name] for name in unique.columns]))
        return None if key is None else self.rows[key]

    def judge_values(self, row: Row) -> None:
        """Raises RowsRefused when a value breaks its type or NOT NULL: a statement's values are read before any row is."""
        values = self._values
        try:  # one look at all of a kind: nearly always all is well
            text = "".join([*values.texts(row), *filter(None, values.optional_texts(row))])
            is_well = text.isascii() and "\0" not in text and None not in values.others(row)
            for integers, bound in values.integers:
                found = integers(row)
                is_well = is_well and -bound <= min(found) and max(found) < bound
            for integers, bound in values.optional_integers:
                is_well = is_well and all(value is None or -bound <= value < bound for value in integers(row))
        except TypeError:
            is_well = False
        if not is_well:
            self._refuse_values(row)

    def _refuse_values(self, row: Row) -> None:
        """Raises RowsRefused for the first value in the order of the columns that cannot be stored, if one cannot."""
        for name, is_optional, bound, is_text in self._values.columns:
            _judge_value(name, row[name], is_optional, bound, is_text)

    def judge(self, row: Row) -> None:
        """Raises RowsRefused when the row, as it is to be stored, breaks a CHECK."""
        for rule in self._checks:
            if not rule(row):
                raise RowsRefused(f"some row cannot be stored (23514 {self.table.name})")

    def insert(self, key: Key, row: Row) -> bool:
        """Takes the row of this key, or leaves everything as it is and returns False when it meets one that is there."""
        if key in self.rows:
            return False
        for unique in self._uniques:
            if unique.holder(row) is not None:
                return False
        self._put(key, row)
        return True

    def replace(self, key: Key, changed: Row) -> None:
        """Puts the row in the place of the one of its key. Raises RowsRefused where it meets another row (23505)."""
        if self._uniques:
            self._take_anew(key, self.rows[key], changed)
        for name, rule in self._conditions.items():
            if rule(changed):
                self._partial[name][key] = None
            else:
                self._partial[name].pop(key, None)
        self.rows[key] = changed

    def _take_anew(self, key: Key, before: Row, changed: Row) -> None:
        moved = [(unique, unique.taken_by(before)) for unique in self._uniques]
        moved = [(unique, value) for unique, value in moved if value != unique.taken_by(changed)]
        if any(unique.holder(changed) is not None for unique, _ in moved):
            raise RowsRefused(f"some row cannot be stored (23505 {self.table.name})")
        for unique, value in moved:
            unique.forget(value)
            unique.take(changed, key)

    def remove(self, key: Key) -> None:
        """Takes a row out: to undo, never for a caller."""
        row = self.rows.pop(key)
        for unique in self._uniques:
            unique.forget(unique.taken_by(row))
        for held in self._partial.values():
            held.pop(key, None)
        if self._has_entities:
            entity = key[:_ENTITY_COLUMNS]
            left = self._by_entity[entity]
            left.pop(key)
            if not left:
                del self._by_entity[entity]

    def put_back(self, key: Key, row: Row) -> None:
        """Restores a row exactly as it was: only to undo."""
        if key in self.rows:
            self.remove(key)
        self._put(key, row)

    def clear(self) -> None:
        """Lets every row go: only for a world whose rows were audited, never for a caller."""
        self.rows.clear()
        self._by_entity.clear()
        for index in self._partial.values():
            index.clear()
        for unique in self._uniques:
            unique.held.clear()

    def _put(self, key: Key, row: Row) -> None:
        self.rows[key] = row
        for unique in self._uniques:
            unique.take(row, key)
        for name, rule in self._conditions.items():
            if rule(row):
                self._partial[name][key] = None
        if self._has_entities:
            self._by_entity.setdefault(key[:_ENTITY_COLUMNS], {})[key] = None


class _Values(NamedTuple):
    """A table's columns, and the values of a row by kind. Integers come with their bound; `others` may not be NULL."""

    columns: list[_Column]
    texts: Callable[[Row], Key]
    optional_texts: Callable[[Row], Key]
    integers: list[tuple[Callable[[Row], Key], int]]
    optional_integers: list[tuple[Callable[[Row], Key], int]]
    others: Callable[[Row], Key]


class _Rules(NamedTuple):
    """What a table's metadata says, read once: many stores are made of the same tables."""

    key: Callable[[Row], Key]
    values: _Values
    checks: list[Rule]
    uniques: list[tuple[list[str], Rule | None]]
    conditions: dict[str, Rule]
    has_entities: bool


@cache
def _rules_of(table: Table) -> _Rules:
    return _Rules(
        key=_picker(key_of(table)),
        values=_values_of([_column(column) for column in table.columns]),
        checks=[_check(constraint) for constraint in _of_kind(table.constraints, CheckConstraint)],
        uniques=_unique_rules(table),
        conditions={str(index.name): rule for index in table.indexes if (rule := _where(index))},
        has_entities=table.info["kind"] in {"root", "child", "fact", "private"},
    )


def _values_of(columns: list[_Column]) -> _Values:
    bounds = sorted({bound for _, _, bound, _ in columns if bound})

    def integers(*, is_optional: bool) -> list[tuple[Callable[[Row], Key], int]]:
        of_bound = [(bound, [each[0] for each in columns if each[1:3] == (is_optional, bound)]) for bound in bounds]
        return [(_picker(names), bound) for bound, names in of_bound if names]

    return _Values(
        columns=columns,
        texts=_picker([name for name, is_optional, _, is_text in columns if is_text and not is_optional]),
        optional_texts=_picker([name for name, is_optional, _, is_text in columns if is_text and is_optional]),
        integers=integers(is_optional=False),
        optional_integers=integers(is_optional=True),
        others=_picker(
            [name for name, is_optional, bound, is_text in columns if not (is_optional or bound or is_text)]
        ),
    )


class _Unique:
    """One unique constraint or index, perhaps over a part of the rows. `held`: values, and whose key has them."""

    def __init__(self, columns: Sequence[str], where: Rule | None) -> None:
        self.columns = columns
        self._where = where
        self._value = _picker(columns)
        self.held: dict[Key, Key] = {}

    def taken_by(self, row: Row) -> Key | None:
        """The values that the row takes for itself; None where the constraint is not about it."""
        return None if self._where and not self._where(row) else self._value(row)

    def holder(self, row: Row) -> Key | None:
        value = self.taken_by(row)
        return None if value is None else self.held.get(value)

    def take(self, row: Row, key: Key) -> None:
        value = self.taken_by(row)
        if value is not None:
            self.held[value] = key

    def forget(self, value: Key | None) -> None:
        if value is not None:
            self.held.pop(value)


def _picker(names: Sequence[str]) -> Callable[[Row], Key]:
    """From a row, the tuple of these columns."""
    match names:
        case []:
            return lambda _: ()
        case [name]:
            return lambda row: (row[name],)
        case _:
            return itemgetter(*names)


# ---- rules read from the metadata ----------------------------------------------------------------------------------


def _of_kind(constraints: Iterable[Any], kind: type[Any]) -> list[Any]:
    return sorted((found for found in constraints if isinstance(found, kind)), key=lambda found: str(found.name))


def _check(constraint: CheckConstraint) -> Rule:
    parts = _COMPARED.fullmatch(str(constraint.sqltext))
    if parts is None:
        raise Bug(f"the memory store cannot read CHECK {constraint.name}")
    return _compared(parts[1], parts[2], int(parts[3]))


def _compared(name: str, sign: str, bound: int) -> Rule:
    rules: Mapping[str, Rule] = {
        ">": lambda row: row[name] > bound,
        ">=": lambda row: row[name] >= bound,
        "<>": lambda row: row[name] != bound,
    }
    return rules[sign]


def _unique_rules(table: Table) -> list[tuple[list[str], Rule | None]]:
    constraints = _of_kind(table.constraints, UniqueConstraint)
    rules: list[tuple[list[str], Rule | None]] = [
        ([column.name for column in constraint.columns], None) for constraint in constraints
    ]
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.unique:
            rules.append(([column.name for column in index.columns], _where(index)))
    return rules


def _where(index: Index) -> Rule | None:
    condition = index.dialect_options["postgresql"]["where"]
    if condition is None:
        return None
    rules = [_condition(part, index) for part in str(condition).split(" AND ")]
    return rules[0] if len(rules) == 1 else lambda row: all(rule(row) for rule in rules)


def _condition(condition: str, index: Index) -> Rule:
    if parts := _WHERE_EQUAL.fullmatch(condition):
        name, sign, value = parts[1], parts[2], parts[3]
        return lambda row: (row[name] == value) is (sign == "=")
    if parts := _COMPARED.fullmatch(condition):
        return _compared(parts[1], parts[2], int(parts[3]))
    if parts := _WHERE_IN.fullmatch(condition):
        column, values = parts[1], frozenset(part.strip("'") for part in parts[2].split(", "))
        return lambda row: row[column] in values
    raise Bug(f"the memory store cannot read the condition of index {index.name}")


_INT_BITS: Mapping[type[Any], int] = {Integer: 31, BigInteger: 63}


def _column(column: Column[Any]) -> _Column:
    bits = _INT_BITS.get(type(column.type))
    return str(column.name), bool(column.nullable), 1 << bits if bits else 0, isinstance(column.type, Text)


def _judge_value(name: str, value: Any, is_optional: bool, bound: int, is_text: bool) -> None:
    if value is None:
        if not is_optional:
            raise RowsRefused(f"some row cannot be stored (23502 {name})")
    elif bound and not -bound <= value < bound:
        raise RowsRefused(f"some row cannot be stored (22003 {name})")
    elif is_text and not _is_storable(value):
        raise RowsRefused(f"some row cannot be stored (22021 {name})")


def _is_storable(value: str) -> bool:
    """No U+0000 and no lone surrogate: neither database takes them."""
    return (value.isascii() and "\0" not in value) or not re.search("[\0\ud800-\udfff]", value)
