"""A running system, and a rate offered to it: the load, what the processes spent meanwhile, and how long the rest took.

Invariant: CPU and batches are read between the end of the warm-up and the last arrival, so that they are of a steady rate.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtest.bench.added import added
from loadtest.bench.kept import Kept, kill_and_compare
from loadtest.bench.load import Load, run_load
from loadtest.bench.plan import LoadPlan
from loadtest.bench.psp_profile import PspProfile
from loadtest.bench.sample_file import Ending
from loadtest.bench.served import buyer_of
from loadtest.bench.staircase import Step, cpu_a_checkout, step_of
from loadtest.bench.system import auditor_url, load_plan
from loadtest.probe import GENERATOR, Books, CpuReading, Psp, average_batch, cpu_reading, cpu_spent_ms, shard_figures
from loadtest.sample import Percentiles
from servers.keys import read_key
from servers.supervisor import System

OWED_SHARE: Final = 0.01
"""A step is drained when of a hundred checkouts it offered one is owed something: a fault of the PSP is retried later."""

DRAIN_PATIENCE_S: Final = 60.0
LOOK_EVERY_S: Final = 0.2
CALM_S: Final = 3.0
"""Of rest: what a load or a start leaves behind (webhooks, sweeps, a checkpoint) is over by then, or is there always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is asked for at every rate. `reads`: beside each checkout. `hot_share`: of checkouts to one seller."""

    psp: PspProfile
    orders: int = 1
    reads: int = 0
    hot_share: float = 0.0

    @property
    def limit_ms(self) -> float:
        """What p95 is held to."""
        return self.psp.p95_limit_ms(orders=self.orders)


@dataclass(frozen=True, slots=True)
class Offered:
    """A load and what was read beside it. `added`: latency without the PSP's own time.

    `cpu_ms`: by process, while calls were counted.
    """

    load: Load
    limit_ms: float
    added: Percentiles
    cpu_ms: Mapping[str, float]
    average_batch: float | None


@dataclass(slots=True)
class _Reading:
    """CPU of the processes and figures of the checkout shards, at an instant."""

    cpu: CpuReading = field(default_factory=dict)
    shards: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Stage:
    """Offers rates to one system. `journals`: of what it acknowledged since they were last taken."""

    def __init__(self, system: System, folder: Path, console: Console) -> None:
        self._system = system
        self._folder = folder
        self._console = console
        self._number = 0
        settings = system.settings
        self._psp = Psp(system.psp_url, read_key(settings.data_dir, "psp_admin_token"))
        self._metrics = settings.metrics_url_of("payment")
        self.journals: list[Path] = []

    async def behave(self, profile: PspProfile) -> None:
        """Has the PSP answer so from now on."""
        await asyncio.to_thread(self._psp.set_faults, profile.rates)

    async def offer(self, demand: Demand, tps: float, seconds: float, *, is_long: bool = False) -> Step:
        """Offers the rate for so long after a warm-up, and shows the step it was.

        Returns when nearly nothing is owed any more, or patience ends.
        """
        offered = await self.load(demand, tps, seconds)
        step = step_of(
            offered.load.calls, offered_per_s=tps, seconds=seconds, limit_ms=offered.limit_ms, is_long=is_long
        )
        step = replace(
            step,
            drained_s=await self.drain(round(OWED_SHARE * step.offered)),
            cpu_ms=cpu_a_checkout(step, offered.cpu_ms),
            average_batch=offered.average_batch,
            added=offered.added,
        )
        self._show(step)
        return step

    async def load(self, demand: Demand, tps: float, seconds: float) -> Offered:
        """Offers the rate for so long after a warm-up; returns when every call has ended."""
        plan = self._plan(demand, tps, seconds)
        before, after = _Reading(), _Reading()
        load = await run_load(plan, on_counting=lambda: self._read(before), on_offered=lambda: self._read(after))
        self.journals.append(plan.journal)
        spent = {**cpu_spent_ms(before.cpu, after.cpu), GENERATOR: load.cpu_ms}
        ours = added(load.calls, list(plan.baskets()), await asyncio.to_thread(self._psp.delays_ms))
        return Offered(load, demand.limit_ms, ours, spent, average_batch(before.shards, after.shards))

    async def drain(self, left: int = 0) -> float:
        """Waits until no more effects than these are unfinished; how long that took in seconds."""
        books, began_s = Books(auditor_url(self._system)), time.monotonic()
        try:
            while (waited_s := time.monotonic() - began_s) < DRAIN_PATIENCE_S:
                if 0 <= await asyncio.to_thread(books.open_todos) <= left:
                    break
                await asyncio.sleep(LOOK_EVERY_S)
            return waited_s
        finally:
            books.close()

    async def rest(self) -> None:
        """Returns when the system serves, owes nothing any more and has had some calm seconds. Raises TimeoutError."""
        async with buyer_of(self._system) as buyer:
            await buyer.until_served()
        await self.drain()
        await asyncio.sleep(CALM_S)

    async def kill(self, demand: Demand, tps: float) -> Kept:
        """The database, in the midst of a load at this rate (`kept.py`); what is left of all journals. Raises Unavailable."""
        journals, self.journals = self.journals, []
        return await kill_and_compare(self._system, journals, tps=tps, orders=demand.orders, hot_share=demand.hot_share)

    def _plan(self, demand: Demand, tps: float, seconds: float) -> LoadPlan:
        self._number += 1
        folder = self._folder / f"load-{self._number}"
        folder.mkdir()
        return load_plan(
            self._system, folder, tps=tps, seconds=seconds, seed=self._number, orders=demand.orders,
            hot_share=demand.hot_share, reads=demand.reads,
        )  # fmt: skip

    async def _read(self, reading: _Reading) -> None:
        reading.shards = await asyncio.to_thread(shard_figures, self._metrics)
        reading.cpu = cpu_reading()

    def _show(self, step: Step) -> None:
        latency = "/".join("-" if each is None else f"{each:.0f}" for each in _three(step))
        shed, unknown = (step.endings.get(ending, 0) for ending in (Ending.SHED, Ending.UNKNOWN))
        self._console.print(
            f"{'held' if not step.not_held else 'NOT HELD':<9}{step.offered_per_s:7.1f}/s for {step.seconds:.0f} s: "
            f"{step.final_per_s:.1f}/s final, p50/95/99 {latency} ms, shed {shed}, unknown {unknown}, batch "
            f"{step.average_batch or 0:.1f}, drained in {step.drained_s:.1f} s  {step.not_held}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _three(step: Step) -> tuple[float | None, float | None, float | None]:
    return step.latency.p50_ms, step.latency.p95_ms, step.latency.p99_ms
