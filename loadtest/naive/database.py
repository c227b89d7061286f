"""The textbook's way to its database: one SERIALIZABLE transaction a step, the whole step again when the database asks for it.

Sessions are SQLAlchemy's plain ones, on threads: its asyncio ones took 1.6 times their CPU.

Invariant: a step is committed once, or its error is raised; nothing of a step that was asked again is kept.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from loadtest.naive.model import Base
from zerosum.errors import SerializationConflict

T = TypeVar("T")

CONFLICTS: Final = frozenset({"40001", "40P01"})
RETRY_FOR_S: Final = 10.0
"""As long as a buyer waits on a page. Past it the step is given up."""
PAUSE_FIRST_MS: Final = 2.0
PAUSE_MAX_MS: Final = 200.0
"""Full jitter, doubling: a step takes some 3 ms, and in a crowd of 64 the last of all waits some 200."""

CONNECTIONS: Final = 16


class NaiveDatabase:
    """Sessions over one pool, a thread a connection. `url`: of a database that is there."""

    def __init__(self, url: str, *, connections_max: int = CONNECTIONS) -> None:
        # No sequential scan: of a small table it would read, and so conflict with, every row there is.
        self._engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"), isolation_level="SERIALIZABLE",
            pool_size=connections_max, max_overflow=0, pool_use_lifo=True,
            connect_args={"options": "-c enable_seqscan=off"},
        )  # fmt: skip
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._threads = ThreadPoolExecutor(connections_max)
        self.conflicts = 0

    def make_tables(self) -> None:
        """Makes what is missing. With room on each page: an update that stays on it touches no index, so no look conflicts."""
        Base.metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            for name in Base.metadata.tables:
                connection.execute(text(f"ALTER TABLE {name} SET (fillfactor = 70)"))

    async def transact(self, step: Callable[[Session], T]) -> T:
        """Runs the step in a transaction of its own and commits; again on 40001 and 40P01, for up to 10 s.

        Raises SerializationConflict when the time is over, sqlalchemy.exc.IntegrityError where a row was there before.
        """
        loop, pause_ms = asyncio.get_running_loop(), PAUSE_FIRST_MS
        deadline_s = time.monotonic() + RETRY_FOR_S
        while True:
            try:
                return await loop.run_in_executor(self._threads, self._once, step)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", "") not in CONFLICTS:
                    raise
                if time.monotonic() > deadline_s:
                    raise SerializationConflict("the database kept asking for another order of things") from error
            self.conflicts += 1
            await asyncio.sleep(random.random() * pause_ms / 1_000)
            pause_ms = min(pause_ms * 2, PAUSE_MAX_MS)

    def close(self) -> None:
        """Lets running steps end, then closes the connections."""
        self._threads.shutdown()
        self._engine.dispose()

    def _once(self, step: Callable[[Session], T]) -> T:
        with self._sessions.begin() as session:
            return step(session)
