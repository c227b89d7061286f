"""A refund: that an order's whole amount is to go back to the buyer, why, and what became of it. A row of its own.

The order's status stays SUCCESS, for its money was taken; *refunded* and *reversed* are read from here. A reversal is a refund
that we decided ourselves. What leads from one state to the next is told in `reversal.py`. Source: design section 5.

Invariant: an order has at most one refund that is not FAILED, for ever: one reversal per target.
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.identity import Key, OrderId, fingerprint_of
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason
from zerosum.domain.todo import TodoKind


class RefundCause(StrEnum):
    """Why money goes back."""

    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    """The seller's account cannot take it: wallet or ledger refused for good."""
    CHECKOUT_FAILED = "CHECKOUT_FAILED"
    """Another order of the checkout was not paid, and the caller wanted all or none."""
    REQUESTED = "REQUESTED"
    """A caller asked for it."""


class RefundStatus(StrEnum):
    """What is known of it."""

    PENDING = "PENDING"
    """Promised; the PSP may or may not have given the money back yet."""
    SUCCEEDED = "SUCCEEDED"
    """Proof: the buyer has the money."""
    FAILED = "FAILED"
    """Definitely not given back, and it will not be by this refund."""


@dataclass(frozen=True, slots=True)
class Refund:
    """`number`: 1, 2, .. within its order, also that of the PSP's operation. `money`: the whole of the order.

    `reason`: the caller's word, or who refused the posting. `requested_by`: from the verified token, "" = the house.
    `outcome`: why it FAILED, else "". `ended_at_ms`: 0 while it is PENDING.
    """

    number: int
    cause: RefundCause
    status: RefundStatus
    money: Money
    reason: str
    requested_by: str
    outcome: str
    opened_at_ms: int
    ended_at_ms: int

    @property
    def is_live(self) -> bool:
        """It stands in the way of another one."""
        return self.status is not RefundStatus.FAILED

    @property
    def is_reversal(self) -> bool:
        """We decided it ourselves."""
        return self.cause is not RefundCause.REQUESTED


# ---- what a checkout is told, and what happens to it -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRefund:
    """Give an order's whole amount back to the buyer. `key`: the caller's idempotency key.

    `money`: what the caller says the whole is, None = whatever it is. `reason`: UPPER_SNAKE_CASE. `requested_by`: from the
    verified token.
    """

    order_id: OrderId
    key: Key
    money: Money | None
    reason: str
    requested_by: str

    def fingerprint(self, whole: Money) -> str:
        """A versioned hash over parsed fields. An absent amount is the whole; who asks is not part of it."""
        money = self.money or whole
        return fingerprint_of(self.order_id, str(money.amount_minor), money.currency, self.reason)


@dataclass(frozen=True, slots=True)
class PostingRefused:
    """Wallet or ledger refuses the capture for good. `kind`: the to-do that brought it."""

    order_id: OrderId
    kind: TodoKind
    reason: Reason


@dataclass(frozen=True, slots=True)
class RefundOpened:
    """The order's whole amount is reserved to go back to the buyer."""

    order_id: OrderId
    refund: Refund


@dataclass(frozen=True, slots=True)
class RefundNotFound:
    """The PSP, which may have forgotten the key of operation `number`, shows that nothing came back: it may be sent again.

    `budget_ms`: when the budget began that it was asked in, the to-do's `created_at_ms`; a later one begins with asking.
    """

    order_id: OrderId
    number: int
    budget_ms: int

    @property
    def answer(self) -> str:
        """What the operation keeps of it."""
        return f"NOT_FOUND/{self.budget_ms}"


@dataclass(frozen=True, slots=True)
class RefundEnded:
    """The refund SUCCEEDED or FAILED, with proof of either."""

    order_id: OrderId
    refund: Refund
