"""Money that moved without a home: charged after its order was given up, or of an object that was never the order's own.

It goes to suspense and opens a case. A late charge is refunded, once, under a key of its own, and the PSP is asked until it
says what became of it: with proof suspense is cleared and the case closed; where it has failed, for good, suspense keeps it for
people. A second object's charge waits for people. Source: design section 4, "Facts are never refused".

Invariant: one case a charge, and one refund of it, however often and by whomever it is told.
"""

from zerosum.domain import message as m
from zerosum.domain.draft import Draft
from zerosum.domain.order import OperationKind, OperationState, Order
from zerosum.domain.reversal import ask_again_for_refund, is_about, is_whole
from zerosum.domain.todo import TodoKind


def charged_late(draft: Draft, order: Order, fact: m.Report) -> None:
    """Charged after the order was given up: suspense, a case, and a refund, once."""
    if late_charge_of(draft, order) is not None:
        ask_again_for_refund(draft, fact)
        return
    suspend(draft, order, fact, m.MismatchKind.LATE_CHARGE, f"charged while the order was {order.status}")
    draft.start(order.id, OperationKind.REFUND, psp=fact.psp, object_id=fact.object_id)


def suspend(draft: Draft, order: Order, fact: m.Report, kind: m.MismatchKind, detail: str) -> None:
    """Opens the case of a charge and posts it to suspense, once."""
    opened = draft.open_case_about(fact, kind, detail)
    if opened is not None:
        draft.run(TodoKind.POST_SUSPENSE, order.id, opened.number)


def given_back(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP says that the buyer has the late charge back: its case is closed, and suspense is cleared."""
    late = late_charge_of(draft, order)
    if late is None or not _is_open(order, fact) or not is_whole(draft, fact, late.money):
        return
    draft.settle(order.id, OperationKind.REFUND, OperationState.DONE, fact.object_id)
    draft.happen(m.MismatchResolved(late.id, order.id))
    draft.run(TodoKind.CLEAR_SUSPENSE, order.id, late.number)


def not_given_back(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP says that the late charge's refund has failed. That is final: suspense keeps the money, the case stays open for
    people, and nothing that is told afterwards of this refund, late or from a stored answer, is its proof."""
    if _is_open(order, fact):
        draft.settle(order.id, OperationKind.REFUND, OperationState.DECLINED, fact.reason or "REFUND_FAILED")


def _is_open(order: Order, fact: m.Report) -> bool:
    """Whether the fact is about the order's refund, and nothing final is known of that yet."""
    refund = order.newest(OperationKind.REFUND)
    return refund is not None and refund.state is OperationState.UNKNOWN and is_about(fact, refund)


def late_charge_of(draft: Draft, order: Order) -> m.Mismatch | None:
    """The case of the order's late charge, open or closed."""
    cases = draft.checkout.mismatches.values()
    return next((case for case in cases if case.kind is m.MismatchKind.LATE_CHARGE and case.order_id == order.id), None)
