"""One step of the PSP as data: what a call or a timer changed. The book is a list of these.

The invariant: the state is `Account.apply` over all changes, live and after a restart alike, so whatever must
survive a kill is a field here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from simulator.psp.faults import WebhookFate
from simulator.psp.stripe.objects import (
    NOTHING,
    BalanceTransaction,
    Charge,
    Intent,
    Record,
    Refund,
    from_record,
    to_line,
)


class Timer(NamedTuple):
    """Something that happens later: a late execution, the end of a challenge or of processing, a late charge.

    `detail` is what the kind needs (the request of a late execution; the intent and how it ends).
    """

    id: str
    kind: str
    due_ms: int
    detail: Mapping[str, Any]


class Event(NamedTuple):
    """Something to announce: the event's type and the id of the changed object it shows."""

    id: str
    type: str
    of: str
    fate: WebhookFate


class Stored(NamedTuple):
    """An answer as the key keeps it: a status and either an error or the object it shows (`of`)."""

    status: int
    of: str | None = None
    error: Mapping[str, Any] | None = None
    is_expanded: bool = False


class Change(NamedTuple):
    """What one step changed. `scope` and `fingerprint` are set when an idempotency key is concerned."""

    at_ms: int
    operation: str
    request_id: str | None = None
    key: str | None = None
    scope: str | None = None
    fingerprint: str = ""
    answer: Stored | None = None
    intents: tuple[Intent, ...] = ()
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    balance: tuple[BalanceTransaction, ...] = ()
    events: tuple[Event, ...] = ()
    timers: tuple[Timer, ...] = ()
    timer_done: str | None = None
    extra: Mapping[str, Any] = NOTHING


_OBJECTS: Final = ("intents", "charges", "refunds", "balance")
_PLAIN: Final = ("request_id", "key", "scope", "fingerprint", "timer_done", "extra")


def change_to_record(change: Change) -> Record:
    """Return the change as one line of the book; empty fields are left out."""
    record: Record = {"type": "change", "at_ms": change.at_ms, "operation": change.operation}
    for name in _PLAIN:
        if value := getattr(change, name):
            record[name] = value
    for name in _OBJECTS:
        if things := getattr(change, name):
            record[name] = [to_line(thing) for thing in things]
    if change.answer is not None:
        answer = change.answer
        record["answer"] = [answer.status, answer.of, answer.error, answer.is_expanded]
    if change.events:
        record["events"] = [
            [event.id, event.type, event.of, event.fate.is_lost, event.fate.copies, event.fate.delay_ms]
            for event in change.events
        ]
    if change.timers:
        record["timers"] = [
            {"id": timer.id, "kind": timer.kind, "due_ms": timer.due_ms, "detail": timer.detail}
            for timer in change.timers
        ]
    return record


def change_from_record(record: Record) -> Change:
    """Return the change that `change_to_record` wrote down."""
    values: dict[str, Any] = {name: record[name] for name in ("at_ms", "operation", *_PLAIN) if name in record}
    values["intents"] = tuple(from_record(Intent, each) for each in record.get("intents", ()))
    values["charges"] = tuple(from_record(Charge, each) for each in record.get("charges", ()))
    values["refunds"] = tuple(from_record(Refund, each) for each in record.get("refunds", ()))
    values["balance"] = tuple(from_record(BalanceTransaction, each) for each in record.get("balance", ()))
    if "answer" in record:
        status, of, error, is_expanded = record["answer"]
        values["answer"] = Stored(status=status, of=of, error=error, is_expanded=is_expanded)
    values["events"] = tuple(
        Event(id=id_, type=type_, of=of, fate=WebhookFate(is_lost, copies, delay_ms))
        for id_, type_, of, is_lost, copies, delay_ms in record.get("events", ())
    )
    values["timers"] = tuple(Timer(**each) for each in record.get("timers", ()))
    return Change(**values)
