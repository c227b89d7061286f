"""The hot statements: many rows by one `text()` over arrays, made once a table from its metadata.

Every array travels as one text parameter in PostgreSQL's array syntax and is cast in the statement, so that its type never
depends on its values and one prepared statement serves them all. On CockroachDB updates and reads carry `slot = ANY(..)` beside
the join: constrained spans. PostgreSQL gets them without: there the array is sorted anew for every row, and the planner, who
takes it for ten slots, prefers any other unique index, whose pages rows of other shards share (docs/adr/0010).

Invariant: values are bound, never part of the statement; identifiers come from the metadata only.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)

from zerosum.errors import Bug
from zerosum.store.mapping import Row, key_of
from zerosum.store.plan import SEEN
from zerosum.store.wire import Call, Query, compiled

HEAD = ("slot", "epoch", "seq", "hash")
"""What a slot's head is made of, in the order of `ports.SlotHead`."""


@dataclass(frozen=True, slots=True)
class Form:
    """One text of a statement: SQLAlchemy's, and the server's notation of it."""

    clause: TextClause
    query: Query


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement over arrays, and how its rows become parameters: an array a column, in their order.

    `plain`: for PostgreSQL. `spanned`: for CockroachDB, with the rows' distinct slots as one more array; the same
    as `plain` where it names no slots. `returns`: names of the columns of a reply.
    """

    plain: Form
    spanned: Form
    columns: tuple[tuple[str, Callable[[Sequence[Any]], str]], ...]
    returns: tuple[str, ...]

    def call(self, rows: Sequence[Row], *, with_spans: bool) -> Call:
        """The statement for these rows, ready to be sent. `with_spans`: in CockroachDB's form."""
        values = [literal([row[name] for row in rows]) for name, literal in self.columns]
        if not with_spans or self.spanned is self.plain:
            return Call(self.plain.query.sql, values)
        return Call(self.spanned.query.sql, [*values, int_array(sorted({row["slot"] for row in rows}))])

    def rows(self, reply: Iterable[tuple[Any, ...]]) -> list[Row]:
        """A reply's rows by column name."""
        return [dict(zip(self.returns, row, strict=True)) for row in reply]


@cache
def insert(table: Table) -> Statement:
    """Inserts rows, skips those that meet any unique constraint, returns the keys of those taken.

    Rows that only the fence numbers meet none: asking for it would cost a fifth of inserting them.
    """
    columns = tuple(table.columns)
    names = _names(columns)
    skipping = "" if _is_numbered_by_the_fence(table) else "ON CONFLICT DO NOTHING "
    clause = (
        f"INSERT INTO {_quoted(table)} ({names}) SELECT {names} FROM {_unnest(columns)} "  # noqa: S608 - metadata only
        f"{skipping}RETURNING {_names(table.primary_key.columns)}"
    )
    return _statement(clause, columns, returns=key_of(table))


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
    clause = (
        f"SELECT {_names(table.columns, 't')} FROM {_unnest(by)} "  # noqa: S608 - metadata only
        f"JOIN {_quoted(table)} AS t ON {_equal(key)}"
    )
    return _statement(clause, by, returns=tuple(column.name for column in table.columns))


@cache
def move_slots(table: Table) -> Statement:
    """Moves the heads of slots whose epoch and seq are still the ones given; returns the slots moved."""
    columns = [table.columns[name] for name in ("slot", "epoch", "seq", "hash")]
    clause = (
        f'UPDATE {_quoted(table)} AS t SET "seq" = u."seq" + 1, "hash" = u."hash" FROM {_unnest(columns)} '  # noqa: S608 - metadata only
        f'WHERE {_equal(("slot", "epoch", "seq"))} RETURNING t."slot"'
    )
    return _statement(clause, columns, returns=("slot",))


@cache
def raise_epochs(table: Table) -> Statement:
    """Raises the epoch of slots that still have the one given; returns their heads (slot, epoch, seq, hash)."""
    columns = [table.columns[name] for name in ("slot", "epoch")]
    clause = (
        f'UPDATE {_quoted(table)} AS t SET "epoch" = u."epoch" + 1 FROM {_unnest(columns)} '  # noqa: S608 - metadata only
        f'WHERE {_equal(("slot", "epoch"))} RETURNING t."slot", t."epoch", t."seq", t."hash"'
    )
    return _statement(clause, columns, returns=HEAD)


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

_SLOT = 't."slot" = u."slot"'
_SPANS = 't."slot" = ANY(CAST(:slots AS INT4[]))'


def _statement(clause: str, columns: Sequence[Column[Any]], *, returns: tuple[str, ...]) -> Statement:
    literals = tuple((column.name, _ARRAYS[type(column.type)][1]) for column in columns)
    names = tuple(name for name, _ in literals)
    plain = spanned = _form(clause, names)
    if _SLOT in clause:
        spanned = _form(clause.replace(_SLOT, f"{_SLOT} AND {_SPANS}"), (*names, "slots"))
    return Statement(plain, spanned, literals, returns)


def _form(clause: str, names: tuple[str, ...]) -> Form:
    bound = text(clause)
    query = compiled(bound)
    if query.names != names:
        raise Bug(f"the parameters of a statement are out of order: {query.names}")
    return Form(bound, query)


def _update(table: Table, fixed: frozenset[str], seen: tuple[Column[int], ...]) -> Statement:
    key = key_of(table)
    columns = [column for column in table.columns if column.name not in fixed]
    sets = ", ".join(f'"{column.name}" = u."{column.name}"' for column in columns if column.name not in key)
    swapped = "".join(f' AND t."version" = u."{column.name}"' for column in seen)
    returned = ", ".join(f't."{name}"' for name in key)
    clause = (
        f"UPDATE {_quoted(table)} AS t SET {sets} FROM {_unnest([*columns, *seen])} "  # noqa: S608 - metadata only
        f"WHERE {_equal(key, as_values=_led_by(table))}{swapped} RETURNING {returned}"
    )
    return _statement(clause, [*columns, *seen], returns=key)


def _unnest(columns: Sequence[Column[Any]]) -> str:
    arrays = ", ".join(f"CAST(:{column.name} AS {_ARRAYS[type(column.type)][0]}[])" for column in columns)
    return f"unnest({arrays}) AS u ({_names(columns)})"


def _quoted(table: Table) -> str:
    return f'"{table.schema}"."{table.name}"'


def _names(columns: Iterable[Column[Any]], alias: str = "") -> str:
    prefix = f"{alias}." if alias else ""
    return ", ".join(f'{prefix}"{column.name}"' for column in columns)


def _equal(key: Sequence[str], as_values: Container[str] = ()) -> str:
    """`as_values`: columns that no index shall be searched by."""
    empty = {name: " || ''" if name in as_values else "" for name in key}
    return " AND ".join(f't."{name}"{empty[name]} = u."{name}"' for name in key)


def _is_numbered_by_the_fence(table: Table) -> bool:
    """Nothing is unique in it but (slot, seq, ..), and the slot's head, which moves first, gives a seq once."""
    is_unique_otherwise = any(isinstance(found, UniqueConstraint) for found in table.constraints) or any(
        index.unique for index in table.indexes
    )
    return table.info["kind"] == "log" and key_of(table)[:2] == ("slot", "seq") and not is_unique_otherwise


def _led_by(table: Table) -> frozenset[str]:
    """Columns that another unique constraint begins with: the planner would find the row by it as gladly as by its key."""
    unique = (found for found in table.constraints if isinstance(found, UniqueConstraint))
    return frozenset(next(iter(found.columns)).name for found in unique)
