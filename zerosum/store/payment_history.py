"""What happened to a checkout, for ever: history, refused key reuses, and the webhook inbox.

One history row an event. `type` is the event's class name; for `OrderMoved` the name of the order event, for `TodoMoved`
its own. `status` is the status of the order concerned after that event, "" where none is concerned.

Invariant: no row here holds a token, card data, a stored request, or a buyer's name, email or account.
"""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.order import Operation, OrderEvent, OrderStatus, next_status
from zerosum.domain.refund import PostingRefused, Refund, RefundEnded, RefundNotFound, RefundOpened, RefundStatus
from zerosum.domain.refusal import Refusal
from zerosum.errors import Bug
from zerosum.ports import Change, TurnRecord
from zerosum.store import table as t
from zerosum.store.mapping import LogRow, Row, canonical_json


def log_rows(change: Change[Checkout] | None, turns: Sequence[tuple[int, TurnRecord]], now_ms: int) -> Iterator[LogRow]:
    """The rows one checkout's turns add: history in the order of events, then what came with the turn."""
    before = change.before if change else None
    statuses = {str(order.id): order.status for order in before.orders.values()} if before else {}
    for index, turn in turns:
        for offset, event in enumerate(turn.events):
            yield index, t.HISTORY, _history_row(turn, turn.first_version + offset, event, statuses, now_ms)
        if turn.key_reuse is not None:
            yield index, t.REFUSALS, _refusal_row(turn, now_ms)
        if turn.inbox is not None:
            yield index, t.INBOX, _inbox_row(turn, now_ms)


def _history_row(turn: TurnRecord, version: int, event: m.Event, statuses: dict[str, OrderStatus], now_ms: int) -> Row:
    type_, order_id, detail = _told(event)
    _fold(event, statuses)
    return {
        "tenant": turn.entity.tenant, "checkout_id": turn.entity.id, "version": version, "type": type_,
        "payment_order_id": order_id, "status": statuses.get(order_id, ""), "detail": canonical_json(detail),
        "at_ms": now_ms,
    }  # fmt: skip


def _refusal_row(turn: TurnRecord, now_ms: int) -> Row:
    reuse = turn.key_reuse
    assert reuse is not None
    return {
        "tenant": reuse.key.tenant, "method": reuse.key.method, "key": reuse.key.key,
        "fingerprint": reuse.fingerprint, "reason": reuse.reason, "at_ms": now_ms,
    }  # fmt: skip


def _inbox_row(turn: TurnRecord, now_ms: int) -> Row:
    record = turn.inbox
    assert record is not None
    delivery = record.delivery
    return {
        "psp": delivery.psp, "event_id": delivery.event_id, "tenant": turn.entity.tenant,
        "checkout_id": turn.entity.id, "type": delivery.type, "psp_object_id": record.object_id,
        "body_sha256": delivery.body_sha256, "verified_with": delivery.verified_with, "outcome": record.outcome,
        "received_at_ms": now_ms,
    }  # fmt: skip


def _fold(event: m.Event, statuses: dict[str, OrderStatus]) -> None:
    """Moves the one order the event moves, by the same table the domain moved it by."""
    match event:
        case m.CheckoutSubmitted():
            statuses.update({line.order_id: OrderStatus.NOT_STARTED for line in event.command.lines})
        case m.AttemptOpened():
            statuses[event.order_id] = _moved(statuses, event.order_id, OrderEvent.ATTEMPT_OPENED)
        case m.OrderMoved():
            statuses[event.order_id] = _moved(statuses, event.order_id, event.type)
        case _:
            pass


def _moved(statuses: dict[str, OrderStatus], order_id: str, event: OrderEvent) -> OrderStatus:
    before = statuses.get(order_id)
    after = next_status(before, event) if before else None
    if after is None or isinstance(after, Refusal):
        raise Bug(f"history of order {order_id}: {event} does not follow {before}")
    return after


