"""`zerosum chaos`: named crash points, then a monkey, then the audit, on real processes.

    points        every cell of the matrix that has no good result yet, one after the other, without load
    split brain   two live copies of a shard; the stale one is refused
    monkey        harm at random to every process, under load, at a PSP that misbehaves
    audit         faults stop, everything drains, every source is joined

Invariant: the exit status is 0 only when nothing speaks against it, and whatever was begun is ended.
"""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

from rich.console import Console
from rich.table import Table

from loadtest import verdict
from loadtest.certificate import Event, Facts, Phase
from loadtest.chaos import process
from loadtest.chaos.arena import Arena, root_of_the_code
from loadtest.chaos.matrix import carry_out
from loadtest.chaos.monkey import Strike, rampage
from loadtest.chaos.report import write_story
from loadtest.chaos.result import Result, Results, code_digest
from loadtest.chaos.split import stopped_with_locks, two_deployments
from loadtest.chaos.story import POINTS, Plan, Story, last_line
from loadtest.chaos.wait import NeverCame, until
from loadtest.run import LoadOptions, LoadProcess
from loadtest.status_file import StatusFile
from servers.keys import DEMO_TENANT
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

PROFILE: Final = "checkouts-50"
FAULTS: Final = {
    "drop_request": 0.05, "drop_response": 0.05, "error_before": 0.02, "error_after": 0.02, "error_gateway": 0.02,
    "delay_ms_min": 5, "delay_ms_max": 80, "webhook_loss": 0.1, "webhook_duplicate": 0.2, "webhook_reorder": 0.2,
}  # fmt: skip
"""The PSP under the monkey: trouble enough that doubt is common, not so much that recovery times tell of the PSP alone."""

DRAIN_LIMIT_S: Final = 150.0
"""Twice what a buyer who gives up after 60 s and the last retries need."""

INTERRUPTED: Final = 130

RPC_FAILURES: Final = {
    "RAY_testing_rpc_failure": '{"CoreWorkerService.grpc_client.PushTask":{"num_failures":-1,"req_failure_prob":10,'
    '"in_flight_failure_prob":10,"resp_failure_prob":10}}',
    "RAY_testing_rpc_failure_avoid_intra_node_failures": "0",
}
"""Ray's own fault injection: of the calls to actors 10 % never arrive, 10 % lose their answer under way, 10 % at the end."""


def chaos(settings: Settings, **options: Any) -> int:
    """Runs it; the exit status. Ctrl-C stops everything cleanly and keeps the data and the results (status 130)."""
    plan, console = Plan(**options), Console()
    if plan.points not in POINTS:
        raise Misconfigured(f"points are {', '.join(POINTS)}")
    if plan.rpc_failures:
        os.environ.update(RPC_FAILURES)  # every process of the system inherits it
    try:
        return asyncio.run(_chaos(settings, plan, console))
    except asyncio.CancelledError:
        console.print("interrupted; everything is stopped, the data and the results are kept")
        return INTERRUPTED


async def _chaos(settings: Settings, plan: Plan, console: Console) -> int:
    if (task := asyncio.current_task()) is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    story = Story(plan=plan)
    arena = Arena(settings, seed=plan.seed, tell=lambda what: console.print(f"starting {what}", style="dim"))
    run = _Run(arena, story, console)
    await arena.start()
    try:
        await run.perform()
    finally:
        await arena.stop()
    page = arena.run_folder / "chaos.html"
    write_story(page, story, arena.run_folder)
    (arena.run_folder / "chaos.json").write_text(story.to_json(), encoding="utf-8")
    _print_recoveries(story, console)
    reasons = story.reasons
    console.print(f"results  {run.results_file}\nreport   {page}", highlight=False, soft_wrap=True)
    console.print(last_line(reasons), style="bold red" if reasons else "bold green", highlight=False, soft_wrap=True)
    return 1 if reasons else 0


