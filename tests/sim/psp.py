"""A PSP on a script: objects that can be paid once, keys that replay, and faults by (verb, occurrence).

A stand-in for the gateway: it raises what the gateway would raise. Its `charges` and `refunds` are the truth.
"""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from zerosum.domain import message as m
from zerosum.domain.money import Money
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.errors import NotSent, OutcomeUnknown, StoredFailure

DROP_REQUEST, DROP_RESPONSE, NOT_SENT = "drop_request", "drop_response", "not_sent"
STORED_FAILURE, STORED_AFTER = "stored_failure", "stored_after"
LATE = "late_execution"
LATE_MS = 90_000


@dataclass(slots=True)
class Object:
    """A payment object. `paid` counts how often it was charged, `given_back` how often refunded: twice is the disaster."""

    id: str
    order_id: str
    money: Money
    token: str
    status: m.ObjectStatus = m.ObjectStatus.UNCONFIRMED
    reason: str = ""
    paid: int = 0
    given_back: int = 0


@dataclass(slots=True)
class ScriptedPsp:
    """`remembered`: keys of refunds; clear it for the day after. A forgotten key is executed anew, whatever was given back.

    `script[verb]` lists what befalls the 1st, 2nd, .. call of a verb; "" and what is not listed go well.

    `always[verb]` befalls every call of the verb. Tokens: "tok_decline", "tok_3ds", "tok_refused"; all others pay,
    but for orders in `declines`. "tok_no_refund" pays, and its refund is refused for good.
    """

    script: dict[str, list[str]] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)
    declines: set[str] = field(default_factory=set)
    refunds: dict[str, str] = field(default_factory=dict)
    remembered: set[str] = field(default_factory=set)
    refused_refunds: set[str] = field(default_factory=set)
    calls: list[PspRequest] = field(default_factory=list)
    answered: dict[str, str] = field(default_factory=dict)
    failures: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    twist: dict[str, Money | str] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    holding: set[str] = field(default_factory=set)

    @property
    def charges(self) -> Counter[str]:
        """Charges by payment order."""
        return Counter({obj.order_id: obj.paid for obj in self.objects.values() if obj.paid})

    async def call(self, request: PspRequest) -> m.Report:
        self.calls.append(request)
        self.counts[request.verb] += 1
        fault = self._fault(request.verb)
        await asyncio.sleep(0.02)
        if request.verb in self.holding:
            await self.held[request.verb].wait()
        if fault == NOT_SENT:
            raise NotSent("connection refused")
        if fault == DROP_REQUEST:
            raise OutcomeUnknown("timeout")
        if request.key in self.failures:
            raise StoredFailure("500, replayed")
        if fault == STORED_FAILURE:
            self.failures.add(request.key)
            raise OutcomeUnknown("500")
        if fault == LATE:
            asyncio.get_running_loop().call_later(LATE_MS / 1_000, self._execute, request)
            raise OutcomeUnknown("504")
        obj = self._execute(request)
        if fault == STORED_AFTER:
            self.failures.add(request.key)
            raise OutcomeUnknown("500 after execution")
        if fault == DROP_RESPONSE:
            raise OutcomeUnknown("connection lost")
        return self._report(request, obj)

    def _fault(self, verb: str) -> str:
        listed = self.script.get(verb, [])
        return listed.pop(0) if listed else self.always.get(verb, "")

    def _execute(self, request: PspRequest) -> Object | None:
        if request.verb is PspVerb.PREPARE:
            return self._prepare(request)
        obj = self.objects[request.object_id]
        if request.verb is PspVerb.CONFIRM and obj.status is m.ObjectStatus.UNCONFIRMED:
            self._pay(obj)
        elif request.verb is PspVerb.CANCEL and obj.status is not m.ObjectStatus.CHARGED:
            obj.status = m.ObjectStatus.CANCELED
        elif request.verb is PspVerb.REFUND and request.key not in self.remembered:
            self._refund(request, obj)
        return obj

    def _refund(self, request: PspRequest, obj: Object) -> None:
        self.remembered.add(request.key)
        if obj.token == "tok_no_refund":
            self.refused_refunds.add(request.key)
        else:
            self.refunds[request.key] = obj.id
            obj.given_back += 1

    def _prepare(self, request: PspRequest) -> Object | None:
        if request.token == "tok_refused":
            return None
        if request.key not in self.answered:
            name = f"pi_{len(self.objects) + 1}"
            self.answered[request.key] = name
            self.objects[name] = Object(name, request.order_id, request.money, request.token)
        return self.objects[self.answered[request.key]]

    def _pay(self, obj: Object) -> None:
        if obj.token == "tok_decline" or obj.order_id in self.declines:
            obj.status, obj.reason = m.ObjectStatus.DECLINED, "CARD_DECLINED"
        elif obj.token == "tok_3ds":
            obj.status = m.ObjectStatus.ACTION_REQUIRED
        else:
            obj.status = m.ObjectStatus.CHARGED
            obj.paid += 1

    def pay_now(self, object_id: str) -> None:
        """The buyer passes 3-D Secure, or the PSP charges whatever we believe."""
        obj = self.objects[object_id]
        obj.status = m.ObjectStatus.CHARGED
        obj.paid += 1

    def _report(self, request: PspRequest, obj: Object | None) -> m.Report:
        source = m.ReportSource.ANSWER
        if obj is None:
            status, reason = m.ObjectStatus.REFUSED, "NO_SUCH_TOKEN"
            return m.Report(source, request.order_id, request.psp, "", status, request.money, request.order_id, reason)
        is_refunded = request.verb is PspVerb.REFUND or request.wants_refund_key in self.refunds
        status = m.ObjectStatus.REFUNDED if is_refunded else obj.status
        if {request.key, request.wants_refund_key} & self.refused_refunds:
            status = m.ObjectStatus.REFUND_FAILED
        report = m.Report(source, request.order_id, request.psp, obj.id, status, obj.money, obj.order_id, obj.reason)
        is_unrefunded = bool(request.wants_refund_key) and status is m.ObjectStatus.CHARGED and not obj.given_back
        report = replace(report, is_unrefunded=is_unrefunded)
        money, reference = self.twist.get("money"), self.twist.get("reference")
        if isinstance(money, Money) and status is m.ObjectStatus.CHARGED:
            report = replace(report, money=money)
        return replace(report, reference=reference) if isinstance(reference, str) else report
