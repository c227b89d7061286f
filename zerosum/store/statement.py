"""The hot statements: many rows by one `text()` over arrays, made once a table from its metadata.

Every array travels as one text parameter in PostgreSQL's array syntax and is cast in the statement, so that its type never
depends on its values and one prepared statement serves them all. Updates and reads carry `slot = ANY(..)` beside the join, so
that CockroachDB sees constrained spans.

Invariant: values are bound, never part of the statement; identifiers come from the metadata only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, Text, TextClause, text

from zerosum.errors import Bug
from zerosum.store.mapping import Row, key_of
from zerosum.store.plan import SEEN
from zerosum.store.wire import Call, Query, compiled

HEAD = ("slot", "epoch", "seq", "hash")
"""What a slot's head is made of, in the order of `ports.SlotHead`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement over arrays, and how its rows become parameters. `with_slots`: it also takes their distinct slots.

    `query`: the same in the server's notation, its parameters in the order of the columns, the slots last. `returns`: names
    of the columns of a reply.
    """

    clause: TextClause
    columns: tuple[tuple[str, Callable[[Sequence[Any]], str]], ...]
    with_slots: bool
    query: Query
    returns: tuple[str, ...]

    def call(self, rows: Sequence[Row]) -> Call:
        """The statement for these rows, one array literal a column, ready to be sent."""
        values = [literal([row[name] for row in rows]) for name, literal in self.columns]
        if self.with_slots:
            values.append(int_array(sorted({row["slot"] for row in rows})))
        return Call(self.query.sql, values)

    def rows(self, reply: Iterable[tuple[Any, ...]]) -> list[Row]:
        """A reply's rows by column name."""
        return [dict(zip(self.returns, row, strict=True)) for row in reply]


@cache
def insert(table: Table) -> Statement:
    """Inserts rows, skips those that meet any unique constraint, returns the keys of those taken."""
    columns = tuple(table.columns)
    names = _names(columns)
    clause = (
        f"INSERT INTO {_quoted(table)} ({names}) SELECT {names} FROM {_unnest(columns)} "  # noqa: S608 - metadata only
        f"ON CONFLICT DO NOTHING RETURNING {_names(table.primary_key.columns)}"
    )
    return _statement(clause, columns, with_slots=False, returns=key_of(table))


@cache
def update(table: Table, fixed: frozenset[str]) -> Statement:
    """Updates rows by key, all columns but the key and the fixed ones; returns the keys found."""
    return _update(table, fixed, seen=())


@cache
def swap(table: Table, fixed: frozenset[str]) -> Statement:
    """The same, of roots whose version is still `seen`: compare-and-swap."""
    return _update(table, fixed, seen=(Column(SEEN, BigInteger),))


@cache
def select(table: Table, key: tuple[str, ...]) -> Statement:
    """Reads all columns of the rows whose `key` columns equal one of the given; `slot` is among them or it is not used."""
    by = [table.columns[name] for name in key]
    with_slots = "slot" in key
    clause = (
        f"SELECT {_names(table.columns, 't')} FROM {_unnest(by)} "  # noqa: S608 - metadata only
        f"JOIN {_quoted(table)} AS t ON {_equal(key)}" + (f" WHERE {_SPANS}" if with_slots else "")
    )
    returns = tuple(column.name for column in table.columns)
    return _statement(clause, by, with_slots=with_slots, returns=returns)


@cache
def move_slots(table: Table) -> Statement:
    """Moves the heads of slots whose epoch and seq are still the ones given; returns the slots moved."""
    columns = [table.columns[name] for name in ("slot", "epoch", "seq", "hash")]
    clause = (
        f'UPDATE {_quoted(table)} AS t SET "seq" = u."seq" + 1, "hash" = u."hash" FROM {_unnest(columns)} '  # noqa: S608 - metadata only
        f'WHERE {_SPANS} AND {_equal(("slot", "epoch", "seq"))} RETURNING t."slot"'
    )
    return _statement(clause, columns, with_slots=True, returns=("slot",))


