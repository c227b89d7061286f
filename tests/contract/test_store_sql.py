"""What only a server can do to us: commits whose end is in doubt, lost connections, locks, cancellation, an outage."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.contract import sample
from tests.contract.house import Shard, SqlHouse
from tests.contract.proxy import Cut, CutProxy
from zerosum.domain.identity import EntityKey, slot_of
from zerosum.errors import CommitAmbiguous, Misconfigured, RowHeld, SerializationConflict, Unavailable
from zerosum.ports import Clash, Committed, Wanted
from zerosum.store import wire
from zerosum.store.catalog import aggregate_of
from zerosum.store.database import Database
from zerosum.store.engine import open_engine
from zerosum.store.opening import open_reader, open_store
from zerosum.store.sql import SqlStore

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'payment'"


@contextmanager
def admin(house: SqlHouse) -> Iterator[psycopg.Connection[Any]]:
    """A session of the administrator, each statement by itself unless a transaction is opened."""
    conninfo = make_url(house.urls["admin"]).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


async def waiting_pid(connection: psycopg.Connection[Any]) -> int:
    """The backend that waits for a lock; asks until there is one."""
    while True:
        found = connection.execute(WAITING).fetchone()
        if found:
            return int(found[0])
        await asyncio.sleep(0)


# ---- commits in doubt ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", Cut)
async def test_a_commit_in_doubt_run_again_has_exactly_one_effect(
    sql_house: SqlHouse, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, Q2: the same command again in a new transaction; its row decides. Method: a proxy cuts the line at COMMIT."""
    if cut is Cut.SILENT:
        monkeypatch.setattr(wire, "PASS_TIMEOUT_S", 1.0)
    house = sql_house
    target = make_url(house.urls["payment"])
    assert target.host is not None
    assert target.port is not None
    async with CutProxy(target.host, target.port) as proxy:
        url = target.set(port=proxy.port).render_as_string(hide_password=False)
        store: SqlStore[Any] = open_store("payment", url)
        shard = await Shard.begin(store)
        command = sample.submit(house.tenant, "c1", "o1")
        draft = sample.checkouts()
        state = sample.submitted(draft, command)

        proxy.cut_next(cut)
        with pytest.raises(CommitAmbiguous):
            await shard.commit(draft)

        again = Shard(store, await store.retake_slots(list(shard.heads.values())))
        result = await again.commit(draft)
        if cut is not Cut.BEFORE:
            assert result == Clash("payment.commands", frozenset({0}), frozenset())
        else:
            assert isinstance(result, Committed)
        found = await store.load(Wanted((state.key,), (sample.accepted(command).key,)))
        assert found.entities == {state.key: state}
        assert list(found.commands.values()) == [sample.accepted(command)]
        assert len(house.rows("payment", "history")) == 1
        await store.close()


async def test_a_backend_that_dies_before_commit_has_committed_nothing(sql_house: SqlHouse) -> None:
    """57P01 in the middle of a transaction is an outage, not a doubt; the pool recovers by itself (D4)."""
    house = sql_house
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    with admin(house) as first, admin(house) as second, first.transaction():
        first.execute("SELECT 1 FROM payment.slots WHERE slot = %s FOR UPDATE", [slot_of(*state.key)])
        commit = asyncio.create_task(shard.commit(draft))
        pid = await waiting_pid(second)
        second.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(Unavailable):
            await commit

    assert house.rows("payment", "history") == []
    assert isinstance(await shard.commit(draft), Committed)


async def test_dead_pooled_connections_cost_one_call_each_way(sql_house: SqlHouse) -> None:
    """After a restart of the database the first call fails, typed and retryable, and the next one works."""
    house = sql_house
    shard = await Shard.begin(house.store())
    with admin(house) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'payment'")

    with pytest.raises(Unavailable):
        await shard.store.load(Wanted())

    assert (await shard.store.load(Wanted())).now_ms > 0


async def test_cancelling_the_caller_does_not_reach_the_transaction(sql_house: SqlHouse) -> None:
    """Whoever gives up waiting changes nothing; closing the store waits for what it began."""
    house = sql_house
    store = open_store("payment", house.urls["payment"])
    shard = await Shard.begin(store)
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    with admin(house) as first, admin(house) as second, first.transaction():
        first.execute("SELECT 1 FROM payment.slots WHERE slot = %s FOR UPDATE", [slot_of(*state.key)])
        commit = asyncio.create_task(shard.commit(draft))
        await waiting_pid(second)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit

    await store.close()
    assert len(house.rows("payment", "history")) == 1


# ---- round trips ---------------------------------------------------------------------------------------------------


