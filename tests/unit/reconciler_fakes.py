"""The reconciler's parts in memory: files by hash, runs by key, an outbox that counts; and a house of them. No clock."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from actors.inbox import Inbox
from actors.reconciler import Reconciler
from actors.schedule import Schedule
from zerosum.errors import Unavailable
from zerosum.readers import Page
from zerosum.reconciling import (
    SCHEDULE,
    Difference,
    FileRow,
    FileState,
    Imported,
    Incoming,
    LateFile,
    RunKey,
    RunKind,
    RunRow,
    RunState,
    Summary,
)

NOW_MS = int(datetime(2026, 11, 26, 7, 30, tzinfo=UTC).timestamp()) * 1_000


class MemoryFiles:
    """Accepts what does not begin with "bad"; the same bytes are known the second time. `away`: so many calls fail first.

    `troubles`: what the taking of these bytes raises. `while_taking`: what happens between reading and recording.
    """

    def __init__(self, day: str = "2026-11-25") -> None:
        self.rows: dict[str, FileRow] = {}
        self.told: list[Incoming] = []
        self.day = day
        self.now_ms = 1
        self.away = 0
        self.troubles: dict[bytes, Exception] = {}
        self.while_taking: Callable[[], None] | None = None

    async def take(self, content: BinaryIO, told: Incoming) -> Imported:
        """See `Files.take`."""
        if self.away:
            self.away -= 1
            raise Unavailable("the database is away")
        whole = content.read()
        if self.while_taking is not None:
            self.while_taking()
        if whole in self.troubles:
            raise self.troubles[whole]
        self.told.append(told)
        file_id = hashlib.sha256(whole).hexdigest()
        if file_id in self.rows:
            return Imported(self.rows[file_id], is_known=True)
        is_bad = whole.startswith(b"bad")
        self.rows[file_id] = FileRow(
            file_id=file_id, psp=told.psp, name=told.name, series="s", version=1,
            state=FileState.REFUSED if is_bad else FileState.ACCEPTED, reason="rows differ" if is_bad else "", lines=1,
            day=self.day, period_from_ms=0, period_to_ms=1, received_by=told.received_by, received_at_ms=self.now_ms,
            decided_at_ms=self.now_ms,
        )  # fmt: skip
        return Imported(self.rows[file_id])

    async def list(self, psp: str, rows_max: int, after: str) -> Sequence[FileRow]:
        """All of them."""
        return list(self.rows.values())[:rows_max]

    async def refused(self) -> Sequence[FileRow]:
        """Those that were, until any other is accepted after them."""
        rows = list(self.rows.values())
        accepted = max((at for at, row in enumerate(rows) if row.state is FileState.ACCEPTED), default=-1)
        return [row for row in rows[accepted + 1 :] if row.state is FileState.REFUSED]

    async def late(self) -> Sequence[LateFile]:
        """None."""
        return []


class MemoryRuns:
    """Each run ends at once. `left_running`: keys whose run dies midway the first time; `failing`: that end FAILED.

    `troubles`: what the run of a key raises, every time. `files`: what a run finds; `unseen`: ids of those that are still being
    committed.
    """

    def __init__(self, files: MemoryFiles) -> None:
        self._files = files
        self.unseen: set[str] = set()
        self.rows: list[RunRow] = []
        self.now_ms = 10
        self.left_running: set[RunKey] = set()
        self.held_by_another: set[RunKey] = set()
        self.failing: set[RunKey] = set()
        self.troubles: dict[RunKey, Exception] = {}

    async def run(self, key: RunKey, holder: str, *, is_again: bool = False, asked_by: str = SCHEDULE) -> RunRow | None:
        """See `Runs.run`."""
        if key in self.troubles:
            raise self.troubles[key]
        if key in self.held_by_another:
            return None
        attempts = [row for row in self.rows if row.key == key]
        newest = attempts[-1] if attempts else None
        if newest is not None and newest.state is RunState.RUNNING:
            self.rows.remove(newest)
            attempts.pop()
        elif newest is not None and not is_again:
            return newest
        is_dying = key in self.left_running
        self.left_running.discard(key)
        ended = RunState.FAILED if key in self.failing else RunState.DONE
        state = RunState.RUNNING if is_dying else ended
        row = RunRow(
            f"{key.period}-{len(attempts) + 1}",
            key,
            len(attempts) + 1,
            "1",
            state,
            holder,
            Summary(files=self._of_day(key)),
            self.now_ms,
            None,
            asked_by,
        )
        self.rows.append(row)
        if is_dying:
            raise Unavailable("the database went away midway")
        return row

    def _of_day(self, key: RunKey) -> tuple[str, ...]:
        files = self._files.rows.values()
        return tuple(file.file_id for file in files if file.day == key.period and file.file_id not in self.unseen)

    async def get(self, run_id: str) -> RunRow | None:
        """One."""
        return next((row for row in self.rows if row.run_id == run_id), None)

    async def list(self, kind: RunKind | None, rows_max: int, after: str) -> Sequence[RunRow]:
        """Newest first."""
        return [row for row in reversed(self.rows) if row.key.kind is kind][:rows_max]

    async def newest(self, keys: Collection[RunKey]) -> Sequence[RunRow]:
        """Of each key the last row."""
        return list({row.key: row for row in self.rows if row.key in keys}.values())

    async def failed(self) -> Sequence[RunRow]:
        """Those whose newest attempt is FAILED."""
        newest = {row.key: row for row in self.rows}
        return [row for row in newest.values() if row.state is RunState.FAILED]

    async def compare(self, before: str, after: str, rows_max: int, position: str) -> Page[Difference]:
        """Not asked here."""
        return Page([], "")


class MemoryOutbox:
    """So many wait. `away`: so many calls fail first."""

    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting
        self.away = 0

    async def deliver(self, rows_max: int) -> int:
        """Sends them."""
        if self.away:
            self.away -= 1
            raise Unavailable("the database is away")
        sent = min(self.waiting, rows_max)
        self.waiting -= sent
        return sent


class House:
    """One reconciler over memory; another copy of it on the same tables."""

    def __init__(self, root: Path) -> None:
        self.files, self.outbox = MemoryFiles(), MemoryOutbox()
        self.runs = MemoryRuns(self.files)
        self.root = root
        self.now_ms = NOW_MS

    def copy(self, holder: str = "one") -> Reconciler:
        """A process."""

        async def clock_ms() -> int:
            return self.now_ms

        inbox = Inbox(self.root, self.files, ["stripe"])
        return Reconciler(
            files=self.files, runs=self.runs, outbox=self.outbox, inbox=inbox, clock_ms=clock_ms, holder=holder,
            schedule=Schedule(("stripe",), 6 * 3_600_000, 7, 1),
        )  # fmt: skip

    def put(self, name: str, content: bytes = b"good", manifest: str = "") -> Path:
        """Puts a file into the inbox, the manifest after it."""
        folder = self.root / "inbox" / "stripe"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        if manifest:
            (folder / f"{Path(name).stem}.manifest.json").write_text(manifest)
        return folder / name

    def names(self, folder: str) -> list[str]:
        """What is in a folder, without the beginnings made of ids."""
        found = (self.root / folder).glob("*")
        return sorted(path.name.partition("-")[2] if folder != "inbox/stripe" else path.name for path in found)

    def ran(self) -> list[tuple[RunKey, int]]:
        """Runs in order: key and attempt."""
        return [(row.key, row.attempt) for row in self.runs.rows]
