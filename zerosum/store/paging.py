"""Pages by keyset: positions as opaque text, and one order read from an index that begins with the slot.

A position names its list and the key of the last row, as ASCII JSON. It is checked before it comes near a statement: the list's
name, the number and the types of the parts, their range and their characters.

Invariant: a page's rows come in index order, each once; rows that do not move are neither repeated nor skipped.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from zerosum.limits import SLOTS
from zerosum.readers import MalformedPosition, Page
from zerosum.store.statement import int_array

R = TypeVar("R")

Position = Sequence[Any]
"""The key of a list's row, ints and strings, in the order of the list."""

EVERY_SLOT = int_array(range(SLOTS))

_INT_MAX = 2**63 - 1
_POSITION_LENGTH_MAX = 384
"""A token on the wire has 512 characters; 384 is what is left of them by base64."""


def position_text(name: str, position: Position) -> str:
    """The opaque text of a position in the list of this name."""
    return json.dumps([name, *position], separators=(",", ":"))


def position_of(name: str, kinds: Sequence[type[int] | type[str]], after: str) -> Position | None:
    """The position a text stands for, None for "" (the first page). Raises MalformedPosition."""
    if not after:
        return None
    try:
        parts = json.loads(after) if len(after) <= _POSITION_LENGTH_MAX else None
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or parts[:1] != [name] or len(parts) != 1 + len(kinds):
        raise MalformedPosition("not a position of this list")
    for kind, part in zip(kinds, parts[1:], strict=True):
        if type(part) is not kind or not _is_sound(part):
            raise MalformedPosition("not a position of this list")
    return parts[1:]


def _is_sound(part: int | str) -> bool:
    if isinstance(part, int):
        return -_INT_MAX <= part <= _INT_MAX
    return part.isprintable()


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


def beyond(columns: Sequence[str], casts: Sequence[str], *, sign: str = ">") -> str:
    """The condition that a row comes after the position `:after_0`, `:after_1`, .. in the order of these columns."""
    left = ", ".join(columns)
    right = ", ".join(f"CAST(:after_{place} AS {cast})" for place, cast in enumerate(casts))
    return f"({left}) {sign} ({right})"


def after_parameters(position: Position) -> dict[str, Any]:
    """The parameters `beyond` wants."""
    return {f"after_{place}": part for place, part in enumerate(position)}
