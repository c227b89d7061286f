"""What a checkout is, and how each event changes it. The story of who decides those events is `checkout.py`.

Invariant: `version` rises by one with every event, and the state is the fold of its events (to-dos and the fixed reply
stand beside: they are what is still owed, not what happened).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, assert_never

from zerosum.domain import message as m
from zerosum.domain.identity import EntityKey, OrderId
from zerosum.domain.order import (
    ANSWERABLE,
    TERMINAL,
    Attempt,
    AttemptState,
    OperationKind,
    Order,
    OrderEvent,
    OrderStatus,
    next_status,
)
from zerosum.domain.record import replace
from zerosum.domain.refund import PostingRefused, RefundEnded, RefundNotFound, RefundOpened
from zerosum.domain.refusal import Refusal
from zerosum.domain.todo import Todo
from zerosum.errors import Bug


class CheckoutStatus(StrEnum):
    """Read from the orders: never stored as a decision of its own."""

    OPEN = "OPEN"
    DONE = "DONE"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    REVERSED = "REVERSED"


@dataclass(frozen=True, slots=True)
class Checkout:
    """One payment event: a buyer's click, and everything known about its orders.

    `reply`: the fixed reply, protobuf bytes, None until answered. `is_answered` precedes it within a turn.
    """

    key: EntityKey
    version: int
    fingerprint: str
    buyer: m.Buyer
    token: str
    verdict: m.Verdict
    verdict_reason: str
    orders: Mapping[OrderId, Order]
    todos: Mapping[str, Todo]
    mismatches: Mapping[str, m.Mismatch]
    is_answered: bool
    reply: bytes | None
    created_at_ms: int
    updated_at_ms: int
    on_partial: m.OnPartial = m.OnPartial.KEEP

    @property
    def status(self) -> CheckoutStatus:
        """OPEN until every order is terminal; then how many were charged. REVERSED: we gave back all that was charged."""
        statuses = {order.status for order in self.orders.values()}
        if not statuses <= TERMINAL:
            return CheckoutStatus.OPEN
        charged = [order for order in self.orders.values() if order.status is OrderStatus.SUCCESS]
        if charged and all(order.is_reversed for order in charged):
            return CheckoutStatus.REVERSED
        if statuses == {OrderStatus.SUCCESS}:
            return CheckoutStatus.DONE
        return CheckoutStatus.PARTIAL if charged else CheckoutStatus.FAILED

    @property
    def is_payment_done(self) -> bool:
        """Every order is SUCCESS, and wallet and ledger have taken each. Source: specification "Pay-in"."""
        return all(
            order.status is OrderStatus.SUCCESS and order.wallet_updated and order.ledger_updated
            for order in self.orders.values()
        )

    @property
    def can_be_answered(self) -> bool:
        """Every order is terminal or PENDING: the caller's reply may be fixed."""
        return all(order.status in ANSWERABLE for order in self.orders.values())

    @property
    def is_settled(self) -> bool:
        """Nothing is owed any more: no to-do is open."""
        return not any(todo.is_open for todo in self.todos.values())

    def with_order(self, order: Order) -> "Checkout":
        """The checkout with this order in the place of the one of its id."""
        return replace(self, orders={**self.orders, order.id: order})

    def with_todos(self, todos: Iterable[Todo]) -> "Checkout":
        """The checkout with these to-dos added or in the place of those of their ids."""
        return replace(self, todos={**self.todos, **{todo.id: todo for todo in todos}})


def submitted(event: m.CheckoutSubmitted, now_ms: int) -> Checkout:
    """The first state of a checkout."""
    command = event.command
    orders = {
        line.order_id: Order(
            id=line.order_id, position=position, seller_account=line.seller_account, amount=line.amount,
            money=line.money, status=OrderStatus.NOT_STARTED, reason="", wallet_updated=False, ledger_updated=False,
            attempts=(), operations=(), updated_at_ms=now_ms,
        )
        for position, line in enumerate(command.lines)
    }  # fmt: skip
    return Checkout(
        key=EntityKey(command.tenant, command.checkout_id), version=1, fingerprint=event.fingerprint,
        buyer=command.buyer, token=command.token, verdict=m.Verdict.NONE, verdict_reason="", orders=orders, todos={},
        mismatches={}, is_answered=False, reply=None, created_at_ms=now_ms, updated_at_ms=now_ms,
        on_partial=command.on_partial,
    )  # fmt: skip


