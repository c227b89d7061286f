"""Reading by key: what a batch wants, in one snapshot, each kind by one statement.

Invariant: nothing is read that was not asked for by its whole key, so that SERIALIZABLE sees no conflict with others' rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, TextClause, text

from zerosum.domain.identity import CommandKey, EntityKey, Tenant, slot_of
from zerosum.ports import Loaded, StoredCommand, Wanted
from zerosum.store import statement
from zerosum.store.mapping import Aggregate, Row, command_of, key_of
from zerosum.store.table import INBOX, PAYMENT_ORDERS

S = TypeVar("S")

CLOCK = text("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS INT8)")
"""The database's clock, milliseconds since 1970, UTC."""


def load(connection: Connection, aggregate: Aggregate[S], wanted: Wanted) -> Loaded[S]:
    """What is wanted, with the clock; nothing but the clock costs one statement."""
    now_ms = connection.execute(CLOCK).scalar_one()
    has_inbox = aggregate.service == "payment"
    return Loaded(
        now_ms=now_ms,
        entities=load_entities(connection, aggregate, wanted.entities),
        commands=_load_commands(connection, aggregate, wanted.commands),
        claims=_load_claims(connection, wanted.claims) if has_inbox else {},
        deliveries=_load_deliveries(connection, wanted.deliveries) if has_inbox else {},
    )


def load_entities(connection: Connection, aggregate: Aggregate[S], keys: Sequence[EntityKey]) -> dict[EntityKey, S]:
    """The entities that are stored, of those asked for; children are asked of only for those that are."""
    roots = {_entity_of(aggregate, row): row for row in _by_entity(connection, aggregate, aggregate.root, keys)}
    if not roots:
        return {}
    children: dict[EntityKey, dict[str, list[Row]]] = {key: {} for key in roots}
    for table in aggregate.children:
        for row in _by_entity(connection, aggregate, table, list(roots)):
            children[_entity_of(aggregate, row)].setdefault(table.name, []).append(row)
    return {key: aggregate.state_of(row, children[key]) for key, row in roots.items()}


def _by_entity(
    connection: Connection, aggregate: Aggregate[S], table: Table, keys: Sequence[EntityKey]
) -> Iterable[Row]:
    if not keys:
        return ()
    root_key = key_of(aggregate.root)
    select = statement.select(table, root_key)
    asked = [dict(zip(root_key, (slot_of(*key), *key), strict=True)) for key in sorted(set(keys))]
    return rows_of(connection, select.clause, select.parameters(asked))


def _entity_of(aggregate: Aggregate[S], row: Row) -> EntityKey:
    _, tenant, name = key_of(aggregate.root)
    return EntityKey(Tenant(row[tenant]), row[name])


def _load_commands(
    connection: Connection, aggregate: Aggregate[S], keys: Sequence[CommandKey]
) -> dict[CommandKey, StoredCommand]:
    if not keys:
        return {}
    table = aggregate.commands
    select = statement.select(table, key_of(table))
    asked = [dict(zip(key_of(table), (slot_of(*key), *key), strict=True)) for key in sorted(set(keys))]
    found = (command_of(row) for row in rows_of(connection, select.clause, select.parameters(asked)))
    return {command.key: command for command in found}


def _load_claims(connection: Connection, keys: Sequence[EntityKey]) -> dict[EntityKey, EntityKey]:
    if not keys:
        return {}
    columns = ("tenant", "payment_order_id")
    select = statement.select(PAYMENT_ORDERS, columns)
    asked = [dict(zip(columns, key, strict=True)) for key in sorted(set(keys))]
    return {
        EntityKey(row["tenant"], row["payment_order_id"]): EntityKey(row["tenant"], row["checkout_id"])
        for row in rows_of(connection, select.clause, select.parameters(asked))
    }


def _load_deliveries(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    if not keys:
        return {}
    columns = ("psp", "event_id")
    select = statement.select(INBOX, columns)
    asked = [dict(zip(columns, key, strict=True)) for key in sorted(set(keys))]
    rows = rows_of(connection, select.clause, select.parameters(asked))
    return {(row["psp"], row["event_id"]): row["body_sha256"] for row in rows}


def rows_of(connection: Connection, clause: TextClause, parameters: Mapping[str, Any]) -> list[Row]:
    """The rows a statement returns, by column name."""
    result = connection.execute(clause, parameters)
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]
