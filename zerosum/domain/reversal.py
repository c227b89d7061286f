"""How an order's money goes back to the buyer: one story for a reversal of ours and for a refund that somebody asked for.

It begins with a row that reserves it (`Refund`, PENDING). Nothing is asked of the PSP before

    both sides have said what they made of the capture: wallet and ledger each took it, or refused it for good;
    what the wallet was debited for an earlier refund, which failed, is back in it;
    what the wallet took is debited again;
    a charge that one of them refused stands in suspense: as it came, or out of the capture that the ledger had taken.

Then the PSP is asked to refund, under one derived key for ever, and asked again until it says REFUNDED: that is the proof. Once
it may have forgotten that key it is only asked, unless it shows that nothing was given back: then the same may go again.
With proof the ledger follows: the capture is undone by the original split, or suspense is cleared. A definitive "no" of the
PSP puts back what the wallet was debited; a charge without a home stays in suspense, with its case open.

Trouble is retried, never reversed: only a typed refusal of wallet or ledger begins a reversal. Source: design section 4
"Refunds and pay-outs: reserve, call, settle", failures.md rows P16 to P18, specification "Error handling".

Invariant: one refund per order that has not failed, and money of a refund leaves suspense or the seller's books only with the
PSP's proof of that very refund.
"""

from collections.abc import Callable
from typing import Final

from zerosum.domain import message as m
from zerosum.domain.draft import Draft
from zerosum.domain.effect import is_remembered
from zerosum.domain.identity import OrderId
from zerosum.domain.money import Money
from zerosum.domain.order import Operation, OperationKind, OperationState, Order, OrderStatus
from zerosum.domain.record import replace
from zerosum.domain.refund import (
    PostingRefused,
    Refund,
    RefundCause,
    RefundEnded,
    RefundNotFound,
    RefundOpened,
    RefundStatus,
    RequestRefund,
)
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.todo import Todo, TodoKind, TodoState, todo_id
from zerosum.errors import Bug

_REFUND = OperationKind.REFUND


# ---- how it begins -------------------------------------------------------------------------------------------


def open_refund(draft: Draft, order: Order, cause: RefundCause, *, reason: str, requested_by: str = "") -> None:
    """Reserves the order's whole amount, and takes the first steps."""
    number = len(order.refunds) + 1
    opened_at_ms = draft.now_ms
    refund = Refund(number, cause, RefundStatus.PENDING, order.money, reason, requested_by, "", opened_at_ms, 0)
    draft.happen(RefundOpened(order.id, refund))
    advance(draft, order.id)


def request_refund(draft: Draft, command: RequestRefund) -> Refusal | None:
    """A caller wants an order's money back with the buyer: reserved, once for ever, or refused with nothing moved.

    Refusals: UNKNOWN_ID, NOT_REFUNDABLE, ALREADY_REFUNDED, REFUND_NOT_WHOLE. Whether the seller's balance covers it shows only
    when the wallet is debited: the refund FAILED then, BALANCE_TOO_LOW, and the PSP was never asked.
    """
    order, path = draft.checkout.orders.get(command.order_id), "payment_order_id"
    if order is None:
        return Refusal(Reason.UNKNOWN_ID, path, "there is nothing under this id")
    if order.status is not OrderStatus.SUCCESS:
        return Refusal(Reason.NOT_REFUNDABLE, path, f"the order is {order.status}: only captured money can be refunded")
    if order.refund is not None:
        return Refusal(Reason.ALREADY_REFUNDED, path, f"its one refund is {order.refund.status}")
    if _case_of(draft, order) is not None:
        return Refusal(Reason.NOT_REFUNDABLE, path, "its money is in suspense: finance's open case decides")
    if command.money is not None and command.money != order.money:
        return Refusal(Reason.REFUND_NOT_WHOLE, "money", f"only the whole of {order.money} can be refunded")
    open_refund(draft, order, RefundCause.REQUESTED, reason=command.reason, requested_by=command.requested_by)
    return None


