"""Waiting in tests of real processes: for a condition, never for a time.

Invariant: this is the only place that lets time pass, and every wait has an end that says what was waited for.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN_S = 60.0
"""Longest wait for anything: twice the longest recovery there may be (Ray lost whole, 30 s)."""

_EVERY_S = 0.05


def until(what: str, look: Callable[[], T | None], *, within_s: float = WITHIN_S) -> T:
    """Looks until it sees something true, and returns that. Raises AssertionError, with what was seen last."""
    end_s = time.monotonic() + within_s
    while not (seen := look()):
        if time.monotonic() > end_s:
            raise AssertionError(f"within {within_s:g} s it did not come true: {what}; seen last: {seen!r}")
        time.sleep(_EVERY_S)
    return seen
