"""Reading by key: what a batch wants, in one snapshot, each kind by one statement.

Invariant: nothing is read that was not asked for by its whole key, so that SERIALIZABLE sees no conflict with others' rows.
"""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import Table, text

from zerosum.domain.identity import CommandKey, EntityKey, Tenant, slot_of
from zerosum.ports import Loaded, Wanted
from zerosum.store.mapping import Aggregate, Row, command_of, key_of
from zerosum.store.session import Session
from zerosum.store.statement import Statement, select
from zerosum.store.table import INBOX, PAYMENT_ORDERS
from zerosum.store.wire import compiled

S = TypeVar("S")

CLOCK = compiled(text("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS INT8)")).call()
"""The database's clock, milliseconds since 1970, UTC."""


async def load(session: Session, aggregate: Aggregate[S], wanted: Wanted) -> Loaded[S]:
    """What is wanted, with the clock, in one round trip; one more where entities are found."""
    asked: dict[str, tuple[Statement, list[Row]]] = {
        "commands": _commands(aggregate, wanted.commands),
        "roots": _by_entity(aggregate, aggregate.root, wanted.entities),
        "claims": (
            select(PAYMENT_ORDERS, _CLAIM),
            [dict(zip(_CLAIM, key, strict=True)) for key in sorted(set(wanted.claims))],
        ),
        "deliveries": (
            select(INBOX, _EVENT),
            [dict(zip(_EVENT, key, strict=True)) for key in sorted(set(wanted.deliveries))],
        ),
    }
    sent = {name: (statement, rows) for name, (statement, rows) in asked.items() if rows}
    clock, *replies = (await session.send([CLOCK, *(session.call(*each) for each in sent.values())])).all()
    found: dict[str, list[Row]] = {
        name: prepared.rows(reply) for (name, (prepared, _)), reply in zip(sent.items(), replies, strict=True)
    }
    return Loaded(
        now_ms=clock[0][0],
        entities=await _with_children(session, aggregate, found.get("roots", [])),
        commands={command.key: command for command in map(command_of, found.get("commands", ()))},
        claims={
            EntityKey(row["tenant"], row["payment_order_id"]): EntityKey(row["tenant"], row["checkout_id"])
            for row in found.get("claims", ())
        },
        deliveries={(row["psp"], row["event_id"]): row["body_sha256"] for row in found.get("deliveries", ())},
    )


async def load_entities(session: Session, aggregate: Aggregate[S], keys: Sequence[EntityKey]) -> dict[EntityKey, S]:
    """The entities that are stored, of those asked for."""
    if not keys:
        return {}
    statement, rows = _by_entity(aggregate, aggregate.root, keys)
    (reply,) = (await session.send([session.call(statement, rows)])).all()
    return await _with_children(session, aggregate, statement.rows(reply))


_CLAIM = ("tenant", "payment_order_id")
_EVENT = ("psp", "event_id")


async def _with_children(session: Session, aggregate: Aggregate[S], roots: Sequence[Row]) -> dict[EntityKey, S]:
    """Children are asked for only where there is a root."""
    by_key = {_entity_of(aggregate, row): row for row in roots}
    children: dict[EntityKey, dict[str, list[Row]]] = {key: {} for key in by_key}
    if by_key and aggregate.children:
        asked = [(table, *_by_entity(aggregate, table, list(by_key))) for table in aggregate.children]
        replies = (await session.send([session.call(statement, rows) for _, statement, rows in asked])).all()
        for (table, statement, _), reply in zip(asked, replies, strict=True):
            for row in statement.rows(reply):
                children[_entity_of(aggregate, row)].setdefault(table.name, []).append(row)
    return {key: aggregate.state_of(row, children[key]) for key, row in by_key.items()}


def _by_entity(aggregate: Aggregate[S], table: Table, keys: Sequence[EntityKey]) -> tuple[Statement, list[Row]]:
    names = key_of(aggregate.root)
    rows = [dict(zip(names, (slot_of(*key), *key), strict=True)) for key in sorted(set(keys))]
    return select(table, names), rows


def _commands(aggregate: Aggregate[S], keys: Sequence[CommandKey]) -> tuple[Statement, list[Row]]:
    names = key_of(aggregate.commands)
    rows = [dict(zip(names, (slot_of(*key), *key), strict=True)) for key in sorted(set(keys))]
    return select(aggregate.commands, names), rows


def _entity_of(aggregate: Aggregate[S], row: Row) -> EntityKey:
    _, tenant, name = key_of(aggregate.root)
    return EntityKey(Tenant(row[tenant]), row[name])
