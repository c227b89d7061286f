"""How a checkout is kept: the payment event, its orders, attempts, operations, refunds, to-dos, mismatches, its buyer's row.

What happened, for ever, is in `payment_history.py`.

Invariant: the token is in `payment_events.credit_card_info` and in stored requests only, the buyer's name and email in
`buyers` only; a checkout whose buyer row was erased loads with empty buyer details and is never written one again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.message import Buyer, Mismatch, MismatchKind, OnPartial, Verdict
from zerosum.domain.money import Money
from zerosum.domain.order import (
    Attempt,
    AttemptState,
    Operation,
    OperationKind,
    OperationState,
    Order,
    OrderStatus,
)
from zerosum.domain.refund import Refund, RefundCause, RefundStatus
from zerosum.domain.todo import Todo, TodoKind, TodoState
from zerosum.errors import Bug
from zerosum.store import table as t
from zerosum.store.mapping import Aggregate, Row, RowPair, canonical_json
from zerosum.store.payment_history import log_rows

# ---- state to rows -------------------------------------------------------------------------------------------------


def pairs(slot: int, before: Checkout | None, after: Checkout) -> Iterator[RowPair]:
    """The rows of everything in `after` that is not the very object it was in `before`; the root's always."""
    yield t.PAYMENT_EVENTS, _event_row(slot, before) if before else None, _event_row(slot, after)
    if before is None:
        yield t.BUYERS, None, _buyer_row(slot, after)
    for order in after.orders.values():
        earlier = before.orders.get(order.id) if before else None
        if earlier is not order:
            yield from _order_pairs(slot, before, earlier, after, order)
    for todo in after.todos.values():
        earlier_todo = before.todos.get(todo.id) if before else None
        if earlier_todo is not todo:
            was = _todo_row(slot, after, earlier_todo) if earlier_todo else None
            yield t.TODOS, was, _todo_row(slot, after, todo)
    for case in after.mismatches.values():
        earlier_case = before.mismatches.get(case.id) if before else None
        if earlier_case is not case:
            was = _mismatch_row(slot, after, earlier_case) if earlier_case else None
            yield t.MISMATCHES, was, _mismatch_row(slot, after, case)


def _order_pairs(
    slot: int, before: Checkout | None, earlier: Order | None, after: Checkout, order: Order
) -> Iterator[RowPair]:
    earlier_row = _order_row(slot, before, earlier) if before and earlier else None
    yield t.PAYMENT_ORDERS, earlier_row, _order_row(slot, after, order)
    attempts = {attempt.number: attempt for attempt in earlier.attempts} if earlier else {}
    for attempt in order.attempts:
        was = attempts.get(attempt.number)
        if was is not attempt:
            was_row = _attempt_row(slot, after, order, was) if was else None
            yield t.ATTEMPTS, was_row, _attempt_row(slot, after, order, attempt)
    operations = {(op.kind, op.number): op for op in earlier.operations} if earlier else {}
    for operation in order.operations:
        known = operations.get((operation.kind, operation.number))
        if known is not operation:
            earlier_op = _operation_row(slot, after, order, known) if known else None
            yield t.OPERATIONS, earlier_op, _operation_row(slot, after, order, operation)
    refunds = {refund.number: refund for refund in earlier.refunds} if earlier else {}
    for refund in order.refunds:
        earlier_refund = refunds.get(refund.number)
        if earlier_refund is not refund:
            refund_row = _refund_row(slot, after, order, earlier_refund) if earlier_refund else None
            yield t.REFUNDS, refund_row, _refund_row(slot, after, order, refund)


def _event_row(slot: int, checkout: Checkout) -> Row:
    if checkout.is_answered != (checkout.reply is not None):
        raise Bug(f"checkout {checkout.key.id}: is answered without a reply, or the reverse")
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "version": checkout.version,
        "fingerprint": checkout.fingerprint, "buyer_account": checkout.buyer.account,
        "credit_card_info": checkout.token, "risk_verdict": checkout.verdict,
        "risk_reason": checkout.verdict_reason, "status": checkout.status,
        "is_payment_done": checkout.is_payment_done, "reply": checkout.reply,
        "created_at_ms": checkout.created_at_ms, "updated_at_ms": checkout.updated_at_ms,
        "on_partial": checkout.on_partial,
    }  # fmt: skip


def _buyer_row(slot: int, checkout: Checkout) -> Row:
    buyer = checkout.buyer
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id,
        "buyer_info": canonical_json({"name": buyer.name, "email": buyer.email, "country": buyer.country}),
    }  # fmt: skip


