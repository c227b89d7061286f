"""What a to-do means in the world: from a checkout and one of its to-dos to the exact request.

An operation's request is stored as canonical JSON when it is started; every send and re-send is built from that text.
Who asks instead of sending: a confirm or cancel after its first run (the object tells what became of it), a refund every
other time, and always where the PSP may have forgotten its key and has not shown since that nothing was given back. Source:
design section 4, "A charge is two operations".

Invariant: the same to-do leads to the same request, whoever builds it and whenever.
"""

import json

import orjson

from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import CheckoutId, derived_key
from zerosum.domain.journal import Journal, Movement, entries_of, journal
from zerosum.domain.money import Money
from zerosum.domain.order import Operation, OperationKind, Order
from zerosum.domain.record import replace
from zerosum.domain.refund import RefundNotFound
from zerosum.domain.refusal import Refusal
from zerosum.domain.request import AssessRisk, PspRequest, PspVerb
from zerosum.domain.todo import Todo, TodoKind
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug
from zerosum.limits import UNKNOWN_BUDGET_MARGIN_MS

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

Effect = AssessRisk | PspRequest | Transfer | Journal
"""Everything a runner can be asked to do; each is complete in itself."""


def request_text(checkout: Checkout, order: Order, kind: OperationKind, *, key: str, psp: str, object_id: str) -> str:
    """The exact request of an operation, as canonical JSON (sorted keys, no spaces)."""
    request = {
        "verb": kind.value,
        "psp": psp,
        "key": key,
        "tenant": checkout.key.tenant,
        "checkout_id": checkout.key.id,
        "order_id": order.id,
        "object_id": object_id,
        "token": checkout.token if kind is OperationKind.PREPARE else "",
        "amount_minor": order.money.amount_minor,
        "currency": order.money.currency,
    }
    return _CANONICAL(request)


def request_of(text: str) -> PspRequest:
    """The request an operation's stored text stands for."""
    fields = orjson.loads(text)
    money = Money(fields.pop("amount_minor"), fields.pop("currency"))
    return PspRequest(**{**fields, "verb": PspVerb(fields["verb"])}, money=money)


def assessment(command: m.SubmitCheckout) -> AssessRisk:
    """What the risk check is asked about a checkout that is only submitted."""
    orders = tuple((line.seller_account, line.money) for line in command.lines)
    return AssessRisk(command.tenant, command.checkout_id, command.buyer.account, orders)


def effect_of(checkout: Checkout, todo: Todo, now_ms: int, horizon_ms: int) -> Effect:
    """The request this run of the to-do makes. Raises Bug for a to-do that has none (`answer`) or whose order is gone."""
    match todo.kind:
        case TodoKind.ASSESS_RISK:
            orders = tuple((order.seller_account, order.money) for order in checkout.orders.values())
            return AssessRisk(checkout.key.tenant, CheckoutId(checkout.key.id), checkout.buyer.account, orders)
        case TodoKind.CREDIT_WALLET | TodoKind.DEBIT_WALLET | TodoKind.RETURN_WALLET:
            return _transfer(checkout, checkout.orders[todo.order_id], todo)
        case TodoKind.POST_JOURNAL:
            return _of_order(checkout, checkout.orders[todo.order_id], Movement.CAPTURE, 1)
        case TodoKind.POST_REFUND:
            return _of_order(checkout, checkout.orders[todo.order_id], Movement.REFUND, todo.number)
        case TodoKind.POST_SUSPENSE:
            case = _case_of(checkout, todo)
            return _suspense(checkout, case, _into_suspense(checkout.orders[case.order_id], case))
        case TodoKind.CLEAR_SUSPENSE:
            return _suspense(checkout, _case_of(checkout, todo), Movement.SUSPENSE_REFUND)
        case TodoKind.PREPARE | TodoKind.CONFIRM | TodoKind.CANCEL | TodoKind.REFUND:
            return _psp_request(_operation_of(checkout, todo), todo, now_ms, horizon_ms)
        case TodoKind.ANSWER:
            raise Bug("an answer is a turn of its own, not an effect")


