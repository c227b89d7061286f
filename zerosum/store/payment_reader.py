"""Checkouts as stored, for the doors: SQL for every method of `readers.PaymentReader`.

Orders of the lists, each by an index: checkouts newest first over all slots (`payment_events_by_time`), of one seller in the
order of `payment_orders_by_seller`; dead to-dos oldest first, then open ones by due time (one whose time moves between
two pages may show twice, none is missed); orders in flight oldest first.

Invariant: each method reads one snapshot, and never more than one row beyond the page from any index range.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import TextClause, text

from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, OrderId, Tenant, slot_of
from zerosum.domain.order import OrderStatus
from zerosum.domain.todo import PSP_KINDS, TodoKind, TodoState
from zerosum.readers import (
    DeadLetters,
    HistoryRow,
    ListFilter,
    MalformedPosition,
    OrderView,
    Page,
    PaymentView,
    TodoRow,
)
from zerosum.store.database import Database
from zerosum.store.loading import load_entities
from zerosum.store.mapping import Row
from zerosum.store.paging import (
    EVERY_SLOT,
    PARTS,
    Position,
    after_parameters,
    beyond,
    merged,
    page,
    position_of,
)
from zerosum.store.payment import PAYMENT, refund_of, todo_of
from zerosum.store.session import Session
from zerosum.store.table import TODOS
from zerosum.store.wire import compiled

IN_FLIGHT = "payment_order_status IN ('NOT_STARTED', 'EXECUTING', 'PENDING', 'AUTHORIZED')"
"""As the index `payment_orders_in_flight` states it, so that the planner sees that it serves."""

NOW_MS = "CAST(floor(extract(epoch FROM statement_timestamp()) * 1000) AS INT8)"


class SqlPaymentReader:
    """Implements `readers.PaymentReader`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def close(self) -> None:
        """Closes every connection."""
        await self.database.close()

    async def payment(self, key: EntityKey) -> PaymentView | None:
        """As callers see it, by one statement."""
        values = {"slot": slot_of(*key), "tenant": key.tenant, "checkout_id": key.id}
        rows = await self.database.look(_PAYMENT.call(values))
        if not rows:
            return None
        status, is_done, created_at_ms = rows[0][:3]
        orders = tuple(_order_views([row[3:] for row in rows]))
        return PaymentView(key.id, CheckoutStatus(status), is_done, created_at_ms, orders)

    async def order(self, tenant: Tenant, order_id: OrderId) -> OrderView | None:
        """As callers see it, by one statement."""
        values = {"tenant": tenant, "order_id": order_id}
        rows = await self.database.look(_ORDER.call(values))
        return next(_order_views(rows), None)

    async def reply(self, key: EntityKey) -> bytes | None:
        """The fixed reply, by one statement."""
        values = {"slot": slot_of(*key), "tenant": key.tenant, "checkout_id": key.id}
        rows = await self.database.look(_REPLY.call(values))
        return rows[0][0] if rows else None

    async def checkout(self, key: EntityKey) -> Checkout | None:
        """The checkout, whole."""
        found = await self.database.read(lambda session: load_entities(session, PAYMENT, [key]))
        return found.get(key)

    async def home_of(self, tenant: Tenant, order_id: OrderId) -> EntityKey | None:
        """The checkout that holds a payment order."""
        values = {"tenant": tenant, "order_id": order_id}
        rows = await self.database.look(_HOME.call(values))
        return EntityKey(tenant, rows[0][0]) if rows else None

    async def checkouts(self, tenant: Tenant, wanted: ListFilter, rows_max: int, after: str) -> Page[Checkout]:
        """Newest first; with a seller in the order of that seller's index. Raises MalformedPosition."""
        clause, values = _by_seller(wanted, after) if wanted.seller_account else _by_time(wanted, after)
        values |= {"tenant": tenant, "rows": rows_max + 1} | _filter_values(wanted)

        async def work(session: Session) -> list[Checkout]:
            (ids,) = (await session.send([compiled(clause).call(values)])).all()
            keys = [EntityKey(tenant, checkout_id) for (checkout_id,) in ids]
            found = await load_entities(session, PAYMENT, keys)
            return [found[key] for key in keys]

        rows = await self.database.read(work)
        if wanted.seller_account:
            return page(rows, rows_max, "checkouts_of_seller", lambda row: (slot_of(*row.key), row.key.id))
        return page(rows, rows_max, "checkouts", lambda row: (row.created_at_ms, row.key.id))

    async def history(self, key: EntityKey) -> Sequence[HistoryRow]:
        """All of it, in order."""
        values = {"slot": slot_of(*key), "tenant": key.tenant, "checkout_id": key.id}
        rows = await self.database.look(compiled(HISTORY_OF).call(values))
        return [HistoryRow(*row) for row in rows]

    async def todos(self, tenant: Tenant, state: TodoState | None, rows_max: int, after: str) -> Page[TodoRow]:
        """Of one state, or the dead and then the open. `request` is left out of lists. Raises MalformedPosition."""
        states: tuple[TodoState, ...] = (state,) if state else (TodoState.DEAD, TodoState.OPEN)
        position = position_of("todos", after)
        if position is not None:
            if position[0] not in states:
                raise MalformedPosition("not a position of this list")
            states = states[states.index(TodoState(position[0])) :]

        async def work(session: Session) -> list[Row]:
            found: list[Row] = []
            for place, each in enumerate(states):
                since = position[1:] if position is not None and place == 0 else None
                left = rows_max + 1 - len(found)
                found += await _todos_of(session, tenant, each, left, since) if left else []
            return found

        rows = await self.database.read(work)
        read = page(rows, rows_max, "todos", _todo_position)
        return Page([_todo_row(tenant, row) for row in read.rows], read.after)

    async def todo(self, key: EntityKey, todo_id: str) -> TodoRow | None:
        """One, with the stored request it would send."""
        values = {"slot": slot_of(*key), "tenant": key.tenant, "checkout_id": key.id, "todo_id": todo_id}
        rows = (await self.database.look(_TODO.call(values))).by_name()
        return _todo_row(key.tenant, rows[0]) if rows else None

    async def in_flight(
        self, tenant: Tenant, older_than_ms: int, rows_max: int, after: str
    ) -> Page[tuple[EntityKey, OrderId]]:
        """Oldest first. Raises MalformedPosition."""
        position = position_of("in_flight", after)
        clause = in_flight_clause(is_first=position is None)
        values = {"tenant": tenant, "older_than_ms": older_than_ms, "slots": EVERY_SLOT, "rows": rows_max + 1}
        values |= after_parameters(position or ())
        rows = await self.database.look(compiled(clause).call(values))
        read = page(rows, rows_max, "in_flight", tuple)
        return Page([(EntityKey(tenant, row[1]), OrderId(row[2])) for row in read.rows], read.after)

    async def count_in_flight(self, older_than_ms: int) -> int:
        """Over all tenants."""
        values = {"older_than_ms": older_than_ms, "slots": EVERY_SLOT}
        return int((await self.database.look(_COUNT.call(values)))[0][0])

    async def dead_letters(self) -> Sequence[DeadLetters]:
        """Over all tenants: reads what is dead and nothing else."""
        rows = await self.database.look(compiled(DEAD_LETTERS).call({"slots": EVERY_SLOT}))
        return [DeadLetters(TodoKind(kind), todos, oldest_ms) for kind, todos, oldest_ms in rows]