def reverse_unless_all_paid(draft: Draft) -> None:
    """The caller wanted all or none: once every order is final and one was not paid, or could not be kept, all others go back.

    Whenever that shows, and whatever became of that one's own refund: a charge that its account cannot take is nobody's sale.
    """
    if draft.checkout.on_partial is not m.OnPartial.REVERSE:
        return
    orders = list(draft.checkout.orders.values())
    if not all(order.is_terminal for order in orders):
        return
    paid = [order for order in orders if order.status is OrderStatus.SUCCESS and not _is_refused(draft, order)]
    if len(paid) == len(orders):
        return
    for order in paid:
        if order.refund is None and not any(refund.is_reversal for refund in order.refunds):
            open_refund(draft, order, RefundCause.CHECKOUT_FAILED, reason="another order was not paid")


def _is_refused(draft: Draft, order: Order) -> bool:
    """Wallet or ledger has refused the capture for good. It stays so: what brought it is done, and nothing was taken."""
    taken = {TodoKind.CREDIT_WALLET: order.wallet_updated, TodoKind.POST_JOURNAL: order.ledger_updated}
    return any(_is_done(draft, kind, order.id, 1) and not is_taken for kind, is_taken in taken.items())


def refused(draft: Draft, todo: Todo, reason: Reason | None) -> bool:
    """A peer refuses one of our effects for good; whether that is part of a story. False: people must look."""
    follow = _BY_REFUSAL.get((todo.kind, reason)) if reason is not None else None
    return follow is not None and follow(draft, todo)


def _account_closed(draft: Draft, todo: Todo) -> bool:
    """The seller's account takes no new money: the charge has to go back."""
    draft.happen(PostingRefused(todo.order_id, todo.kind, Reason.ACCOUNT_CLOSED))
    draft.close(todo)
    order = draft.order(todo.order_id)
    if order.refund is None:
        open_refund(draft, order, RefundCause.ACCOUNT_CLOSED, reason=f"{_SIDES[todo.kind]}: {Reason.ACCOUNT_CLOSED}")
    else:
        advance(draft, order.id)
    return True


def _not_covered(draft: Draft, todo: Todo) -> bool:
    """The seller's balance does not cover it: nothing has moved. A refund that was asked for ends. A reversal of ours must
    still be made: its to-do is a dead letter until people have seen to the balance and replay it (`reverse_anew`)."""
    refund = draft.order(todo.order_id).refund
    if refund is None:
        return False
    if refund.is_reversal:
        draft.die(todo, Reason.BALANCE_TOO_LOW)
        return True
    draft.close(todo)
    _end(draft, todo.order_id, refund, RefundStatus.FAILED, Reason.BALANCE_TOO_LOW)
    return True


def is_not_covered(todo: Todo) -> bool:
    """Whether this dead letter is the debit of a reversal that the wallet has refused: under its transfer's id for ever."""
    return todo.kind is TodoKind.DEBIT_WALLET and todo.reason == Reason.BALANCE_TOO_LOW


def reverse_anew(draft: Draft, todo: Todo) -> None:
    """People have seen to the balance: the reversal is reserved again under the next number, with transfer and key of its own.

    Once, for the refused number ends by the same commit: its debit never moved anything and never will, and nothing was asked
    of the PSP under it.
    """
    refund = draft.order(todo.order_id).refund
    if refund is None or refund.number != todo.number or not refund.is_reversal:
        raise Bug(f"to-do {todo.id} is of no reversal that waits")
    draft.close(todo)
    _end(draft, todo.order_id, refund, RefundStatus.FAILED, Reason.BALANCE_TOO_LOW)
    open_refund(draft, draft.order(todo.order_id), refund.cause, reason=refund.reason, requested_by=refund.requested_by)


_SIDES: Final = {TodoKind.CREDIT_WALLET: "wallet", TodoKind.POST_JOURNAL: "ledger"}

_BY_REFUSAL: Final[dict[tuple[TodoKind, Reason], Callable[[Draft, Todo], bool]]] = {
    (TodoKind.CREDIT_WALLET, Reason.ACCOUNT_CLOSED): _account_closed,
    (TodoKind.POST_JOURNAL, Reason.ACCOUNT_CLOSED): _account_closed,
    (TodoKind.DEBIT_WALLET, Reason.BALANCE_TOO_LOW): _not_covered,
}
"""Refusals that are part of a story. Every other "no" of a peer is a dead letter."""


