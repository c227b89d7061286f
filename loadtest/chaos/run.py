"""`zerosum chaos`: named crash points, then a monkey, then the audit, on real processes.

    points        every cell of the matrix that has no good result yet, one after the other, without load
    split brain   two live copies of a shard, once by Ray's own doing; the stale one is refused
    Ray lost      a shard's name that is gone; a head that knows nothing
    monkey        harm at random to every process, under load, at a PSP that misbehaves
    audit         faults stop, everything drains, every source is joined
    disk full     the database's, on a small one of a system of its own

Invariant: the exit status is 0 only when nothing speaks against it, and whatever was begun is ended. A run that is not
interrupted ends with a verdict, and the verdict with its reasons.
"""

import asyncio
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtest import verdict
from loadtest.certificate import Event, Facts, Phase
from loadtest.chaos import process
from loadtest.chaos.arena import Arena, root_of_the_code
from loadtest.chaos.disk import disk_full
from loadtest.chaos.matrix import carry_out, stops_of
from loadtest.chaos.monkey import Strike, rampage
from loadtest.chaos.paused_raylet import HEALTH_CHECK, paused_raylet
from loadtest.chaos.ray_state import lost_name, ray_without_a_past
from loadtest.chaos.report import write_story
from loadtest.chaos.result import ROOMS, Result, Results
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.split import stopped_with_locks, two_deployments
from loadtest.chaos.standstill import watch_standstill
from loadtest.chaos.story import POINTS, Plan, Story, last_line
from loadtest.chaos.wait import NeverCame, reason_of, until
from loadtest.clock import wall_ms
from loadtest.run import EXIT_CLEAN, EXIT_UNANSWERED, LoadOptions, LoadProcess
from loadtest.status_file import StatusFile
from servers.keys import DEMO_TENANT
from simulator.digest import code_digest
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

PROFILE: Final = "checkouts-50"
FAULTS: Final = {
    "drop_request": 0.05, "drop_response": 0.05, "error_before": 0.02, "error_after": 0.02, "error_gateway": 0.02,
    "delay_ms_min": 5, "delay_ms_max": 80, "webhook_loss": 0.1, "webhook_duplicate": 0.2, "webhook_reorder": 0.2,
}  # fmt: skip
"""The PSP under the monkey: trouble enough that doubt is common, not so much that recovery times tell of the PSP alone."""

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
    if plan.split_brain:
        os.environ.update(HEALTH_CHECK)  # every process of the system inherits it
    if plan.rpc_failures:
        os.environ.update(RPC_FAILURES)
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
    await run.from_start_to_end(settings)
    page = arena.run_folder / "chaos.html"
    write_story(page, story, arena.run_folder)
    (arena.run_folder / "chaos.json").write_text(story.to_json(), encoding="utf-8")
    _print_recoveries(story, console)
    reasons = story.reasons
    console.print(f"results  {run.results_file}\nreport   {page}", highlight=False, soft_wrap=True)
    if story.stood_still_s:
        console.print(
            f"this run itself stood still for {story.stood_still_s:.0f} s in all", style="yellow", highlight=False
        )
    console.print(last_line(reasons), style="bold red" if reasons else "bold green", highlight=False, soft_wrap=True)
    return 1 if reasons else 0


