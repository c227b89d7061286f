"""The story of a pay-in, told top to bottom: what a checkout decides when it is told something.

A buyer's click is *submitted* and split into orders. The *risk check* lets it pass. For each order an attempt is opened:
an object is *prepared* at the PSP (no money moves), its id is committed, then it is *confirmed* (money moves, once: the
object can be paid only once, for ever). What became of it is *reported*, by the answer, by a poll or by a webhook; all
three are one kind of fact (`report.py`). A charged order credits the seller's wallet and posts its journal; where
either cannot take it, it goes back to the buyer (`reversal.py`). A declined one is canceled at the PSP first and believed
after. When every order is final or pending, the caller is *answered*, once.

Everything here is pure: `decide` returns what happened and what is still to do; the shard commits both together and only
then lets the effects run. Source: design sections 3 to 5.

Invariants: no confirm is sent before its object's id is committed; an order FAILs only with proof that no money moved;
facts are never refused.
"""

from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.draft import Decision, Draft, Policy
from zerosum.domain.order import OperationKind, OperationState, OrderEvent
from zerosum.domain.record import replace
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.report import report
from zerosum.domain.retry import AFTER, AfterTrouble, due_after_ms, is_spent
from zerosum.domain.reversal import (
    advance,
    is_not_covered,
    refused,
    request_refund,
    reverse_anew,
    reverse_unless_all_paid,
)
from zerosum.domain.todo import PSP_KINDS, Todo, TodoKind, TodoState

RISK_BLOCKED = "RISK_BLOCKED"
"""The reason of orders that the risk check did not let pass."""


def decide(
    checkout: Checkout | None,
    command: m.SubmitCheckout | m.Inner,
    now_ms: int,
    policy: Policy,
    verdict: m.RecordVerdict | None = None,
) -> Decision | Refusal:
    """What follows from a command. A decision without events means that it tells nothing new.

    `verdict`: what the risk check said of a submitted checkout before it was decided; it is committed with the submit.
    Refusals: UNKNOWN_ID (no such checkout, order or to-do), NOT_A_DEAD_LETTER (a replay), those of `request_refund`. No money
    moves by a refusal.
    """
    draft = Draft(checkout, now_ms, policy)
    if isinstance(command, m.SubmitCheckout):
        submit(draft, command, verdict)
        answer_if_ready(draft)
        return draft.decision()
    if checkout is None:
        return Refusal(Reason.UNKNOWN_ID, "checkout_id", "no such checkout")
    match command:
        case m.RecordVerdict():
            record_verdict(draft, command)
        case m.Report():
            report(draft, command)
        case m.RecordDelivery():
            record_delivery(draft, command)
        case m.RecordTrouble():
            record_trouble(draft, command)
        case m.ClaimTodo():
            claim(draft, command)
        case m.ReplayTodo() | RequestRefund():
            act = replay(draft, command) if isinstance(command, m.ReplayTodo) else request_refund(draft, command)
            if act is not None:
                return act
    reverse_unless_all_paid(draft)
    answer_if_ready(draft)
    return draft.decision()


# ---- the story -----------------------------------------------------------------------------------------------


def submit(draft: Draft, command: m.SubmitCheckout, verdict: m.RecordVerdict | None) -> None:
    """Stores the checkout, and asks the risk check where that has no verdict yet. The answer's deadline runs from now."""
    draft.happen(m.CheckoutSubmitted(command, command.fingerprint()))
    draft.wait(TodoKind.ANSWER, "", 1, until_ms=draft.now_ms + draft.policy.answer_after_ms)
    if verdict is not None:
        _follow(draft, verdict)
    else:
        draft.run(TodoKind.ASSESS_RISK, "", 1)


def record_verdict(draft: Draft, command: m.RecordVerdict) -> None:
    """The verdict is durable before any PSP is called. A block fails every order; no PSP ever hears of them."""
    todo = draft.open_todo(TodoKind.ASSESS_RISK, "", 1)
    if todo is None or draft.checkout.verdict is not m.Verdict.NONE:
        return
    draft.close(todo)
    _follow(draft, command)


def _follow(draft: Draft, command: m.RecordVerdict) -> None:
    draft.happen(m.RiskAssessed(command.verdict, command.reason))
    for order in draft.checkout.orders.values():
        if command.verdict is m.Verdict.ALLOW:
            draft.happen(m.AttemptOpened(order.id, 1, draft.policy.psp))
            draft.start(order.id, OperationKind.PREPARE, psp=draft.policy.psp, object_id="")
        else:
            draft.happen(m.OrderMoved(order.id, OrderEvent.ORDER_FAILED, RISK_BLOCKED))


