"""The shard's clock in production: the machine's monotonic time, and chance from the operating system's seed.

Invariant: wall-clock time is never used to decide; what the database says is (`Loaded.now_ms`).
"""

import asyncio
import random
import time


class SystemClock:
    """Implements `actors.shard.Clock`."""

    def __init__(self) -> None:
        self._chance = random.Random()

    def monotonic_ms(self) -> int:
        """Milliseconds that only ever grow."""
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, duration_ms: int) -> None:
        """Waits."""
        await asyncio.sleep(duration_ms / 1_000)

    def jitter_ppm(self) -> int:
        """Chance: 0 to 999,999 parts of a million."""
        return self._chance.randrange(1_000_000)
