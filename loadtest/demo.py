"""`zerosum demo`: the main job, shown and proved. Real processes, load, faults, kills, settlement file, audit, certificate.

The story: half the time the PSP behaves; then it drops, fails, delays and loses webhooks, and in the middle of it a
checkout shard and the payment server are killed. Then the faults stop, the backlog drains, the PSP delivers its settlement
file with one line in a hundred damaged, the reconciliation judges it, and the auditor joins the client's journal, the database,
the PSP's book, the true file and the delivered one.

Invariant: the exit status is 0 only when the audit is clean, and a dead letter counts as stuck.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.front import slots_of_shard
from loadtest import verdict
from loadtest.certificate import EXECUTING_AT_KILL_MIN, Event, Facts, Phase
from loadtest.clock import wall_ms
from loadtest.display import Display, View
from loadtest.probe import Books, Psp, average_batch, is_refused, memory_mb, shard_figures
from loadtest.reconciliation import IN_THE_BOOKS_AFTER_MS, deliver, reconcile
from loadtest.run import LoadOptions, LoadProcess
from loadtest.status_file import StatusFile
from servers.heads import export_once
from servers.keys import DEMO_TENANT, read_key, token_path
from servers.supervisor import Simulated, System, log_beside_children
from servers.wiring import database_url
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

DRAIN_LIMIT_S = 90.0
"""How long is waited for what is owed, once the load has its answers; then the audit says what is stuck."""
DRAINED_MS_MAX = 60_000
"""Every order is final, and all that follows is done, so long after the end of the faults (issue 2, figures)."""
BACKOFF_CAP_MS = 2_000
INTERRUPTED = 130
KILLS = 2
"""A checkout shard, then the payment server."""
CANARIES = ("4242424242424242", "5555 5555 5555 4444")
"""Card numbers of a test range, sent where they must be refused, and then looked for everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. Rates are shares from 0 to 1; `seconds` is the length of each half."""

    tps: float
    seconds: int
    drop_requests: float
    drop_responses: float
    errors: float
    lose_webhooks: float
    seed: int
    kills: bool
    sabotage: str | None

    def faults(self) -> dict[str, float]:
        """The PSP's rates in the second half."""
        return {
            "drop_request": self.drop_requests, "drop_response": self.drop_responses,
            "error_before": self.errors * 0.3, "error_after": self.errors * 0.4, "error_gateway": self.errors * 0.3,
            "delay_ms_min": 5, "delay_ms_max": 80, "webhook_loss": self.lose_webhooks,
            "webhook_duplicate": 0.2, "webhook_reorder": 0.2,
        }  # fmt: skip

    def command(self) -> str:
        """What a person types to see it again."""
        options = [f"--tps {self.tps:g}", f"--seconds {self.seconds}", f"--seed {self.seed}"]
        options += [f"--drop-requests {self.drop_requests:g}", f"--drop-responses {self.drop_responses:g}"]
        options += [f"--errors {self.errors:g}", f"--lose-webhooks {self.lose_webhooks:g}"]
        options += [] if self.kills else ["--no-kills"]
        options += [f"--sabotage {self.sabotage}"] if self.sabotage else []
        return "zerosum demo " + " ".join(options)

    def undone(self, *, drained_ms: int | None, kills: int) -> tuple[str, ...]:
        """What was planned or promised, and did not come to pass. `drained_ms`: after the faults' end; None: not at all."""
        planned = KILLS if self.kills else 0
        is_late = drained_ms is None or drained_ms > DRAINED_MS_MAX
        return (
            *((f"not all was done {DRAINED_MS_MAX // 1_000} s after the faults' end",) if is_late else ()),
            *((f"{kills} of {planned} processes were killed",) if kills < planned else ()),
        )


@dataclass(slots=True)
class Run:
    """One demo under way: the system, what is asked of it, and what is seen."""

    system: System
    plan: Plan
    folder: Path
    psp: Psp
    books: Books
    view: View
    display: Display
    phases: list[Phase] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    executing_at_kill: int | None = None
    average_batch: float | None = None
    memory_mb: float | None = None
    drained_ms: int | None = None
    disagreements: int = 0
    kills: int = 0

    def mark(self, label: str) -> None:
        """Something was done to the system now."""
        self.events.append(Event(wall_ms(), label))
        self.view.marks.append(label)
        self.display.say(f"  {label}", style="magenta")

    def metrics_url(self) -> str:
        """The payment server's Prometheus page."""
        return self.system.settings.metrics_url_of("payment")


