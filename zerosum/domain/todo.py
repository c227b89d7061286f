"""To-dos: effects not yet finished. One table is the outbox, the retry queue and the dead-letter queue.

Life: OPEN (waits until `due_at_ms`, or runs: then `due_at_ms` is the end of its lease) -> DONE or DEAD. Before each run a
turn commits `tries + 1` and the lease; the turn that records the result closes it. Over budget it dies *before* running,
the state of the money untouched. Source: design section 3 "To-dos".

Invariant: whoever decided an effect wrote its to-do in the same commit, so nothing decided is ever forgotten.
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.identity import OrderId


class TodoKind(StrEnum):
    """What a to-do wants. The first four of an order are operations of the PSP."""

    PREPARE = "prepare"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    REFUND = "refund"
    ASSESS_RISK = "assess_risk"
    CREDIT_WALLET = "credit_wallet"
    POST_JOURNAL = "post_journal"
    POST_SUSPENSE = "post_suspense"
    CLEAR_SUSPENSE = "clear_suspense"
    DEBIT_WALLET = "debit_wallet"
    RETURN_WALLET = "return_wallet"
    POST_REFUND = "post_refund"
    ANSWER = "answer"


class TodoState(StrEnum):
    """Whether it is still to do."""

    OPEN = "OPEN"
    DONE = "DONE"
    DEAD = "DEAD"


@dataclass(frozen=True, slots=True)
class Todo:
    """One effect not yet finished. `order_id` is "" where it concerns the whole checkout.

    `number`: of the operation; of the mismatch for suspense; of the refund for its postings; else 1.
    `tries`: runs begun. `created_at_ms` starts budgets in time; a replay by an operator resets both.
    """

    id: str
    kind: TodoKind
    order_id: OrderId
    number: int
    tries: int
    due_at_ms: int
    state: TodoState
    reason: str
    created_at_ms: int

    @property
    def is_open(self) -> bool:
        """It will be run, or is being run."""
        return self.state is TodoState.OPEN


def todo_id(kind: TodoKind, order_id: str, number: int) -> str:
    """The id of a to-do within its checkout: derived, so that the same decision never makes two."""
    return f"{kind}/{number}/{order_id}" if order_id else f"{kind}/{number}"


PSP_KINDS = frozenset({TodoKind.PREPARE, TodoKind.CONFIRM, TodoKind.CANCEL, TodoKind.REFUND})
"""To-dos that are operations of a PSP."""
