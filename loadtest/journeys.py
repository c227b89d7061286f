"""What a buyer does: submits until there is an answer, looks at an order, clicks twelve times; and when each is begun.

No gRPC, no Locust, no gevent here: the wire, the clock, sleeping and spawning are handed in, so the rules are tested on a
hand-moved clock. Invariant: a retry is the same bytes under the same key, and latency counts from the intended instant.
"""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from loadtest.journal import Journal
from loadtest.outcome import FINAL_STATUSES, OK, REFUSALS, Outcome, Patience, may_retry, result_of
from loadtest.profiles import Profile
from loadtest.sample import Meter, Sample
from loadtest.shape import Checkout, fingerprint

CREATE: Final = "CreatePayment"
VIEW_ORDER: Final = "GetPaymentOrder"
VIEW_PAYMENT: Final = "GetPayment"

KNOWN_MAX: Final = 2_000
"""Checkouts a view may be about: the last 2,000 = two minutes of steady-50, so views meet warm and cold ones."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to one try. `body`: the message's own bytes when `code` is OK. `retry_after_ms`: RetryInfo, 0 = none."""

    code: str
    body: bytes = b""
    is_replayed: bool = False
    retry_after_ms: int = 0


class Wire(Protocol):
    """The way to the payment service. Blocks its own greenlet only."""

    def send(self, method: str, request: bytes, *, timeout_ms: int, lane: int) -> Reply:
        """Sends once. `lane`: which channel, taken modulo their number. Never raises for what the other side does."""
        ...


class Codec(Protocol):
    """Messages to bytes and back."""

    def submit(self, checkout: Checkout) -> bytes:
        """The bytes of a CreatePaymentRequest."""
        ...

    def view(self, method: str, subject: str) -> bytes:
        """The bytes of a request for one order or one checkout."""
        ...

    def told(self, body: bytes) -> tuple[tuple[str, str], ...]:
        """(payment_order_id, status name) of a CreatePaymentResponse."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """What a journey needs from outside. Instants in epoch milliseconds from a clock that never goes back.

    `run_id`: makes the names of calls unique over all journals.
    """

    run_id: str
    wire: Wire
    codec: Codec
    journal: Journal
    meter: Meter
    chance: random.Random
    patience: Patience
    now_ms: Callable[[], float]
    sleep_ms: Callable[[float], None]


class Buyers:
    """The buyers of one load. Their journeys run side by side; each method is one journey, from begin to end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: deque[Checkout] = deque(maxlen=KNOWN_MAX)
        self._calls = 0

    def submit(self, checkout: Checkout, intended_ms: float) -> None:
        """One click."""
        self._world.meter.began(orders=len(checkout.orders))
        self._known.append(checkout)
        told = self._pay(checkout, intended_ms, lane=0)
        self._world.meter.told(status for _, status in told.orders)

    def click(self, checkout: Checkout, intended_ms: float, *, copies: int, spawn: Callable[..., object]) -> None:
        """The same click `copies` times at once, over two channels. Each copy has its own intent and its own answer."""
        self._known.append(checkout)
        burst = _Burst(checkout, intended_ms, left=copies, replies=set())
        for copy in range(copies):
            self._world.meter.began(orders=len(checkout.orders) if copy == 0 else 0)
            spawn(self._copy, burst, copy)

    def _copy(self, burst: "_Burst", copy: int) -> None:
        told = self._pay(burst.checkout, burst.intended_ms, lane=copy)
        if told.reply_sha256:
            if not burst.replies:
                self._world.meter.told(status for _, status in told.orders)
            burst.replies.add(told.reply_sha256)
        burst.left -= 1
        if burst.left == 0 and len(burst.replies) > 1:
            self._world.meter.disagreed()

    def _pay(self, checkout: Checkout, intended_ms: float, *, lane: int) -> "_Told":
        """Submits until there is an answer or the budget ends."""
        world, request, mark = self._world, self._world.codec.submit(checkout), fingerprint(checkout)
        began_ms = world.now_ms()
        tries, is_doubtful = 0, False
        while True:
            tries += 1
            reply, told = self._try(checkout, request, mark, lane)
            world.meter.tried(reply.code, tries=tries, is_replay=reply.is_replayed)
            now_ms = world.now_ms()
            delay_ms = world.patience.delay_ms(tries, reply.retry_after_ms, world.chance)
            if not may_retry(reply.code) or now_ms + delay_ms - began_ms > world.patience.budget_ms:
                outcome = _outcome(reply.code, told, is_doubtful)
                self._end(CREATE, reply.code, outcome, tries=tries, intended_ms=intended_ms)
                return told
            is_doubtful = True
            world.sleep_ms(delay_ms)

    def _try(self, checkout: Checkout, request: bytes, mark: str, lane: int) -> "tuple[Reply, _Told]":
        """One RPC, whole: intent, request, answer."""
        world = self._world
        self._calls += 1
        call = f"{world.run_id}-{self._calls}"
        world.journal.intend(call, checkout, fingerprint=mark, sent_ms=round(world.now_ms()))
        reply = world.wire.send(CREATE, request, timeout_ms=world.patience.deadline_ms, lane=lane)
        told = _NOTHING
        if reply.code == OK:
            told = _Told(hashlib.sha256(reply.body).hexdigest(), world.codec.told(reply.body))
        world.journal.answer(
            call,
            checkout,
            result=result_of(reply.code),
            code=reply.code,
            reply_sha256=told.reply_sha256,
            replayed=reply.is_replayed,
            orders=told.orders,
            answered_ms=round(world.now_ms()),
        )
        return reply, told

    def view(self, intended_ms: float) -> None:
        """Looks at an order, or at its whole checkout, that some buyer has submitted. Tried once: a look changes nothing."""
        world = self._world
        if not self._known:
            return
        checkout = world.chance.choice(self._known)
        method = world.chance.choice((VIEW_ORDER, VIEW_PAYMENT))
        subject = (
            world.chance.choice(checkout.orders).payment_order_id if method == VIEW_ORDER else checkout.checkout_id
        )
        request = world.codec.view(method, subject)
        world.meter.began()
        reply = world.wire.send(method, request, timeout_ms=world.patience.deadline_ms, lane=0)
        world.meter.tried(reply.code, tries=1, is_replay=False)
        # A view may overtake the submit it is about: NOT_FOUND is an answer.
        outcome = Outcome.READ if reply.code in (OK, "NOT_FOUND") else Outcome.UNREAD
        self._end(method, reply.code, outcome, tries=1, intended_ms=intended_ms)

    def _end(self, name: str, code: str, outcome: Outcome, *, tries: int, intended_ms: float) -> None:
        at_ms = self._world.now_ms()
        self._world.meter.ended(Sample(round(at_ms), name, max(0.0, at_ms - intended_ms), code, outcome, tries))