def evolve(checkout: Checkout | None, event: m.Event, now_ms: int) -> Checkout:
    """The checkout after the event. Raises Bug where the event cannot follow: decide never makes such a one."""
    if checkout is None:
        if not isinstance(event, m.CheckoutSubmitted):
            raise Bug(f"{type(event).__name__} cannot be the first event of a checkout")
        return submitted(event, now_ms)
    changes = _changes(checkout, event, now_ms)
    return replace(checkout, version=checkout.version + 1, updated_at_ms=now_ms, **changes)


def _changes(checkout: Checkout, event: m.Event, now_ms: int) -> dict[str, Any]:
    """What the event changes, by field: one new state an event, however much it changes."""
    match event:
        case m.CheckoutSubmitted():
            raise Bug("a checkout is submitted once")
        case m.RiskAssessed():
            return {"verdict": event.verdict, "verdict_reason": event.reason}
        case m.MismatchOpened():
            return {"mismatches": {**checkout.mismatches, event.mismatch.id: event.mismatch}}
        case m.MismatchResolved():
            resolved = replace(_of(checkout.mismatches, event.mismatch_id), is_resolved=True)
            return {"mismatches": {**checkout.mismatches, event.mismatch_id: resolved}}
        case m.SettlementTold() | PostingRefused():
            return {}
        case m.TodoMoved():
            return {"todos": {**checkout.todos, event.todo.id: event.todo}}
        case m.CheckoutAnswered():
            return {"is_answered": True}
        case _:
            order = _evolve_order(_of(checkout.orders, event.order_id), event, now_ms)
            return {"orders": {**checkout.orders, order.id: order}}


_OrderScoped = (
    m.AttemptOpened
    | m.OperationStarted
    | m.OperationSettled
    | m.ObjectPrepared
    | m.OrderMoved
    | m.WalletUpdated
    | m.LedgerUpdated
    | RefundOpened
    | RefundNotFound
    | RefundEnded
)


def _evolve_order(order: Order, event: _OrderScoped, now_ms: int) -> Order:
    match event:
        case m.AttemptOpened():
            attempt = Attempt(event.number, event.psp, AttemptState.UNKNOWN, "", now_ms)
            return _moved(order.with_attempt(attempt, now_ms), OrderEvent.ATTEMPT_OPENED, "", now_ms)
        case m.OperationStarted() | m.OperationSettled():
            return order.with_operation(event.operation, now_ms)
        case m.ObjectPrepared():
            return order.with_attempt(replace(_open_attempt(order), object_id=event.object_id), now_ms)
        case m.OrderMoved():
            return _moved(order, event.type, event.reason, now_ms)
        case m.WalletUpdated():
            return replace(order, wallet_updated=True, updated_at_ms=now_ms)
        case m.LedgerUpdated():
            return replace(order, ledger_updated=True, updated_at_ms=now_ms)
        case RefundOpened() | RefundEnded():
            return order.with_refund(event.refund, now_ms)
        case RefundNotFound():
            asked = _of({op.number: op for op in order.operations if op.kind is OperationKind.REFUND}, event.number)
            return order.with_operation(replace(asked, answer=event.answer), now_ms)
        case _:
            assert_never(event)


_MONEY_KNOWN = {
    OrderEvent.ORDER_CHARGED: AttemptState.CHARGED,
    OrderEvent.ORDER_FAILED: AttemptState.NO_CHARGE,
    OrderEvent.ORDER_CANCELED: AttemptState.NO_CHARGE,
}


def _moved(order: Order, event: OrderEvent, reason: str, now_ms: int) -> Order:
    status = next_status(order.status, event)
    if isinstance(status, Refusal):
        raise Bug(f"order {order.id}: {status.message}")
    attempts, known = order.attempts, _MONEY_KNOWN.get(event)
    if known is not None and attempts:
        attempts = (*attempts[:-1], replace(attempts[-1], state=known))
    return replace(order, status=status, reason=reason, attempts=attempts, updated_at_ms=now_ms)


_K = TypeVar("_K", bound=str | int)
_V = TypeVar("_V")


def _of(things: Mapping[_K, _V], wanted: _K) -> _V:
    thing = things.get(wanted)
    if thing is None:
        raise Bug(f"the checkout has no {wanted}")
    return thing


def _open_attempt(order: Order) -> Attempt:
    if order.attempt is None:
        raise Bug(f"order {order.id} has no attempt")
    return order.attempt