def _told(event: m.Event) -> tuple[str, str, dict[str, Any]]:
    """The type, the order concerned ("" = none) and the detail of an event, the most frequent ones first."""
    match event:
        case m.OperationStarted() | m.OperationSettled():
            return type(event).__name__, event.order_id, _operation_detail(event.operation)
        case m.WalletUpdated() | m.LedgerUpdated():
            return type(event).__name__, event.order_id, {}
        case m.OrderMoved():
            return event.type, event.order_id, {"reason": event.reason}
        case m.ObjectPrepared():
            return "ObjectPrepared", event.order_id, {"psp_object_id": event.object_id}
        case m.AttemptOpened():
            return "AttemptOpened", event.order_id, {"number": event.number, "psp": event.psp}
        case m.CheckoutAnswered():
            return "CheckoutAnswered", "", {}
        case m.RiskAssessed():
            return "RiskAssessed", "", {"verdict": event.verdict, "reason": event.reason}
        case m.CheckoutSubmitted():
            return "CheckoutSubmitted", "", {"payment_orders": [_line_detail(line) for line in event.command.lines]}
        case m.TodoMoved():
            return event.type, event.todo.order_id, _todo_detail(event)
        case PostingRefused():
            return "PostingRefused", event.order_id, {"kind": event.kind, "reason": event.reason}
        case RefundOpened() | RefundEnded():
            return _REFUND_TYPES[event.refund.status], event.order_id, _refund_detail(event.refund)
        case RefundNotFound():
            return "RefundNotFound", event.order_id, {"number": event.number}
        case m.SettlementTold():
            return "SettlementTold", event.order_id, _settlement_detail(event)
        case m.MismatchOpened():
            return "MismatchOpened", event.mismatch.order_id, _mismatch_detail(event.mismatch)
        case m.MismatchResolved():
            return "MismatchResolved", event.order_id, {"mismatch_id": event.mismatch_id}
        case _:
            assert_never(event)


def _line_detail(line: m.OrderLine) -> dict[str, Any]:
    return {
        "payment_order_id": line.order_id, "seller_account": line.seller_account,
        "amount_minor": line.money.amount_minor, "currency": line.money.currency,
    }  # fmt: skip


def _todo_detail(event: m.TodoMoved) -> dict[str, Any]:
    todo = event.todo
    return {
        "todo_id": todo.id, "kind": todo.kind, "number": todo.number, "tries": todo.tries, "due_at_ms": todo.due_at_ms,
        "state": todo.state, "reason": event.reason,
    }  # fmt: skip


def _operation_detail(operation: Operation) -> dict[str, Any]:
    """Everything but the stored request, which holds the token."""
    return {
        "kind": operation.kind, "number": operation.number, "attempt": operation.attempt, "key": operation.key,
        "state": operation.state, "answer": operation.answer,
    }  # fmt: skip


_REFUND_TYPES = {
    RefundStatus.PENDING: "RefundOpened",
    RefundStatus.SUCCEEDED: "RefundSucceeded",
    RefundStatus.FAILED: "RefundFailed",
}


def _refund_detail(refund: Refund) -> dict[str, Any]:
    return {
        "number": refund.number, "cause": refund.cause, "amount_minor": refund.money.amount_minor,
        "currency": refund.money.currency, "reason": refund.reason, "requested_by": refund.requested_by,
        "outcome": refund.outcome,
    }  # fmt: skip


def _settlement_detail(event: m.SettlementTold) -> dict[str, Any]:
    return {
        "psp": event.line.psp, "line_id": event.line.line_id, "file_id": event.line.file_id, "status": event.status,
        "psp_object_id": event.object_id, "amount_minor": event.money.amount_minor, "currency": event.money.currency,
    }  # fmt: skip


def _mismatch_detail(case: m.Mismatch) -> dict[str, Any]:
    return {
        "mismatch_id": case.id, "number": case.number, "kind": case.kind, "psp": case.psp,
        "psp_object_id": case.object_id, "amount_minor": case.money.amount_minor, "currency": case.money.currency,
        "detail": case.detail,
    }  # fmt: skip
