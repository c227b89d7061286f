"""Whether this process itself stood still: its event loop carries the proxy, so whoever freezes it freezes the database, too.

A run under which that happened is told so: what was red then may be the machine's doing. Where the loop was held up by code of
ours, the trace of every thread is in the file.

Invariant: watching costs a wake-up a second and changes nothing.
"""

import asyncio
import faulthandler
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

EVERY_S: Final = 1.0
STILL_S: Final = 3.0
"""Shorter ones are a busy machine's; the shortest limit that the product has for a silent peer is 2 s, the usual one 10 s."""

TRACE_AFTER_S: Final = 5.0


async def watch_standstill(log: Path, tell: Callable[[float], None]) -> None:
    """Until it is cancelled: tells for how many seconds the loop was not run, each time."""
    with log.open("a", encoding="utf-8") as file:
        try:
            while True:
                faulthandler.dump_traceback_later(TRACE_AFTER_S, file=file)
                began_s = time.monotonic()
                await asyncio.sleep(EVERY_S)
                if (late_s := time.monotonic() - began_s - EVERY_S) > STILL_S:
                    tell(round(late_s, 1))
        finally:
            faulthandler.cancel_dump_traceback_later()
