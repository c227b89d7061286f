"""Facts from a PSP: what an answer, a poll, a webhook or a settlement line says about an object, and what follows.

The rules are the same for all four. What repeats changes nothing; what comes late is a fact all the same, and what it leads to
for an order that cannot take the money is told in `late_charge.py`, what leads money back to the buyer in `reversal.py`.
Amount, currency and reference are compared with what was asked before anything is believed. What was charged otherwise than
asked is a matter for people: no confirm is sent while it stands, and it ends when the PSP says that the buyer has it all back.
Source: design section 4.

Invariant: only CHARGED makes a SUCCESS, and only CANCELED or REFUSED (no object) makes a FAILED. Where the PSP has told of a
charge for the order, nothing that could charge it once more is sent.
"""

from collections.abc import Callable
from typing import Final

from zerosum.domain import message as m
from zerosum.domain.draft import Draft
from zerosum.domain.late_charge import charged_late, given_back, late_charge_of, not_given_back, suspend
from zerosum.domain.order import Attempt, OperationKind, OperationState, Order, OrderEvent, OrderStatus
from zerosum.domain.retry import poll_after_ms
from zerosum.domain.reversal import ask_again_for_refund, came_back, declined, proven
from zerosum.domain.todo import PSP_KINDS, Todo, TodoKind, todo_id
from zerosum.limits import NUMBERS_MAX

_MOVING = frozenset({OrderStatus.EXECUTING, OrderStatus.PENDING, OrderStatus.AUTHORIZED})
_KIND, _STATE, _IS, _CASE = OperationKind, OperationState, m.ObjectStatus, m.MismatchKind
_FIRST_RUN: Final = {
    _IS.UNCONFIRMED: 1, _IS.PROCESSING: 2, _IS.ACTION_REQUIRED: 2, _IS.AUTHORIZED: 2, _IS.REFUNDED: 2, _IS.REFUND_FAILED: 2
}  # fmt: skip
"""How the confirm of an object begins that was just learned of: 1 = it is sent, 2 = it is asked about. What is charged,
declined or canceled needs none."""


def report(draft: Draft, fact: m.Report) -> None:
    """Takes a fact. Never refuses: what has no home becomes a mismatch."""
    order = draft.checkout.orders.get(fact.order_id)
    if order is None:
        draft.open_case_about(fact, m.MismatchKind.UNKNOWN_ORDER, "no such order in this checkout")
        return
    if fact.settlement is not None:
        draft.happen(m.SettlementTold(order.id, fact.settlement, fact.status, fact.object_id, fact.money))
    attempt = order.attempt
    if fact.status is _IS.REFUSED:
        _refused(draft, order, fact)
    elif attempt is None or (attempt.object_id and attempt.object_id != fact.object_id):
        _foreign_object(draft, order, fact)
    elif not _is_as_asked(draft, order, fact):
        return
    else:
        if not attempt.object_id:
            _learn_object(draft, order, attempt, fact)
        _BY_STATUS[fact.status](draft, draft.order(order.id), fact)


# ---- is it about what we asked? ------------------------------------------------------------------------------


def _foreign_object(draft: Draft, order: Order, fact: m.Report) -> None:
    """A charge of it goes to suspense. One that no journal can say is a case all the same: people give it back."""
    if fact.status is _IS.REFUNDED:
        _given_back_by_people(draft, order, fact)
    if fact.status is not _IS.CHARGED:
        return
    detail = "another object than the attempt's own was charged"
    if fact.money.can_be_posted:
        suspend(draft, order, fact, _CASE.SECOND_CHARGE, detail)
    else:
        draft.open_case_about(fact, _CASE.WRONG_MONEY, f"{detail}: {fact.money}, which cannot be posted")


def _is_as_asked(draft: Draft, order: Order, fact: m.Report) -> bool:
    """Compares money and reference; a difference opens a case and stops the order's to-dos for people to look at."""
    if fact.status in (_IS.REFUNDED, _IS.REFUND_FAILED, _IS.CANCELED):
        return True  # nothing is believed of their money; a refund's is compared with the refund
    if fact.reference != order.id:
        kind, detail = _CASE.WRONG_REFERENCE, f"the PSP's reference is {fact.reference!r}"
    elif fact.money != order.money:
        kind, detail = _CASE.WRONG_MONEY, f"asked {order.money}, the PSP says {fact.money}"
    else:
        return True
    draft.open_case_about(fact, kind, detail)
    if fact.status is _IS.CHARGED and order.attempt is not None and not order.attempt.object_id:
        _take_over(draft, order, order.attempt, fact, tries=2)
    for todo in list(draft.checkout.todos.values()):
        if todo.order_id == order.id and todo.is_open and todo.kind in PSP_KINDS:
            draft.die(todo, f"{kind}: {detail}")
    return False


