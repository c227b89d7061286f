"""A circuit breaker, one for each PSP: stops calling who does not answer, and finds out with one call whether it is back.

    CLOSED      calls pass and are counted; too many failures within the window open it
    OPEN        no call passes until the pause is over; each failed probe doubles the pause up to a cap
    HALF_OPEN   one call, the probe, passes: its success closes the breaker, its failure opens it again

A failure is no answer: a timeout, a cut or refused connection, a 5xx. Any answer is a success, a decline included. A 429 is
neither (row S2: the limiter's affair), nor is a call that was canceled. Source: failures.md row S3.

Invariant: a breaker only ever says "not now" before anything is sent, so what it turns away is NotSent.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Literal

from zerosum.errors import NotSent
from zerosum.limits import (
    BREAKER_CALLS_MIN,
    BREAKER_FAILED_PERCENT,
    BREAKER_OPEN_CAP_MS,
    BREAKER_OPEN_MS,
    BREAKER_WINDOW_MS,
)

_WINDOW_PARTS = 10
"""The window moves on by a tenth at a time: 10 counters instead of every call."""


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Passage:
    """One call that was let through. Tell what came of it once, with `answered` or `failed`; leaving says "neither".

    Use it as a context manager around the call, so that a canceled probe never keeps the breaker half open.
    """

    def __init__(self, breaker: "Breaker", generation: int, *, is_probe: bool) -> None:
        self._breaker = breaker
        self._generation = generation
        self._is_probe = is_probe
        self._is_told = False

    def answered(self) -> None:
        """The PSP answered, whatever it said."""
        self._tell(True)

    def failed(self) -> None:
        """The PSP did not answer, or not to be believed: timeout, connection, 5xx."""
        self._tell(False)

    def __enter__(self) -> "Passage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self._tell(None)
        return False

    def _tell(self, is_answered: bool | None) -> None:
        if not self._is_told:
            self._is_told = True
            self._breaker._told(self._generation, is_answered, is_probe=self._is_probe)


class Breaker:
    """The breaker of one PSP, in one process. `clock_ms`: a monotonic clock, handed in. Not for several threads."""

    def __init__(
        self,
        psp: str,
        clock_ms: Callable[[], int],
        *,
        window_ms: int = BREAKER_WINDOW_MS,
        calls_min: int = BREAKER_CALLS_MIN,
        failed_percent: int = BREAKER_FAILED_PERCENT,
        open_ms: int = BREAKER_OPEN_MS,
        open_cap_ms: int = BREAKER_OPEN_CAP_MS,
    ) -> None:
        self._psp = psp
        self._clock_ms = clock_ms
        self._part_ms = max(window_ms // _WINDOW_PARTS, 1)
        self._calls_min = calls_min
        self._failed_percent = failed_percent
        self._open_base_ms = open_ms
        self._open_cap_ms = open_cap_ms

        self._parts: deque[tuple[int, int, int]] = deque()  # (number of the part, answered, failed)
        self._generation = 0  # rises with every change of state: what was let through before no longer counts
        self._pause_ms = 0  # 0 = closed
        self._opened_at_ms = 0
        self._is_probing = False

    @property
    def state(self) -> BreakerState:
        """Where it stands now, for metrics and logs."""
        if self._pause_ms == 0:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._wait_ms() > 0 else BreakerState.HALF_OPEN

    def enter(self) -> Passage:
        """Lets a call through, or raises NotSent with the time to wait: nothing was sent and no money moved."""
        if self._pause_ms == 0:
            return Passage(self, self._generation, is_probe=False)
        wait_ms = self._wait_ms()
        if wait_ms > 0 or self._is_probing:
            raise NotSent(f"the breaker of {self._psp} is {self.state}", wait_ms if wait_ms > 0 else self._open_base_ms)
        self._is_probing = True
        return Passage(self, self._generation, is_probe=True)

    def _wait_ms(self) -> int:
        return self._opened_at_ms + self._pause_ms - self._clock_ms()

    def _told(self, generation: int, is_answered: bool | None, *, is_probe: bool) -> None:
        if generation != self._generation:
            return
        if is_probe:
            self._is_probing = False
        if is_answered is None:
            return
        if not is_probe:
            self._count(is_answered)
            if self._is_down():
                self._open(self._open_base_ms)
        elif is_answered:
            self._change(pause_ms=0)
        else:
            self._open(min(self._pause_ms * 2, self._open_cap_ms))

    def _open(self, pause_ms: int) -> None:
        self._opened_at_ms = self._clock_ms()
        self._change(pause_ms=pause_ms)

    def _change(self, *, pause_ms: int) -> None:
        self._pause_ms = pause_ms
        self._generation += 1
        self._parts.clear()

    def _count(self, is_answered: bool) -> None:
        now = self._clock_ms() // self._part_ms
        while self._parts and self._parts[0][0] <= now - _WINDOW_PARTS:
            self._parts.popleft()
        answered, failed = 0, 0
        if self._parts and self._parts[-1][0] == now:
            _, answered, failed = self._parts.pop()
        self._parts.append((now, answered + is_answered, failed + (not is_answered)))

    def _is_down(self) -> bool:
        failed = sum(part[2] for part in self._parts)
        calls = failed + sum(part[1] for part in self._parts)
        return calls >= self._calls_min and failed * 100 >= calls * self._failed_percent
