"""Idempotency keys by Stripe's rules (docs.stripe.com/api/idempotent_requests).

* A key belongs to one endpoint: the same key on another path is another key.
* Same parameters: the first answer again, whatever it was, a 500 included. Other parameters: `idempotency_error`.
* First request still under way: 409 `idempotency_key_in_use`.
* An answer is kept only when execution began; refusals of malformed requests, 401, 404, 409 and 429 are not.
* A key is forgotten once its age reaches the expiry (24 h unless told otherwise), never earlier.

Pure: the time is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Generic, TypeVar

Answer = TypeVar("Answer")

EXPIRY_MS: Final = 24 * 60 * 60 * 1_000
"""Stripe's own: keys may be removed when they are at least 24 hours old."""


class Verdict(Enum):
    """What a key says about a request."""

    FRESH = auto()
    REPLAY = auto()
    OTHER_PARAMETERS = auto()
    IN_USE = auto()


@dataclass(slots=True)
class _Known(Generic[Answer]):
    fingerprint: str
    first_used_ms: int
    answer: Answer | None = None


class Keys(Generic[Answer]):
    """Every key in use or answered. `scope` is the endpoint's path and the key."""

    def __init__(self, *, expiry_ms: int = EXPIRY_MS) -> None:
        self.expiry_ms = expiry_ms
        self._known: dict[str, _Known[Answer]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def look(self, scope: str, fingerprint: str, now_ms: int) -> tuple[Verdict, Answer | None]:
        """Return the verdict, with the stored answer when it is REPLAY. Changes nothing but forgets expired keys."""
        self._forget(now_ms)
        known = self._known.get(scope)
        if known is None:
            return Verdict.FRESH, None
        if known.fingerprint != fingerprint:
            return Verdict.OTHER_PARAMETERS, None
        if known.answer is None:
            return Verdict.IN_USE, None
        return Verdict.REPLAY, known.answer

    def begin(self, scope: str, fingerprint: str, now_ms: int) -> None:
        """Mark the key in use, until `keep` or `release`."""
        self._known[scope] = _Known(fingerprint, now_ms)

    def keep(self, scope: str, fingerprint: str, answer: Answer, now_ms: int) -> None:
        """Store the answer for ever, that is until the expiry, counted from the key's first use."""
        known = self._known.get(scope)
        if known is None:
            known = self._known[scope] = _Known(fingerprint, now_ms)
        known.answer = answer

    def release(self, scope: str) -> None:
        """Forget a key whose request did not begin to execute."""
        self._known.pop(scope, None)

    def _forget(self, now_ms: int) -> None:
        """Drop expired keys from the front: a dict keeps the order of first use."""
        while self._known:
            scope, oldest = next(iter(self._known.items()))
            if now_ms - oldest.first_used_ms < self.expiry_ms:
                return
            if oldest.answer is None:
                # Its request is still under way: it must stay in use, so it starts a new life at the back.
                self._known[scope] = _Known(self._known.pop(scope).fingerprint, now_ms)
                continue
            del self._known[scope]