def _order_row(slot: int, checkout: Checkout, order: Order) -> Row:
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "payment_order_id": order.id,
        "position": order.position, "buyer_account": checkout.buyer.account, "seller_account": order.seller_account,
        "amount": order.amount, "amount_minor": order.money.amount_minor, "currency": order.money.currency,
        "payment_order_status": order.status, "reason": order.reason, "ledger_updated": order.ledger_updated,
        "wallet_updated": order.wallet_updated, "psp_reference": order.attempt.object_id if order.attempt else "",
        "created_at_ms": checkout.created_at_ms, "updated_at_ms": order.updated_at_ms,
    }  # fmt: skip


def _attempt_row(slot: int, checkout: Checkout, order: Order, attempt: Attempt) -> Row:
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "payment_order_id": order.id,
        "number": attempt.number, "psp": attempt.psp, "state": attempt.state,
        "psp_object_id": attempt.object_id, "opened_at_ms": attempt.opened_at_ms,
    }  # fmt: skip


def _operation_row(slot: int, checkout: Checkout, order: Order, operation: Operation) -> Row:
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "payment_order_id": order.id,
        "kind": operation.kind, "number": operation.number, "attempt": operation.attempt, "key": operation.key,
        "request": operation.request, "state": operation.state, "answer": operation.answer,
        "started_at_ms": operation.started_at_ms,
    }  # fmt: skip


def _refund_row(slot: int, checkout: Checkout, order: Order, refund: Refund) -> Row:
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "payment_order_id": order.id,
        "number": refund.number, "cause": refund.cause, "status": refund.status,
        "amount_minor": refund.money.amount_minor, "currency": refund.money.currency, "reason": refund.reason,
        "requested_by": refund.requested_by, "outcome": refund.outcome, "opened_at_ms": refund.opened_at_ms,
        "ended_at_ms": refund.ended_at_ms,
    }  # fmt: skip


def _todo_row(slot: int, checkout: Checkout, todo: Todo) -> Row:
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "todo_id": todo.id,
        "payment_order_id": todo.order_id, "kind": todo.kind, "number": todo.number, "tries": todo.tries,
        "due_at_ms": todo.due_at_ms, "state": todo.state, "reason": todo.reason,
        "created_at_ms": todo.created_at_ms,
    }  # fmt: skip


def _mismatch_row(slot: int, checkout: Checkout, case: Mismatch) -> Row:
    return {
        "slot": slot, "tenant": checkout.key.tenant, "checkout_id": checkout.key.id, "mismatch_id": case.id,
        "number": case.number, "payment_order_id": case.order_id, "kind": case.kind, "psp": case.psp,
        "psp_object_id": case.object_id, "amount_minor": case.money.amount_minor, "currency": case.money.currency,
        "detail": case.detail, "state": "RESOLVED" if case.is_resolved else "OPEN", "opened_at_ms": case.opened_at_ms,
    }  # fmt: skip


# ---- rows to state -------------------------------------------------------------------------------------------------


def state_of(root: Row, children: Mapping[str, Sequence[Row]]) -> Checkout:
    """The checkout these rows stand for. Orders by position, attempts by number, operations as they were started."""
    orders = (
        _order_of(row, children)
        for row in sorted(children.get("payment_orders", ()), key=lambda row: int(row["position"]))
    )
    return Checkout(
        key=EntityKey(Tenant(root["tenant"]), root["checkout_id"]),
        version=root["version"],
        fingerprint=root["fingerprint"],
        buyer=_buyer_of(root["buyer_account"], children.get("buyers", ())),
        token=root["credit_card_info"],
        verdict=Verdict(root["risk_verdict"]),
        verdict_reason=root["risk_reason"],
        orders={order.id: order for order in orders},
        todos={row["todo_id"]: todo_of(row) for row in sorted(children.get("todos", ()), key=_todo_age)},
        mismatches={
            row["mismatch_id"]: _mismatch_of(row) for row in sorted(children.get("mismatches", ()), key=_mismatch_age)
        },
        is_answered=root["reply"] is not None,
        reply=root["reply"],
        created_at_ms=root["created_at_ms"],
        updated_at_ms=root["updated_at_ms"],
        on_partial=OnPartial(root["on_partial"]),
    )


def _buyer_of(account: str, rows: Sequence[Row]) -> Buyer:
    kept: dict[str, Any] = json.loads(rows[0]["buyer_info"]) if rows else {}
    return Buyer(account, kept.get("name", ""), kept.get("email", ""), kept.get("country", ""))