def _operation_of(checkout: Checkout, todo: Todo) -> Operation:
    operation = checkout.orders[todo.order_id].operation(OperationKind(todo.kind.value), todo.number)
    if operation is None:
        raise Bug(f"to-do {todo.id} has no operation")
    return operation


def _psp_request(operation: Operation, todo: Todo, now_ms: int, horizon_ms: int) -> PspRequest:
    request = request_of(operation.request)
    match operation.kind:
        case OperationKind.PREPARE:
            return request
        case OperationKind.CONFIRM | OperationKind.CANCEL:
            return request if todo.tries == 1 else replace(request, verb=PspVerb.READ, key="")
        case OperationKind.REFUND:
            if todo.tries % 2 == 1 and is_remembered(operation, todo, now_ms, horizon_ms):
                return request
            return replace(request, verb=PspVerb.READ, key="", wants_refund_key=operation.key)


def is_remembered(operation: Operation, todo: Todo, now_ms: int, horizon_ms: int) -> bool:
    """Whether a refund sent now is made once: the PSP knows its key since it was started, or showed in the to-do's present
    budget, which ends before a key of that age can be forgotten, that there was none."""
    if now_ms - operation.started_at_ms < horizon_ms - UNKNOWN_BUDGET_MARGIN_MS:
        return True
    shown = RefundNotFound(todo.order_id, todo.number, todo.created_at_ms)
    return operation.answer == shown.answer


_TRANSFERS = {
    TodoKind.CREDIT_WALLET: ("credit", TransferKind.CREDIT_PENDING),
    TodoKind.DEBIT_WALLET: ("debit", TransferKind.DEBIT_PENDING),
    TodoKind.RETURN_WALLET: ("return", TransferKind.RETURN_PENDING),
}
"""To-do -> the operation its id is derived from, and what the wallet is to do."""


def _transfer(checkout: Checkout, order: Order, todo: Todo) -> Transfer:
    operation, kind = _TRANSFERS[todo.kind]
    return Transfer(
        tenant=checkout.key.tenant,
        transfer_id=derived_key(checkout.key.tenant, order.id, operation, todo.number),
        owner=order.seller_account,
        kind=kind,
        money=order.money,
        order_id=order.id,
    )


def _of_order(checkout: Checkout, order: Order, movement: Movement, number: int) -> Journal:
    return _journal(checkout, order, movement, number, order.money, order.attempt.psp if order.attempt else "")


def _case_of(checkout: Checkout, todo: Todo) -> m.Mismatch:
    return next(found for found in checkout.mismatches.values() if found.number == todo.number)


def _into_suspense(order: Order, case: m.Mismatch) -> Movement:
    """A capture that lost its home leaves the seller's books if the ledger had taken it; any other charge comes from outside,
    whatever became of the order's own."""
    is_own_capture = case.kind is m.MismatchKind.ACCOUNT_CLOSED and order.ledger_updated
    return Movement.SUSPENSE_CAPTURE if is_own_capture else Movement.SUSPENSE_CHARGE


def _suspense(checkout: Checkout, case: m.Mismatch, movement: Movement) -> Journal:
    return _journal(checkout, checkout.orders[case.order_id], movement, case.number, case.money, case.psp)


def _journal(checkout: Checkout, order: Order, movement: Movement, number: int, gross: Money, psp: str) -> Journal:
    no_fee = Money(0, gross.currency)  # the platform's fee is 0 for now
    posted = journal(
        tenant=checkout.key.tenant,
        journal_id=derived_key(checkout.key.tenant, order.id, movement, number),
        owner=order.seller_account,
        movement=movement,
        entries=entries_of(
            movement, gross=gross, fee=no_fee, buyer=checkout.buyer.account, seller=order.seller_account, psp=psp
        ),
        order_id=order.id,
    )
    if isinstance(posted, Refusal):
        raise Bug(f"order {order.id}: our own {movement} journal is refused: {posted.reason}")
    return posted