def record_delivery(draft: Draft, command: m.RecordDelivery) -> None:
    """Wallet or ledger has taken what was brought to it."""
    todo = draft.checkout.todos.get(command.todo_id)
    if todo is None or todo.state is TodoState.DONE:
        return
    match todo.kind:
        case TodoKind.CREDIT_WALLET:
            draft.happen(m.WalletUpdated(todo.order_id))
            draft.close(todo)
            advance(draft, todo.order_id)
        case TodoKind.POST_JOURNAL:
            draft.happen(m.LedgerUpdated(todo.order_id))
            draft.close(todo)
            advance(draft, todo.order_id)
        case _:
            draft.finish(todo)
            advance(draft, todo.order_id)


def answer_if_ready(draft: Draft) -> None:
    """Fixes the caller's reply when every order is final or pending."""
    if draft.checkout.can_be_answered:
        _answer(draft)


def _answer(draft: Draft) -> None:
    if draft.checkout.is_answered:
        return
    draft.happen(m.CheckoutAnswered())
    waiting = draft.open_todo(TodoKind.ANSWER, "", 1)
    if waiting is not None:
        draft.close(waiting)


# ---- when something brings no end ----------------------------------------------------------------------------


def record_trouble(draft: Draft, command: m.RecordTrouble) -> None:
    """A run brought nothing to believe: run it again later, ask instead, or leave it to people, as the table has it. Nothing
    is given up here."""
    todo = draft.checkout.todos.get(command.todo_id)
    if todo is None or not todo.is_open or todo.tries != command.tries:
        return  # a later run, or its end, has overtaken this one
    match AFTER[command.trouble, todo.kind]:
        case AfterTrouble.AGAIN:
            _defer(draft, todo, command)
        case AfterTrouble.ANEW:
            _prepare_anew(draft, todo, command.reason)
        case AfterTrouble.NEVER:
            if not refused(draft, todo, command.refusal):
                draft.die(todo, command.reason)


def _defer(draft: Draft, todo: Todo, command: m.RecordTrouble) -> None:
    by_ms = due_after_ms(
        todo.tries + todo.number - 1,
        command.jitter_ppm,
        base_ms=draft.policy.backoff_base_ms,
        cap_ms=draft.policy.backoff_cap_ms,
        retry_after_ms=command.retry_after_ms,
    )
    draft.defer(todo, by_ms=by_ms, reason=f"{command.trouble}: {command.reason}")


def _prepare_anew(draft: Draft, todo: Todo, reason: str) -> None:
    """The PSP will replay its failure to this key for a day. A prepare moves no money, so the next number may go."""
    draft.settle(todo.order_id, OperationKind.PREPARE, OperationState.ABANDONED, reason)
    draft.start(todo.order_id, OperationKind.PREPARE, psp=draft.policy.psp, object_id="", since_ms=todo.created_at_ms)


def claim(draft: Draft, command: m.ClaimTodo) -> None:
    """The time of a to-do has come: lease it for one more run, or make it a dead letter before running."""
    todo = draft.checkout.todos.get(command.todo_id)
    if todo is None or not todo.is_open or todo.due_at_ms > draft.now_ms:
        return
    if todo.kind is TodoKind.ANSWER:
        _answer(draft)
    elif is_spent(todo, draft.now_ms, draft.policy.horizon_ms):
        draft.die(todo, f"budget spent; last: {todo.reason or 'no answer'}")
    else:
        draft.rerun(todo, event="TodoClaimed", reason=todo.reason, tries=todo.tries + 1, since_ms=todo.created_at_ms)


def replay(draft: Draft, command: m.ReplayTodo) -> Refusal | None:
    """An operator gives a dead letter a new budget. It runs under its old key, and what may have moved money is
    asked for before it is sent. A debit that the wallet has refused goes under the next number: a "no" is kept for ever."""
    todo = draft.checkout.todos.get(command.todo_id)
    if todo is None:
        return Refusal(Reason.UNKNOWN_ID, "todo_id", "no such to-do")
    if todo.state is not TodoState.DEAD:
        return Refusal(Reason.NOT_A_DEAD_LETTER, "todo_id", f"the to-do is {todo.state}, not DEAD")
    if todo.kind is TodoKind.PREPARE:
        draft.move(todo, "TodoReplayed", command.operator)
        _prepare_anew(draft, replace(todo, created_at_ms=draft.now_ms), f"replayed by {command.operator}")
        return None
    if is_not_covered(todo):
        draft.move(todo, "TodoReplayed", command.operator)
        reverse_anew(draft, todo)
        return None
    tries = 2 if todo.kind in PSP_KINDS else 1
    draft.rerun(todo, event="TodoReplayed", reason=command.operator, tries=tries, since_ms=draft.now_ms)
    return None
