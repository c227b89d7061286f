"""Ablations of money that goes back: asked for too early, too often or for no reason, and books that do not follow it.

Invariant: see `plant.py`.
"""

from collections.abc import Callable
from typing import Any

from actors.batch import Batcher, Outcome
from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import checkout, effect, report, reversal, wallet
from zerosum.domain import journal as ledger
from zerosum.domain import message as m
from zerosum.domain.account import CloseAccount
from zerosum.domain.draft import Draft
from zerosum.domain.journal import Movement
from zerosum.domain.order import OperationKind, OperationState, Order
from zerosum.domain.record import replace
from zerosum.domain.refund import Refund, RefundStatus
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.domain.todo import TodoKind


@ablation("refund-before-commit", "the PSP is asked to refund before that is committed", "P16, P17, I14")
def refund_before_commit(plant: Plant) -> None:
    honest = Batcher._commit

    async def commit(self: Any, decided: Any) -> Any:
        early: Outcome[Any] = Outcome(now_ms=decided.now_ms)
        for item, turn in decided.turns:
            state = decided.states.get(item.entity)
            found = [self._run_of(item, state, todo_id, decided.now_ms) for todo_id in turn.runs if state is not None]
            early.runs.extend(run for run in found if run is not None and _is_refund(run.effect))
        self._on_commit(early)
        return await honest(self, decided)

    plant.instead(Batcher, "_commit", commit)


def _is_refund(request: object) -> bool:
    return isinstance(request, PspRequest) and request.verb is PspVerb.REFUND


# ---- why -----------------------------------------------------------------------------------------------------------


@ablation("reversal-on-trouble", "a posting that meets mere trouble is reversed", "P30, P17, I14, I5")
def reversal_on_trouble(plant: Plant) -> None:
    honest = checkout.record_trouble

    def record_trouble(draft: Draft, command: m.RecordTrouble) -> None:
        todo = draft.checkout.todos.get(command.todo_id)
        is_posting = todo is not None and todo.kind in (TodoKind.CREDIT_WALLET, TodoKind.POST_JOURNAL)
        if todo is not None and is_posting and todo.is_open and todo.tries == command.tries:
            reversal._account_closed(draft, todo)
        else:
            honest(draft, command)

    plant.instead(checkout, "record_trouble", record_trouble)


@ablation("closed-account-credited", "wallet and ledger look at no closure when new money comes", "I13")
def closed_account_credited(plant: Plant) -> None:
    def open_again(honest: Any, **opened: Any) -> Any:
        def decide(state: Any, command: Any) -> Any:
            return honest(state if isinstance(command, CloseAccount) else replace(state, **opened), command)

        return decide

    plant.instead(wallet, "decide", open_again(wallet.decide, closure=None))
    plant.instead(ledger, "decide", open_again(ledger.decide, closures={}))


# ---- how often -----------------------------------------------------------------------------------------------------


def _refund_in_doubt(plant: Plant, instead: Callable[[Draft, Order], bool]) -> None:
    """What follows (False: nothing) in place of asking again, when the PSP did not answer the refund of a paid order."""
    honest = checkout.record_trouble

    def record_trouble(draft: Draft, command: m.RecordTrouble) -> None:
        todo = draft.checkout.todos.get(command.todo_id)
        is_refund = todo is not None and todo.kind is TodoKind.REFUND and todo.is_open and todo.tries == command.tries
        order = draft.order(todo.order_id) if todo is not None and is_refund else None
        is_in_doubt = order is not None and order.refund is not None and command.trouble is not m.Trouble.REFUSED
        if order is None or not is_in_doubt or not instead(draft, order):
            honest(draft, command)

    plant.instead(checkout, "record_trouble", record_trouble)


@ablation("second-refund-key", "a refund that is not answered is asked for again under a new key", "P17, S10, I14")
def second_refund_key(plant: Plant) -> None:
    """Once for each. The PSP gives back no more than it took: it is the second asking, that nobody reserved, which tells."""

    def ask_anew(draft: Draft, order: Order) -> bool:
        newest = order.newest(OperationKind.REFUND)
        if newest is None or newest.number > 1:
            return False
        draft.settle(order.id, OperationKind.REFUND, OperationState.NOT_EXECUTED, "")
        attempt = order.attempt
        if attempt is not None:
            draft.start(order.id, OperationKind.REFUND, psp=attempt.psp, object_id=attempt.object_id)
        return True

    def asked_for(order: Order, _: m.Report) -> Any:
        newest = order.newest(OperationKind.REFUND)
        return order.refund if newest is not None and newest.state is OperationState.UNKNOWN else None

    _refund_in_doubt(plant, ask_anew)
    plant.instead(reversal, "_asked_for", asked_for)


# ---- the books -----------------------------------------------------------------------------------------------------


@ablation(
    "refund-unproven", "a refund that is not answered is taken for done, and the books follow", "P17, Q4, I3, I22"
)
def refund_unproven(plant: Plant) -> None:
    def believe(draft: Draft, order: Order) -> bool:
        refund, attempt = order.refund, order.attempt
        if refund is not None and attempt is not None and refund.status is RefundStatus.PENDING:
            fact = m.Report(
                m.ReportSource.ANSWER, order.id, attempt.psp, attempt.object_id, m.ObjectStatus.REFUNDED, order.money,
                order.id, "",
            )  # fmt: skip
            reversal.proven(draft, order, fact)
        return True

    _refund_in_doubt(plant, believe)


@ablation("wallet-not-taken-back", "money goes back to the buyer and stays in the seller's wallet", "P18, I5")
def wallet_not_taken_back(plant: Plant) -> None:
    honest = reversal._before_the_psp

    def before_the_psp(draft: Draft, order: Order, refund: Refund) -> list[tuple[TodoKind, int]]:
        return [step for step in honest(draft, order, refund) if step[0] is not TodoKind.DEBIT_WALLET]

    plant.instead(reversal, "_before_the_psp", before_the_psp)


@ablation("refused-refund-kept", "a refund that the PSP refuses leaves the seller without the money", "P18, I5")
def refused_refund_kept(plant: Plant) -> None:
    def declined(draft: Draft, order: Order, fact: m.Report) -> None:
        refund = reversal._asked_for(order, fact)
        if refund is not None:
            draft.settle(order.id, OperationKind.REFUND, OperationState.DECLINED, fact.reason)
            reversal._end(draft, order.id, refund, RefundStatus.FAILED, fact.reason)

    plant.instead(report, "declined", declined)


@ablation(
    "suspense-skipped", "a capture that the ledger had taken is suspended as if it came from outside", "I2, I5, I22"
)
def suspense_skipped(plant: Plant) -> None:
    plant.instead(effect, "_into_suspense", lambda *_: Movement.SUSPENSE_CHARGE)