# ---- step by step --------------------------------------------------------------------------------------------


def advance(draft: Draft, order_id: OrderId) -> None:
    """Takes the steps of a pending refund that nothing stands before any more. Taken again, it takes none twice."""
    order = draft.order(order_id)
    refund, attempt = order.refund, order.attempt
    if refund is None or refund.status is not RefundStatus.PENDING:
        return
    if not _both_sides_said(draft, order) or not _is_all_returned(draft, order):
        return
    if attempt is None:
        raise Bug(f"order {order_id} is refunded and was never charged")
    steps = _before_the_psp(draft, order, refund)
    for kind, number in steps:
        if todo_id(kind, order_id, number) not in draft.checkout.todos:
            draft.run(kind, order_id, number)
    is_ready = all(_is_done(draft, kind, order_id, number) for kind, number in steps)
    if is_ready and order.operation(_REFUND, refund.number) is None:
        draft.start(order_id, _REFUND, psp=attempt.psp, object_id=attempt.object_id, number=refund.number)


def _before_the_psp(draft: Draft, order: Order, refund: Refund) -> list[tuple[TodoKind, int]]:
    """What must be done first, by kind and number: the wallet is debited, and a charge without a home is in suspense."""
    steps = [(TodoKind.DEBIT_WALLET, refund.number)] if order.wallet_updated else []
    if is_homeless(order):
        case = _case_of(draft, order) or _open_case(draft, order, refund)
        steps.append((TodoKind.POST_SUSPENSE, case.number))
    return steps


def _both_sides_said(draft: Draft, order: Order) -> bool:
    return all(_is_done(draft, kind, order.id, 1) for kind in _SIDES)


def _is_all_returned(draft: Draft, order: Order) -> bool:
    """The wallet has back what it was debited for earlier refunds. A debit that overtakes it could be refused, and for ever."""
    back = (draft.checkout.todos.get(todo_id(TodoKind.RETURN_WALLET, order.id, one.number)) for one in order.refunds)
    return all(todo is None or todo.state is TodoState.DONE for todo in back)


def is_homeless(order: Order) -> bool:
    """Wallet or ledger refused the capture. Only asked when both have said."""
    return not (order.wallet_updated and order.ledger_updated)


def _is_done(draft: Draft, kind: TodoKind, order_id: OrderId, number: int) -> bool:
    todo = draft.checkout.todos.get(todo_id(kind, order_id, number))
    return todo is not None and todo.state is TodoState.DONE


def _case_of(draft: Draft, order: Order) -> m.Mismatch | None:
    cases = draft.checkout.mismatches.values()
    kind = m.MismatchKind.ACCOUNT_CLOSED
    return next((case for case in cases if case.kind is kind and case.order_id == order.id), None)


def _open_case(draft: Draft, order: Order, refund: Refund) -> m.Mismatch:
    """Finance sees a charge without a home from the moment it is known until it is gone."""
    attempt = order.attempt
    opened = attempt and draft.open_case(
        m.MismatchKind.ACCOUNT_CLOSED, order.id, psp=attempt.psp, object_id=attempt.object_id, money=order.money,
        detail=refund.reason,
    )  # fmt: skip
    if not opened:
        raise Bug(f"order {order.id}: no case for a charge without a home")
    return opened


def ask_again_for_refund(draft: Draft, fact: m.Report) -> None:
    """A poll found the refund not there (yet). Silence proves nothing: the same refund is sent or asked for again.

    Where the PSP may have forgotten its key it is only asked for, until a poll shows that nothing was ever given back. That is
    recorded, for this budget alone, and the same request may go again under the same key: it is remembered from then on anew.
    """
    todo = draft.asking(fact)
    if todo is None or todo.kind is not TodoKind.REFUND:
        return
    operation = draft.order(todo.order_id).operation(_REFUND, todo.number)
    if operation is None:
        raise Bug(f"to-do {todo.id} has no operation")
    horizon_ms = draft.policy.horizon_ms
    if fact.is_unrefunded and not is_remembered(operation, todo, draft.now_ms, horizon_ms):
        draft.happen(RefundNotFound(todo.order_id, todo.number, todo.created_at_ms))
    draft.defer(todo, by_ms=min(draft.policy.backoff_cap_ms, 1_000 * todo.tries), reason="refund not seen yet")


