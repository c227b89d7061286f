"""What a table row is to the rest of the store, and what each service's mapping must offer.

A mapping is plain data and pure functions, one `Aggregate` a service: `payment.PAYMENT`, `wallet.WALLET`,
`ledger.LEDGER`. It knows nothing of connections, so the SQL store and the memory store write the same rows.

Invariant: `state_of` is the inverse of `pairs`: what was committed is what is loaded.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import Table

from zerosum.domain.identity import CommandKey, EntityKey, Tenant, slot_of
from zerosum.domain.refusal import Reason, Refusal
from zerosum.ports import Change, StoredCommand, TurnRecord

S = TypeVar("S")

Row = dict[str, Any]
"""A row by column name: ints, strings, bytes, booleans and None only."""

RowPair = tuple[Table, Row | None, Row]
"""One mutable row before (None = new) and after a batch."""

LogRow = tuple[int, Table, Row]
"""A row that is never changed: the position of its turn in the batch, its table, and its columns without slot, seq, ord."""

_PYTHON_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical_bytes(value: Any) -> bytes:
    """One text for one value, in UTF-8: sorted keys, no spaces. Hashes and replies repeat byte for byte.

    Raises UnicodeEncodeError for a lone surrogate. A test holds the fast encoder to Python's own, which the auditor uses.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # what it does not know, Python's encoder writes, or refuses in its own words
        return _PYTHON_JSON(value).encode()


def canonical_json(value: Any) -> str:
    """The same as text."""
    return canonical_bytes(value).decode()


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[S]):
    """How one service's entities are kept.

    `root` has one row an entity; `children` (and private rows) share the root's key as the beginning of theirs.
    `fixed` names columns, by table, that no update changes. `pairs(slot, before, after)` gives the mutable rows that may
    differ; `log_rows(change, turns, now_ms)` what one entity's turns (with their positions) add for ever; `state_of(root,
    children)` is the state those rows stand for.
    """

    service: str
    slots: Table
    slot_log: Table
    commands: Table
    root: Table
    children: tuple[Table, ...]
    fixed: Mapping[str, frozenset[str]]
    pairs: Callable[[int, S | None, S], Iterable[RowPair]]
    log_rows: Callable[[Change[S] | None, Sequence[tuple[int, TurnRecord]], int], Iterable[LogRow]]
    state_of: Callable[[Row, Mapping[str, Sequence[Row]]], S]


@cache
def key_of(table: Table) -> tuple[str, ...]:
    """The primary key's columns, in order."""
    return tuple(column.name for column in table.primary_key.columns)


@cache
def is_log(table: Table) -> bool:
    """Rows carry (slot, seq, ord) and are covered by the slot's hash."""
    return bool(table.info["kind"] == "log" and "ord" in table.columns)


@cache
def is_line(table: Table) -> bool:
    """Rows are lines of another log row, whose `ord` they share: the entries of a journal."""
    return "line" in table.columns


def command_row(command: StoredCommand, now_ms: int) -> Row:
    """The row of a committed command, in the command's own slot."""
    key = command.key
    return {
        "slot": slot_of(*key), "tenant": key.tenant, "method": key.method, "key": key.key,
        "fingerprint": command.fingerprint, "entity_id": command.entity.id,
        "outcome": None if command.refusal is None else refusal_json(command.refusal), "at_ms": now_ms,
    }  # fmt: skip


def command_of(row: Row) -> StoredCommand:
    """The inverse of `command_row`."""
    tenant = Tenant(row["tenant"])
    outcome = row["outcome"]
    return StoredCommand(
        key=CommandKey(tenant, row["method"], row["key"]),
        fingerprint=row["fingerprint"],
        entity=EntityKey(tenant, row["entity_id"]),
        refusal=None if outcome is None else refusal_of(outcome),
    )


def refusal_json(refusal: Refusal) -> str:
    """A refusal as kept beside its command."""
    return canonical_json({"reason": refusal.reason.value, "field": refusal.field, "message": refusal.message})


def refusal_of(outcome: str) -> Refusal:
    """The inverse of `refusal_json`."""
    parts = json.loads(outcome)
    return Refusal(Reason(parts["reason"]), parts["field"], parts["message"])
