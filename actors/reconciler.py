"""The reconciler's process: takes files from the watched folder, runs what is due, sends what was decided.

Nothing here is state: the tables say what has run and what waits to be sent. Two copies disturb nobody: a run is made by
whoever holds its row, a file is known by its hash, and what is sent is sent under a key of its own.

Within a copy the days of a PSP are run one after another, for a night asks what the others have found.

Invariant: dying at any point loses nothing; the next tick, of this copy or of another, goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from actors.inbox import Inbox
from actors.outcome import News
from actors.schedule import Due, Schedule, due_runs
from zerosum.errors import Retryable, Superseded, Unavailable
from zerosum.reconciling import SCHEDULE, FileRow, Files, FileState, Outbox, RunKey, RunKind, RunRow, Runs, RunState

_log = structlog.get_logger()

ANSWER_WITHIN_S = 15.0
"""How long whoever asks for a run waits for its end; then the row tells how far it is."""

SENT_MAX = 500
"""Deliveries a round: as many as two batches of the ledger."""

_LOOKED_AT = 500
"""Runs and files looked at for what is due: a month of 10 PSPs, with re-runs. A file's day whose run is not among them is
asked for by its key."""


@dataclass(frozen=True, slots=True)
class RunAsked:
    """Somebody wants a period to be run now. `asked_by`: the caller."""

    key: RunKey
    is_again: bool
    asked_by: str


@dataclass(slots=True)
class Figures:
    """Counters of this copy. `ticks_failed`: those of which some part stumbled, as while the database or a peer is away."""

    ticks: int = 0
    ticks_failed: int = 0
    runs: int = 0
    files: int = 0
    sent: int = 0


class Reconciler:
    """One copy. `clock_ms`: the database's clock. `holder`: names this process in the runs it holds."""

    def __init__(
        self,
        *,
        files: Files,
        runs: Runs,
        outbox: Outbox,
        inbox: Inbox,
        schedule: Schedule,
        clock_ms: Callable[[], Awaitable[int]],
        holder: str,
    ) -> None:
        self.figures = Figures()
        self.ended = asyncio.Event()
        self.end_reason = ""
        self._files = files
        self._runs = runs
        self._outbox = outbox
        self._inbox = inbox
        self._schedule = schedule
        self._clock_ms = clock_ms
        self._holder = holder
        self._running: dict[RunKey, asyncio.Task[RunRow | None]] = {}
        self._one_by_one: dict[str, asyncio.Lock] = {}

    async def tick(self) -> None:
        """One round: files in, every run that is due, then what is to be sent.

        What one of them stumbles over is told and holds up none of the others: a night that never ends keeps back neither the
        days after it nor what two people approved. The next round begins it anew, for the tables say what is left.
        """
        self.figures.ticks += 1
        stumbles: list[Exception] = []
        due: Sequence[Due] = ()
        with _told(stumbles, at="inbox"):
            self.figures.files += await self._inbox.look()
        with _told(stumbles, at="schedule"):
            due = await self._due()
        for run in due:
            with _told(stumbles, at=" ".join(filter(None, (run.key.kind, run.key.psp, run.key.period)))):
                await self._joined(RunAsked(run.key, run.is_again, SCHEDULE))
        with _told(stumbles, at="outbox"):
            await self.send()
        self.figures.ticks_failed += bool(stumbles)

    async def send(self) -> None:
        """Sends what waits in the outbox. Money may move: once, under the key each has."""
        while (sent := await self._outbox.deliver(SENT_MAX)) > 0:
            self.figures.sent += sent

    async def run(self, asked: RunAsked, within_s: float = ANSWER_WITHIN_S) -> RunRow | None:
        """Runs a period now. None: it is still being done, here or by another holder; it goes on."""
        task = self._start(asked)
        done, _ = await asyncio.wait({task}, timeout=within_s)
        return task.result() if done else None

    async def stop(self) -> None:
        """Abandons what runs: its lease ends, and whoever runs it next goes on."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    # ---- a run -----------------------------------------------------------------------------------------------------

    async def _joined(self, asked: RunAsked) -> RunRow | None:
        return await asyncio.shield(self._start(asked))

    def _start(self, asked: RunAsked) -> "asyncio.Task[RunRow | None]":
        """The run of a key under way in this copy, begun where there is none."""
        task = self._running.get(asked.key)
        if task is None:
            task = asyncio.create_task(self._run(asked))
            self._running[asked.key] = task
            task.add_done_callback(lambda _: self._running.pop(asked.key, None))
        return task

    async def _run(self, asked: RunAsked) -> RunRow | None:
        try:
            async with self._one_by_one.setdefault(asked.key.psp, asyncio.Lock()):
                row = await self._runs.run(asked.key, self._holder, is_again=asked.is_again, asked_by=asked.asked_by)
        except Superseded:
            return None  # another copy took it over, and goes on
        if row is not None:
            self.figures.runs += 1
            tell = _log.error if row.state is RunState.FAILED else _log.info
            told = row.summary
            tell("reconciliation", run=row.run_id, asked_by=row.asked_by, state=str(row.state),
                 explained_ppm=told.explained_ppm, mismatches=dict(told.by_kind), reason=told.reason)  # fmt: skip
        return row

    async def _due(self) -> Sequence[Due]:
        files = [file for file in await self._files.list("", _LOOKED_AT, "") if file.state is FileState.ACCEPTED]
        return due_runs(await self._clock_ms(), self._schedule, ran=await self._ran(files), came=_came(files))

    async def _ran(self, files: Sequence[FileRow]) -> dict[RunKey, int]:
        """Of each key that has run to its end, when its newest attempt began. One that is half done has not run.

        0 where it ended without an accepted file of its day: that was being committed while the run began, whatever the clocks
        say of the two.
        """
        rows = [row for kind in RunKind for row in await self._runs.list(kind, _LOOKED_AT, "")]
        newest = {row.key: row for row in sorted(rows, key=lambda row: row.attempt)}
        unlisted = {RunKey(RunKind.NIGHTLY, file.psp, file.day) for file in files} - newest.keys()
        newest.update({row.key: row for row in await self._runs.newest(sorted(unlisted, key=lambda key: key.period))})
        return {
            key: 0 if row.state is RunState.DONE and _lacks_file(row, files) else row.started_at_ms
            for key, row in newest.items()
            if row.state is not RunState.RUNNING
        }


@contextmanager
def _told(stumbles: list[Exception], *, at: str) -> Iterator[None]:
    """The edge of a part of a tick: what it stumbles over is logged and counted among `stumbles`, and goes no further."""
    try:
        yield
    except Retryable as away:
        stumbles.append(away)
        _log.warning("the reconciler waits", at=at, reason=str(away))
    except Exception as stumble:  # noqa: BLE001 - the outermost edge of this process: one bad day must not stop all the others
        stumbles.append(stumble)
        _log.exception("the reconciler stumbled", at=at)


def _lacks_file(row: RunRow, files: Sequence[FileRow]) -> bool:
    return any(
        (file.psp, file.day) == (row.key.psp, row.key.period) and file.file_id not in row.summary.files
        for file in files
    )


def _came(files: Sequence[FileRow]) -> dict[tuple[str, str], int]:
    """Of each PSP and day with an accepted file, when the newest was accepted."""
    came: dict[tuple[str, str], int] = {}
    for file in files:
        if file.decided_at_ms is not None:
            came[file.psp, file.day] = max(file.decided_at_ms, came.get((file.psp, file.day), 0))
    return came


async def keep(
    reconciler: Reconciler, every_s: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Ticks for ever."""
    while True:
        await reconciler.tick()
        await sleep(every_s)


@dataclass(slots=True)
class ReconcilerHost:
    """The reconciler as an actor's process hosts it: in the place of a shard. `counters`: see `Host`."""

    shard: Reconciler
    close: Callable[[], Awaitable[None]]
    counters: Sequence[Any] = ()

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Any]:
        """Runs what is asked for; a row each, or None."""
        return [await self.shard.run(asked) for asked in commands]

    async def outcomes(self, epoch: int, position: int) -> News:
        """Nobody waits for outcomes of the reconciler. Raises Unavailable."""
        raise Unavailable("the reconciler has no outcomes")


class SubmitLink(Protocol):
    """The way to the reconciler's process."""

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Any]:
        """See `ReconcilerHost.submit`. Raises Unavailable."""
        ...


class RemoteReconciler:
    """The reconciler behind a link, for the door."""

    def __init__(self, link: SubmitLink) -> None:
        self._link = link

    async def run(self, key: RunKey, *, is_again: bool, asked_by: str) -> RunRow | None:
        """Runs a period now; None while it is still being done. Raises Unavailable: it may be running."""
        rows: Sequence[RunRow | None] = await self._link.submit([RunAsked(key, is_again, asked_by)], is_inner=True)
        return rows[0]