def _learn_object(draft: Draft, order: Order, attempt: Attempt, fact: m.Report) -> None:
    """The object exists and its id is known: only now may a confirm be sent. One that waits, or was refunded, was confirmed in
    a life that our books have lost: it is asked about before anything is sent."""
    tries = _FIRST_RUN.get(fact.status)
    _take_over(draft, order, attempt, fact, tries=tries)
    second, confirm = _second_charge(draft, order), draft.open_todo(TodoKind.CONFIRM, order.id, 1)
    if second is not None and confirm is not None and confirm.tries == 1:
        draft.die(confirm, f"{second.kind}: {second.detail}")


def _take_over(draft: Draft, order: Order, attempt: Attempt, fact: m.Report, *, tries: int | None) -> None:
    """The attempt has its object, one that was charged otherwise than asked included: then no other one is ever confirmed.

    `tries`: how its confirm begins, see `_FIRST_RUN`.
    """
    draft.happen(m.ObjectPrepared(order.id, fact.object_id))
    draft.settle(order.id, _KIND.PREPARE, _STATE.DONE, fact.object_id)
    if tries is not None and order.status in _MOVING:
        since_ms = _budget_since_ms(draft, order, _KIND.PREPARE)
        draft.start(order.id, _KIND.CONFIRM, psp=attempt.psp, object_id=fact.object_id, since_ms=since_ms, tries=tries)


def _budget_since_ms(draft: Draft, order: Order, kind: OperationKind) -> int:
    """When the budget began that the newest operation of the kind is tried in, and what follows from it: an operator's
    replay begins a new one."""
    newest = order.newest(kind)
    todo = draft.checkout.todos.get(todo_id(TodoKind(kind.value), order.id, newest.number)) if newest else None
    return todo.created_at_ms if todo is not None else draft.now_ms


# ---- what people look at -------------------------------------------------------------------------------------


def _second_charge(draft: Draft, order: Order) -> m.Mismatch | None:
    """The open case of another object that was charged for the order: to confirm its own would be to charge it twice."""
    return next((case for case in _open_cases(draft, order) if case.kind is _CASE.SECOND_CHARGE), None)


_PEOPLE_S: Final = frozenset({_CASE.WRONG_MONEY, _CASE.WRONG_REFERENCE, _CASE.SECOND_CHARGE})
"""Cases of charges that were not asked for so: people give them back, at the PSP itself."""

GIVEN_BACK_AT_PSP = "GIVEN_BACK_AT_PSP"
"""The reason of an order that ended because what was charged for it, otherwise than asked, was given back."""


