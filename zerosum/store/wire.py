"""Statements on a connection of the driver, many of them in one pass: queued, sent and answered with two waits, not two each.

The driver's own pipeline talks to the server after every statement, and its ROLLBACK throws all prepared statements away.
Here a statement is prepared once a connection and kept; parameters travel as text, their types stand in the statement.
Below this file is libpq as the driver wraps it (`psycopg.pq`), above it nobody sees a socket.

Invariant: after any error that is not the server's own answer the connection is closed: nothing half read is ever used again.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from operator import index
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from psycopg import abc
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.base import PGDialect

_DIALECT = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped

PASS_TIMEOUT_S = 10.0
"""The server ends a statement after 5 s. A connection that is silent for twice that is open to nobody: a stopped backend, a
pooler that hangs; the kernel answers keepalives for both."""

Driver = psycopg.AsyncConnection[Any]
Prepared = MutableMapping[bytes, bytes]
"""What a connection has prepared: names by statement. It lives as long as the connection."""


@dataclass(slots=True)
class Traffic:
    """What has gone out to a database since it was opened; each only grows.

    `round_trips`: passes, each sent whole and waited for once. `statements`: those in them, BEGIN and the end of a transaction
    among them; to prepare one is none. `commits`: of transactions that may write, acknowledged.
    """

    round_trips: int = 0
    statements: int = 0
    commits: int = 0


class Call(NamedTuple):
    """A statement and the values of its parameters, in the order of their numbers: text, integers, None."""

    sql: bytes
    values: Sequence[str | int | None] = ()


class Query(NamedTuple):
    """A statement in the server's notation (`$1`, `$2`, ...), and the names of its parameters in that order."""

    sql: bytes
    names: tuple[str, ...]

    def call(self, values: Mapping[str, Any] = MappingProxyType({})) -> Call:
        """The statement with these values by name; others are left out. Raises KeyError where one is missing."""
        return Call(self.sql, [values[name] for name in self.names])


class Rows(Sequence[tuple[Any, ...]]):
    """The rows of one statement. They are read from the reply when somebody looks at one: of most, only the number counts."""

    def __init__(self, read: abc.Transformer, reply: PGresult) -> None:
        self._read = read
        self._reply = reply
        self._loaded: list[tuple[Any, ...]] | None = None

    def __len__(self) -> int:
        return self._reply.ntuples

    def __getitem__(self, position: Any) -> Any:
        if self._loaded is None:
            self._read.set_pgresult(self._reply)
            self._loaded = self._read.load_rows(0, len(self), tuple)
        return self._loaded[position]

    def by_name(self) -> list[dict[str, Any]]:
        """Each row as a dict."""
        names = [(self._reply.fname(column) or b"").decode() for column in range(self._reply.nfields)]
        return [dict(zip(names, row, strict=True)) for row in self]


def compiled(clause: TextClause) -> Query:
    """SQLAlchemy's `text()` in the server's notation."""
    made = clause.compile(dialect=_DIALECT)
    return Query(str(made).encode(), tuple(made.positiontup or ()))


async def exchange(
    driver: Driver, prepared: Prepared, calls: Sequence[Call], traffic: Traffic
) -> tuple[list[Rows], psycopg.Error | None]:
    """The rows of each statement up to the first that failed, and its error. Counts what is sent in `traffic`.

    Raises UnicodeEncodeError and psycopg.DataError for a text that cannot travel (nothing was sent), psycopg.Error where
    the connection failed.
    """
    values = [[_wire_form(value) for value in call.values] for call in calls]
    new = list(dict.fromkeys(call.sql for call in calls if call.sql not in prepared))
    names = {sql: b"zerosum_%d" % (len(prepared) + index) for index, sql in enumerate(new)}
    traffic.round_trips += 1
    traffic.statements += len(calls)
    async with driver.lock:
        try:
            sent = _pass(driver.pgconn, names, [call.sql for call in calls], values, prepared)
            results = await driver.wait(sent, timeout=PASS_TIMEOUT_S)
        except BaseException:
            await driver.close()
            raise
    error = next((result for result in results if result.status not in _SUCCESS), None)
    if error is not None:
        results = results[: results.index(error)]
    for sql, _ in zip(new, results, strict=False):
        prepared[sql] = names[sql]
    read = Transformer.from_context(driver)
    rows = [Rows(read, result) for result in results[len(new) :]]
    return rows, None if error is None else error_from_result(error)


_SUCCESS = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})


def _pass(
    connection: PGconn,
    new: Mapping[bytes, bytes],
    statements: Sequence[bytes],
    values: Sequence[Sequence[bytes | None]],
    prepared: Prepared,
) -> PQGen[list[PGresult]]:
    """Queues everything, sends it, and yields to the event loop only where the socket is not ready."""
    syncs = 1
    connection.enter_pipeline_mode()
    for sql, name in new.items():
        connection.send_prepare(name, sql)
    if new:  # apart, since preparing takes a snapshot, and BEGIN must come before any
        connection.pipeline_sync()
        syncs += 1
    for sql, parameters in zip(statements, values, strict=True):
        connection.send_query_prepared(prepared.get(sql) or new[sql], parameters)
    connection.pipeline_sync()
    while connection.flush():
        if (yield Wait.RW) & Ready.R:
            connection.consume_input()
    results: list[PGresult] = []
    while syncs:
        while connection.is_busy():
            yield Wait.R
            connection.consume_input()
        result = connection.get_result()
        if connection.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection to the database was lost")
        if result is None:
            continue  # what stands between two statements
        if result.status == ExecStatus.PIPELINE_SYNC:
            syncs -= 1
        else:
            results.append(result)
    connection.exit_pipeline_mode()
    return results


def _wire_form(value: str | int | None) -> bytes | None:
    if value is None:
        return None
    form = (value if isinstance(value, str) else str(index(value))).encode()  # nothing else has a form: TypeError
    if b"\0" in form:
        raise psycopg.DataError("a text holds the character NUL, which the database does not store")
    return form
