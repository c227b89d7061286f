"""The PSP itself: one API call from top to bottom, one timer after another. No socket, no clock, no file.

A call goes through `begin` (faults on the way there, credentials, idempotency key) and `finish` (execution, book,
faults on the way back); between them lies `wait_ms`, in which the key is in use. `handle` is both at once. The caller
makes the book durable before it answers. The invariant: `_apply` is the only place where the state changes.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, Final

from simulator.psp.account import Account
from simulator.psp.book import Book
from simulator.psp.call import Answer, Call, Headers, Plan, Ticket
from simulator.psp.change import Change, Event, Stored, Timer, change_from_record, change_to_record
from simulator.psp.faults import NO_FAULT, Decision, FaultPlan
from simulator.psp.idempotency import EXPIRY_MS, Keys, Verdict
from simulator.psp.ids import derive
from simulator.psp.stripe import payment
from simulator.psp.stripe.objects import Intent, Record
from simulator.psp.stripe.operations import execute, reference, route
from simulator.psp.stripe.payment import Behaviours, Context, Effect
from simulator.psp.stripe.wire import Outcome, api_error, fingerprint, invalid, parse_form, render, to_bytes, twisted
from simulator.psp.webhooks import Outbox, RetryRule

_GATEWAY_STATUSES: Final = (502, 503, 504)
_NOT_EXECUTED: Final = 0.5  # this share of a gateway's errors comes before the execution
_KEY_CHARS_MAX: Final = 255  # Stripe's own limit


class Engine:
    """One PSP account with its objects, keys, timers, announcements and fault plan."""

    def __init__(
        self,
        *,
        book: Book,
        plan: FaultPlan,
        api_key: str,
        behaviours: Behaviours | None = None,
        key_expiry_ms: int = EXPIRY_MS,
        retry_rule: RetryRule | None = None,
        is_announcing: bool = True,
    ) -> None:
        self.book = book
        self.plan = plan
        self.behaviours = behaviours or Behaviours()
        self.account = Account()
        self.keys: Keys[Outcome] = Keys(expiry_ms=key_expiry_ms)
        self.outbox = Outbox(retry_rule, is_sending=is_announcing)
        self.clock_offset_ms = 0
        self.calls: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.delays_ms: Counter[str] = Counter()
        self._authorization = f"Bearer {api_key}"
        self._timers: dict[str, Timer] = {}
        self._timer_queue: list[tuple[int, str]] = []
        self._serial = 0

    def restore(self, records: Iterable[Record]) -> None:
        """Fold a book from its beginning: objects, keys, timers and announcements come back."""
        for record in records:
            if record["type"] == "change":
                self._apply(change_from_record(record))
            elif record["type"] == "delivery":
                self.outbox.restore(record)

    def handle(self, call: Call, now_ms: int) -> Plan:
        """Take a call from beginning to end at one instant."""
        begun = self.begin(call, now_ms)
        return begun if isinstance(begun, Plan) else self.finish(begun, now_ms)

    def begin(self, call: Call, now_ms: int) -> Plan | Ticket:
        """Take a call up to its execution: a ticket for `finish`, or at once what the caller is to see."""
        ticket = self._ticket(call, now_ms)
        if ticket is None:
            message = f"Unrecognized request URL ({call.method}: {call.path})."
            return Plan(self._answer(invalid(message, status=404), f"req_{now_ms:x}"))
        self.calls[ticket.where.operation] += 1
        refused = self._before(ticket, now_ms)
        if refused is None and ticket.scope is not None:
            self.keys.begin(ticket.scope, ticket.fingerprint, now_ms)
        return refused or ticket

    def finish(self, ticket: Ticket, now_ms: int) -> Plan:
        """Execute a begun call, write it into the book and say what the caller is to see."""
        outcome = self._execute(ticket, now_ms)
        return self._after(ticket, outcome)

    def _ticket(self, call: Call, now_ms: int) -> Ticket | None:
        where = route(call.method, call.path)
        if where is None:
            return None
        is_write = call.method == "POST"
        form = parse_form(call.body if is_write else call.query)
        self._serial += 1
        paid_for = reference(where, form, self.account)
        subject = call.key or where.id or call.path
        decision = self.plan.decide(operation=where.operation, subject=subject, reference=paid_for, is_write=is_write)
        if paid_for and decision.delay_ms:
            self.delays_ms[paid_for] += decision.delay_ms
        return Ticket(
            call=call,
            where=where,
            form=form,
            request_id=f"req_{now_ms:x}{self._serial:06x}",
            scope=f"{call.path} {call.key}" if is_write and call.key else None,
            fingerprint=fingerprint(form) if is_write else "",
            decision=decision,
        )

    def _before(self, ticket: Ticket, now_ms: int) -> Plan | None:
        """Faults on the way there, credentials and the key, in the order in which a request meets them."""
        fault = ticket.decision.path
        if fault == "drop_request":
            return self._harmed(ticket, fault, None)
        if fault == "error_gateway" and ticket.decision.choice < _NOT_EXECUTED:
            return self._harmed(ticket, fault, self._gateway_error(ticket))
        if not hmac.compare_digest(ticket.call.authorization.encode(), self._authorization.encode()):
            return self._plan(ticket, invalid("Invalid API Key provided.", status=401))
        if len(ticket.call.key or "") > _KEY_CHARS_MAX:
            return self._plan(ticket, invalid("Idempotency keys have at most 255 characters."))
        if fault == "rate_limit_429":
            refused = invalid("Request rate limit exceeded.", code="rate_limit", status=429)
            headers = (("Retry-After", str(self.plan.rates.retry_after_s)), ("Stripe-Should-Retry", "true"))
            return self._harmed(ticket, fault, self._answer(refused, ticket.request_id, headers))
        if fault == "lock_timeout":
            refused = invalid("This object cannot be accessed right now.", code="lock_timeout", status=429)
            return self._harmed(ticket, fault, self._answer(refused, ticket.request_id))
        if fault == "error_before":
            answer = self._answer(api_error(500, "Something went wrong on our end."), ticket.request_id)
            return self._harmed(ticket, fault, answer)
        if (known := self._known(ticket, now_ms)) is not None:
            return known
        if fault == "late_execution":
            self._execute_later(ticket, now_ms)
            return self._harmed(ticket, fault, self._answer(api_error(504, "Gateway timeout."), ticket.request_id))
        return None

    def _known(self, ticket: Ticket, now_ms: int) -> Plan | None:
        """What the key's first use means for this one; None when there was none."""
        if ticket.scope is None:
            return None
        verdict, outcome = self.keys.look(ticket.scope, ticket.fingerprint, now_ms)
        match verdict:
            case Verdict.FRESH:
                return None
            case Verdict.REPLAY:
                assert outcome is not None
                return self._after(ticket, outcome, is_replay=True)
            case Verdict.OTHER_PARAMETERS:
                message = (
                    "Keys for idempotent requests can only be used with the same parameters they were first used with."
                )
                error = {"type": "idempotency_error", "message": message}
                return self._plan(ticket, Outcome(status=400, error=error, is_kept=False))
            case Verdict.IN_USE:
                message = "There is currently another in-progress request using this Idempotency Key."
                refused = invalid(message, code="idempotency_key_in_use", status=409)
                return self._plan(ticket, refused, (("Stripe-Should-Retry", "true"),))

    def _execute(self, ticket: Ticket, now_ms: int, *, timer: str | None = None) -> Outcome:
        """Run the call, put what it changed into the book, and return what its key will replay."""
        context = self._context(now_ms, name=f"{ticket.scope or ticket.request_id}", decision=ticket.decision)
        effect = execute(ticket.where, ticket.form, context)
        self._count_sides(ticket, effect)
        is_write = ticket.call.method == "POST"
        outcome = effect.outcome
        if ticket.decision.path == "error_after" and outcome.is_kept:
            self.plan.happened["error_after"] += 1
            outcome = api_error(500, "An unknown error occurred.")
        if not is_write:
            return outcome
        if ticket.scope is not None and not outcome.is_kept:
            self.keys.release(ticket.scope)
        if outcome.is_kept or timer:
            answer = _stored(outcome) if outcome.is_kept and ticket.scope is not None else None
            change = self._change(
                effect, now_ms, ticket.where.operation, ticket=ticket, timer_done=timer, answer=answer
            )
            self._record(change)
        return outcome

    def _after(self, ticket: Ticket, outcome: Outcome, *, is_replay: bool = False) -> Plan:
        """Faults on the way back, else the answer; the call has executed by now."""
        fault = ticket.decision.path
        if fault == "drop_response":
            return self._harmed(ticket, fault, None)
        if fault == "error_gateway":
            return self._harmed(ticket, fault, self._gateway_error(ticket))
        if isinstance(outcome.shown, Intent) and ticket.decision.side:
            outcome = outcome._replace(shown=twisted(outcome.shown, ticket.decision.side))
        return self._plan(ticket, outcome, (("Idempotent-Replayed", "true"),) if is_replay else ())

    def _execute_later(self, ticket: Ticket, now_ms: int) -> None:
        """Book the request as a timer; its key stays in use until then, a restart included."""
        call = ticket.call
        detail = {"method": call.method, "path": call.path, "body": call.body, "key": call.key}
        timer = Timer(
            id=derive("timer", ticket.request_id, call.path),
            kind="late_execution",
            due_ms=now_ms + ticket.decision.late_ms,
            detail=detail,
        )
        self._record(
            Change(
                at_ms=now_ms,
                operation=ticket.where.operation,
                request_id=ticket.request_id,
                key=call.key,
                scope=ticket.scope,
                fingerprint=ticket.fingerprint,
                timers=(timer,),
            )
        )

    def next_due_ms(self) -> int | None:
        """Return when the next timer or announcement is due, None when nothing waits."""
        timer = self._timer_queue[0][0] if self._timer_queue else None
        announcement = self.outbox.next_due_ms()
        if timer is None or announcement is None:
            return timer if announcement is None else announcement
        return min(timer, announcement)

    def tick(self, now_ms: int) -> None:
        """Run every timer that is due."""
        while self._timer_queue and self._timer_queue[0][0] <= now_ms:
            timer = self._timers.get(heappop(self._timer_queue)[1])
            if timer is None:
                continue
            if timer.kind == "late_execution":
                detail = timer.detail
                call = Call(method=detail["method"], path=detail["path"], body=detail["body"], key=detail["key"])
                ticket = self._late_ticket(call, timer)
                self._execute(ticket, now_ms, timer=timer.id)
                continue
            effect = self._timer_effect(timer, now_ms) or Effect(Outcome())
            self._record(self._change(effect, now_ms, timer.kind, timer_done=timer.id))

    def _late_ticket(self, call: Call, timer: Timer) -> Ticket:
        where = route(call.method, call.path)
        assert where is not None
        form = parse_form(call.body)
        return Ticket(
            call=call,
            where=where,
            form=form,
            request_id=f"req_{timer.id.removeprefix('timer_')}",
            scope=f"{call.path} {call.key}" if call.key else None,
            fingerprint=fingerprint(form),
        )

    def _timer_effect(self, timer: Timer, now_ms: int) -> Effect | None:
        intent = self.account.intents[timer.detail["intent"]]
        context = self._context(now_ms, name=timer.id)
        if timer.kind == "charge_late":
            return payment.charge_late(intent, timer.detail["payment_method"], context)
        return payment.end_wait(intent, is_passed=timer.detail["is_passed"], context=context)

    def end_wait(self, intent_id: str, *, is_passed: bool, now_ms: int) -> bool:
        """End a challenge or a processing payment by hand; False when the intent is unknown or does not wait."""
        intent = self.account.intents.get(intent_id)
        context = self._context(now_ms, name=f"end {intent_id}")
        effect = payment.end_wait(intent, is_passed=is_passed, context=context) if intent else None
        if effect is None:
            return False
        self._record(self._change(effect, now_ms, "end_wait"))
        return True

    def note(self, operation: str, now_ms: int, extra: dict[str, Any]) -> None:
        """Book something that is no call: a pay-out with its balance transactions, a turned clock."""
        self._record(Change(at_ms=now_ms, operation=operation, extra=extra))

    def _context(self, now_ms: int, *, name: str, decision: Decision = NO_FAULT) -> Context:
        return Context(
            account=self.account,
            now_ms=now_ms,
            name=f"{self.plan.seed} {name}",
            behaviours=self.behaviours,
            side=decision.side,
            late_ms=decision.late_ms,
            stale_ms=self.plan.rates.stale_ms,
        )

    def _change(
        self,
        effect: Effect,
        now_ms: int,
        operation: str,
        *,
        ticket: Ticket | None = None,
        timer_done: str | None = None,
        answer: Stored | None = None,
    ) -> Change:
        events = []
        for type_, thing in effect.events:
            event_id = derive("evt", type_, thing.id, thing.revision)
            events.append(Event(id=event_id, type=type_, of=thing.id, fate=self.plan.webhook(event_id)))
        return Change(
            at_ms=now_ms,
            operation=operation,
            request_id=ticket.request_id if ticket else None,
            key=ticket.call.key if ticket else None,
            scope=ticket.scope if ticket else None,
            fingerprint=ticket.fingerprint if ticket else "",
            answer=answer,
            intents=effect.intents,
            charges=effect.charges,
            refunds=effect.refunds,
            balance=effect.balance,
            events=tuple(events),
            timers=effect.timers,
            timer_done=timer_done,
        )

    def _record(self, change: Change) -> None:
        self.book.append(change_to_record(change))
        self._apply(change)

    def _apply(self, change: Change) -> None:
        """Fold one change into the state, live and at a restart alike."""
        self.account.apply(change)
        if change.timer_done is not None:
            self._timers.pop(change.timer_done, None)
        for timer in change.timers:
            self._timers[timer.id] = timer
            heappush(self._timer_queue, (timer.due_ms, timer.id))
        if change.scope is not None:
            if change.answer is not None:
                self.keys.keep(change.scope, change.fingerprint, self._outcome(change.answer), change.at_ms)
            elif change.timers and change.timers[0].kind == "late_execution":
                self.keys.begin(change.scope, change.fingerprint, change.at_ms)
            else:
                self.keys.release(change.scope)
        for event in change.events:
            self.outbox.add(event, self.account.find(event.of), change)
        self.clock_offset_ms = change.extra.get("clock_offset_ms", self.clock_offset_ms)

    def _outcome(self, stored: Stored) -> Outcome:
        """Return the stored answer with the object as it stands in this moment of the book."""
        if stored.error is not None or stored.of is None:
            return Outcome(status=stored.status, error=stored.error)
        shown = self.account.find(stored.of)
        expanded = None
        if stored.is_expanded and isinstance(shown, Intent) and shown.latest_charge:
            expanded = self.account.charges[shown.latest_charge]
        return Outcome(status=stored.status, shown=shown, expanded=expanded)

    def _count_sides(self, ticket: Ticket, effect: Effect) -> None:
        """Count the side faults that had something to act upon."""
        for name in ticket.decision.side:
            match name:
                case "charge_after_cancel":
                    did_happen = ticket.where.operation == "cancel" and bool(effect.timers)
                case "second_object_charge":
                    did_happen = len(effect.intents) > 1
                case "stale_read":
                    shown = effect.outcome.shown
                    did_happen = ticket.where.operation == "retrieve" and (
                        isinstance(shown, Intent) and shown is not self.account.intents[shown.id]
                    )
                case _:
                    did_happen = isinstance(effect.outcome.shown, Intent)
            self.plan.happened[name] += did_happen

    def _harmed(self, ticket: Ticket, fault: str, answer: Answer | None) -> Plan:
        self.plan.happened[fault] += 1
        self.statuses[answer.status if answer else 0] += 1
        return Plan(answer, ticket.decision.delay_ms - ticket.wait_ms, ticket.where.operation)

    def _plan(self, ticket: Ticket, outcome: Outcome, headers: Headers = ()) -> Plan:
        self.statuses[outcome.status] += 1
        if ticket.call.key:
            headers = (("Idempotency-Key", ticket.call.key), *headers)
        answer = self._answer(outcome, ticket.request_id, headers)
        return Plan(answer, ticket.decision.delay_ms - ticket.wait_ms, ticket.where.operation)

    def _gateway_error(self, ticket: Ticket) -> Answer:
        status = _GATEWAY_STATUSES[int(ticket.decision.choice * 30) % len(_GATEWAY_STATUSES)]
        body = f"<html><head><title>{status}</title></head><body>upstream failed</body></html>"
        return Answer(status, body.encode(), (("Content-Type", "text/html"),))

    def _answer(self, outcome: Outcome, request_id: str, headers: Headers = ()) -> Answer:
        return Answer(outcome.status, to_bytes(render(outcome)), (("Request-Id", request_id), *headers))


def _stored(outcome: Outcome) -> Stored:
    shown = outcome.shown
    return Stored(
        status=outcome.status,
        of=shown.id if shown else None,
        error=outcome.error,
        is_expanded=outcome.expanded is not None,
    )
