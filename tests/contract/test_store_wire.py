"""What lies between a session and the socket: many statements in one pass, on real PostgreSQL."""

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from tests.contract.house import SqlHouse
from zerosum.errors import RowsRefused, Unavailable
from zerosum.store import wire
from zerosum.store.database import Database
from zerosum.store.engine import open_engine
from zerosum.store.session import Session
from zerosum.store.wire import compiled

ECHO = compiled(text("SELECT CAST(:value AS TEXT) AS echo"))
DIVIDE = compiled(text("SELECT 10 / CAST(:by AS INT8)"))
BACKEND = compiled(text("SELECT pg_backend_pid()"))
PREPARED = compiled(text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%AS echo%'"))


@pytest.fixture
async def within(sql_house: SqlHouse) -> Any:
    """Runs work in a transaction that writes, on one connection."""
    database = Database(open_engine(sql_house.urls["payment"], connections_max=1))

    async def run(work: Callable[[Session], Awaitable[Any]]) -> Any:
        return await database.write(work)

    yield run
    await database.close()


async def test_a_pass_larger_than_every_buffer_goes_through(within: Any) -> None:
    """Both sides would wait for each other for ever if one of them only sent."""
    values = [letter * 500_000 for letter in "abcdefghijklmnopqrstuvwxyz"]

    async def work(session: Session) -> list[str]:
        replies = await session.send([ECHO.call({"value": value}) for value in values])
        return [rows[0][0] for rows in replies.all()]

    assert await within(work) == values


async def test_replies_end_where_a_statement_fails_and_the_connection_serves_on(within: Any) -> None:
    """The rows before the failure are there, those after it are not, and what was prepared stays prepared."""

    async def failing(session: Session) -> None:
        await session.send([ECHO.call({"value": "first"})])
        calls = [ECHO.call({"value": "before"}), DIVIDE.call({"by": 0}), ECHO.call({"value": "after"})]
        replies = await session.send(calls)
        assert [list(rows) for rows in replies.rows] == [[("before",)]]
        assert isinstance(replies.error, psycopg.errors.DivisionByZero)
        replies.all()

    with pytest.raises(RowsRefused):
        await within(failing)

    async def count(session: Session) -> int:
        (rows,) = (await session.send([PREPARED.call()])).all()
        return int(rows[0][0])

    assert await within(count) >= 1


async def test_a_server_that_falls_silent_is_given_up(
    within: Any, sql_house: SqlHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4, A10: its process stands still and its connection is open. Unavailable, and the next call opens another."""

    async def pid(session: Session) -> int:
        (rows,) = (await session.send([BACKEND.call()])).all()
        return int(rows[0][0])

    backend = await within(pid)
    monkeypatch.setattr(wire, "PASS_TIMEOUT_S", 0.2)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await within(pid)
        assert await within(pid) != backend
    finally:
        os.kill(backend, signal.SIGCONT)


async def test_a_text_that_cannot_travel_is_refused_before_anything_is_sent(within: Any) -> None:
    """NUL and lone surrogates: no text of ours, whatever the wire would make of them."""
    for value in ("a\0b", "a\ud800b"):
        with pytest.raises(RowsRefused):
            await within(lambda session, value=value: session.send([ECHO.call({"value": value})]))