class _Run:
    """One run under way. What a part of it cannot do is a reason of the verdict, and the next part is tried."""

    def __init__(self, arena: Arena, story: Story, console: Console) -> None:
        self._arena, self._story, self._console = arena, story, console
        self._plan = story.plan
        self._events: list[Event] = []
        self._phases: list[Phase] = []
        self._disagreements = 0
        self.results_file = arena.folder / "matrix.json"

    async def from_start_to_end(self, settings: Settings) -> None:
        """The whole story; what is learned goes into it. Nothing is left running."""
        has_started = False
        self._arena.make_folders()
        with self._part("the system did not start"):
            await self._arena.start()
            has_started = True
        if has_started:
            try:
                await self._perform()
            finally:
                with self._part("not everything could be stopped"):
                    await self._arena.stop()
        if self._plan.disk_full:
            with self._part("a full disk"):
                self._tell_scenario(
                    await disk_full(settings, seed=self._plan.seed, log=self._arena.run_folder / "disk.log")
                )

    async def _perform(self) -> None:
        began_ms = wall_ms()
        with self._part("nobody was served at first"):
            await self._arena.buyer.until_served("first")
        still = self._arena.run_folder / "standstill.log"
        aside = [self._record_statuses(), watch_standstill(still, self._stood_still)]
        running = [asyncio.create_task(each) for each in aside]
        try:
            with self._part("crash points"):
                await self._points()
            with self._part("split brain"):
                await self._split_brain()
            if self._plan.rpc_failures:
                with self._part("Ray's own faults could not be counted"):
                    self._story.rpc_failures = await asyncio.to_thread(self._count_rpc_failures)
                    self._console.print(f"calls of Ray's made to fail: {self._story.rpc_failures:,}", highlight=False)
            with self._part("Ray lost"):
                await self._lost_ray()
            self._phases.append(Phase(name="points, scenarios", from_ms=began_ms, until_ms=wall_ms(), has_faults=True))
            with self._part("the monkey"):
                await self._monkey()
            drained_ms = await self._drain()
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        with self._part("the audit"):
            self._story.certificate = await asyncio.to_thread(verdict.examine, await self._material(drained_ms))

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """What fails inside is noted, with its trace in the run's folder; the run goes on to its verdict."""
        try:
            yield
        except Exception as trouble:  # noqa: BLE001 - the outermost edge of a run: it must not end without a verdict
            self._story.unfinished.append(f"{name}: {reason_of(trouble)}")
            with (self._arena.run_folder / "trouble.log").open("a", encoding="utf-8") as log:
                traceback.print_exception(trouble, file=log)

    # ---- the parts -------------------------------------------------------------------------------------------------

    async def _points(self) -> None:
        cells = self._plan.cells
        results = Results(self.results_file, code_digest(root_of_the_code(), ROOMS))
        missing = results.missing(stops_of(cells, self._plan.stop_s))
        if cells:
            self._console.print(f"crash points: {len(cells)} cells, {len(missing)} to be carried out", highlight=False)
        done = 0

        def tell(result: Result) -> None:
            nonlocal done
            done += 1
            self._mark(result.at_ms, result.cell)
            self._say(f"{done:>3}/{len(missing)} {result.cell:<46}", result.recovery_s, result.wrong)

        try:
            await carry_out(self._arena, cells, results, stop_s=self._plan.stop_s, tell=tell)
        finally:
            found = [results.get(cell.name) for cell in cells]
            self._story.results = [each for each in found if each is not None]

    async def _split_brain(self) -> None:
        if not self._plan.split_brain:
            return
        for scenario in (stopped_with_locks, two_deployments, paused_raylet):
            at_ms = wall_ms()
            split = await scenario(self._arena)
            self._story.splits.append(split)
            self._mark(at_ms, f"split brain: {split.title}")
            self._say(
                f"split brain ({split.rows}): processes {split.first} and {split.second} both alive", None, split.wrong
            )
            self._tell_facts(split)

    async def _lost_ray(self) -> None:
        if not self._plan.lost_ray:
            return
        for scenario in (lost_name, ray_without_a_past):
            at_ms = wall_ms()
            found = await scenario(self._arena)
            self._mark(at_ms, found.title)
            self._tell_scenario(found)

    async def _monkey(self) -> None:
        seconds = self._plan.minutes * 60
        if not seconds:
            return
        arena, began_ms = self._arena, wall_ms()
        await self._set_faults(FAULTS)

        async def tell(strike: Strike) -> None:
            self._story.strikes.append(strike)
            self._mark(strike.t_ms, strike.label)
            self._say(f"    {strike.label:<50}", strike.recovery_s, strike.wrong)
            await self._set_faults(FAULTS)  # a simulator that was killed has forgotten them

        with LoadProcess(self._load(seconds)) as load:
            try:
                await rampage(arena, seed=self._plan.seed, seconds=seconds, stop_s=self._plan.stop_s, tell=tell)
            finally:
                self._phases.append(Phase(name="monkey", from_ms=began_ms, until_ms=wall_ms(), has_faults=True))
            await self._set_faults({})
            self._mark(wall_ms(), "PSP faults off")
            await until("the load has ended", lambda: load.poll() is not None)
            if load.poll() not in (EXIT_CLEAN, EXIT_UNANSWERED):
                raise NeverCame(f"the load ended with {load.poll()}; see {arena.run_folder / 'locust.log'}")
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
            return round(await self._arena.until_at_rest() * 1_000)
        except NeverCame as never:
            self._story.unfinished.append(f"not everything had come to its end when it was waited for: {never}")
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
            self._arena.psp.set_faults(rates)
            return True

        await until("the simulator takes its faults", is_set)

    async def _record_statuses(self) -> None:
        """Orders by status, once a second, for the report's plot."""
        statuses = StatusFile(self._arena.run_folder / "statuses.jsonl")
        while True:
            if orders := await asyncio.to_thread(self._arena.books.orders_by_status):
                statuses.write(wall_ms(), orders)
            await asyncio.sleep(1.0)

    def _stood_still(self, seconds: float) -> None:
        self._story.stood_still_s += seconds
        self._mark(wall_ms(), f"this run itself stood still for {seconds:g} s")
        self._say(f"    this run itself stood still for {seconds:g} s", None, "")

    def _count_rpc_failures(self) -> int:
        """Lines in which Ray says that it made a call fail, in the logs of all its processes, before they are lost with Ray."""
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

    def _tell_scenario(self, scenario: Scenario) -> None:
        self._story.scenarios.append(scenario)
        self._say(f"{scenario.rows}: {scenario.title}", scenario.recovery_s, scenario.wrong or scenario.impossible)
        self._tell_facts(scenario)

    def _tell_facts(self, scenario: Scenario) -> None:
        for fact in scenario.facts:
            self._console.print(f"      {fact}", style="dim", highlight=False, soft_wrap=True)


def _print_recoveries(story: Story, console: Console) -> None:
    table = Table("harm", "times", "p50 s", "p99 s", title="until somebody is served again", title_justify="left")
    for name, times in story.recoveries().items():
        table.add_row(
            name, str(times.count), f"{(times.p50_ms or 0) / 1_000:.1f}", f"{(times.p99_ms or 0) / 1_000:.1f}"
        )
    if table.row_count:
        console.print(table)
