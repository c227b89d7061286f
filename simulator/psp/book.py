"""The book: an append-only file of JSON lines, on the disk before anything is answered.

Group commit: all lines of one turn of the event loop share one write and one fdatasync, made by the loop itself
(86 µs here; handing it to a thread costs more than that in wake-ups). The invariant: `durable` returns only when
every line appended before it is on the disk. When the disk fails the book is broken for good and says so.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from simulator.psp.stripe.objects import Record


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

    def __init__(self, folder: Path, *, on_broken: Callable[[], None] = lambda: None) -> None:
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
        self._lines: list[bytes] = []
        self._waiters: asyncio.Future[None] | None = None
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
        if self._is_broken:
            raise BookBroken("the disk has failed")
        self._lines.append(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        if self._waiters is None:
            loop = asyncio.get_running_loop()
            self._waiters = loop.create_future()
            # Runs after everything that is ready now, so that all of it joins this commit.
            loop.call_soon(self._flush)

    async def durable(self) -> None:
        """Return when everything appended so far is on the disk. Raises BookBroken."""
        if self._is_broken:
            raise BookBroken("the disk has failed")
        if self._waiters is not None:
            await asyncio.shield(self._waiters)

    def close(self) -> None:
        """Write what is left and let the file go."""
        self._flush()
        os.close(self._file)

    def _flush(self) -> None:
        waiters, self._waiters = self._waiters, None
        lines, self._lines = self._lines, []
        if not lines or self._is_broken:
            return
        try:
            _write_all(self._file, b"".join(lines))
            os.fdatasync(self._file)
        except OSError as error:
            self._is_broken = True
            if waiters is not None:
                waiters.set_exception(BookBroken(str(error)))
                waiters.exception()  # marks it as seen: there may be no waiter
            self._on_broken()
            return
        self.syncs += 1
        if waiters is not None:
            waiters.set_result(None)


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