# ---- statements ----------------------------------------------------------------------------------------------------

_SHOWN = (
    "o.checkout_id, o.payment_order_id, o.seller_account, o.amount, o.currency, o.payment_order_status, o.reason, "
    "o.wallet_updated, o.ledger_updated, o.psp_reference"
)
"""The columns of an OrderView, in its order, but for its refunds."""

_REFUND = (
    "number", "cause", "status", "amount_minor", "currency", "reason", "requested_by", "outcome", "opened_at_ms",
    "ended_at_ms",
)  # fmt: skip
_SHOWN_WITH_REFUNDS = f"{_SHOWN}, {', '.join(f'r.{name}' for name in _REFUND)}"
_REFUNDS_OF = (
    "LEFT JOIN payment.refunds AS r ON r.slot = o.slot AND r.tenant = o.tenant AND r.checkout_id = o.checkout_id "
    "AND r.payment_order_id = o.payment_order_id "
)
"""A row an order and refund; NULLs where an order has none."""

_ORDER = compiled(
    text(
        f"SELECT {_SHOWN_WITH_REFUNDS} FROM payment.payment_orders AS o {_REFUNDS_OF}"  # noqa: S608 - names of ours
        "WHERE o.tenant = :tenant AND o.payment_order_id = :order_id ORDER BY r.number"
    )
)

