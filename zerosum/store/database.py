"""One service's way to its database: a transaction that reads, one that writes, and a look.

Invariant: cancelling a caller never reaches a transaction: it runs in a task of its own, to its end, and `close` waits for
all of them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from zerosum.errors import CommitAmbiguous, SerializationConflict, Unavailable, ZerosumError
from zerosum.store import failure
from zerosum.store.session import Begin, Session
from zerosum.store.wire import Call, Driver, Rows, Traffic

T = TypeVar("T")

READ_TRIES = 5
TAKE_TRIES = 10
RETRY_PAUSE_MS = 20
"""Reads and the taking of slots are tried again on 40001, with full jitter: 10 x 20 ms is far below a second."""

_PREPARED = "zerosum_prepared"
"""Where the pool keeps, with each connection, what it has prepared."""

_CONFLICT = (SerializationConflict,)
_CONFLICT_OR_DOUBT = (SerializationConflict, CommitAmbiguous)


class Database:
    """Transactions over an engine; `work` is what happens within one. `traffic` counts what they send."""

    def __init__(self, engine: AsyncEngine, traffic: Traffic | None = None) -> None:
        """`traffic`: counts for another one over the same database, too."""
        self.engine = engine
        self.traffic = traffic or Traffic()
        self._with_spans = engine.dialect.name == "cockroachdb"
        self._running: set[asyncio.Task[Any]] = set()

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Runs `work` in one SERIALIZABLE READ ONLY snapshot; again on a conflict. Raises Unavailable, Misconfigured."""
        return await self._again(lambda: self._run(work, Begin.READ), READ_TRIES, _CONFLICT)

    async def look(self, call: Call) -> Rows:
        """Runs one statement READ COMMITTED: good enough to look, never to decide. Raises Unavailable, Misconfigured."""
        return await self._again(
            lambda: self._run(lambda session: session.look(call), Begin.LOOK), READ_TRIES, _CONFLICT
        )

    async def snapshot(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Runs `work` in one READ ONLY snapshot, however long it takes; never in a writer's way. Raises Unavailable, ..."""
        return await self._detached(self._run(work, Begin.SNAPSHOT))

    async def write(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Runs `work` SERIALIZABLE and commits, once; `work` may have rolled back itself. Errors: see `failure.py`."""
        return await self._detached(self._run(work, Begin.WRITE))

    async def write_unless_conflict(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """The same, whole again on 40001; an ambiguous end is told."""
        return await self._again(lambda: self._run(work, Begin.WRITE), TAKE_TRIES, _CONFLICT)

    async def write_again(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """The same for work that may be repeated whole, also when its commit was ambiguous. Raises Unavailable, ..."""
        return await self._again(lambda: self._run(work, Begin.WRITE), TAKE_TRIES, _CONFLICT_OR_DOUBT)

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

    async def _run(self, work: Callable[[Session], Awaitable[T]], begin: Begin) -> T:
        is_committing = False
        try:
            async with self.engine.connect() as connection:
                pooled = await connection.get_raw_connection()
                driver: Driver | None = pooled.driver_connection
                assert driver is not None
                prepared = pooled.info.setdefault(_PREPARED, {})
                session = Session(driver, prepared, begin, self.traffic, with_spans=self._with_spans)
                try:
                    result = await work(session)
                    if begin is Begin.WRITE:
                        is_committing = True
                        await session.commit()
                finally:
                    if driver.closed:
                        await self._forget(connection)
                    else:
                        await session.rollback()
                return result
        except failure.DATABASE_ERRORS as error:
            # Also what closing raises: once COMMIT was sent, no later error makes the end of it certain.
            raised = failure.at_commit(error) if is_committing else failure.before_commit(error)
            raise raised from (None if failure.quotes_rows(raised) else error)

    async def _forget(self, connection: AsyncConnection) -> None:
        """The line was cut: the idle ones of the pool are as dead, so that the next call opens a new one."""
        await connection.invalidate()
        await self.engine.dispose()