async def test_a_commit_and_a_load_are_two_round_trips_each_and_a_clock_is_one(
    sql_house: SqlHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADR 8: however many statements, they travel in one pass of libpq; COMMIT, or the end of a read, is the other."""
    sent: list[int] = []
    travel = wire._pass

    def counting(connection: Any, new: Any, statements: Any, *rest: Any) -> Any:
        sent.append(len(statements))
        return travel(connection, new, statements, *rest)

    store: SqlStore[Any] = sql_house.store()
    shard = await Shard.begin(store)
    command, draft = sample.submit(sql_house.tenant, "c1", "o1", "o2"), sample.checkouts()
    state = sample.submitted(draft, command)
    monkeypatch.setattr(wire, "_pass", counting)

    await store.load(Wanted((EntityKey(sql_house.tenant, "c2"),), (sample.accepted(command).key,)))
    loaded, sent[:] = list(sent), []
    await shard.commit(draft)
    committed, sent[:] = list(sent), []
    await store.load(Wanted())
    assert (len(loaded), len(committed), sent) == (2, 2, [3])
    assert committed[0] > 2 + len(state.orders)
    assert committed[1] == 1


# ---- locks ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_slot_held_by_a_copy_that_stopped_is_a_conflict_not_a_bad_row(sql_house: SqlHouse) -> None:
    """55P03 on the fence blames no row. Takes lock_timeout, one second."""
    house = sql_house
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    with admin(house) as holder, holder.transaction():
        holder.execute("SELECT 1 FROM payment.slots WHERE slot = %s FOR UPDATE", [slot_of(*state.key)])

        with pytest.raises(SerializationConflict):
            await shard.commit(draft)


@pytest.mark.slow
async def test_a_row_held_too_long_is_told_as_a_row(sql_house: SqlHouse) -> None:
    """55P03 on a unique key: the batch is to be bisected. Takes lock_timeout, one second."""
    house = sql_house
    shard = await Shard.begin(house.store())
    command = sample.submit(house.tenant, "c1")
    draft = sample.checkouts()
    sample.submitted(draft, command)
    key = sample.accepted(command).key
    with admin(house) as holder, holder.transaction():
        holder.execute(
            "INSERT INTO payment.commands VALUES (%s, %s, %s, %s, '1:x', 'c9', NULL, 1)", [slot_of(*key), *key]
        )

        with pytest.raises(RowHeld):
            await shard.commit(draft)
    assert house.rows("payment", "history") == []


# ---- outages -------------------------------------------------------------------------------------------------------


async def test_a_database_that_is_away_is_unavailable_for_everything() -> None:
    """Nothing listens: each call says so, in its own time, and nothing hangs."""
    url = "postgresql://payment:x@127.0.0.1:1/zerosum"
    store = open_store("payment", url)
    reader = open_reader("payment", url)

    with pytest.raises(Unavailable):
        await store.take_slots([1], "test")
    with pytest.raises(Unavailable):
        await store.load(Wanted())
    with pytest.raises(Unavailable):
        await store.due_todos([1], 0, 1)
    with pytest.raises(Unavailable):
        await reader.count_in_flight(0)
    with pytest.raises(Unavailable):
        await reader.dead_letters()
    await store.close()
    await reader.close()


@pytest.mark.slow
async def test_a_full_pool_is_a_bounded_wait(sql_house: SqlHouse) -> None:
    """D8: no free connection within two seconds is Unavailable; afterwards all goes on. Takes those two seconds."""
    database = Database(open_engine(sql_house.urls["payment"], connections_max=1))
    store: SqlStore[Any] = SqlStore(database, aggregate_of("payment"))
    async with database.engine.connect():
        with pytest.raises(Unavailable, match="free in time"):
            await store.load(Wanted())

    assert (await store.load(Wanted())).now_ms > 0
    await store.close()


async def test_every_connection_has_the_limits_of_the_house(sql_house: SqlHouse) -> None:
    """SERIALIZABLE, and every wait bounded, on whichever dialect."""
    engine = open_engine(sql_house.urls["payment"], connections_max=1)
    wanted = {
        "transaction_isolation": "serializable",
        "default_transaction_isolation": "serializable",
        "lock_timeout": "1s",
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "5s",
    }
    async with engine.connect() as connection:
        for name, value in wanted.items():
            assert (await connection.exec_driver_sql(f"SHOW {name}")).scalar_one() == value, name
    await engine.dispose()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite:///x", "not a url: secret", ""])
def test_another_kind_of_database_is_refused_without_showing_its_url(url: str) -> None:
    """A URL holds a password."""
    with pytest.raises(Misconfigured) as refused:
        open_store("payment", url)

    assert "secret" not in str(refused.value)


def test_a_service_nobody_knows_is_refused() -> None:
    """Names come from settings."""
    with pytest.raises(Misconfigured):
        open_store("billing", "postgresql://h/d")
