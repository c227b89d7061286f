# ruff: noqa: S608 - statements here are made of names of ours
"""What the payment service's books know of a PSP's movements, read without ever being in its way.

Everything is read READ COMMITTED, by key or in index order, a bounded number of rows at a time: a run is long, and a
SERIALIZABLE one would make commits of the payment service fail.

Invariant: nothing is read but by an index of the payment service's own, and nothing is written there.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import text

from zerosum.domain.identity import CheckoutId, OrderId, Tenant, slot_of
from zerosum.domain.money import Money
from zerosum.domain.order import AttemptState, OperationKind, OperationState, OrderEvent
from zerosum.domain.reconcile_item import Movement, MovementKind, Standing
from zerosum.limits import SLOTS
from zerosum.store.database import Database
from zerosum.store.statement import int_array, text_array
from zerosum.store.wire import Query, compiled

CASE_NUMBERS_FROM = 1_000
"""A second charge is numbered from here on, so that it is never taken for an attempt: an order has a handful of those."""


class Home(NamedTuple):
    """Where a checkout lives."""

    tenant: str
    checkout_id: str


@dataclass(frozen=True, slots=True)
class Place:
    """How far the checkouts of a period are read: within a slot by tenant, then by time."""

    slot: int
    tenant: str
    after_ms: int
    after_id: str


class News(Enum):
    """What may come to an order after its own night, and bring movements that no night has met."""

    REFUNDS = "refunds"
    CASES = "cases"


class Moment(NamedTuple):
    """How far the news of a period are read: within a slot by time, then by order."""

    slot: int
    at_ms: int
    checkout_id: str
    tenant: str
    order_id: str


class Books:
    """The payment service's tables, as the reconciler reads them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def checkouts(
        self, place: Place | None, *, from_ms: int, before_ms: int, rows_max: int
    ) -> tuple[list[Home], Place | None]:
        """Checkouts stored in [from, before) by the database's clock, behind `place`, and where to go on; None = the end."""
        homes: list[Home] = []
        at: Place | None = place or await self._next_tenant(0, "", from_ms)
        while at is not None and len(homes) < rows_max:
            left = rows_max - len(homes)
            values = {
                "slot": at.slot, "tenant": at.tenant, "after_ms": at.after_ms, "after_id": at.after_id,
                "before_ms": before_ms, "rows": left,
            }  # fmt: skip
            rows = await self._database.look(_CHECKOUTS.call(values))
            homes += [Home(at.tenant, checkout_id) for _, checkout_id in rows]
            if len(rows) < left:
                at = await self._next_tenant(at.slot, at.tenant, from_ms)
            else:
                at = Place(at.slot, at.tenant, *rows[-1])
        return homes, at

    async def _next_tenant(self, slot: int, tenant: str, from_ms: int) -> Place | None:
        for number in range(slot, SLOTS):
            rows = await self._database.look(_TENANT.call({"slot": number, "after": tenant if number == slot else ""}))
            if rows:
                return Place(number, rows[0][0], from_ms, "")
        return None

    async def orders_with(
        self, news: News, moment: Moment | None, *, from_ms: int, before_ms: int, rows_max: int
    ) -> tuple[list[tuple[Home, str]], Moment | None]:
        """Orders that got such news in [from, before) behind `moment`, and where to go on; None = the end."""
        orders: list[tuple[Home, str]] = []
        at = moment or Moment(0, from_ms, "", "", "")
        while len(orders) < rows_max:
            left = rows_max - len(orders)
            values = {**at._asdict(), "before_ms": before_ms, "rows": left}
            rows = await self._database.look(_NEWS[news].call(values))
            orders += [(Home(tenant, checkout_id), order_id) for _, checkout_id, tenant, order_id in rows]
            if len(rows) == left:
                at = Moment(at.slot, *rows[-1])
            elif at.slot + 1 < SLOTS:
                at = Moment(at.slot + 1, from_ms, "", "", "")
            else:
                return orders, None
        return orders, at

    async def movements(self, psp: str, homes: Collection[Home]) -> list[Movement]:
        """Every movement of these checkouts at the PSP: attempts, refunds, and second charges."""
        if not homes:
            return []
        ordered = sorted(homes)
        values = {
            "psp": psp, "slots": int_array(slot_of(*home) for home in ordered),
            "tenants": text_array([home.tenant for home in ordered]),
            "checkouts": text_array([home.checkout_id for home in ordered]),
        }  # fmt: skip
        attempts, refunds, cases, settled = await asyncio.gather(
            *(self._database.look(query.call(values)) for query in (_ATTEMPTS, _REFUNDS, _CASES, _SETTLED))
        )
        took = _took(settled.by_name())
        found = [_attempt(row, took) for row in attempts.by_name()] + [_case(row) for row in cases.by_name()]
        return found + [made for row in refunds.by_name() if (made := _refund(row, took)).psp == psp]

    async def homes_of(self, order_ids: Sequence[str]) -> list[Home]:
        """The checkouts that hold these payment orders, of whichever tenant."""
        rows = await self._database.look(_HOMES.call({"orders": text_array(sorted(set(order_ids)))}))
        return [Home(*row) for row in rows]


