"""Waiting for what must come true: for a condition, never for a time.

Invariant: every wait has an end that says what was waited for; trouble of whoever looks is told, and ends no run.
"""

import asyncio
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Final, TypeVar

import psycopg

from zerosum.errors import ZerosumError

T = TypeVar("T")

WITHIN_S: Final = 240.0
"""Longest wait for anything: eight times the longest recovery there may be (Ray lost whole, 30 s), so that a machine that is
busy with other things is not taken for a system that does not come back; a machine that starves us as well lengthens it
(`Patience`). How long it took is told, never judged."""

EVERY_S: Final = 0.05


class NeverCame(Exception):
    """What was waited for did not come true. Nothing is known of any money because of it."""


TROUBLE: Final = (NeverCame, psycopg.Error, OSError, HTTPException, ValueError, LookupError, ZerosumError)
"""What may come of looking at a system that is being hurt: it does not answer, ends in the middle of an answer, or tells half
of it (JSON that is cut short is a ValueError). All of it is a reason, none of it the end of a run."""


def reason_of(trouble: BaseException) -> str:
    """What happened, in words for the verdict."""
    if isinstance(trouble, NeverCame):
        return str(trouble)
    if isinstance(trouble, psycopg.Error):
        return f"a book could not be read: {trouble}"
    return f"{type(trouble).__name__}: {trouble}"


class Patience:
    """A limit in time that a starved machine lengthens: what our own sleep was late by, the system was made to wait, too.

    At most twice the limit, so that every wait has an end."""

    def __init__(self, within_s: float, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._end_s = now_s() + within_s
        self._left_s = within_s

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._now_s() > self._end_s

    async def sleep(self, seconds: float) -> None:
        """Sleeps, and gives back what that took too long."""
        began_s = self._now_s()
        await asyncio.sleep(seconds)
        late_s = min(max(0.0, self._now_s() - began_s - seconds), self._left_s)
        self._left_s -= late_s
        self._end_s += late_s


async def until(what: str, look: Callable[[], T | None], *, within_s: float = WITHIN_S, every_s: float = EVERY_S) -> T:
    """Looks, in a thread, until it sees something true, and returns that. Raises NeverCame with what it saw last."""
    patience, said = Patience(within_s), ""
    while True:
        seen: T | None = None
        try:
            if seen := await asyncio.to_thread(look):
                return seen
            said = f"seen last: {seen!r}"
        except TROUBLE as trouble:
            said = f"the last look failed: {reason_of(trouble)}"
        if patience.is_over:
            raise NeverCame(f"within {within_s:g} s it did not come true: {what}; {said}")
        await patience.sleep(every_s)
