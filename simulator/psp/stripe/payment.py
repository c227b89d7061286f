"""The movements of money: pay, capture, give back, and what a timer ends.

Pure. The invariant: every charge that took money has exactly one balance transaction of type charge, and every
refund one of type refund.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from simulator.psp.account import Account
from simulator.psp.change import Timer
from simulator.psp.ids import derive
from simulator.psp.stripe.objects import Act, BalanceTransaction, Charge, Intent, Refund, Status, next_status
from simulator.psp.stripe.token import CHALLENGE_FAILED, PROCESSING_FAILED, Behaviour, Token, token_of
from simulator.psp.stripe.wire import Outcome, intent_json

# Stripe's usual rolling schedule in the US: funds are available two days after the charge.
_AVAILABLE_AFTER_MS: Final = 2 * 24 * 60 * 60 * 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviours:
    """How the PSP behaves when all goes well. A `_ms` of 0 means that only an admin call ends it."""

    fee_bps: int = 290
    fee_fixed_minor: int = 30
    challenge_ms: int = 0
    challenge_passes: bool = True
    processing_ms: int = 1_000
    processing_passes: bool = True

    def fee_minor(self, amount_minor: int) -> int:
        """What the PSP keeps of a charge: rounded half up, never more than the money."""
        return min((amount_minor * self.fee_bps + 5_000) // 10_000 + self.fee_fixed_minor, amount_minor)


class Context(NamedTuple):
    """What a call may look at. `name` is the call's own name, from which new ids are derived."""

    account: Account
    now_ms: int
    name: str
    behaviours: Behaviours
    side: frozenset[str] = frozenset()
    late_ms: int = 0
    stale_ms: int = 0


class Effect(NamedTuple):
    """What a call changes and brings: replaced objects, (event type, object) pairs to announce, timers."""

    outcome: Outcome
    intents: tuple[Intent, ...] = ()
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    balance: tuple[BalanceTransaction, ...] = ()
    events: tuple[tuple[str, Intent | Charge | Refund], ...] = ()
    timers: tuple[Timer, ...] = ()


def pay(intent: Intent, context: Context) -> Effect:
    """Charge the intent's payment method. The intent must be confirmable: then this cannot be a second payment."""
    assert intent.payment_method is not None
    token = token_of(intent.payment_method)
    assert token is not None
    match token.behaviour:
        case Behaviour.DECLINE if intent.amount > token.only_above:
            return _decline(intent, token, context)
        case Behaviour.CHALLENGE:
            return _wait(intent, Act.CHALLENGE, "payment_intent.requires_action", context)
        case Behaviour.PROCESS:
            return _wait(intent, Act.PROCESS, "payment_intent.processing", context)
        case Behaviour.SUCCEED | Behaviour.DECLINE:
            effect = _take(intent, context)
    if "second_object_charge" not in context.side:
        return effect
    twin_id = derive("pi", "second", intent.id, intent.revision)
    twin = _take(intent._replace(id=twin_id, revision=0, charges_count=0, created_ms=context.now_ms), context)
    return effect._replace(
        intents=effect.intents + twin.intents,
        charges=effect.charges + twin.charges,
        balance=effect.balance + twin.balance,
        events=effect.events + twin.events,
    )


def capture(intent: Intent, amount: int, context: Context) -> Effect:
    """Take the held money, `amount` minor units of it; the rest is released."""
    assert intent.latest_charge is not None
    held = context.account.charges[intent.latest_charge]
    charge = held._replace(is_captured=True, amount_captured=amount, revision=held.revision + 1)
    charge, movement = _book(charge, context)
    status = next_status(intent.status, Act.CAPTURE)
    assert status is not None
    taken = intent._replace(status=status, amount_received=amount, amount_capturable=0, revision=intent.revision + 1)
    events = (("payment_intent.succeeded", taken),)
    return Effect(Outcome(shown=taken), intents=(taken,), charges=(charge,), balance=(movement,), events=events)


def give_back(refund: Refund, charge: Charge, context: Context) -> Effect:
    """Refund part of a charge; the amount was checked against what is left. A bank may refuse: nothing moves then."""
    token = token_of(charge.payment_method)
    if token is not None and token.refuses_refunds:
        failed = refund._replace(status="failed")
        return Effect(Outcome(shown=failed), refunds=(failed,), events=(("refund.failed", failed),))
    movement = BalanceTransaction(
        id=derive("txn", refund.id),
        type="refund",
        source=refund.id,
        charge=charge.id,
        intent=charge.intent,
        amount=-refund.amount,
        fee=0,
        currency=charge.currency,
        created_ms=context.now_ms,
        available_on_ms=context.now_ms,
    )
    refund = refund._replace(balance_transaction=movement.id)
    charge = charge._replace(amount_refunded=charge.amount_refunded + refund.amount, revision=charge.revision + 1)
    events = (("charge.refunded", charge), ("refund.updated", refund))
    return Effect(Outcome(shown=refund), refunds=(refund,), charges=(charge,), balance=(movement,), events=events)