# ---- how it ends ---------------------------------------------------------------------------------------------


def proven(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP says that the buyer has the money: the books follow."""
    refund = _asked_for(order, fact)
    if refund is None or not is_whole(draft, fact, refund.money):
        return
    draft.settle(order.id, _REFUND, OperationState.DONE, fact.object_id)
    _end(draft, order.id, refund, RefundStatus.SUCCEEDED, "")
    case = _case_of(draft, order)
    if case is None:
        draft.run(TodoKind.POST_REFUND, order.id, refund.number)
    else:
        draft.happen(m.MismatchResolved(case.id, order.id))
        draft.run(TodoKind.CLEAR_SUSPENSE, order.id, case.number)


def declined(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP has refused for good: the buyer's charge stands. What the wallet was debited for it comes back.

    Of a refund that had succeeded, `came_back` tells.
    """
    refund = _asked_for(order, fact)
    if refund is None:
        return
    draft.settle(order.id, _REFUND, OperationState.DECLINED, fact.reason)
    _end(draft, order.id, refund, RefundStatus.FAILED, fact.reason or "REFUND_FAILED")
    if is_homeless(order):
        return  # suspense keeps it, and its case stays open: people send the money another way
    draft.run(TodoKind.RETURN_WALLET, order.id, refund.number)
    if refund.is_reversal:
        draft.open_case(
            m.MismatchKind.REVERSAL_FAILED, order.id, psp=fact.psp, object_id=fact.object_id, money=order.money,
            detail=f"{refund.cause}: the PSP refused to give the money back",
        )  # fmt: skip


def came_back(draft: Draft, order: Order, fact: m.Report) -> bool:
    """Whether the fact says that a refund which had succeeded has failed after all: the buyer does not have the money, and
    finance has a case. Nothing moves by itself: the PSP holds it for us, and people send it another way."""
    ended = (op for op in order.operations if op.kind is _REFUND and op.state is OperationState.DONE)
    if all(op.key != fact.refund_key for op in ended):
        return False
    kind, detail = m.MismatchKind.REFUND_FAILED, f"{fact.reason}: the refund had succeeded, and came back"
    draft.open_case(kind, order.id, psp=fact.psp, object_id=fact.object_id, money=fact.money, detail=detail)
    return True


def is_whole(draft: Draft, fact: m.Report, whole: Money) -> bool:
    """Whether what the PSP gave back is all of it; a case where it is not, and nothing is proven."""
    if fact.money == whole:
        return True
    kind, detail = m.MismatchKind.WRONG_MONEY, f"the refund was to be of {whole}, the PSP says {fact.money}"
    draft.open_case_about(fact, kind, detail)
    return False


def _asked_for(order: Order, fact: m.Report) -> Refund | None:
    """The pending refund that the PSP was asked for and has not settled, where the fact is about it."""
    refund = order.refund
    operation = order.operation(_REFUND, refund.number) if refund is not None else None
    is_open = operation is not None and operation.state is OperationState.UNKNOWN and is_about(fact, operation)
    return refund if is_open else None


def is_about(fact: m.Report, operation: Operation) -> bool:
    """Whether a fact about a refund tells of this one: by its key where the PSP names it, and by the run that learned it.

    What is late may tell of an earlier one of the order, which failed.
    """
    own = todo_id(TodoKind.REFUND, fact.order_id, operation.number)
    return fact.refund_key in ("", operation.key) and fact.todo_id in ("", own)


def _end(draft: Draft, order_id: OrderId, refund: Refund, status: RefundStatus, outcome: str) -> None:
    draft.happen(RefundEnded(order_id, replace(refund, status=status, outcome=outcome, ended_at_ms=draft.now_ms)))