class _Run:
    """One run under way."""

    def __init__(self, arena: Arena, story: Story, console: Console) -> None:
        self._arena, self._story, self._console = arena, story, console
        self._plan = story.plan
        self._events: list[Event] = []
        self._phases: list[Phase] = []
        self._disagreements = 0
        self.results_file = arena.folder / "matrix.json"

    async def perform(self) -> None:
        """The whole story; what is learned goes into it."""
        began_ms = _now_ms()
        await self._arena.buyer.until_served("first")
        recording = asyncio.create_task(self._record_statuses())
        try:
            await self._points()
            await self._split_brain()
            self._phases.append(
                Phase(name="points, split brain", from_ms=began_ms, until_ms=_now_ms(), has_faults=True)
            )
            await self._monkey()
            drained_ms = await self._drain()
        finally:
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)
        if self._plan.rpc_failures:
            self._story.rpc_failures = await asyncio.to_thread(self._count_rpc_failures)
            self._console.print(f"calls of Ray's made to fail: {self._story.rpc_failures:,}", highlight=False)
        self._story.certificate = await asyncio.to_thread(verdict.examine, await self._material(drained_ms))

    # ---- the parts -------------------------------------------------------------------------------------------------

    async def _points(self) -> None:
        cells = self._plan.cells
        results = Results(self.results_file, code_digest(root_of_the_code()))
        missing = results.missing([cell.name for cell in cells])
        if cells:
            self._console.print(f"crash points: {len(cells)} cells, {len(missing)} to be carried out", highlight=False)
        done = 0

        def tell(result: Result) -> None:
            nonlocal done
            done += 1
            self._mark(result.at_ms, result.cell)
            self._say(f"{done:>3}/{len(missing)} {result.cell:<46}", result.recovery_s, result.wrong)

        await carry_out(self._arena, cells, results, stop_s=self._plan.stop_s, tell=tell)
        found = [results.get(cell.name) for cell in cells]
        self._story.results = [each for each in found if each is not None]

    async def _split_brain(self) -> None:
        if not self._plan.split_brain:
            return
        for scenario in (stopped_with_locks, two_deployments):
            at_ms = _now_ms()
            told = await scenario(self._arena)
            self._story.splits.append(told)
            self._mark(at_ms, f"split brain: {told.title}")
            self._say(
                f"split brain ({told.rows}): processes {told.first} and {told.second} both alive", None, told.wrong
            )
            for fact in told.facts:
                self._console.print(f"      {fact}", style="dim", highlight=False, soft_wrap=True)

    async def _monkey(self) -> None:
        seconds = self._plan.minutes * 60
        if not seconds:
            return
        arena, began_ms = self._arena, _now_ms()
        await self._set_faults(FAULTS)

        async def tell(strike: Strike) -> None:
            self._mark(strike.t_ms, strike.label)
            self._say(f"    {strike.label:<50}", strike.recovery_s, strike.wrong)
            await self._set_faults(FAULTS)  # a simulator that was killed has forgotten them

        with LoadProcess(self._load(seconds)) as load:
            self._story.strikes = await rampage(
                arena, seed=self._plan.seed, seconds=seconds, stop_s=self._plan.stop_s, tell=tell
            )
            await self._set_faults({})
            self._phases.append(Phase(name="monkey", from_ms=began_ms, until_ms=_now_ms(), has_faults=True))
            self._mark(_now_ms(), "PSP faults off")
            await until("the load has ended", lambda: load.poll() is not None, within_s=DRAIN_LIMIT_S)
            self._disagreements = load.status().disagreements

    def _load(self, seconds: float) -> LoadOptions:
        arena = self._arena
        own = arena.run_folder.with_name(f"{arena.run_folder.name}-load")
        return LoadOptions(
            target=arena.settings.payment_address, profile=PROFILE, token_file=arena.token_file, tenant=DEMO_TENANT,
            journal=own / "journal.jsonl", samples=arena.run_folder / "samples.jsonl",
            status=arena.run_folder / "status.json", seconds=seconds, tps=self._plan.tps, seed=self._plan.seed,
            decline_share=0.05, budget_seconds=60.0, drain_seconds=70.0, log=arena.run_folder / "locust.log",
        )  # fmt: skip

    async def _drain(self) -> int | None:
        """Waits until nothing is owed any more; how long it took. None: it did not come to that."""
        try:
            return round(await self._arena.until_at_rest(within_s=DRAIN_LIMIT_S) * 1_000)
        except NeverCame:
            self._story.unfinished.append("not everything had come to its end when it was waited for")
            return None

    async def _material(self, drained_ms: int | None) -> verdict.Material:
        arena = self._arena
        (arena.run_folder / "samples.jsonl").touch()
        settlement = await asyncio.to_thread(arena.psp.settle)
        facts = Facts(
            seed=self._plan.seed, command=self._plan.command(), drained_ms=drained_ms, disagreements=self._disagreements,
            faults_injected=await asyncio.to_thread(arena.psp.faults_met),
        )  # fmt: skip
        return verdict.Material(
            settings=arena.settings, folder=arena.run_folder, settlement=settlement, psp=arena.psp, canaries=(),
            sabotage=None, phases=self._phases, events=self._events, facts=facts,
        )  # fmt: skip

    # ---- on the side -----------------------------------------------------------------------------------------------

    async def _set_faults(self, rates: dict[str, float]) -> None:
        def is_set() -> bool:
            try:
                self._arena.psp.set_faults(rates)
            except (URLError, OSError):
                return False
            return True

        await until("the simulator takes its faults", is_set)

    async def _record_statuses(self) -> None:
        """Orders by status, once a second, for the report's plot."""
        statuses = StatusFile(self._arena.run_folder / "statuses.jsonl")
        while True:
            if orders := await asyncio.to_thread(self._arena.books.orders_by_status):
                statuses.write(_now_ms(), orders)
            await asyncio.sleep(1.0)

    def _count_rpc_failures(self) -> int:
        """Lines in which Ray says that it made a call fail, in the logs of all its processes."""
        head = self._arena.child("ray")
        commands = process.session_of(head).values() if head is not None else ()
        folders = {word.partition("=")[2] for command in commands for word in command.split() if "session_dir=" in word}
        logs = [path for folder in folders for path in (Path(folder) / "logs").rglob("*.log")]
        return sum(path.read_bytes().count(b"Inject RPC ") for path in logs)

    def _mark(self, at_ms: int, label: str) -> None:
        self._events.append(Event(at_ms, label))

    def _say(self, what: str, recovery_s: float | None, wrong: str) -> None:
        came = f"served again after {recovery_s:.1f} s" if recovery_s is not None else ""
        style = "bold red" if wrong else "green"
        self._console.print(f"{what} {came} {wrong}".rstrip(), style=style, highlight=False, soft_wrap=True)


def _print_recoveries(story: Story, console: Console) -> None:
    table = Table("harm", "times", "p50 s", "p99 s", title="until somebody is served again", title_justify="left")
    for name, times in story.recoveries().items():
        table.add_row(
            name, str(times.count), f"{(times.p50_ms or 0) / 1_000:.1f}", f"{(times.p99_ms or 0) / 1_000:.1f}"
        )
    if table.row_count:
        console.print(table)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