def demo(settings: Settings, **options: Any) -> int:
    """Runs the demo; the exit status. Ctrl-C stops everything cleanly and keeps the data (status 130). Raises Misconfigured."""
    plan, console = Plan(**options), Console()
    if plan.sabotage and settings.database_url:
        raise Misconfigured("--sabotage damages the database: never the one that ZEROSUM_DATABASE_URL names")
    if plan.sabotage:  # damage belongs to a folder of its own, never to data somebody may want
        settings = settings.model_copy(update={"data_dir": settings.data_dir / "sabotaged", "settlement_dir": None})
        shutil.rmtree(settings.data_dir, ignore_errors=True)
    try:
        return asyncio.run(_interruptible(_demo(settings, plan, console)))
    except asyncio.CancelledError:
        console.print("interrupted; everything is stopped and the data is kept")
        return INTERRUPTED


async def _interruptible(story: Awaitable[int]) -> int:
    """SIGINT and SIGTERM cancel the story, which then cleans up after itself."""
    task = asyncio.ensure_future(story)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


async def _demo(settings: Settings, plan: Plan, console: Console) -> int:
    log_beside_children(settings)
    capped = min(settings.backoff_cap_ms, BACKOFF_CAP_MS)
    system = System(settings.model_copy(update={"backoff_cap_ms": capped}), Simulated(plan.seed),
                    tell=lambda what: console.print(f"starting {what}", style="dim"))  # fmt: skip
    data = system.settings.data_dir
    folder = data / "runs" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    try:
        await system.start()
        with Display(console) as display:
            psp = Psp(system.psp_url, read_key(data, "psp_admin_token"))
            books = Books(database_url(system.settings, "auditor"))
            run = Run(system, plan, folder, psp, books, View(), display)
            return await _perform(run, console)
    finally:
        await system.stop()


async def _perform(run: Run, console: Console) -> int:
    recording = asyncio.create_task(_record_statuses(run))
    try:
        await _plant_canaries(run)
        await _first_half(run)
        await _second_half(run)
        await _drain(run)
        at_rest_ms = wall_ms()  # callers who had no answer came again until now
        faults_met = await asyncio.to_thread(run.psp.faults_met)
        run.view.phase = "settlement and audit"
        run.display.show(run.view)
        await asyncio.sleep(max(0.0, at_rest_ms + IN_THE_BOOKS_AFTER_MS + 1_000 - wall_ms()) / 1_000)
        delivered = await asyncio.to_thread(deliver, run.psp, seed=run.plan.seed)
        reconciled = await asyncio.to_thread(reconcile, run.system.settings, delivered, run.folder)
        await export_once(run.system.settings)
    finally:
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
        run.books.close()
    facts = Facts(
        seed=run.plan.seed, command=run.plan.command(), settings=_settings_shown(run), faults_injected=faults_met,
        average_batch=run.average_batch, memory_mb=run.memory_mb, executing_at_kill=run.executing_at_kill,
        drained_ms=run.drained_ms, disagreements=run.disagreements, reconciled=reconciled,
        undone=run.plan.undone(drained_ms=run.drained_ms, kills=run.kills),
    )  # fmt: skip
    evidence = verdict.Material(
        settings=run.system.settings, folder=run.folder, settlement=delivered.truth, psp=run.psp, canaries=CANARIES,
        delivered=delivered.path if reconciled.judgement else None, sabotage=run.plan.sabotage, phases=run.phases,
        events=run.events, facts=facts,
    )  # fmt: skip
    return await asyncio.to_thread(verdict.pronounce, evidence, console)


# ---- the halves ----------------------------------------------------------------------------------------------


async def _plant_canaries(run: Run) -> None:
    """Card numbers where none may be: each must be refused, and the audit will look for them."""
    token = token_path(run.system.settings.data_dir, "service").read_text().strip()
    edge = f"http://{run.system.settings.reach_host}:{run.system.settings.edge_port}"
    for number, canary in enumerate(CANARIES):
        body = {
            "checkout_id": f"canary-{number}", "buyer_info": {"buyer_account": "buyer-1", "name": canary},
            "credit_card_info": {"token": "pm_card_visa"},
            "payment_orders": [{"payment_order_id": f"canary-{number}-a", "seller_account": "seller-1",
                                "amount": "1.00", "currency": "USD"}],
        }  # fmt: skip
        if not await asyncio.to_thread(is_refused, edge, token, body):
            raise Misconfigured("a checkout with a card number in it was not refused")


async def _first_half(run: Run) -> None:
    """50 requests a second, two reads to a write, at a PSP that behaves."""
    before = await asyncio.to_thread(shard_figures, run.metrics_url())
    await _load(run, "steady-50", 0.0, Phase(name="no faults", from_ms=wall_ms(), until_ms=0), _nothing)
    after = await asyncio.to_thread(shard_figures, run.metrics_url())
    run.average_batch = average_batch(before, after)
    run.memory_mb = await asyncio.to_thread(memory_mb)