@dataclass(slots=True)
class _Burst:
    """The copies of one click under way: how many are, and what those that are back were told."""

    checkout: Checkout
    intended_ms: float
    left: int
    replies: set[str]


@dataclass(frozen=True, slots=True)
class _Told:
    """What an OK reply said; empty without one."""

    reply_sha256: str
    orders: tuple[tuple[str, str], ...]


_NOTHING: Final = _Told("", ())


def _outcome(code: str, told: _Told, is_doubtful: bool) -> Outcome:
    """`is_doubtful`: an earlier try may have been executed, so a refusal of the last one settles nothing."""
    if code != OK:
        return Outcome.REFUSED if code in REFUSALS and not is_doubtful else Outcome.UNKNOWN
    return Outcome.FINAL if all(status in FINAL_STATUSES for _, status in told.orders) else Outcome.PENDING


def arrivals(*, tps: float, seconds: float, chance: random.Random | None) -> Iterator[float]:
    """Instants in milliseconds from the start at which something is to begin, ascending, all before the end.

    Poisson arrivals (independent buyers) drawn from `chance`; evenly spaced when it is None.
    """
    mean_ms = 1_000.0 / tps
    at_ms = 0.0 if chance is None else chance.expovariate(1.0) * mean_ms
    while at_ms < seconds * 1_000.0:
        yield at_ms
        at_ms += mean_ms if chance is None else chance.expovariate(1.0) * mean_ms


def dispatch(
    profile: Profile,
    buyers: Buyers,
    checkouts: Iterator[Checkout],
    instants: Iterator[float],
    *,
    world: World,
    spawn: Callable[..., object],
) -> None:
    """Begins journeys at their instants, in the profile's order of writes and reads, and waits for none of them.

    When it is late (a busy machine, a full pool) it begins them at once; they still count from when they were meant.
    """
    start_ms = world.now_ms()
    for number, offset_ms in enumerate(instants):
        intended_ms = start_ms + offset_ms
        early_ms = intended_ms - world.now_ms()
        if early_ms > 0:
            world.sleep_ms(early_ms)
        if number % (profile.views_per_submit + 1) != 0:
            spawn(buyers.view, intended_ms)
        elif profile.copies > 1:
            buyers.click(next(checkouts), intended_ms, copies=profile.copies, spawn=spawn)
        else:
            spawn(buyers.submit, next(checkouts), intended_ms)
