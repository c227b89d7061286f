"""Starts the load generator, follows it, and reads what it saw.

Invariant: the generator does not outlive its caller's wait, and what it saw is read whole or not at all.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.bench.plan import LoadPlan, write_plan
from loadtest.bench.sample_file import Call, read_calls
from zerosum.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load. `calls`: those that were to be sent after the warm-up. `cpu_ms`: the generator's own, meanwhile.

    `codes`: how often each gRPC status came, warm-up included. `unhinted`: calls shed without RetryInfo. `began_s`: its first
    instant, by `time.perf_counter`, which is one for all processes of a machine.
    """

    plan: LoadPlan
    calls: tuple[Call, ...]
    cpu_ms: float
    codes: Mapping[str, int]
    unhinted: int
    began_s: float = 0.0

    def ended_s(self, call: Call) -> float:
        """When the call ended, by the same clock."""
        return self.began_s + (call.offset_us + call.latency_us) / 1_000_000


async def _nothing() -> None:
    """Nobody looks."""


async def run_load(
    plan: LoadPlan,
    *,
    on_counting: Callable[[], Awaitable[None]] = _nothing,
    on_offered: Callable[[], Awaitable[None]] = _nothing,
) -> Load:
    """Runs it to its end. `on_counting` when the warm-up is over, `on_offered` after the last arrival: to read figures.

    Raises Unavailable where it did not come to its end; its own words are in `generator.log` of the plan's folder.
    """
    log = Path(plan.folder) / "generator.log"
    with log.open("ab") as trouble:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtest.bench.generator", str(write_plan(plan)), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=trouble, env=_environment(),
        )  # fmt: skip
    told: dict[str, dict[str, Any]] = {}
    try:
        assert process.stdout is not None  # asked for
        async for line in process.stdout:
            event = json.loads(line)
            told[event["event"]] = event
            await {"counting": on_counting, "offered": on_offered}.get(event["event"], _nothing)()
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code or "done" not in told:
        raise Unavailable(f"the load generator ended with status {code}; see {log}")
    from_us = plan.warm_up_s * 1_000_000
    calls = tuple(call for call in read_calls(plan.samples) if call.offset_us >= from_us)
    done = told["done"]
    return Load(plan, calls, told["offered"]["cpu_ms"], done["codes"], done["unhinted"], done["began_s"])


def _environment() -> dict[str, str]:
    """This process's, with our own code first on the path."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
