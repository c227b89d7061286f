"""Pages by keyset: positions as opaque text, and one order read from an index that begins with the slot.

A position names its list and the key of the last row, as ASCII JSON. It is checked before it comes near a statement: the list's
name, the number and the types of the parts, their range and their characters. What the parts are says one table, which the
statements read as well (`beyond`): what passes the check is what they can cast.

Invariant: a page's rows come in index order, each once; rows that do not move are neither repeated nor skipped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from zerosum.limits import SLOTS
from zerosum.readers import MalformedPosition, Page
from zerosum.store.statement import int_array

R = TypeVar("R")

Position = Sequence[Any]
"""The key of a list's row, ints and strings, in the order of the list."""

EVERY_SLOT = int_array(range(SLOTS))

PARTS: Mapping[str, tuple[str, ...]] = {
    "checkouts": ("INT8", "TEXT"),
    "checkouts_of_seller": ("INT4", "TEXT"),
    "todos": ("TEXT", "INT8", "TEXT", "TEXT"),
    "in_flight": ("INT8", "TEXT", "TEXT"),
    "wallet_entries": ("INT8", "INT4"),
    "ledger_entries": ("INT4", "INT8", "INT4", "INT4"),
    "trial_balance": ("TEXT",),
    "mismatches": ("INT8", "TEXT"),
}
"""The lists there are, and the SQL types of the key of a row of each, in the order of the list."""

_INT_MAX = {"INT4": 2**31 - 1, "INT8": 2**63 - 1}
_POSITION_LENGTH_MAX = 384
"""A token on the wire has 512 characters; 384 is what is left of them by base64."""


def position_text(name: str, position: Position) -> str:
    """The opaque text of a position in the list of this name."""
    return json.dumps([name, *position], separators=(",", ":"))


def position_of(name: str, after: str) -> Position | None:
    """The position in the list of this name that a text stands for, None for "" (the first page). Raises MalformedPosition."""
    if not after:
        return None
    try:
        parts = json.loads(after) if len(after) <= _POSITION_LENGTH_MAX else None
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or parts[:1] != [name] or len(parts) != 1 + len(PARTS[name]):
        raise MalformedPosition("not a position of this list")
    if not all(map(_is_sound, PARTS[name], parts[1:])):
        raise MalformedPosition("not a position of this list")
    return parts[1:]


def _is_sound(sql_type: str, part: object) -> bool:
    """Whether the part can be cast to the type: a bool is no number here."""
    if sql_type in _INT_MAX:
        return type(part) is int and abs(part) <= _INT_MAX[sql_type]
    return isinstance(part, str) and part.isprintable()


def page(rows: Sequence[R], rows_max: int, name: str, position: Callable[[R], Position]) -> Page[R]:
    """A page of at most `rows_max` rows out of what was read, one row more than that where there is a next page."""
    if len(rows) <= rows_max:
        return Page(rows, "")
    return Page(rows[:rows_max], position_text(name, position(rows[rows_max - 1])))


def merged(table: str, columns: str, *, where: str, order: Sequence[str], descending: bool = False) -> str:
    """A SELECT of the first `:rows` rows over all `:slots`, in one order: each slot's first rows by index, then merged.

    All names and conditions are ours; conditions speak of `t`.
    """
    direction = " DESC" if descending else ""
    by = ", ".join(f"{column}{direction}" for column in order)
    inner = (
        f"SELECT {columns} FROM {table} AS t WHERE t.slot = s.slot AND {where} "  # noqa: S608 - our own text
        f"ORDER BY {by} LIMIT CAST(:rows AS INT8)"
    )
    return (
        f"SELECT p.* FROM unnest(CAST(:slots AS INT4[])) AS s (slot) CROSS JOIN LATERAL ({inner}) AS p "  # noqa: S608 - our own text
        f"ORDER BY {by} LIMIT CAST(:rows AS INT8)"
    )


def beyond(columns: Sequence[str], parts: Sequence[str], *, sign: str = ">") -> str:
    """The condition that a row comes after the position `:after_0`, `:after_1`, .. in the order of these columns.

    `parts`: their types, as `PARTS` has them.
    """
    left = ", ".join(columns)
    right = ", ".join(f"CAST(:after_{place} AS {part})" for place, part in enumerate(parts))
    return f"({left}) {sign} ({right})"


def after_parameters(position: Position) -> dict[str, Any]:
    """The parameters `beyond` wants."""
    return {f"after_{place}": part for place, part in enumerate(position)}
