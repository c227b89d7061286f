"""What goes wrong with a call or a webhook: seeded rates and named one-shots.

Pure. A draw depends on (seed, operation, key or object, how often that was drawn), never on the order in which
calls of different keys arrive, so the same plan against the same caller does the same harm. The invariant: a call
has at most one fault of `PATH_FAULTS`; `SIDE_FAULTS` may join it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from math import exp, log
from statistics import NormalDist
from struct import Struct
from typing import Any, Final, NamedTuple

PATH_FAULTS: Final = (
    "drop_request",  # connection closed, nothing was executed
    "rate_limit_429",  # refused with Retry-After, not executed
    "lock_timeout",  # 429 lock_timeout, not executed
    "error_before",  # 500 before execution, not stored under the key
    "error_gateway",  # 502/503/504 of a gateway: executed or not, drawn; the 5xx itself is never stored
    "late_execution",  # 504 now, executed later; the key is in use until then
    "error_after",  # executed, and the 500 is what the key replays for ever
    "drop_response",  # executed, connection closed without an answer
)
"""Faults of the way there and back, in order of precedence: the first that is drawn is the one that happens."""

SIDE_FAULTS: Final = (
    "stale_read",  # a GET shows the object as it was before its last change
    "wrong_amount",
    "wrong_currency",
    "wrong_reference",
    "charge_after_cancel",  # the cancel is answered, then the card is charged
    "second_object_charge",  # the confirm also charges a second object with the same reference
)
"""Faults of what the PSP does or says; each is drawn on its own."""

WEBHOOK_FAULTS: Final = ("webhook_loss", "webhook_drop", "webhook_duplicate", "webhook_reorder")

_COPIES_MIN: Final = 2
_LIMIT_DRAW: Final = 2**32
# One 64-byte digest gives sixteen 32-bit draws: eight path faults, six side faults, one delay, one choice.
_DELAY_DRAW: Final = len(PATH_FAULTS) + len(SIDE_FAULTS)
_CHOICE_DRAW: Final = _DELAY_DRAW + 1
_SIXTEEN: Final = Struct(">16I")
_NORMAL: Final = NormalDist()
# 200,000 subjects are half an hour at 100 faulty calls a second; the oldest are forgotten (about 30 MB).
SUBJECTS_MAX: Final = 200_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Every rate is a share from 0 to 1; `_ms` pairs are drawn evenly between both ends, but for the percentiles of the delay:
    where they are set, a call's delay is drawn log-normally through both of them, and comes on top of the even one.

    `webhook_loss` loses an event for good; `webhook_drop` loses one attempt, which is then retried. `webhook_duplicate`
    sends it 2 to `webhook_copies_max` times.
    """

    drop_request: float = 0.0
    drop_response: float = 0.0
    error_before: float = 0.0
    error_after: float = 0.0
    error_gateway: float = 0.0
    rate_limit_429: float = 0.0
    lock_timeout: float = 0.0
    late_execution: float = 0.0
    stale_read: float = 0.0
    wrong_amount: float = 0.0
    wrong_currency: float = 0.0
    wrong_reference: float = 0.0
    charge_after_cancel: float = 0.0
    second_object_charge: float = 0.0
    webhook_loss: float = 0.0
    webhook_drop: float = 0.0
    webhook_duplicate: float = 0.0
    webhook_reorder: float = 0.0
    delay_ms_min: int = 0
    delay_ms_max: int = 0
    delay_ms_p50: int = 0
    delay_ms_p99: int = 0
    late_ms_min: int = 1_000
    late_ms_max: int = 3_000
    stale_ms: int = 2_000
    retry_after_s: int = 1
    webhook_delay_ms_min: int = 0
    webhook_delay_ms_max: int = 0
    webhook_reorder_ms: int = 2_000
    webhook_copies_max: int = 3

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Rates:
        """Return the rates of a JSON object, absent ones at their default. Raises ValueError, naming the field."""
        known = {each.name: each.type for each in fields(cls)}
        for name, value in document.items():
            if name not in known:
                raise ValueError(f"unknown fault {name!r}; known: {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise ValueError(f"{name} must be a number of at least 0")
            if known[name] == "float" and value > 1:
                raise ValueError(f"{name} is a share and must be at most 1")
            if known[name] == "int" and not isinstance(value, int):
                raise ValueError(f"{name} must be an integer")
        rates = replace(cls(), **document)
        if rates.webhook_copies_max < _COPIES_MIN:
            raise ValueError(f"webhook_copies_max must be at least {_COPIES_MIN}: fewer are no duplicate")
        for name in ("delay_ms", "late_ms", "webhook_delay_ms"):
            if getattr(rates, f"{name}_min") > getattr(rates, f"{name}_max"):
                raise ValueError(f"{name}_min must be at most {name}_max")
        if not bool(rates.delay_ms_p50) == bool(rates.delay_ms_p99) or rates.delay_ms_p50 > rates.delay_ms_p99:
            raise ValueError("delay_ms_p50 and delay_ms_p99 go together, and delay_ms_p50 is at most delay_ms_p99")
        return rates

    def to_document(self) -> dict[str, Any]:
        """Return the rates as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class OneShot:
    """A fault that happens once: on the `nth` call of `operation` (for `reference`, if named) from now on.

    `ms` overrides the time of `late_execution` or `charge_after_cancel`.
    """

    fault: str
    operation: str
    reference: str | None = None
    nth: int = 1
    ms: int | None = None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> OneShot:
        """Return the one-shot of a JSON object. Raises ValueError."""
        if unknown := set(document) - {each.name for each in fields(cls)}:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        shot = cls(**{"fault": "", "operation": "", **document})
        if shot.fault not in (*PATH_FAULTS, *SIDE_FAULTS):
            raise ValueError(f"unknown fault {shot.fault!r}; known: {', '.join((*PATH_FAULTS, *SIDE_FAULTS))}")
        if not shot.operation or not isinstance(shot.nth, int) or shot.nth < 1:
            raise ValueError("a one-shot needs an operation and an nth of at least 1")
        if shot.ms is not None and (not isinstance(shot.ms, int) or shot.ms < 0):
            raise ValueError("ms must be an integer of at least 0")
        return shot


class Decision(NamedTuple):
    """What happens to one call. `choice` is a draw from 0 to 1 for whatever is left open by the fault."""

    path: str | None = None
    side: frozenset[str] = frozenset()
    delay_ms: int = 0
    choice: float = 0.0
    late_ms: int = 0


class WebhookFate(NamedTuple):
    """What happens to one event: lost for good, or sent `copies` times after `delay_ms`."""

    is_lost: bool = False
    copies: int = 1
    delay_ms: int = 0


NO_FAULT: Final = Decision()
NO_WEBHOOK_FAULT: Final = WebhookFate()


class FaultPlan:
    """Draws faults and counts those that happened (`happened`)."""

    def __init__(self, *, seed: int, rates: Rates | None = None) -> None:
        self.seed = seed
        self.happened: Counter[str] = Counter()
        self._shots: list[tuple[OneShot, int]] = []
        self._drawn: OrderedDict[str, int] = OrderedDict()
        self.set_rates(rates or Rates())

    def set_rates(self, rates: Rates) -> None:
        """Use these rates from the next draw on."""
        self.rates = rates
        self._path = [getattr(rates, name) * _LIMIT_DRAW for name in PATH_FAULTS]
        self._side = [getattr(rates, name) * _LIMIT_DRAW for name in SIDE_FAULTS]
        self._has_side = any(self._side)
        self._is_quiet = not any(self._path) and not self._has_side and not rates.delay_ms_max + rates.delay_ms_p50

    def add_one_shot(self, shot: OneShot) -> None:
        """Wait for the one-shot's call."""
        self._shots.append((shot, 0))

    @property
    def one_shots(self) -> list[OneShot]:
        """The one-shots that have not happened yet."""
        return [shot for shot, _ in self._shots]

    def decide(self, *, operation: str, subject: str, reference: str | None, is_write: bool) -> Decision:
        """Draw what happens to this call. `subject` is its idempotency key, or else the object it names."""
        shots = self._fired(operation, reference) if self._shots else []
        if self._is_quiet and not shots:
            return NO_FAULT
        draws = self._draws(operation, subject)
        path = None
        for name, draw, limit in zip(PATH_FAULTS, draws, self._path, strict=False):
            if draw < limit and (is_write or name != "late_execution"):
                path = name
                break
        side: set[str] = set()
        if self._has_side:
            rolled = zip(SIDE_FAULTS, draws[len(PATH_FAULTS) :], self._side, strict=False)
            side = {name for name, draw, limit in rolled if draw < limit}
        choice = draws[_CHOICE_DRAW] / _LIMIT_DRAW
        late_ms = _between(self.rates.late_ms_min, self.rates.late_ms_max, choice)
        for shot in shots:
            if shot.fault in PATH_FAULTS:
                path = shot.fault
            else:
                side.add(shot.fault)
            late_ms = late_ms if shot.ms is None else shot.ms
        delay = draws[_DELAY_DRAW]
        delay_ms = _between(self.rates.delay_ms_min, self.rates.delay_ms_max, delay / _LIMIT_DRAW)
        if self.rates.delay_ms_p50:
            # Half a step up: neither end of the draws is the end of a normal distribution.
            delay_ms += log_normal(self.rates.delay_ms_p50, self.rates.delay_ms_p99, (delay + 0.5) / _LIMIT_DRAW)
        return Decision(path, frozenset(side), delay_ms, choice, late_ms)

    def webhook(self, event: str) -> WebhookFate:
        """Draw what happens to an event's announcement, once per event."""
        rates = self.rates
        if not (rates.webhook_loss or rates.webhook_duplicate or rates.webhook_reorder or rates.webhook_delay_ms_max):
            return NO_WEBHOOK_FAULT
        lost, doubled, reordered, delay, copies, *_ = (draw / _LIMIT_DRAW for draw in self._draws("webhook", event))
        if lost < rates.webhook_loss:
            self.happened["webhook_loss"] += 1
            return WebhookFate(is_lost=True, copies=0)
        delay_ms = _between(rates.webhook_delay_ms_min, rates.webhook_delay_ms_max, delay)
        if reordered < rates.webhook_reorder:
            self.happened["webhook_reorder"] += 1
            delay_ms += rates.webhook_reorder_ms
        if doubled >= rates.webhook_duplicate:
            return WebhookFate(delay_ms=delay_ms)
        self.happened["webhook_duplicate"] += 1
        return WebhookFate(copies=_between(_COPIES_MIN, rates.webhook_copies_max, copies), delay_ms=delay_ms)

    def is_webhook_dropped(self, event: str) -> bool:
        """Draw whether this attempt to send the event gets lost; it is retried later."""
        if not self.rates.webhook_drop or self._draws("attempt", event)[0] >= self.rates.webhook_drop * _LIMIT_DRAW:
            return False
        self.happened["webhook_drop"] += 1
        return True

    def _fired(self, operation: str, reference: str | None) -> list[OneShot]:
        fired, waiting = [], []
        for shot, seen in self._shots:
            if shot.operation != operation or shot.reference not in (None, reference):
                waiting.append((shot, seen))
            elif seen + 1 == shot.nth:
                fired.append(shot)
            else:
                waiting.append((shot, seen + 1))
        self._shots = waiting
        return fired

    def _draws(self, operation: str, subject: str) -> tuple[int, ...]:
        name = f"{operation}|{subject}"
        count = self._drawn.pop(name, 0) + 1
        self._drawn[name] = count
        if len(self._drawn) > SUBJECTS_MAX:
            self._drawn.popitem(last=False)
        return _SIXTEEN.unpack(blake2b(f"{self.seed}|{name}|{count}".encode()).digest())


def log_normal(p50: int, p99: int, share: float) -> int:
    """Return the value that `share` (0 to 1, both excluded) of a log-normal distribution with these percentiles stay below."""
    spread = log(p99 / p50) / _NORMAL.inv_cdf(0.99)
    return round(p50 * exp(spread * _NORMAL.inv_cdf(share)))


def _between(low: int, high: int, draw: float) -> int:
    return low + int((high - low + 1) * draw) if high > low else low