@cache
def raise_epochs(table: Table) -> Statement:
    """Raises the epoch of slots that still have the one given; returns their heads (slot, epoch, seq, hash)."""
    columns = [table.columns[name] for name in ("slot", "epoch")]
    clause = (
        f'UPDATE {_quoted(table)} AS t SET "epoch" = u."epoch" + 1 FROM {_unnest(columns)} '  # noqa: S608 - metadata only
        f'WHERE {_SPANS} AND {_equal(("slot", "epoch"))} RETURNING t."slot", t."epoch", t."seq", t."hash"'
    )
    return _statement(clause, columns, with_slots=True, returns=HEAD)


# ---- arrays --------------------------------------------------------------------------------------------------------


def int_array(values: Iterable[int | None]) -> str:
    """`{1,2,NULL}`."""
    return "{" + ",".join(["NULL" if value is None else str(int(value)) for value in values]) + "}"


def text_array(values: Sequence[str | None]) -> str:
    """Every string quoted, quotes and backslashes escaped: `{"a","b\\"c",NULL}`."""
    if None not in values:
        # Nearly all columns need no escape: then joining is all there is to do, and every quote is one of ours.
        joined = '","'.join(values)  # type: ignore[arg-type]  # the column says text
        if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):
            return '{"' + joined + '"}' if values else "{}"
    return "{" + ",".join(["NULL" if value is None else _escaped(value) for value in values]) + "}"


def _escaped(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def bytes_array(values: Sequence[bytes | None]) -> str:
    r"""Bytes in hex, the backslash escaped: `{"\\x00ff",NULL}`."""
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


def bool_array(values: Sequence[bool | None]) -> str:
    """`{t,f,NULL}`."""
    return "{" + ",".join(["NULL" if value is None else "t" if value else "f" for value in values]) + "}"


_ARRAYS: Mapping[type[Any], tuple[str, Callable[[Sequence[Any]], str]]] = {
    Integer: ("INT4", int_array),
    BigInteger: ("INT8", int_array),
    Text: ("TEXT", text_array),
    Boolean: ("BOOL", bool_array),
    LargeBinary: ("BYTEA", bytes_array),
}
"""What both databases call the type, and how its arrays are written. A type that is not here is a KeyError at start."""

# ---- parts of statements -------------------------------------------------------------------------------------------

_SPANS = 't."slot" = ANY(CAST(:slots AS INT4[]))'


def _statement(clause: str, columns: Sequence[Column[Any]], *, with_slots: bool, returns: tuple[str, ...]) -> Statement:
    bound = text(clause)
    literals = tuple((column.name, _ARRAYS[type(column.type)][1]) for column in columns)
    query = compiled(bound)
    if query.names != (*(name for name, _ in literals), *(("slots",) if with_slots else ())):
        raise Bug(f"the parameters of a statement are out of order: {query.names}")
    return Statement(bound, literals, with_slots, query, returns)


def _update(table: Table, fixed: frozenset[str], seen: tuple[Column[int], ...]) -> Statement:
    key = key_of(table)
    columns = [column for column in table.columns if column.name not in fixed]
    sets = ", ".join(f'"{column.name}" = u."{column.name}"' for column in columns if column.name not in key)
    swapped = "".join(f' AND t."version" = u."{column.name}"' for column in seen)
    returned = ", ".join(f't."{name}"' for name in key)
    clause = (
        f"UPDATE {_quoted(table)} AS t SET {sets} FROM {_unnest([*columns, *seen])} "  # noqa: S608 - metadata only
        f"WHERE {_SPANS} AND {_equal(key)}{swapped} RETURNING {returned}"
    )
    return _statement(clause, [*columns, *seen], with_slots=True, returns=key)


def _unnest(columns: Sequence[Column[Any]]) -> str:
    arrays = ", ".join(f"CAST(:{column.name} AS {_ARRAYS[type(column.type)][0]}[])" for column in columns)
    return f"unnest({arrays}) AS u ({_names(columns)})"


def _quoted(table: Table) -> str:
    return f'"{table.schema}"."{table.name}"'


def _names(columns: Iterable[Column[Any]], alias: str = "") -> str:
    prefix = f"{alias}." if alias else ""
    return ", ".join(f'{prefix}"{column.name}"' for column in columns)


def _equal(key: Sequence[str]) -> str:
    return " AND ".join(f't."{name}" = u."{name}"' for name in key)
