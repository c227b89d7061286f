"""Ablations of how the PSP is asked and believed: attempts, doubt, declines, late charges, and what an answer says.

Invariant: see `plant.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from actors import payment
from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import checkout, checkout_state, effect, late_charge, order, report, retry
from zerosum.domain import message as m
from zerosum.domain.draft import Draft
from zerosum.domain.order import AttemptState, OperationKind, OperationState, Order, OrderEvent, OrderStatus
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.request import PspRequest
from zerosum.domain.retry import Budget
from zerosum.domain.todo import PSP_KINDS, Todo, TodoKind


@ablation("canary", "an order is called SUCCESS as soon as its object is prepared; nobody confirms it", "I3")
def canary(plant: Plant) -> None:
    """So plain that a harness which lets one seed of it pass is broken itself."""

    def learn_object(draft: Draft, asked: Order, _: Any, fact: m.Report) -> None:
        draft.happen(m.ObjectPrepared(asked.id, fact.object_id))
        draft.settle(asked.id, OperationKind.PREPARE, OperationState.DONE, fact.object_id)
        report._charged(draft, draft.order(asked.id), fact)

    plant.instead(report, "_learn_object", learn_object)


# ---- in doubt ------------------------------------------------------------------------------------------------------


def _confirm_in_doubt(plant: Plant, instead: Callable[[Draft, Todo, Order], None]) -> None:
    """What follows from a confirm whose outcome is unknown."""
    honest = checkout.record_trouble

    def record_trouble(draft: Draft, command: m.RecordTrouble) -> None:
        todo = draft.checkout.todos.get(command.todo_id)
        is_confirm = todo is not None and todo.is_open and todo.kind is TodoKind.CONFIRM and todo.tries == 1
        if todo is None or not is_confirm or command.trouble is not m.Trouble.OUTCOME_UNKNOWN:
            honest(draft, command)
            return
        draft.settle(todo.order_id, OperationKind.CONFIRM, OperationState.NOT_EXECUTED, "TIMEOUT")
        instead(draft, todo, draft.order(todo.order_id))

    plant.instead(checkout, "record_trouble", record_trouble)


@ablation("failed-on-timeout", "a confirm that is not answered is taken for no charge: the order FAILs", "P4, S1, I3")
def failed_on_timeout(plant: Plant) -> None:
    """A webhook that still comes makes it a late charge, which is refunded: it takes one that does not come."""

    def fail(draft: Draft, todo: Todo, _: Order) -> None:
        draft.happen(m.OrderMoved(todo.order_id, OrderEvent.ORDER_FAILED, "TIMEOUT"))

    _confirm_in_doubt(plant, fail)


@ablation("new-object-per-retry", "a confirm that is not answered is tried again with a new object", "S1, S10, I3, I4")
def new_object_per_retry(plant: Plant) -> None:
    def prepare_again(draft: Draft, todo: Todo, asked: Order) -> None:
        draft.happen(m.ObjectPrepared(todo.order_id, ""))
        draft.start(todo.order_id, OperationKind.PREPARE, psp=_psp_of(asked), object_id="")

    _confirm_in_doubt(plant, prepare_again)


@ablation("second-attempt-on-timeout", "a confirm that is not answered fails over to a second attempt", "S1, I3, I4")
def second_attempt_on_timeout(plant: Plant) -> None:
    """The index that allows one live attempt is passed by as people pass it by: the first one is called NO_CHARGE."""

    def fail_over(draft: Draft, todo: Todo, asked: Order) -> None:
        draft.happen(m.AttemptOpened(todo.order_id, len(asked.attempts) + 1, _psp_of(asked)))
        draft.start(todo.order_id, OperationKind.PREPARE, psp=_psp_of(asked), object_id="")

    honest = checkout_state._evolve_order

    def evolve_order(before: Order, event: Any, now_ms: int) -> Order:
        if isinstance(event, m.AttemptOpened):
            given_up = tuple(replace(attempt, state=AttemptState.NO_CHARGE) for attempt in before.attempts)
            before = replace(before, attempts=given_up)
        return honest(before, event, now_ms)

    _confirm_in_doubt(plant, fail_over)
    plant.instead(checkout_state, "_evolve_order", evolve_order)
    for status in (OrderStatus.EXECUTING, OrderStatus.PENDING):
        plant.row(order.TRANSITIONS, (status, OrderEvent.ATTEMPT_OPENED), status)


def _psp_of(asked: Order) -> str:
    return asked.attempt.psp if asked.attempt is not None else ""


@ablation("unconfirmed-is-failed", "a poll that finds nothing executed yet ends the order", "S1, I3")
def unconfirmed_is_failed(plant: Plant) -> None:
    """Not found may precede the request in flight (Q3)."""

    def unconfirmed(draft: Draft, asked: Order, fact: m.Report) -> None:
        if fact.source is m.ReportSource.POLL and asked.status is OrderStatus.EXECUTING:
            draft.settle(asked.id, OperationKind.CONFIRM, OperationState.NOT_EXECUTED, "")
            draft.close_psp_todos(asked.id)
            draft.happen(m.OrderMoved(asked.id, OrderEvent.ORDER_FAILED, "NOT_CONFIRMED"))

    plant.row(report._BY_STATUS, m.ObjectStatus.UNCONFIRMED, unconfirmed)


@ablation("decline-believed", "a decline ends the order while its object could still be paid", "design 4, I3")
def decline_believed(plant: Plant) -> None:
    def declined(draft: Draft, asked: Order, fact: m.Report) -> None:
        if asked.status in report._MOVING:
            draft.settle(asked.id, OperationKind.CONFIRM, OperationState.DECLINED, fact.reason)
            draft.close_psp_todos(asked.id)
            draft.happen(m.OrderMoved(asked.id, OrderEvent.ORDER_FAILED, fact.reason))

    plant.row(report._BY_STATUS, m.ObjectStatus.DECLINED, declined)


@ablation("horizon-ignored", "an operation is sent again however long ago its key was made", "S3, S10, I3, I4, I14")
def horizon_ignored(plant: Plant) -> None:
    """For ever with the same key: the PSP has forgotten it meanwhile."""
    honest = effect._psp_request
    for kind in PSP_KINDS:
        plant.row(retry.BUDGETS, kind, Budget(tries_max=None, ends_with_horizon=False))

    def request(operation: Any, todo: Any, _: int, horizon_ms: int) -> PspRequest:
        return honest(operation, todo, operation.started_at_ms, horizon_ms)

    plant.instead(effect, "_psp_request", request)


# ---- facts ---------------------------------------------------------------------------------------------------------


@ablation("status-regresses", "a late report moves an order that is final", "S8, I8")
def status_regresses(plant: Plant) -> None:
    def pending(draft: Draft, asked: Order, fact: m.Report) -> None:
        draft.happen(m.OrderMoved(asked.id, OrderEvent.ORDER_PENDED, fact.status.value))

    for status in OrderStatus:
        plant.row(order.TRANSITIONS, (status, OrderEvent.ORDER_PENDED), OrderStatus.PENDING)
    for shown in (m.ObjectStatus.ACTION_REQUIRED, m.ObjectStatus.PROCESSING):
        plant.row(report._BY_STATUS, shown, pending)


@ablation("late-charge-ignored", "money that moves for an order that is given up changes nothing", "P35, I3")
def late_charge_ignored(plant: Plant) -> None:
    plant.instead(report, "charged_late", lambda *_: None)


@ablation("facts-refused", "a report about an order that is given up is refused", "P35, I3")
def facts_refused(plant: Plant) -> None:
    def decide(state: Any, command: Any, *rest: Any) -> Any:
        asked = state.orders.get(command.order_id) if state and isinstance(command, m.Report) else None
        if asked is not None and asked.status in (OrderStatus.FAILED, OrderStatus.CANCELED):
            return Refusal(Reason.ILLEGAL_TRANSITION, "", f"the order is {asked.status}")
        return checkout.decide(state, command, *rest)

    plant.instead(payment, "decide", decide)


@ablation("refund-per-report", "every report of a late charge refunds it, under the next number", "P35, S4, I14")
def refund_per_report(plant: Plant) -> None:
    honest = late_charge.charged_late

    def charged_late(draft: Draft, asked: Order, fact: m.Report) -> None:
        if late_charge.late_charge_of(draft, asked) is None:
            honest(draft, asked, fact)
            return
        draft.settle(asked.id, OperationKind.REFUND, OperationState.NOT_EXECUTED, "")
        draft.start(asked.id, OperationKind.REFUND, psp=fact.psp, object_id=fact.object_id)

    plant.instead(report, "charged_late", charged_late)


@ablation(
    "no-amount-compare",
    "the amount and currency of an answer are not compared with what was asked",
    "S9, I3",
)
def no_amount_compare(plant: Plant) -> None:
    honest = report._is_as_asked
    plant.instead(
        report, "_is_as_asked", lambda draft, asked, fact: honest(draft, asked, replace(fact, money=asked.money))
    )


@ablation(
    "no-reference-compare",
    "the reference of an answer is not compared with what was asked",
    "S9, I3",
)
def no_reference_compare(plant: Plant) -> None:
    honest = report._is_as_asked
    plant.instead(
        report, "_is_as_asked", lambda draft, asked, fact: honest(draft, asked, replace(fact, reference=asked.id))
    )
