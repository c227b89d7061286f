"""Statements of one transaction sent together: one round trip for all of them, by the driver's pipeline.

A batch of one turn is eight statements. One by one through SQLAlchemy each costs a round trip and two switches of the event
loop; together they cost one. The statements are SQLAlchemy's `text()`, compiled once by its dialect; the connection is its
pool's.

Invariant: replies are those of the statements that succeeded before the first that did not, in order; nothing is committed
here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.pq import ExecStatus
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg

from zerosum.crash import Point, reach

_DIALECT = PGDialectAsync_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped

READ_ONLY = "SET TRANSACTION READ ONLY"


class Call(NamedTuple):
    """A statement that returns rows, in the driver's own notation, and its parameters."""

    sql: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replies:
    """The rows of each call that succeeded, and what ended the rest."""

    rows: Sequence[Sequence[tuple[Any, ...]]]
    error: psycopg.Error | UnicodeEncodeError | None

    def all(self) -> Sequence[Sequence[tuple[Any, ...]]]:
        """The rows of every call. Raises the driver's error."""
        if self.error is not None:
            raise self.error
        return self.rows


class Session:
    """One transaction on one connection. It begins with the first call."""

    def __init__(self, driver: "psycopg.AsyncConnection[Any]", *, is_read_only: bool = False) -> None:
        self._driver = driver
        self._is_read_only = is_read_only
        self._has_begun = False

    async def send(self, calls: Sequence[Call]) -> Replies:
        """Sends all calls, waits for all replies."""
        cursors: list[psycopg.AsyncCursor[Any]] = []
        failure: psycopg.Error | UnicodeEncodeError | None = None
        try:
            async with self._driver.pipeline() as pipeline:
                if self._is_read_only and not self._has_begun:
                    await self._driver.execute(READ_ONLY)
                self._has_begun = True
                for call in calls:
                    cursors.append(await self._driver.execute(cast(Any, call.sql), call.parameters))
                await pipeline.sync()
        except (psycopg.Error, UnicodeEncodeError) as error:
            failure = error
        rows = [await cursor.fetchall() for cursor in cursors if _has_rows(cursor)]
        return Replies(rows, failure)

    async def rollback(self) -> None:
        """Ends the transaction; the next call begins another."""
        self._has_begun = False
        await self._driver.rollback()

    async def commit(self) -> None:
        """Sends COMMIT. Nothing is sent where nothing has begun."""
        reach(Point.COMMIT_BEFORE)
        await self._driver.commit()
        reach(Point.COMMIT_AFTER)


def compiled(clause: TextClause) -> str:
    """A statement in the driver's notation."""
    return str(clause.compile(dialect=_DIALECT))


def _has_rows(cursor: "psycopg.AsyncCursor[Any]") -> bool:
    return cursor.pgresult is not None and cursor.pgresult.status == ExecStatus.TUPLES_OK