_PAYMENT = compiled(
    text(
        f"SELECT e.status, e.is_payment_done, e.created_at_ms, {_SHOWN_WITH_REFUNDS} FROM payment.payment_events AS e "  # noqa: S608 - names of ours
        "JOIN payment.payment_orders AS o ON o.slot = e.slot AND o.tenant = e.tenant AND o.checkout_id = e.checkout_id "
        f"{_REFUNDS_OF}WHERE e.slot = CAST(:slot AS INT4) AND e.tenant = :tenant AND e.checkout_id = :checkout_id "
        "ORDER BY o.position, r.number"
    )
)

_REPLY = compiled(
    text(
        "SELECT reply FROM payment.payment_events "
        "WHERE slot = CAST(:slot AS INT4) AND tenant = :tenant AND checkout_id = :checkout_id"
    )
)


def _order_views(rows: Iterable[Sequence[Any]]) -> Iterator[OrderView]:
    """Orders in the order of their first row, each with the refunds of its rows."""
    for shown, of_order in groupby(rows, key=lambda row: tuple(row[:_SHOWN_COUNT])):
        named = (dict(zip(_REFUND, row[_SHOWN_COUNT:], strict=True)) for row in of_order)
        refunds = tuple(refund_of(refund) for refund in named if refund["number"] is not None)
        fields: list[Any] = [*shown, refunds]
        fields[_STATUS_AT] = OrderStatus(fields[_STATUS_AT])
        yield OrderView(*fields)


_SHOWN_COUNT = len(_SHOWN.split(", "))
_STATUS_AT = _SHOWN.split(", ").index("o.payment_order_status")


_HOME = compiled(
    text("SELECT checkout_id FROM payment.payment_orders WHERE tenant = :tenant AND payment_order_id = :order_id")
)

HISTORY_OF = text(
    "SELECT version, at_ms, type, payment_order_id, status, detail FROM payment.history "
    "WHERE slot = CAST(:slot AS INT4) AND tenant = :tenant AND checkout_id = :checkout_id ORDER BY version"
)

_TODO = compiled(
    text(
        "SELECT t.*, coalesce(o.request, '') AS request FROM payment.todos AS t LEFT JOIN payment.operations AS o ON "
        "o.slot = t.slot AND o.tenant = t.tenant AND o.checkout_id = t.checkout_id "
        "AND o.payment_order_id = t.payment_order_id AND o.kind = t.kind AND o.number = t.number "
        "WHERE t.slot = CAST(:slot AS INT4) AND t.tenant = :tenant AND t.checkout_id = :checkout_id AND t.todo_id = :todo_id"
    )
)

_COUNT = compiled(
    text(
        f"SELECT count(*) FROM payment.payment_orders WHERE slot = ANY(CAST(:slots AS INT4[])) AND {IN_FLIGHT} "  # noqa: S608 - our own text
        f"AND created_at_ms <= {NOW_MS} - CAST(:older_than_ms AS INT8)"
    )
)

DEAD_LETTERS = text(
    f"SELECT kind, count(*), {NOW_MS} - min(created_at_ms) FROM payment.todos "  # noqa: S608 - our own text
    "WHERE slot = ANY(CAST(:slots AS INT4[])) AND state = 'DEAD' GROUP BY kind"
)
"""The state stands in the text, as the index `todos_dead` states it."""


def in_flight_clause(*, is_first: bool) -> TextClause:
    """Orders in flight over all slots, oldest first."""
    order = ("created_at_ms", "checkout_id", "payment_order_id")
    old = f"t.created_at_ms <= {NOW_MS} - CAST(:older_than_ms AS INT8)"
    where = f"t.tenant = :tenant AND t.{IN_FLIGHT} AND {old}"
    if not is_first:
        # The first condition alone is one an index range can begin from; the second breaks ties.
        where += f" AND t.created_at_ms >= CAST(:after_0 AS INT8) AND {beyond(order, PARTS['in_flight'])}"
    return text(merged("payment.payment_orders", ", ".join(order), where=where, order=order))


def _filter_values(wanted: ListFilter) -> dict[str, Any]:
    values = {
        "status": wanted.status.value if wanted.status else None,
        "created_from_ms": wanted.created_from_ms,
        "created_before_ms": wanted.created_before_ms,
    }
    return {name: value for name, value in values.items() if value is not None}


def _filter_where(wanted: ListFilter) -> str:
    where = ""
    if wanted.status is not None:
        where += " AND t.status = :status"
    if wanted.created_from_ms is not None:
        where += " AND t.created_at_ms >= CAST(:created_from_ms AS INT8)"
    if wanted.created_before_ms is not None:
        where += " AND t.created_at_ms < CAST(:created_before_ms AS INT8)"
    return where