def _order_of(row: Row, children: Mapping[str, Sequence[Row]]) -> Order:
    order_id = row["payment_order_id"]
    attempts = [child for child in children.get("attempts", ()) if child["payment_order_id"] == order_id]
    operations = [child for child in children.get("operations", ()) if child["payment_order_id"] == order_id]
    refunds = [child for child in children.get("refunds", ()) if child["payment_order_id"] == order_id]
    return Order(
        id=OrderId(order_id),
        position=row["position"],
        seller_account=row["seller_account"],
        amount=row["amount"],
        money=Money(row["amount_minor"], row["currency"]),
        status=OrderStatus(row["payment_order_status"]),
        reason=row["reason"],
        wallet_updated=row["wallet_updated"],
        ledger_updated=row["ledger_updated"],
        attempts=tuple(_attempt_of(child) for child in sorted(attempts, key=lambda child: int(child["number"]))),
        operations=tuple(_operation_of(child) for child in sorted(operations, key=_operation_age)),
        updated_at_ms=row["updated_at_ms"],
        refunds=tuple(refund_of(child) for child in sorted(refunds, key=lambda child: int(child["number"]))),
    )


def _attempt_of(row: Row) -> Attempt:
    state = AttemptState(row["state"])
    return Attempt(row["number"], row["psp"], state, row["psp_object_id"], row["opened_at_ms"])


_KINDS = tuple(kind.value for kind in OperationKind)


def _operation_age(row: Row) -> tuple[int, int, int]:
    return row["started_at_ms"], _KINDS.index(row["kind"]), row["number"]


def _operation_of(row: Row) -> Operation:
    return Operation(
        kind=OperationKind(row["kind"]), number=row["number"], attempt=row["attempt"], key=Key(row["key"]),
        request=row["request"], state=OperationState(row["state"]), answer=row["answer"],
        started_at_ms=row["started_at_ms"],
    )  # fmt: skip


def refund_of(row: Row) -> Refund:
    """The refund a row stands for."""
    return Refund(
        number=row["number"], cause=RefundCause(row["cause"]), status=RefundStatus(row["status"]),
        money=Money(row["amount_minor"], row["currency"]), reason=row["reason"], requested_by=row["requested_by"],
        outcome=row["outcome"], opened_at_ms=row["opened_at_ms"], ended_at_ms=row["ended_at_ms"],
    )  # fmt: skip


def _todo_age(row: Row) -> tuple[int, str]:
    return row["created_at_ms"], row["todo_id"]


def todo_of(row: Row) -> Todo:
    """The to-do a row stands for."""
    return Todo(
        id=row["todo_id"], kind=TodoKind(row["kind"]), order_id=OrderId(row["payment_order_id"]),
        number=row["number"], tries=row["tries"], due_at_ms=row["due_at_ms"], state=TodoState(row["state"]),
        reason=row["reason"], created_at_ms=row["created_at_ms"],
    )  # fmt: skip


def _mismatch_age(row: Row) -> tuple[int, str]:
    return row["number"], row["mismatch_id"]


def _mismatch_of(row: Row) -> Mismatch:
    return Mismatch(
        id=row["mismatch_id"], number=row["number"], order_id=OrderId(row["payment_order_id"]), kind=MismatchKind(row["kind"]),
        psp=row["psp"], object_id=row["psp_object_id"], money=Money(row["amount_minor"], row["currency"]),
        detail=row["detail"], is_resolved=row["state"] == "RESOLVED", opened_at_ms=row["opened_at_ms"],
    )  # fmt: skip


PAYMENT: Aggregate[Checkout] = Aggregate(
    service="payment",
    slots=t.PAYMENT_SLOTS,
    slot_log=t.PAYMENT_SLOT_LOG,
    commands=t.PAYMENT_COMMANDS,
    root=t.PAYMENT_EVENTS,
    children=(t.BUYERS, t.PAYMENT_ORDERS, t.ATTEMPTS, t.OPERATIONS, t.REFUNDS, t.TODOS, t.MISMATCHES),
    fixed={
        "payment_events": frozenset(
            {"fingerprint", "buyer_account", "credit_card_info", "created_at_ms", "on_partial"}
        ),
        "payment_orders": frozenset(
            {"position", "buyer_account", "seller_account", "amount", "amount_minor", "currency", "created_at_ms"}
        ),
        "attempts": frozenset({"psp", "opened_at_ms"}),
        "operations": frozenset({"attempt", "key", "request", "started_at_ms"}),
        "refunds": frozenset({"cause", "amount_minor", "currency", "reason", "requested_by", "opened_at_ms"}),
        "todos": frozenset({"payment_order_id", "kind", "number"}),
        "mismatches": frozenset({"number", "payment_order_id", "kind", "psp", "opened_at_ms"}),
    },
    pairs=pairs,
    log_rows=log_rows,
    state_of=state_of,
)
"""The payment service's mapping."""
