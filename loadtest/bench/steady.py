"""`zerosum bench`: figures of a real system on this machine, load generator included. Printed, never asserted.

    knee      the highest rate of one-order checkouts held with p95 below 300 ms: +25 % a step, the last one held longer
    hot       the same rate to one seller and spread over 1,000, in turn, three times
    memory    proportional memory of everything at 50 checkouts a second, read every 10 s

Latency counts from the intended send time, and only answers with a final outcome count. Source: speed.md "The bench".

Invariant: a figure is printed with the command that brings it again, and with what the machine was doing meanwhile.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.bench.finding import console_for, write_json
from loadtest.outcome import Outcome
from loadtest.probe import average_batch, cpu_ms_by_process, cpu_ms_of_ended_children, memory_mb, shard_figures
from loadtest.run import LoadOptions, LoadProcess
from loadtest.sample import Sample, percentiles, read_samples
from servers.keys import DEMO_TENANT, token_path
from servers.supervisor import Simulated, System
from zerosum.settings import Settings

P95_LIMIT_MS: Final = 300.0
STEP: Final = 1.25
WARM_UP_S: Final = 5.0
HELD_SHARE: Final = 0.97
"""A step is held when so much of what was offered came back final within it."""

PSP_AT_ONCE: Final = ("--gather-ms", "1")


@dataclass(frozen=True, slots=True)
class Step:
    """One rate tried. `cpu_ms`: CPU a checkout by process, the load generator among them."""

    profile: str
    offered_per_s: float
    final_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    pending: int
    unanswered: int
    average_batch: float | None
    cpu_ms: Mapping[str, float]

    @property
    def is_held(self) -> bool:
        """Final answers kept up with arrivals, and 95 of 100 came within 300 ms."""
        is_quick = self.p95_ms is not None and self.p95_ms < P95_LIMIT_MS
        return is_quick and self.final_per_s >= HELD_SHARE * self.offered_per_s and self.unanswered == 0


class Bench:
    """A running system and its measurements."""

    def __init__(self, system: System, folder: Path, console: Console) -> None:
        self._system = system
        self._folder = folder
        self._console = console
        self._number = 0

    async def step(self, profile: str, tps: float, seconds: float) -> Step:
        """Offers a rate for some seconds after a warm-up, and reads what came of it."""
        await self._load(profile, tps, WARM_UP_S)
        before, cpu_before = await asyncio.to_thread(shard_figures, self._metrics()), _cpu_ms()
        samples = await self._load(profile, tps, seconds)
        after, cpu_after = await asyncio.to_thread(shard_figures, self._metrics()), _cpu_ms()
        submits = [sample for sample in samples if sample.outcome in _SUBMITS]
        final = [sample.latency_ms for sample in submits if sample.outcome is Outcome.FINAL]
        told = percentiles(final)
        spent = {name: (cpu_after[name] - cpu_before.get(name, 0)) / max(len(submits), 1) for name in cpu_after}
        return Step(
            profile, tps, len(final) / seconds, told.p50_ms, told.p95_ms, told.p99_ms,
            sum(sample.outcome is Outcome.PENDING for sample in submits),
            sum(sample.outcome is Outcome.UNKNOWN for sample in submits), average_batch(before, after),
            {name: round(ms, 2) for name, ms in sorted(spent.items(), key=lambda pair: -pair[1])},
        )  # fmt: skip

    async def knee(self, from_tps: float, seconds: float) -> list[Step]:
        """Steps up until a rate is not held; the last held one once more for twice as long."""
        steps: list[Step] = []
        tps = from_tps
        while True:
            steps.append(await self.step("knee", tps, seconds))
            self._show(steps[-1])
            if not steps[-1].is_held:
                break
            tps *= STEP
        held = [step for step in steps if step.is_held]
        if held:
            steps.append(await self.step("knee", held[-1].offered_per_s, seconds * 2))
            self._show(steps[-1])
        return steps

    async def hot(self, tps: float, seconds: float) -> list[Step]:
        """Spread and hot in turn, three times each."""
        steps = []
        for _ in range(3):
            for profile in ("knee", "hot-seller"):
                steps.append(await self.step(profile, tps, seconds))
                self._show(steps[-1])
        return steps

    async def memory(self, tps: float, seconds: float) -> list[tuple[float, float]]:
        """Memory over time under a steady load: (seconds, MB) pairs."""
        readings: list[tuple[float, float]] = []
        began_s = time.monotonic()
        loading = asyncio.create_task(self._load("knee", tps, seconds))
        while not loading.done():
            readings.append((time.monotonic() - began_s, await asyncio.to_thread(memory_mb)))
            self._console.print(f"{readings[-1][0]:6.0f} s  {readings[-1][1]:7.0f} MB", highlight=False)
            await asyncio.wait({loading}, timeout=10)
        return readings

    async def _load(self, profile: str, tps: float, seconds: float) -> list[Sample]:
        self._number += 1
        files, settings = self._folder / f"step-{self._number}", self._system.settings
        files.mkdir(parents=True)
        options = LoadOptions(
            target=settings.payment_address, profile=profile, token_file=token_path(settings.data_dir, "service"),
            tenant=DEMO_TENANT, journal=files / "journal.jsonl", samples=files / "samples.jsonl",
            status=files / "status.json", seconds=seconds, tps=tps, seed=self._number, drain_seconds=30.0,
            budget_seconds=30.0, log=files / "locust.log",
        )  # fmt: skip
        with LoadProcess(options) as load:
            await asyncio.to_thread(load.wait)
        return read_samples(options.samples)

    def _metrics(self) -> str:
        settings = self._system.settings
        return f"http://{settings.bind_host}:{settings.payment_port + settings.metrics_port_offset}/metrics"

    def _show(self, step: Step) -> None:
        cpu = " ".join(f"{name} {ms}" for name, ms in list(step.cpu_ms.items())[:10])
        self._console.print(
            f"{'held' if step.is_held else 'NOT HELD':<9}{step.profile:<11}{step.offered_per_s:6.0f}/s offered "
            f"{step.final_per_s:6.1f}/s final  p50 {_ms(step.p50_ms)} p95 {_ms(step.p95_ms)} p99 {_ms(step.p99_ms)}  "
            f"pending {step.pending}  batch {step.average_batch or 0:.1f}\n         CPU ms a checkout: {cpu}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _cpu_ms() -> dict[str, float]:
    """By process; the generator of a step has ended when its CPU is asked for."""
    return {**cpu_ms_by_process(), "load generator": cpu_ms_of_ended_children()}


_SUBMITS = frozenset({Outcome.FINAL, Outcome.PENDING, Outcome.UNKNOWN})


def bench(settings: Settings, *, what: str, tps: float, seconds: float, json_file: Path | None) -> int:
    """Starts a system of its own on the settings' data folder, measures, stops it. 0 when it could measure."""
    console = console_for(json_file)
    measures: dict[str, Callable[[Bench], Awaitable[Sequence[object]]]] = {
        "knee": lambda bench: bench.knee(tps, seconds),
        "hot": lambda bench: bench.hot(tps, seconds),
        "memory": lambda bench: bench.memory(tps, seconds),
    }
    found = asyncio.run(_measure(settings, measures[what], console))
    if what == "hot":
        _print_hot([step for step in found if isinstance(step, Step)], console)
    if json_file is not None:
        write_json(json_file, [asdict(each) if isinstance(each, Step) else each for each in found])
    return 0


async def _measure(
    settings: Settings, measure: Callable[[Bench], Awaitable[Sequence[object]]], console: Console
) -> Sequence[object]:
    system = System(
        settings, Simulated(1, PSP_AT_ONCE), tell=lambda what: console.print(f"starting {what}", style="dim")
    )
    folder = system.settings.data_dir / "bench" / str(int(time.time()))
    try:
        await system.start()
        return await measure(Bench(system, folder, console))
    finally:
        await system.stop()


def _print_hot(steps: Sequence[Step], console: Console) -> None:
    table = Table("seller", "final/s", "p50 ms", "p95 ms", title="one hot seller against 1,000: medians of 3")
    for profile, name in (("knee", "spread"), ("hot-seller", "hot")):
        mine = [step for step in steps if step.profile == profile]
        figures = [(step.final_per_s, step.p50_ms or 0.0, step.p95_ms or 0.0) for step in mine]
        table.add_row(name, *(f"{statistics.median(column):.1f}" for column in zip(*figures, strict=True)))
    console.print(table)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
