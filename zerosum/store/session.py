"""One transaction: its statements go out together, in one round trip, and so does COMMIT after them.

Invariant: replies are those of the statements that succeeded before the first that did not, in order; nothing is committed
but by `commit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import psycopg

from zerosum.crash import Point, reach
from zerosum.store.mapping import Row
from zerosum.store.statement import Statement
from zerosum.store.wire import Call, Driver, Prepared, Rows, Traffic, exchange


class Begin(Enum):
    """How a transaction begins."""

    WRITE = Call(b"BEGIN ISOLATION LEVEL SERIALIZABLE")
    READ = Call(b"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
    LOOK = Call(b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
    SNAPSHOT = Call(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    """One moment of the database, however long it is read. Not SERIALIZABLE: so long a reader would make commits fail."""


_COMMIT = Call(b"COMMIT")
_ROLLBACK = Call(b"ROLLBACK")


@dataclass(frozen=True, slots=True)
class Replies:
    """The rows of each call that succeeded, and what ended the rest."""

    rows: Sequence[Rows]
    error: psycopg.Error | None

    def all(self) -> Sequence[Rows]:
        """The rows of every call. Raises the driver's error."""
        if self.error is not None:
            raise self.error
        return self.rows


class Session:
    """One transaction on one connection. It begins with the first call."""

    def __init__(
        self, driver: Driver, prepared: Prepared, begin: Begin, traffic: Traffic, *, with_spans: bool = False
    ) -> None:
        """`traffic`: where what is sent is counted. `with_spans`: statements over rows go out in CockroachDB's form."""
        self._driver = driver
        self._with_spans = with_spans
        self._prepared = prepared
        self._traffic = traffic
        self._begin = begin.value
        self._has_begun = False

    def call(self, statement: Statement, rows: Sequence[Row]) -> Call:
        """A statement over rows, in the form of this database."""
        return statement.call(rows, with_spans=self._with_spans)

    async def send(self, calls: Sequence[Call]) -> Replies:
        """Sends all calls, waits for all replies. Raises what `exchange` raises."""
        before = () if self._has_begun else (self._begin,)
        self._has_begun = True
        rows, error = await exchange(self._driver, self._prepared, [*before, *calls], self._traffic)
        return Replies(rows[len(before) :], error)

    async def look(self, call: Call) -> Rows:
        """One statement and the end of its transaction in one round trip."""
        self._has_begun = True
        rows, error = await exchange(self._driver, self._prepared, [self._begin, call, _COMMIT], self._traffic)
        self._has_begun = error is not None
        return Replies(rows, error).all()[1]

    async def rollback(self) -> None:
        """Ends the transaction; the next call begins another."""
        if self._has_begun:
            self._has_begun = False
            _, error = await exchange(self._driver, self._prepared, [_ROLLBACK], self._traffic)
            if error is not None:
                raise error

    async def commit(self) -> None:
        """Sends COMMIT. Nothing is sent where nothing has begun."""
        reach(Point.COMMIT_BEFORE)
        if self._has_begun:
            self._has_begun = False
            _, error = await exchange(self._driver, self._prepared, [_COMMIT], self._traffic)
            if error is not None:
                raise error
            self._traffic.commits += 1
        reach(Point.COMMIT_AFTER)
