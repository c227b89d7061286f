"""`zerosum bench memory`: proportional memory of everything under one steady rate, read every ten seconds.

Invariant: what is read is the whole family of processes, shared pages counted once.
"""

import asyncio
import time
from typing import Final

from rich.console import Console

from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.stage import Demand, Stage
from loadtest.probe import memory_mb

READ_EVERY_S: Final = 10.0


async def memory_under(stage: Stage, console: Console, *, tps: float, seconds: float) -> list[tuple[float, float]]:
    """(seconds, MB) pairs, the last one after the load."""
    readings: list[tuple[float, float]] = []
    began_s = time.monotonic()

    async def read() -> None:
        readings.append((time.monotonic() - began_s, await asyncio.to_thread(memory_mb)))
        console.print(f"{readings[-1][0]:6.0f} s  {readings[-1][1]:7.0f} MB", highlight=False)

    loading = asyncio.create_task(stage.offer(Demand(psp=PSP_PROFILES["zero"]), tps, seconds))
    while not loading.done():
        await read()
        await asyncio.wait({loading}, timeout=READ_EVERY_S)
    await loading
    await read()
    return readings
