"""`zerosum bench recovery`: how long nobody is served after a SIGKILL, on a real system of its own. Printed, never asserted.

    shard     a checkout shard: until a new checkout of that shard has its final reply
    server    the payment server: the same, for any checkout
    ray       Ray's head and all its processes: the same

Invariant: the clock runs from the signal to a final reply over gRPC (`served.py`).
"""

import asyncio
import contextlib
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.bench.finding import console_for, write_json
from loadtest.bench.served import Buyer, buyer_of
from loadtest.bench.system import folder_of, own_system
from loadtest.probe import shard_figures
from servers.child import HEALTHY_AFTER_S
from servers.supervisor import System
from zerosum.settings import Settings

GOALS_S: Final = {"shard": 5.0, "server": 3.0, "ray": 30.0}
"""Median and worst are to stay below, on two cores that do nothing else."""

CALM_S: Final = HEALTHY_AFTER_S + 1
"""Between two kills: a child that dies sooner than 10 s after its start is started again more slowly."""


class Recovery:
    """A running system, and what it takes to bring parts of it back."""

    def __init__(self, system: System, buyer: Buyer) -> None:
        self._system = system
        self._buyer = buyer
        self._metrics = system.settings.metrics_url_of("payment")

    async def after_shard(self) -> float:
        """Seconds without checkout shard 0."""
        pid = int((await asyncio.to_thread(shard_figures, self._metrics))["0"]["pid"])
        return await self._after(lambda: os.kill(pid, signal.SIGKILL))

    async def after_server(self) -> float:
        """Seconds without the payment server."""
        return await self._after(self._system.children["payment"].kill)

    async def after_ray(self) -> float:
        """Seconds without Ray: its head, its raylet and every shard, all at once."""
        head = self._system.children["ray"].pid
        if head is None:
            raise RuntimeError("Ray does not run")

        def kill() -> None:
            for pid in _session(head):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        return await self._after(kill)

    async def _after(self, kill: Callable[[], object]) -> float:
        began_s = time.monotonic()
        kill()
        await self._buyer.until_served()
        return time.monotonic() - began_s


def _session(leader: int) -> list[int]:
    """Every process of a session: a child of Ray's may outlive it in a process group of its own, and serve on."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(folder.name)) == leader:
                members.append(int(folder.name))
    return members


def run_recovery(settings: Settings, *, repeats: int, json_file: Path | None) -> int:
    """Starts a system of its own, kills and measures, stops it. 0 when it could measure."""
    console = console_for(json_file)
    found = asyncio.run(_measure(settings, repeats, console))
    table = Table("killed", "median s", "worst s", "goal s", title=f"until a checkout is final again, of {repeats}")
    for name, seconds in found.items():
        table.add_row(name, f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}", f"{GOALS_S[name]:.0f}")
    console.print(table)
    if json_file is not None:
        write_json(json_file, found)
    return 0


async def _measure(settings: Settings, repeats: int, console: Console) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    async with (
        own_system(settings, folder_of(settings, "recovery"), console) as system,
        buyer_of(system) as buyer,
    ):
        subject = Recovery(system, buyer)
        await buyer.until_served()
        measures: dict[str, Callable[[], Awaitable[float]]] = {
            "shard": subject.after_shard, "server": subject.after_server, "ray": subject.after_ray
        }  # fmt: skip
        for name, measure in measures.items():
            found[name] = []
            for _ in range(repeats):
                await asyncio.sleep(CALM_S)
                found[name].append(round(await measure(), 2))
                console.print(f"{name:<8}{found[name][-1]:6.2f} s", highlight=False)
    return found