async def _second_half(run: Run) -> None:
    """Checkouts at a PSP that misbehaves; two of our processes die on the way."""
    await asyncio.to_thread(run.psp.set_faults, run.plan.faults())
    run.mark("PSP faults on")
    phase = Phase(
        name="PSP faults, kills" if run.plan.kills else "PSP faults", from_ms=wall_ms(), until_ms=0, has_faults=True
    )
    await _load(run, "checkouts-50", run.plan.tps, phase, _kill if run.plan.kills else _nothing)


async def _load(run: Run, profile: str, tps: float, phase: Phase, meanwhile: Callable[[Run], Awaitable[None]]) -> None:
    """One load from its first call to the end of its arrivals; what has no answer yet is waited for afterwards."""
    plan, settings = run.plan, run.system.settings
    options = LoadOptions(
        target=settings.payment_address, profile=profile, token_file=token_path(settings.data_dir, "service"),
        tenant=DEMO_TENANT, journal=run.folder / "journal.jsonl", samples=run.folder / "samples.jsonl",
        status=run.folder / f"status-{profile}.json", seconds=plan.seconds, tps=tps, seed=plan.seed,
        decline_share=0.05, log=run.folder / "locust.log",
    )  # fmt: skip
    run.view.phase, run.view.share = phase.name, 0.0
    began_s = time.monotonic()
    with LoadProcess(options) as load:
        side = asyncio.create_task(_run_side(meanwhile, run))
        try:
            while load.poll() is None:
                await asyncio.sleep(0.25)
                run.view.load = load.status()
                run.view.share = min((time.monotonic() - began_s) / plan.seconds, 1.0)
                run.display.show(run.view)
                if phase.has_faults and run.view.load.elapsed_ms >= plan.seconds * 1_000 and phase.until_ms == 0:
                    await asyncio.to_thread(run.psp.set_faults, {})
                    run.mark("PSP faults off")
                    phase = replace(phase, until_ms=wall_ms())
            await side
        finally:
            side.cancel()
        run.disagreements += load.status().disagreements
    run.phases.append(replace(phase, until_ms=phase.until_ms or wall_ms()))


async def _run_side(meanwhile: Callable[[Run], Awaitable[None]], run: Run) -> None:
    await meanwhile(run)


async def _nothing(_: Run) -> None:
    """Nobody is killed."""


async def _kill(run: Run) -> None:
    """SIGKILL to a checkout shard in the middle of its work, then to the payment server."""
    await asyncio.sleep(run.plan.seconds * 0.4)
    figures = await asyncio.to_thread(shard_figures, run.metrics_url())
    pid, shards = int(figures.get("0", {}).get("pid", 0)), run.system.settings.checkout_shards
    slots, deadline_s = slots_of_shard(0, shards), time.monotonic() + run.plan.seconds * 0.3
    executing = 0
    while pid and time.monotonic() < deadline_s:
        executing = await asyncio.to_thread(run.books.executing, slots)
        if executing >= EXECUTING_AT_KILL_MIN:
            break
        await asyncio.sleep(0.05)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            run.kills += 1
        run.executing_at_kill = executing
        run.mark(f"SIGKILL checkout shard 0 (pid {pid}) with {executing} orders EXECUTING")
    await asyncio.sleep(run.plan.seconds * 0.2)
    pid = run.system.children["payment"].kill() or 0
    run.kills += bool(pid)
    run.mark(f"SIGKILL payment server (pid {pid})")


async def _drain(run: Run) -> None:
    """Waits until nothing is owed any more."""
    run.view.phase, run.view.share = "draining", 0.0
    ended_ms = next((event.t_ms for event in run.events if event.label == "PSP faults off"), wall_ms())
    began_s = time.monotonic()
    while time.monotonic() - began_s < DRAIN_LIMIT_S:
        if run.view.open_todos == 0 and await asyncio.to_thread(run.books.open_todos) == 0:
            run.drained_ms = wall_ms() - ended_ms
            break
        run.view.share = (time.monotonic() - began_s) / DRAIN_LIMIT_S
        run.display.show(run.view)
        await asyncio.sleep(0.5)
    run.mark("drained" if run.drained_ms is not None else "not drained in time")
    await asyncio.sleep(1.0)  # the PSP's last webhooks find their way


async def _record_statuses(run: Run) -> None:
    """Orders by status, once a second: for the display and for the report's plot."""
    statuses = StatusFile(run.folder / "statuses.jsonl")
    while True:
        run.view.orders = await asyncio.to_thread(run.books.orders_by_status)
        run.view.open_todos = await asyncio.to_thread(run.books.open_todos)
        if run.view.orders:
            statuses.write(wall_ms(), run.view.orders)
        await asyncio.sleep(1.0)


def _settings_shown(run: Run) -> dict[str, str]:
    shown = {name: f"{value:g}" for name, value in run.plan.faults().items()}
    return {
        "checkouts a second": f"{run.plan.tps:g}",
        "seconds": str(run.plan.seconds),
        **shown,
        "Python": sys.version.split()[0],
    }
