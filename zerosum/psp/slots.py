"""A number of slots and a line for them: who waits longest is served first. Nothing else lives here.

asyncio's `Semaphore` looks through everyone in its line on every call (a tenth of what the gateway costs); here a slot that is
given back is handed to the first in line.

Invariant: a slot is held by one caller, is free, or is on its way to one in the line; none is ever lost, whoever is canceled.
"""

import asyncio
from collections import deque


class Slots:
    """`count` slots, for one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._line: deque[asyncio.Future[None]] = deque()

    async def take(self, wait_max_s: float) -> None:
        """Returns with a slot; whoever has one gives it back. Raises TimeoutError, with none, after `wait_max_s`."""
        if self._free > 0:
            self._free -= 1
            return
        handed = asyncio.get_running_loop().create_future()
        self._line.append(handed)
        try:
            async with asyncio.timeout(wait_max_s):
                await handed
        except BaseException:
            if handed.done() and not handed.cancelled():
                self.give_back()  # it was handed over in the very moment in which nobody wanted it any more
            raise

    def give_back(self) -> None:
        """Hands the slot to the first who still waits."""
        while self._line:
            handed = self._line.popleft()
            if not handed.done():
                handed.set_result(None)
                return
        self._free += 1
