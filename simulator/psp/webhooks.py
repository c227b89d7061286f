"""What the PSP announces: which events wait, when each is tried, how it is signed, what became of it.

Pure; `delivery.py` does the sending. At-least-once: an event is tried until a 2xx, with doubling pauses, at most
`attempts_max` times. An event drawn as lost (`webhook_loss`) is never tried: lost for good, as the demo needs it; one
attempt drawn as dropped (`webhook_drop`) counts as failed and is tried again.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from http import HTTPStatus
from typing import Any

from simulator.psp.change import Change, Event
from simulator.psp.stripe.objects import Charge, Intent, Record, Refund
from simulator.psp.stripe.wire import event_json, to_bytes

Announced = Intent | Charge | Refund


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """When a failed delivery is tried again: 500 ms, 1 s, 2 s, .. 30 s; 16 attempts take about five minutes."""

    pause_ms: int = 500
    pause_ms_max: int = 30_000
    attempts_max: int = 16


@dataclass(slots=True, kw_only=True)
class Announcement:
    """One event and what became of it. `thing` is let go once nothing more will be sent.

    `tries` counts the attempts of the first copy, `copies_open` has a bit for each duplicate not yet sent.
    """

    id: str
    type: str
    of: str
    reference: str | None
    created_ms: int
    thing: Announced | None
    request_id: str | None
    key: str | None
    state: str = "pending"
    attempts: int = 0
    tries: int = 0
    copies_open: int
    accepted: int = 0
    statuses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to be made now. `copy` is 0 for the one that is retried, more for duplicates; `number` counts tries."""

    event: str
    copy: int
    number: int = 0


class Outbox:
    """Every announcement; those that are due come out of `due`."""

    def __init__(self, rule: RetryRule | None = None, *, is_sending: bool = True) -> None:
        self.rule = rule or RetryRule()
        self.all: dict[str, Announcement] = {}
        self.states: Counter[str] = Counter()
        self._is_sending = is_sending
        self._queue: list[tuple[int, int, Delivery]] = []
        self._serial = 0

    def add(self, event: Event, thing: Announced, change: Change) -> None:
        """Take over a new event; lost ones are only written down."""
        announcement = Announcement(
            id=event.id,
            type=event.type,
            of=event.of,
            reference=thing.metadata.get("payment_order_id"),
            created_ms=change.at_ms,
            thing=thing,
            request_id=change.request_id,
            key=change.key,
            copies_open=((1 << event.fate.copies) - 1) & ~1,
        )
        self.all[event.id] = announcement
        self.states["pending"] += 1
        if event.fate.is_lost:
            self._move(announcement, "lost")
            announcement.thing = None
        for copy in range(event.fate.copies):
            self._push(change.at_ms + event.fate.delay_ms, Delivery(event.id, copy))

    def next_due_ms(self) -> int | None:
        """Return when the next attempt is due, None when nothing waits or there is no address to send to."""
        return self._queue[0][0] if self._queue and self._is_sending else None

    def due(self, now_ms: int, limit: int) -> Iterator[Delivery]:
        """Take out at most `limit` attempts that are due. Each must come back through `settle`."""
        while limit > 0 and self._queue and self._queue[0][0] <= now_ms:
            _, _, delivery = heappop(self._queue)
            announcement = self.all[delivery.event]
            if not self._is_open(announcement, delivery):
                continue  # made before a restart; the queue was filled again from the book
            limit -= 1
            yield delivery

    def settle(self, delivery: Delivery, status: int, now_ms: int) -> Record:
        """Note the answer to an attempt (0 = none came) and return it as a line for the book."""
        record = {"type": "delivery", "event": delivery.event, "copy": delivery.copy, "status": status, "at_ms": now_ms}
        self.restore(record)
        return record

    def restore(self, record: Record) -> None:
        """Fold one line that `settle` returned."""
        announcement = self.all[record["event"]]
        announcement.attempts += 1
        announcement.statuses += (record["status"],)
        is_accepted = HTTPStatus.OK <= record["status"] < HTTPStatus.MULTIPLE_CHOICES
        if is_accepted:
            announcement.accepted += 1
            self._move(announcement, "delivered")
        if record["copy"]:
            announcement.copies_open &= ~(1 << record["copy"])
        else:
            announcement.tries += 1
            if announcement.state == "pending":
                self._retry(announcement, record["at_ms"])
        if announcement.state != "pending" and not announcement.copies_open:
            announcement.thing = None

    def body(self, delivery: Delivery) -> bytes:
        """Return the event as it is sent; the same bytes on every attempt."""
        announcement = self.all[delivery.event]
        assert announcement.thing is not None
        document = event_json(
            announcement.id,
            announcement.type,
            announcement.thing,
            created_ms=announcement.created_ms,
            request_id=announcement.request_id,
            key=announcement.key,
        )
        return to_bytes(document)

    def log(self) -> Iterator[dict[str, Any]]:
        """Return one document per event there is now, in order of creation: the delivery log of the truth."""
        return map(_told, list(self.all.values()))

    def _is_open(self, announcement: Announcement, delivery: Delivery) -> bool:
        if delivery.copy:
            return bool(announcement.copies_open >> delivery.copy & 1)
        return announcement.state == "pending" and announcement.tries == delivery.number

    def _retry(self, announcement: Announcement, now_ms: int) -> None:
        if announcement.tries >= self.rule.attempts_max:
            self._move(announcement, "given_up")
            return
        pause_ms = min(self.rule.pause_ms * 2 ** (announcement.tries - 1), self.rule.pause_ms_max)
        self._push(now_ms + pause_ms, Delivery(announcement.id, 0, announcement.tries))

    def _move(self, announcement: Announcement, state: str) -> None:
        self.states[announcement.state] -= 1
        self.states[state] += 1
        announcement.state = state

    def _push(self, due_ms: int, delivery: Delivery) -> None:
        self._serial += 1
        heappush(self._queue, (due_ms, self._serial, delivery))


def _told(each: Announcement) -> dict[str, Any]:
    return {
        "type": "webhook",
        "id": each.id,
        "event": each.type,
        "object": each.of,
        "reference": each.reference,
        "created_ms": each.created_ms,
        "state": each.state,
        "attempts": each.attempts,
        "accepted": each.accepted,
        "statuses": list(each.statuses),
    }


def signature(body: bytes, *, secret: str, signed_at_s: int) -> str:
    """Return the value of `Stripe-Signature`: HMAC-SHA256 over "time.body" (docs.stripe.com/webhooks#verify)."""
    digest = hmac.digest(secret.encode(), b"%d.%b" % (signed_at_s, body), "sha256")
    return f"t={signed_at_s},v1={digest.hex()}"