def _by_time(wanted: ListFilter, after: str) -> tuple[TextClause, dict[str, Any]]:
    position = position_of("checkouts", after)
    values: dict[str, Any] = {"slots": EVERY_SLOT} | after_parameters(position or ())
    return checkouts_clause(wanted, is_first=position is None), values


def checkouts_clause(wanted: ListFilter, *, is_first: bool) -> TextClause:
    """Ids of checkouts over all slots, newest first."""
    order = ("created_at_ms", "checkout_id")
    where = (
        f"t.tenant = :tenant AND t.created_at_ms > 0{_filter_where(wanted)}"  # created_at_ms: as the index states it
    )
    if not is_first:
        where += f" AND {beyond(order, PARTS['checkouts'], sign='<')}"
    found = merged("payment.payment_events", ", ".join(order), where=where, order=order, descending=True)
    return text(f"SELECT checkout_id FROM ({found}) AS f ORDER BY created_at_ms DESC, checkout_id DESC")  # noqa: S608 - our own text


def _by_seller(wanted: ListFilter, after: str) -> tuple[TextClause, dict[str, Any]]:
    position = position_of("checkouts_of_seller", after)
    values: dict[str, Any] = {"seller_account": wanted.seller_account} | after_parameters(position or ())
    return sellers_clause(wanted, is_first=position is None), values


def sellers_clause(wanted: ListFilter, *, is_first: bool) -> TextClause:
    """Ids of checkouts with an order for the seller, in the order of the seller's index."""
    since = "" if is_first else f" AND {beyond(('slot', 'checkout_id'), PARTS['checkouts_of_seller'])}"
    return text(
        "SELECT t.checkout_id FROM (SELECT DISTINCT slot, checkout_id FROM payment.payment_orders "  # noqa: S608 - our own text
        f"WHERE tenant = :tenant AND seller_account = :seller_account{since}) AS o "
        "JOIN payment.payment_events AS t ON t.slot = o.slot AND t.tenant = :tenant AND t.checkout_id = o.checkout_id"
        f" WHERE true{_filter_where(wanted)} ORDER BY o.slot, o.checkout_id LIMIT CAST(:rows AS INT8)"
    )


_TODO_COLUMNS = tuple(column.name for column in TODOS.columns)

_TODO_TIME = {TodoState.OPEN: "due_at_ms", TodoState.DEAD: "created_at_ms", TodoState.DONE: ""}


def todos_clause(state: TodoState, *, is_first: bool) -> TextClause:
    """To-dos of one state over all slots, by the index of that state; done ones by their key."""
    time = _TODO_TIME[state]
    order = (time, "checkout_id", "todo_id") if time else ("checkout_id", "todo_id")
    # The state stands in the text, not in a parameter: only so does the planner see that the partial index serves.
    where = f"t.tenant = :tenant AND t.state = '{state.value}'"
    if not is_first and time:
        since = beyond(order, PARTS["todos"][1:])
        where += f" AND t.{time} >= CAST(:after_0 AS INT8) AND {since}"
    elif not is_first:
        where += " AND (checkout_id, todo_id) > (CAST(:after_1 AS TEXT), CAST(:after_2 AS TEXT))"
    return text(merged("payment.todos", ", ".join(_TODO_COLUMNS), where=where, order=order))


async def _todos_of(session: Session, tenant: Tenant, state: TodoState, rows: int, since: Position | None) -> list[Row]:
    values: dict[str, Any] = {"tenant": tenant, "slots": EVERY_SLOT, "rows": rows}
    values |= after_parameters(since or ())
    if since and not _TODO_TIME[state]:
        values.pop("after_0")
    clause = todos_clause(state, is_first=since is None)
    (reply,) = (await session.send([compiled(clause).call(values)])).all()
    return [dict(zip(_TODO_COLUMNS, row, strict=True)) for row in reply]


def _todo_position(row: Row) -> Position:
    time = _TODO_TIME[TodoState(row["state"])]
    return row["state"], row[time] if time else 0, row["checkout_id"], row["todo_id"]


def _todo_row(tenant: Tenant, row: Row) -> TodoRow:
    todo = todo_of(row)
    request = row.get("request", "") if todo.kind in PSP_KINDS else ""
    return TodoRow(EntityKey(tenant, row["checkout_id"]), todo, request)
