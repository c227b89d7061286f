"""Every PSP behind one door: which adapter, how many calls at once, how long, and when not to call at all.

A call waits for its place in the PSP's line and for a free slot, passes the breaker, and then has until the hard deadline.
What waits too long or meets an open breaker was NotSent; what was sent and brought nothing by the deadline is OutcomeUnknown.
Adapters know how to speak; nothing here knows what is said.

Invariant: once an adapter has been called, only the adapter may say NotSent.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from zerosum.crash import Point, reach
from zerosum.domain.message import Report
from zerosum.domain.request import PspRequest
from zerosum.errors import NotSent, OutcomeUnknown, StoredFailure
from zerosum.limits import PSP_CALLS_MAX, PSP_TIMEOUT_MS
from zerosum.ports import PspGateway
from zerosum.psp.breaker import Breaker, BreakerState, Passage
from zerosum.psp.limiter import Limiter
from zerosum.psp.slots import Slots
from zerosum.psp.trouble import TurnedAway, Unsettled

_log = logging.getLogger(__name__)

WAIT_MAX_MS: Final = 3_000
"""Longest wait for a place and a slot: with the deadline 13.5 s, inside a to-do's lease of 15 s."""

DEADLINE_MARGIN_MS: Final = 500
"""The adapter's own timeout comes first: it knows whether the request had left."""

BUSY_RETRY_MS: Final = 500
"""When all slots stay taken, each of them is free again after about one slow call."""

Observe = Callable[[str, str, int], None]
"""Told of every call: operation (the verb), outcome (a status or what was raised, in capitals), milliseconds."""


def _unobserved(_operation: str, _outcome: str, _ms: int) -> None:
    """Nobody watches."""


class Gateway:
    """`ports.PspGateway` over the adapters of all PSPs, for one event loop. `clock_ms`: a monotonic clock, handed in.

    `adapters`, `breakers` and `limiters` are by the PSP's name and have the same names. `calls_max`: calls in flight to each.
    """

    def __init__(
        self,
        adapters: Mapping[str, PspGateway],
        breakers: Mapping[str, Breaker],
        limiters: Mapping[str, Limiter],
        calls_max: int = PSP_CALLS_MAX,
        *,
        clock_ms: Callable[[], int],
        timeout_ms: int = PSP_TIMEOUT_MS,
        wait_max_ms: int = WAIT_MAX_MS,
        observe: Observe = _unobserved,
    ) -> None:
        self._adapters, self._breakers, self._limiters = dict(adapters), dict(breakers), dict(limiters)
        self._slots = {psp: Slots(calls_max) for psp in self._adapters}
        self._clock_ms = clock_ms
        self._deadline_s = (timeout_ms + DEADLINE_MARGIN_MS) / 1_000
        self._wait_max_ms = wait_max_ms
        self._observe = observe

    async def call(self, request: PspRequest) -> Report:
        """Carries one operation to the PSP it names and brings back what it learned.

        Raises NotSent (breaker open, line too long, no such PSP, or the adapter says so: no money moved by this call),
        OutcomeUnknown and StoredFailure (money may have moved). A call that is canceled may have been executed.
        """
        began_ms, outcome = self._clock_ms(), "CANCELED"
        try:
            report = await self._call(request)
            outcome = report.status.value
        except StoredFailure:
            outcome = "STORED_FAILURE"
            raise
        except OutcomeUnknown:
            outcome = "OUTCOME_UNKNOWN"
            raise
        except NotSent:
            outcome = "NOT_SENT"
            raise
        finally:
            self._observe(request.verb.value, outcome, self._clock_ms() - began_ms)
        return report

    async def _call(self, request: PspRequest) -> Report:
        """Waits for a place in the line and then for a slot, both within `wait_max_ms`, passes the breaker, and sends."""
        psp = request.psp
        if psp not in self._adapters:
            _log.error("no adapter for psp %r: its to-dos wait until there is one", psp)
            raise NotSent("no adapter for this psp")
        breaker = self._breakers[psp]
        if breaker.state is BreakerState.OPEN:
            breaker.enter()  # raises, with the time to wait; nobody stands in line for a closed door
        slots, until_ms = self._slots[psp], self._clock_ms() + self._wait_max_ms
        wait_ms = self._limiters[psp].take(wait_max_ms=self._wait_max_ms)
        if wait_ms > 0:
            await asyncio.sleep(wait_ms / 1_000)
        try:
            await slots.take(max(until_ms - self._clock_ms(), 0) / 1_000)
        except TimeoutError as trouble:
            raise NotSent(f"every slot of {psp} is taken", BUSY_RETRY_MS) from trouble
        try:
            with breaker.enter() as passage:
                return await self._send(request, passage)
        finally:
            slots.give_back()

    async def _send(self, request: PspRequest, passage: Passage) -> Report:
        reach(Point.PSP_BEFORE, request.verb)
        try:
            async with asyncio.timeout(self._deadline_s):
                report = await self._adapters[request.psp].call(request)
                reach(Point.PSP_AFTER, request.verb)
        except TimeoutError as trouble:
            passage.failed()
            raise OutcomeUnknown(f"{request.psp} did not answer in time") from trouble
        except TurnedAway as trouble:
            if trouble.retry_after_ms > 0:
                self._limiters[request.psp].hold(trouble.retry_after_ms)
            raise  # neither: who says "too many" is not away
        except StoredFailure:
            raise  # neither: the trouble was then, and says nothing of now
        except Unsettled:
            passage.answered()
            raise
        except (NotSent, OutcomeUnknown):
            passage.failed()
            raise
        passage.answered()
        return report
