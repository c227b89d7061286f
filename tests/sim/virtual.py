"""An event loop on virtual time: whoever sleeps wakes at once, in the right order, and a deadlock is an error.

Invariant: no real time passes and no real IO is waited for.
"""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Every task waits, and nothing is due."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for a timeout, moves the clock by it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Deadlock("every task waits, and nothing is due")
        self.now_s += max(timeout, 0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` is virtual and starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run(story: Coroutine[Any, Any, T]) -> T:
    """Runs a story on virtual time to its end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story)
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


class VirtualClock:
    """The shard's clock on the running virtual loop, with seeded chance."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = random.Random(seed)

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1_000)

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1_000)

    def jitter_ppm(self) -> int:
        return self._chance.randrange(1_000_000)
