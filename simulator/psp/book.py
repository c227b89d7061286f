"""The book: an append-only file of JSON lines, on the disk before anything is answered.

Group commit: lines share one write and one fdatasync, made by the loop itself `gather_ms` after the first of them.
A commit costs about 100 µs of CPU in the kernel, which is why it waits for company; handing it to a thread would cost
as much again in wake-ups. The invariant: `durable` returns only when
every line appended before it is on the disk. When the disk fails the book is broken for good and says so.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from simulator.psp.stripe.objects import Record
from simulator.psp.stripe.wire import to_bytes

# What became of a webhook may reach the disk this much later; a kill in between sends it once more.
_LAZY_S: Final = 0.1
_FAILED: Final = "the disk has failed"

Durable = Callable[[bool], None]
"""Told once whether the lines it waited for are on the disk; when not, none will ever be."""


class BookBroken(Exception):
    """The disk refused a line, or the file is damaged before its end; nothing may be answered any more."""


class BookInUse(Exception):
    """Another simulator writes this book."""


class Book(Protocol):
    """Where the engine writes what happened."""

    def append(self, record: Record) -> None:
        """Add one line; it counts once it is durable."""


class MemoryBook:
    """A book without a disk, for tests and for virtual time."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Keep a copy as the file would hold it."""
        self.records.append(json.loads(json.dumps(record)))


class FileBook:
    """The book in `folder/book.jsonl`, locked against a second writer."""

    def __init__(self, folder: Path, *, gather_ms: int = 0, on_broken: Callable[[], None] = lambda: None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "book.jsonl"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise BookInUse(f"another simulator writes {self._path}") from error
        _sync_folder(folder)
        self._on_broken = on_broken
        self._gather_s = gather_ms / 1_000
        self._lines: list[bytes] = []
        self._waiters: list[Durable] = []
        self._is_flush_next = False
        self._later: asyncio.TimerHandle | None = None
        self._is_broken = False
        self.syncs = 0

    def read(self) -> Iterator[Record]:
        """Yield every line, cutting a torn last one off the file. Call it before the first append."""
        good = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise BookBroken(f"{self._path}: line {number} is damaged") from error
                good += len(line)
        os.ftruncate(self._file, good)
        os.fdatasync(self._file)

    def append(self, record: Record) -> None:
        """Add one line; `durable` waits for it. Raises BookBroken."""
        self._add(record)
        if not self._is_flush_next:
            self._is_flush_next = True
            # Even without a pause it runs after everything that is ready now, so that all of it joins this commit.
            asyncio.get_running_loop().call_later(self._gather_s, self._flush)

    def append_lazily(self, record: Record) -> None:
        """Add one line that nobody waits for and whose loss does no harm; it joins the next commit. Raises BookBroken."""
        self._add(record)
        if not self._is_flush_next and self._later is None:
            self._later = asyncio.get_running_loop().call_later(_LAZY_S, self._flush)

    def when_durable(self, then: Durable) -> None:
        """Call `then` once everything appended so far, but for lazy lines, is on the disk; now if it is."""
        if self._is_flush_next and not self._is_broken:
            self._waiters.append(then)
        else:
            then(not self._is_broken)

    async def durable(self) -> None:
        """Return when everything appended so far, but for lazy lines, is on the disk. Raises BookBroken."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.when_durable(lambda is_durable: None if told.done() else told.set_result(is_durable))
        if not await told:
            raise BookBroken(_FAILED)

    def close(self) -> None:
        """Write what is left and let the file go."""
        self._flush()
        os.close(self._file)

    def _add(self, record: Record) -> None:
        if self._is_broken:
            raise BookBroken(_FAILED)
        self._lines.append(to_bytes(record) + b"\n")

    def _flush(self) -> None:
        waiters, self._waiters = self._waiters, []
        lines, self._lines = self._lines, []
        self._is_flush_next = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not lines or self._is_broken:
            return
        try:
            _write_all(self._file, b"".join(lines))
            os.fdatasync(self._file)
            self.syncs += 1
        except OSError:
            self._is_broken = True
            self._on_broken()
        for then in waiters:
            then(not self._is_broken)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    """Make the file's own name durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
