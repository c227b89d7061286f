"""One service's way to its database: a transaction that reads, one that writes, and a hint.

Invariant: cancelling a caller never reaches a transaction: it runs in a task of its own, to its end, and `close` waits for
all of them.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from zerosum.crash import Point, reach
from zerosum.errors import CommitAmbiguous, SerializationConflict, Unavailable, ZerosumError
from zerosum.store import failure

T = TypeVar("T")

READ_TRIES = 5
TAKE_TRIES = 10
RETRY_PAUSE_MS = 20
"""Reads and the taking of slots are tried again on 40001, with full jitter: 10 x 20 ms is far below a second."""


class Database:
    """Transactions over an engine. The work of each is a plain function of a connection, run whole in one go."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._running: set[asyncio.Task[Any]] = set()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one SERIALIZABLE READ ONLY snapshot; again on a conflict. Raises Unavailable, Misconfigured."""
        options = {"postgresql_readonly": True}
        return await self._again(lambda: self._run(work, options, commits=False), READ_TRIES, (SerializationConflict,))

    async def hint(self, work: Callable[[Connection], T]) -> T:
        """Runs one statement READ COMMITTED: good enough to look, never to decide. Raises Unavailable, Misconfigured."""
        options = {"isolation_level": "READ COMMITTED"}
        return await self._again(lambda: self._run(work, options, commits=False), READ_TRIES, (SerializationConflict,))

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Runs one statement without a transaction around it: its own snapshot, one round trip. Raises as `hint`."""
        options = {"isolation_level": "AUTOCOMMIT"}
        return await self._again(lambda: self._run(work, options, commits=False), READ_TRIES, (SerializationConflict,))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` SERIALIZABLE and commits, once; `work` may have rolled back itself. Errors: see `failure.py`."""
        return await self._detached(self._run(work, {}, commits=True))

    async def write_unless_conflict(self, work: Callable[[Connection], T]) -> T:
        """The same, whole again on 40001; an ambiguous end is told."""
        return await self._again(lambda: self._run(work, {}, commits=True), TAKE_TRIES, (SerializationConflict,))

    async def write_again(self, work: Callable[[Connection], T]) -> T:
        """The same for work that may be repeated whole, also when its commit was ambiguous. Raises Unavailable, ..."""
        again = (SerializationConflict, CommitAmbiguous)
        return await self._again(lambda: self._run(work, {}, commits=True), TAKE_TRIES, again)

    async def close(self) -> None:
        """Waits for what still runs, then closes every connection."""
        while self._running:
            await asyncio.wait(self._running)
        await self.engine.dispose()

    async def _again(
        self, attempt: Callable[[], Coroutine[Any, Any, T]], tries: int, on: tuple[type[ZerosumError], ...]
    ) -> T:
        for left in reversed(range(tries)):
            try:
                return await self._detached(attempt())
            except on as conflict:
                if not left:
                    raise Unavailable("the database kept refusing this order of things") from conflict
                await asyncio.sleep(random.random() * RETRY_PAUSE_MS / 1_000)
        raise Unavailable("not tried")

    async def _detached(self, transaction: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone; an exception nobody fetched would be printed at exit

    async def _run(self, work: Callable[[Connection], T], options: dict[str, Any], *, commits: bool) -> T:
        is_committing = False
        try:
            async with self.engine.connect() as connection:
                if options:
                    await connection.execution_options(**options)
                result = await connection.run_sync(work)
                is_committing = commits
                if commits:
                    reach(Point.COMMIT_BEFORE)
                    await connection.commit()
                    reach(Point.COMMIT_AFTER)
                return result
        except failure.DATABASE_ERRORS as error:
            # Also what closing raises: once COMMIT was sent, no later error makes the end of it certain.
            raised = failure.at_commit(error) if is_committing else failure.before_commit(error)
            raise raised from (None if failure.quotes_rows(raised) else error)