# ---- rows ----------------------------------------------------------------------------------------------------------

_STANDING: Mapping[str, Standing] = {
    AttemptState.CHARGED: Standing.SETTLED,
    AttemptState.UNKNOWN: Standing.IN_FLIGHT,
    AttemptState.NO_CHARGE: Standing.GIVEN_UP,
}
_REFUND_STANDING: Mapping[str, Standing] = {
    OperationState.DONE: Standing.SETTLED,
    OperationState.UNKNOWN: Standing.IN_FLIGHT,
}
"""A refund that is neither was declined or never ran."""


_Took = Mapping[tuple[str, str, str], int]
"""(Tenant, order, refund key, which is "" for its charge) -> when the event that settled it was written."""


def _took(rows: Sequence[Mapping[str, Any]]) -> _Took:
    took: dict[tuple[str, str, str], int] = {}
    for row in rows:
        told = json.loads(row["detail"])
        if row["type"] == OrderEvent.ORDER_CHARGED or told["state"] == OperationState.DONE:
            took[row["tenant"], row["payment_order_id"], told.get("key", "")] = row["at_ms"]
    return took


def _attempt(row: Mapping[str, Any], took: _Took) -> Movement:
    is_charged = row["state"] == AttemptState.CHARGED
    charged_at_ms = took.get((row["tenant"], row["payment_order_id"], "")) if is_charged else None
    return _movement(
        row, MovementKind.CHARGE, psp=row["psp"], object_id=row["psp_object_id"], number=row["number"],
        money=Money(row["amount_minor"], row["currency"]),
        standing=Standing.CASE_OPEN if row["late_at_ms"] else _STANDING[row["state"]],
        at_ms=row["late_at_ms"] or charged_at_ms or row["confirmed_at_ms"] or row["opened_at_ms"],
    )  # fmt: skip


def _refund(row: Mapping[str, Any], took: _Took) -> Movement:
    asked = json.loads(row["request"])
    return _movement(
        row, MovementKind.REFUND, psp=asked["psp"], object_id=asked["object_id"], number=row["number"],
        money=Money(asked["amount_minor"], asked["currency"]), refund_key=row["key"],
        standing=_REFUND_STANDING.get(row["state"], Standing.GIVEN_UP),
        at_ms=took.get((row["tenant"], row["payment_order_id"], row["key"]), row["started_at_ms"]),
        is_from_suspense=row["late_object_id"] == asked["object_id"],
    )  # fmt: skip


def _case(row: Mapping[str, Any]) -> Movement:
    return _movement(
        row, MovementKind.CHARGE, psp=row["psp"], object_id=row["psp_object_id"],
        number=CASE_NUMBERS_FROM + row["number"], money=Money(row["amount_minor"], row["currency"]),
        standing=Standing.CASE_OPEN, at_ms=row["opened_at_ms"],
    )  # fmt: skip


def _movement(
    row: Mapping[str, Any], kind: MovementKind, *, psp: str, object_id: str, number: int, money: Money,
    standing: Standing, at_ms: int, refund_key: str = "", is_from_suspense: bool = False,
) -> Movement:  # fmt: skip
    return Movement(
        kind=kind, number=number, tenant=Tenant(row["tenant"]), checkout_id=CheckoutId(row["checkout_id"]),
        order_id=OrderId(row["payment_order_id"]), psp=psp, object_id=object_id, refund_key=refund_key, money=money,
        at_ms=at_ms, standing=standing, buyer=row["buyer_account"], seller=row["seller_account"],
        is_from_suspense=is_from_suspense,
    )  # fmt: skip


# ---- statements ----------------------------------------------------------------------------------------------------

_TENANT = compiled(
    text(
        "SELECT tenant FROM payment.payment_events WHERE slot = CAST(:slot AS INT4) AND tenant > :after "
        "AND created_at_ms > 0 ORDER BY tenant LIMIT 1"
    )
)
_CHECKOUTS = compiled(
    text(
        "SELECT created_at_ms, checkout_id FROM payment.payment_events WHERE slot = CAST(:slot AS INT4) "
        "AND tenant = :tenant AND created_at_ms > 0 AND created_at_ms < CAST(:before_ms AS INT8) "
        "AND (created_at_ms, checkout_id) > (CAST(:after_ms AS INT8), CAST(:after_id AS TEXT)) "
        "ORDER BY created_at_ms, checkout_id LIMIT CAST(:rows AS INT8)"
    )
)


