"""How many callers may wait for one shard: as many as it answers in time, measured, not set.

A caller waits from the door to the commit that accepts the command. No PSP is called on that way, so a slow PSP never looks
like a crowd. While waits stay below the target, ever more may wait. When they do not, as many may as are answered within the
target at the present rate (Little's law: waiting = rate x wait); who comes on top is told to come again. Source: docs/adr/0013.

Pure. Invariant: what is turned away is decided before anything is recorded, and never by who asks.
"""

from typing import Final

from zerosum.limits import ADMISSION_WAIT_MS, ADMISSION_WAITING_MIN

SMOOTHING: Final = 0.3
"""Weight of the last call's wait: three calls, about 0.2 s, are half of the mean, so that one slow commit turns nobody away."""

GROWTH: Final = 1.1
"""A tenth more a call while waits are short: from the floor to ten times it in 25 calls, about 2 s."""


class Admission:
    """The line before one shard. `waiting_max`: where it begins, and never more."""

    def __init__(self, waiting_max: int) -> None:
        self._most = float(waiting_max)
        self._limit = self._most
        self._mean_wait_ms = 0.0

    @property
    def limit(self) -> int:
        """How many may wait now."""
        return int(self._limit)

    def admits(self, waiting: int) -> bool:
        """Whether one more may wait beside so many."""
        return waiting < self.limit

    def answered(self, wait_ms: float, waiting: int) -> None:
        """A call was answered. `wait_ms`: of its commands in the mean. `waiting`: how many waited, its own included."""
        self._mean_wait_ms += SMOOTHING * (wait_ms - self._mean_wait_ms)
        if self._mean_wait_ms <= ADMISSION_WAIT_MS:
            self._limit = min(self._most, self._limit * GROWTH)
        elif wait_ms > ADMISSION_WAIT_MS:
            in_time = waiting * ADMISSION_WAIT_MS / wait_ms
            self._limit = max(float(ADMISSION_WAITING_MIN), min(self._limit, in_time))