def end_wait(intent: Intent, *, is_passed: bool, context: Context) -> Effect | None:
    """End a 3-D Secure challenge or a processing payment; None when the intent no longer waits."""
    if intent.status not in (Status.REQUIRES_ACTION, Status.PROCESSING):
        return None
    if is_passed:
        return _take(intent, context)
    token = CHALLENGE_FAILED if intent.status is Status.REQUIRES_ACTION else PROCESSING_FAILED
    return _decline(intent, token, context)


def charge_late(intent: Intent, payment_method: str, context: Context) -> Effect | None:
    """Charge a canceled intent all the same: the planted fault; None when it is not canceled."""
    if next_status(intent.status, Act.CHARGE_LATE) is None:
        return None
    return _take(intent._replace(payment_method=payment_method, capture_method="automatic"), context, Act.CHARGE_LATE)


def _take(intent: Intent, context: Context, act: Act | None = None) -> Effect:
    """Charge, or hold where the intent asks for manual capture."""
    is_held = intent.capture_method == "manual"
    status = next_status(intent.status, act or (Act.AUTHORIZE if is_held else Act.CHARGE))
    assert status is not None
    charge = _charge(intent, context, status="succeeded")
    if is_held:
        paid = _paid(intent, charge, status, amount_capturable=intent.amount)
        events = (("payment_intent.amount_capturable_updated", paid),)
        return Effect(Outcome(shown=paid), intents=(paid,), charges=(charge,), events=events)
    charge, movement = _book(charge._replace(is_captured=True, amount_captured=intent.amount), context)
    paid = _paid(intent, charge, status, amount_received=intent.amount)
    events = (("payment_intent.succeeded", paid),)
    return Effect(Outcome(shown=paid), intents=(paid,), charges=(charge,), balance=(movement,), events=events)


def _paid(
    intent: Intent, charge: Charge, status: Status, *, amount_received: int = 0, amount_capturable: int = 0
) -> Intent:
    return intent._replace(
        status=status,
        revision=intent.revision + 1,
        charges_count=intent.charges_count + 1,
        latest_charge=charge.id,
        last_payment_error=None,
        amount_received=amount_received,
        amount_capturable=amount_capturable,
    )


def _decline(intent: Intent, token: Token, context: Context) -> Effect:
    status = next_status(intent.status, Act.DECLINE)
    assert status is not None
    error: dict[str, Any] = {"type": "card_error", "code": token.code, "message": token.message}
    if token.decline_code:
        error["decline_code"] = token.decline_code
    charge = _charge(intent, context, status="failed")._replace(failure=error)
    error["charge"] = charge.id
    error["payment_method"] = {"id": intent.payment_method, "object": "payment_method", "type": "card"}
    declined = intent._replace(
        status=status,
        revision=intent.revision + 1,
        charges_count=intent.charges_count + 1,
        latest_charge=charge.id,
        payment_method=None,
        last_payment_error=error,
    )
    outcome = Outcome(status=402, error={**error, "payment_intent": intent_json(declined)})
    events = (("payment_intent.payment_failed", declined),)
    return Effect(outcome, intents=(declined,), charges=(charge,), events=events)


def _wait(intent: Intent, act: Act, event: str, context: Context) -> Effect:
    status = next_status(intent.status, act)
    assert status is not None
    waiting = intent._replace(status=status, revision=intent.revision + 1, last_payment_error=None)
    behaviours = context.behaviours
    if act is Act.CHALLENGE:
        after_ms, is_passed = behaviours.challenge_ms, behaviours.challenge_passes
    else:
        after_ms, is_passed = behaviours.processing_ms, behaviours.processing_passes
    timers: tuple[Timer, ...] = ()
    if after_ms:
        detail: Mapping[str, Any] = {"intent": intent.id, "is_passed": is_passed}
        timer_id = derive("timer", waiting.id, waiting.revision)
        timers = (Timer(id=timer_id, kind="end_wait", due_ms=context.now_ms + after_ms, detail=detail),)
    return Effect(Outcome(shown=waiting), intents=(waiting,), events=((event, waiting),), timers=timers)


def _charge(intent: Intent, context: Context, *, status: str) -> Charge:
    assert intent.payment_method is not None
    return Charge(
        id=derive("ch", intent.id, intent.charges_count),
        intent=intent.id,
        amount=intent.amount,
        currency=intent.currency,
        status=status,
        created_ms=context.now_ms,
        payment_method=intent.payment_method,
        transfer_group=intent.transfer_group,
        description=intent.description,
        metadata=intent.metadata,
    )


def _book(charge: Charge, context: Context) -> tuple[Charge, BalanceTransaction]:
    """Put the captured money into the balance, less the fee."""
    movement = BalanceTransaction(
        id=derive("txn", charge.id),
        type="charge",
        source=charge.id,
        charge=charge.id,
        intent=charge.intent,
        amount=charge.amount_captured,
        fee=context.behaviours.fee_minor(charge.amount_captured),
        currency=charge.currency,
        created_ms=context.now_ms,
        available_on_ms=context.now_ms + _AVAILABLE_AFTER_MS,
    )
    return charge._replace(balance_transaction=movement.id), movement