def _news(table: str, at_ms: str, condition: str) -> Query:
    """A page by the index on time, which ends with the checkout: the rest orders what is of one checkout and instant."""
    place = f"{at_ms}, checkout_id, tenant, payment_order_id"
    return compiled(
        text(
            f"SELECT {place} FROM payment.{table} WHERE slot = CAST(:slot AS INT4) AND {condition} "
            f"AND {at_ms} < CAST(:before_ms AS INT8) AND ({place}) > (CAST(:at_ms AS INT8), CAST(:checkout_id AS TEXT), "
            f"CAST(:tenant AS TEXT), CAST(:order_id AS TEXT)) ORDER BY {place} LIMIT CAST(:rows AS INT8)"
        )
    )


_NEWS: Mapping[News, Query] = {
    News.REFUNDS: _news("operations", "started_at_ms", "kind = 'refund' AND started_at_ms > 0"),
    News.CASES: _news("mismatches", "opened_at_ms", "opened_at_ms > 0"),
}
_OF_HOMES = (
    "FROM unnest(CAST(:slots AS INT4[]), CAST(:tenants AS TEXT[]), CAST(:checkouts AS TEXT[])) AS u (slot, tenant, id) "
    "JOIN payment.payment_orders AS o ON o.slot = u.slot AND o.tenant = u.tenant AND o.checkout_id = u.id "
)
_ORDER = "o.tenant, o.checkout_id, o.payment_order_id, o.buyer_account, o.seller_account"
_SAME = "x.slot = o.slot AND x.tenant = o.tenant AND x.checkout_id = o.checkout_id AND x.payment_order_id = o.payment_order_id"

_CASE_OF = f"FROM payment.mismatches AS c WHERE {_SAME.replace('x.', 'c.')} AND c.kind"

_ATTEMPTS = compiled(
    text(
        f"SELECT {_ORDER}, x.number, x.psp, x.psp_object_id, x.state, o.amount_minor, o.currency, x.opened_at_ms, "
        "(SELECT max(p.started_at_ms) FROM payment.operations AS p WHERE p.slot = o.slot AND p.tenant = o.tenant "
        "AND p.checkout_id = o.checkout_id AND p.payment_order_id = o.payment_order_id AND p.kind = 'confirm' "
        "AND p.attempt = x.number) AS confirmed_at_ms, "
        f"(SELECT max(c.opened_at_ms) {_CASE_OF} = 'late_charge' AND c.psp_object_id = x.psp_object_id) AS late_at_ms "
        f"{_OF_HOMES} JOIN payment.attempts AS x ON {_SAME} AND x.psp = CAST(:psp AS TEXT)"
    )
)
_REFUNDS = compiled(
    text(
        f"SELECT {_ORDER}, x.number, x.key, x.request, x.state, x.started_at_ms, "
        f"(SELECT max(c.psp_object_id) {_CASE_OF} IN ('late_charge', 'account_closed')) AS late_object_id {_OF_HOMES} "
        f"JOIN payment.operations AS x ON {_SAME} AND x.kind = 'refund' AND CAST(:psp AS TEXT) <> ''"
    )
)
_CASES = compiled(
    text(
        f"SELECT {_ORDER}, x.number, x.psp, x.psp_object_id, x.amount_minor, x.currency, x.opened_at_ms {_OF_HOMES} "
        f"JOIN payment.mismatches AS x ON {_SAME} AND x.psp = CAST(:psp AS TEXT) "
        "AND x.kind = 'second_charge'"
    )
)
_SETTLED = compiled(
    text(
        "SELECT h.tenant, h.payment_order_id, h.type, h.detail, h.at_ms "
        "FROM unnest(CAST(:slots AS INT4[]), CAST(:tenants AS TEXT[]), CAST(:checkouts AS TEXT[])) AS u (slot, tenant, id) "
        "CROSS JOIN LATERAL (SELECT x.* FROM payment.history AS x WHERE x.slot = u.slot AND x.tenant = u.tenant "
        f"AND x.checkout_id = u.id AND CAST(:psp AS TEXT) <> '' AND (x.type = '{OrderEvent.ORDER_CHARGED}' "
        f"OR x.type = 'OperationSettled' AND strpos(x.detail, '\"kind\":\"{OperationKind.REFUND}\"') > 0) "
        "ORDER BY x.version) AS h"
    )
)
"""When an order was charged and its refunds were done: nothing else of their rows tells it. In the order of a checkout's own
index, once a checkout however many orders it has."""
_HOMES = compiled(
    text(
        "SELECT DISTINCT o.tenant, o.checkout_id FROM unnest(CAST(:orders AS TEXT[])) AS u (id) "
        "JOIN payment.payment_orders AS o ON o.payment_order_id = u.id"
    )
)
