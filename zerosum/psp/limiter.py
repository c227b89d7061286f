"""A token bucket, one for each PSP: calls start at a steady rate, so that a backlog drains without a stampede.

Whoever wants to call takes a place in line and is told how long to wait for it; places are handed out in order, a burst at
once and then one every 1/rate. A PSP that says "too many" (429) holds the whole line back, not one call only. The caller
does the waiting: nothing here sleeps. Source: failures.md rows S2, S3.

Invariant: in any stretch of time at most burst + rate x time calls start, whoever comes and whenever.
"""

from collections.abc import Callable

from zerosum.errors import NotSent
from zerosum.limits import PSP_BURST, PSP_RATE_PER_S, RETRY_AFTER_CAP_MS

_US_PER_S = 1_000_000
_US_PER_MS = 1_000


class Limiter:
    """The line of one PSP, in one process. `clock_ms`: a monotonic clock, handed in. Not for several threads."""

    def __init__(
        self, psp: str, clock_ms: Callable[[], int], *, rate_per_s: int = PSP_RATE_PER_S, burst: int = PSP_BURST
    ) -> None:
        self._psp = psp
        self._clock_ms = clock_ms
        self._step_us = -(-_US_PER_S // rate_per_s)  # rounded up: never faster than asked
        self._slack_us = (burst - 1) * self._step_us
        self._full_at_us = 0
        """When the bucket is full again: each place taken moves it on by a step."""

    def take(self, *, wait_max_ms: int) -> int:
        """Takes a place in line and returns the milliseconds to wait before calling, 0 = now.

        Raises NotSent, and takes no place, where the wait would be longer than `wait_max_ms`: nothing was sent.
        """
        now_us = self._clock_ms() * _US_PER_MS
        starts_us = max(now_us, self._full_at_us - self._slack_us)
        wait_ms = -((now_us - starts_us) // _US_PER_MS)
        if wait_ms > wait_max_ms:
            raise NotSent(f"the line to {self._psp} is too long", min(wait_ms, RETRY_AFTER_CAP_MS))
        self._full_at_us = max(now_us, self._full_at_us) + self._step_us
        return wait_ms

    def hold(self, wait_ms: int) -> None:
        """The PSP asked us to wait: who has no place yet starts after that, one by one, the burst being used up."""
        held_until_us = (self._clock_ms() + wait_ms) * _US_PER_MS
        self._full_at_us = max(self._full_at_us, held_until_us + self._slack_us)
