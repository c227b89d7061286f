"""A payment order: every status there is, the one table that moves it, and what it holds.

The table is total: a pair (status, event) is either in `TRANSITIONS` or a typed refusal. Status never regresses; what
arrives late is recorded beside it. docs/order-states.md is drawn from this table. Source: design section 5.

Invariant: FAILED and CANCELED are only reached with proof that no money moved.
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.identity import Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.record import replace
from zerosum.domain.refund import Refund, RefundStatus
from zerosum.domain.refusal import Reason, Refusal


class OrderStatus(StrEnum):
    """Where an order stands."""

    NOT_STARTED = "NOT_STARTED"
    EXECUTING = "EXECUTING"
    PENDING = "PENDING"
    AUTHORIZED = "AUTHORIZED"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


class OrderEvent(StrEnum):
    """What moves an order. The names are those of the history."""

    ATTEMPT_OPENED = "AttemptOpened"
    ORDER_PENDED = "OrderPended"
    ORDER_AUTHORIZED = "OrderAuthorized"
    ORDER_CHARGED = "OrderCharged"
    ORDER_FAILED = "OrderFailed"
    ORDER_CANCELED = "OrderCanceled"


_S, _E = OrderStatus, OrderEvent

TRANSITIONS: dict[tuple[OrderStatus, OrderEvent], OrderStatus] = {
    (_S.NOT_STARTED, _E.ATTEMPT_OPENED): _S.EXECUTING,
    (_S.NOT_STARTED, _E.ORDER_FAILED): _S.FAILED,
    (_S.EXECUTING, _E.ORDER_PENDED): _S.PENDING,
    (_S.EXECUTING, _E.ORDER_AUTHORIZED): _S.AUTHORIZED,
    (_S.EXECUTING, _E.ORDER_CHARGED): _S.SUCCESS,
    (_S.EXECUTING, _E.ORDER_FAILED): _S.FAILED,
    (_S.EXECUTING, _E.ORDER_CANCELED): _S.CANCELED,
    (_S.PENDING, _E.ORDER_AUTHORIZED): _S.AUTHORIZED,
    (_S.PENDING, _E.ORDER_CHARGED): _S.SUCCESS,
    (_S.PENDING, _E.ORDER_FAILED): _S.FAILED,
    (_S.PENDING, _E.ORDER_CANCELED): _S.CANCELED,
    (_S.AUTHORIZED, _E.ORDER_CHARGED): _S.SUCCESS,
    (_S.AUTHORIZED, _E.ORDER_CANCELED): _S.CANCELED,
}

TERMINAL = frozenset({_S.SUCCESS, _S.FAILED, _S.CANCELED})
ANSWERABLE = TERMINAL | {_S.PENDING}
"""Statuses that let the caller's reply be fixed."""


def next_status(status: OrderStatus, event: OrderEvent) -> OrderStatus | Refusal:
    """The status after `event`, or a refusal ILLEGAL_TRANSITION that names both."""
    after = TRANSITIONS.get((status, event))
    return after or Refusal(Reason.ILLEGAL_TRANSITION, "", f"{event} does not apply to an order that is {status}")


class AttemptState(StrEnum):
    """What is known about the money of one attempt. Born UNKNOWN; only a definitive answer makes it NO_CHARGE."""

    UNKNOWN = "UNKNOWN"
    CHARGED = "CHARGED"
    NO_CHARGE = "NO_CHARGE"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of an order at one PSP. `object_id` is "" until the prepared object's id is committed."""

    number: int
    psp: str
    state: AttemptState
    object_id: str
    opened_at_ms: int


class OperationKind(StrEnum):
    """What may be asked of a PSP."""

    PREPARE = "prepare"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    REFUND = "refund"


class OperationState(StrEnum):
    """What is known of one operation.

    NOT_EXECUTED: proof that it had no effect. ABANDONED (a prepare only): perhaps executed, but it moved no money and
    nobody will ever confirm its object; the next number takes its place.
    """

    UNKNOWN = "UNKNOWN"
    DONE = "DONE"
    DECLINED = "DECLINED"
    NOT_EXECUTED = "NOT_EXECUTED"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of a PSP, under one key for ever.

    `request` is canonical JSON: every re-send is built from it, so that a deploy cannot change it. `attempt`: its number.
    """

    kind: OperationKind
    number: int
    attempt: int
    key: Key
    request: str
    state: OperationState
    answer: str
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Order:
    """Money for one seller. `amount` is the caller's own string; `money` the same in minor units."""

    id: OrderId
    position: int
    seller_account: str
    amount: str
    money: Money
    status: OrderStatus
    reason: str
    wallet_updated: bool
    ledger_updated: bool
    attempts: tuple[Attempt, ...]
    operations: tuple[Operation, ...]
    updated_at_ms: int
    refunds: tuple[Refund, ...] = ()

    @property
    def refund(self) -> Refund | None:
        """The one refund that has not failed, if there is one."""
        return next((refund for refund in self.refunds if refund.is_live), None)

    @property
    def is_reversed(self) -> bool:
        """We gave its money back, with proof."""
        refund = self.refund
        return refund is not None and refund.is_reversal and refund.status is RefundStatus.SUCCEEDED

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt, the only one that may be open."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_terminal(self) -> bool:
        """Nothing moves this order's status any more."""
        return self.status in TERMINAL

    def operation(self, kind: OperationKind, number: int) -> Operation | None:
        """The operation of that kind and number, if it was started."""
        return next((op for op in self.operations if op.kind == kind and op.number == number), None)

    def newest(self, kind: OperationKind) -> Operation | None:
        """The operation of that kind with the highest number: their times say nothing, the clock may have jumped back."""
        return max((op for op in self.operations if op.kind == kind), key=lambda op: op.number, default=None)

    def with_operation(self, changed: Operation, now_ms: int) -> "Order":
        """The order with this operation added, or put in the place of the one of its kind and number."""
        known = self.operation(changed.kind, changed.number)
        operations = (*self.operations, changed)
        if known is not None:
            operations = tuple(changed if op is known else op for op in self.operations)
        return replace(self, operations=operations, updated_at_ms=now_ms)

    def with_attempt(self, changed: Attempt, now_ms: int) -> "Order":
        """The order with this attempt added, or put in the place of the one of its number."""
        known = next((attempt for attempt in self.attempts if attempt.number == changed.number), None)
        attempts = (*self.attempts, changed)
        if known is not None:
            attempts = tuple(changed if attempt is known else attempt for attempt in self.attempts)
        return replace(self, attempts=attempts, updated_at_ms=now_ms)

    def with_refund(self, changed: Refund, now_ms: int) -> "Order":
        """The order with this refund added, or put in the place of the one of its number."""
        others = tuple(refund for refund in self.refunds if refund.number != changed.number)
        return replace(self, refunds=(*others, changed), updated_at_ms=now_ms)
