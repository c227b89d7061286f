"""Waiting for what must come true: for a condition, never for a time.

Invariant: every wait has an end that says what was waited for.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

WITHIN_S: Final = 240.0
"""Longest wait for anything: eight times the longest recovery there may be (Ray lost whole, 30 s), so that a machine that is
busy with other things is not taken for a system that does not come back. How long it took is told, never judged."""

EVERY_S: Final = 0.05


class NeverCame(Exception):
    """What was waited for did not come true. Nothing is known of any money because of it."""


async def until(what: str, look: Callable[[], T | None], *, within_s: float = WITHIN_S, every_s: float = EVERY_S) -> T:
    """Looks, in a thread, until it sees something true, and returns that. Raises NeverCame."""
    end_s = time.monotonic() + within_s
    while not (seen := await asyncio.to_thread(look)):
        if time.monotonic() > end_s:
            raise NeverCame(f"within {within_s:g} s it did not come true: {what}; seen last: {seen!r}")
        await asyncio.sleep(every_s)
    return seen