def _given_back_by_people(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP says that the buyer has all of such a charge back: its case is closed. The attempt's own object can be paid once
    only, and was: with that the order ends, CANCELED."""
    told = (fact.object_id, fact.money)
    cases = [case for case in _open_cases(draft, order) if (case.object_id, case.money) == told]
    for case in cases:
        draft.happen(m.MismatchResolved(case.id, order.id))
        if case.kind is _CASE.SECOND_CHARGE:
            draft.run(TodoKind.CLEAR_SUSPENSE, order.id, case.number)
    is_own = order.attempt is not None and order.attempt.object_id == fact.object_id
    if cases and is_own and order.status in _MOVING:
        draft.settle(order.id, _KIND.CONFIRM, _STATE.DONE, fact.object_id)
        draft.close_psp_todos(order.id)
        draft.happen(m.OrderMoved(order.id, OrderEvent.ORDER_CANCELED, GIVEN_BACK_AT_PSP))


def _open_cases(draft: Draft, order: Order) -> list[m.Mismatch]:
    cases = draft.checkout.mismatches.values()
    return [case for case in cases if case.order_id == order.id and case.kind in _PEOPLE_S and not case.is_resolved]


# ---- what the object is --------------------------------------------------------------------------------------


def _refused(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP would not even create the object: there is nothing that could be paid."""
    prepare = order.newest(_KIND.PREPARE)
    is_open = prepare is not None and prepare.state is _STATE.UNKNOWN
    if is_open and order.status in _MOVING and order.attempt is not None and not order.attempt.object_id:
        draft.settle(order.id, _KIND.PREPARE, _STATE.DECLINED, fact.reason)
        draft.happen(m.OrderMoved(order.id, OrderEvent.ORDER_FAILED, fact.reason))


def _unconfirmed(draft: Draft, order: Order, fact: m.Report) -> None:
    """A poll proves that what was sent has not been executed: the next number may go."""
    todo = draft.asking(fact)
    if todo is None or fact.source is not m.ReportSource.POLL or order.status not in _MOVING:
        return
    kind, second = OperationKind(todo.kind.value), _second_charge(draft, order)
    if kind is _KIND.CONFIRM and second is not None:
        draft.die(todo, f"{second.kind}: {second.detail}")
    elif kind in (_KIND.CONFIRM, _KIND.CANCEL):
        _next_number(draft, order, todo)


def _next_number(draft: Draft, order: Order, todo: Todo) -> None:
    """Sends it under a new number, up to `NUMBERS_MAX` in one budget: what is never executed is for people to look at."""
    kind, attempt = OperationKind(todo.kind.value), order.attempt
    since_ms = _budget_since_ms(draft, order, kind)
    sent = sum(1 for each in order.operations if each.kind is kind and each.started_at_ms >= since_ms)
    if sent >= NUMBERS_MAX:
        draft.die(todo, f"sent under {sent} numbers, and never executed")
    elif attempt is not None:
        draft.settle(order.id, kind, _STATE.NOT_EXECUTED, "")
        draft.start(order.id, kind, psp=attempt.psp, object_id=attempt.object_id, since_ms=since_ms)


def _pending(draft: Draft, order: Order, fact: m.Report) -> None:
    """The PSP waits for someone: tell the caller so, and ask again after 1, 2, 4 .. 60 minutes."""
    if order.status is OrderStatus.EXECUTING:
        draft.happen(m.OrderMoved(order.id, OrderEvent.ORDER_PENDED, fact.reason or fact.status.value))
    todo = draft.asking(fact)
    if todo is not None:
        draft.defer(todo, by_ms=poll_after_ms(todo.tries - 1), reason=fact.status.value)


def _authorized(draft: Draft, order: Order, fact: m.Report) -> None:
    if order.status in (OrderStatus.EXECUTING, OrderStatus.PENDING):
        draft.happen(m.OrderMoved(order.id, OrderEvent.ORDER_AUTHORIZED, ""))
    todo = draft.asking(fact)
    if todo is not None:
        draft.defer(todo, by_ms=poll_after_ms(todo.tries - 1), reason=fact.status.value)


def _charged(draft: Draft, order: Order, fact: m.Report) -> None:
    if order.status in (OrderStatus.FAILED, OrderStatus.CANCELED):
        charged_late(draft, order, fact)
    elif order.status in _MOVING:
        draft.settle(order.id, _KIND.CONFIRM, _STATE.DONE, fact.object_id)
        draft.settle(order.id, _KIND.CANCEL, _STATE.NOT_EXECUTED, "charged")
        draft.close_psp_todos(order.id)
        draft.happen(m.OrderMoved(order.id, OrderEvent.ORDER_CHARGED, ""))
        draft.run(TodoKind.CREDIT_WALLET, order.id, 1)
        draft.run(TodoKind.POST_JOURNAL, order.id, 1)
    else:
        ask_again_for_refund(draft, fact)


def _declined(draft: Draft, order: Order, fact: m.Report) -> None:
    """The confirm was declined, yet the object could still be paid: cancel it, and believe the decline afterwards."""
    if order.status not in _MOVING or order.attempt is None:
        return
    todo = draft.asking(fact)
    cancel = order.newest(_KIND.CANCEL)
    if cancel is None:
        draft.settle(order.id, _KIND.CONFIRM, _STATE.DECLINED, fact.reason)
        draft.start(order.id, _KIND.CANCEL, psp=order.attempt.psp, object_id=order.attempt.object_id)
    elif todo is not None and todo.kind is TodoKind.CANCEL and fact.source is m.ReportSource.POLL:
        _next_number(draft, order, todo)


def _canceled(draft: Draft, order: Order, fact: m.Report) -> None:
    """Final: the object can never be paid."""
    if order.status not in _MOVING:
        return
    declined = next((op for op in reversed(order.operations) if op.state is _STATE.DECLINED), None)
    draft.settle(order.id, _KIND.CANCEL, _STATE.DONE, fact.object_id)
    draft.settle(order.id, _KIND.CONFIRM, _STATE.NOT_EXECUTED, "canceled")
    draft.close_psp_todos(order.id)
    is_decline = declined is not None and order.status is not OrderStatus.AUTHORIZED
    event = OrderEvent.ORDER_FAILED if is_decline else OrderEvent.ORDER_CANCELED
    draft.happen(m.OrderMoved(order.id, event, declined.answer if declined else fact.reason or "CANCELED_AT_PSP"))


def _refunded(draft: Draft, order: Order, fact: m.Report) -> None:
    """The buyer has the money back: of a charge that came late, or of the order's own refund."""
    if order.status in _MOVING:
        _given_back_by_people(draft, order, fact)
    elif late_charge_of(draft, order) is not None:
        given_back(draft, order, fact)
    else:
        proven(draft, order, fact)


def _refund_failed(draft: Draft, order: Order, fact: m.Report) -> None:
    """The buyer's charge stands, for good. Of a late charge people send the money another way."""
    if came_back(draft, order, fact):
        return
    if late_charge_of(draft, order) is not None:
        not_given_back(draft, order, fact)
    else:
        declined(draft, order, fact)


_BY_STATUS: Final[dict[m.ObjectStatus, Callable[[Draft, Order, m.Report], None]]] = {
    _IS.UNCONFIRMED: _unconfirmed,
    _IS.PROCESSING: _pending,
    _IS.ACTION_REQUIRED: _pending,
    _IS.AUTHORIZED: _authorized,
    _IS.CHARGED: _charged,
    _IS.DECLINED: _declined,
    _IS.CANCELED: _canceled,
    _IS.REFUSED: _refused,
    _IS.REFUNDED: _refunded,
    _IS.REFUND_FAILED: _refund_failed,
}
