"""Fixtures of the contract suite: one embedded server a session, and each kind of database in turn."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.contract.house import KINDS, House, SqlHouse, house_of, session
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_inside import Inside
from tests.contract.reconciliation_services import World
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.migrate import migrate


@pytest.fixture(scope="session")
def postgres_urls() -> Iterator[Mapping[str, str]]:
    """A migrated embedded PostgreSQL, by role."""
    folder = Path(tempfile.mkdtemp(prefix="zerosum-test-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "data")
    try:
        server.start()
        migrate(server.urls()["admin"])
        yield server.urls()
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=KINDS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Each database in turn."""
    made = house_of(request.param, lambda: request.getfixturevalue("postgres_urls"))
    yield made
    await made.close()


@pytest.fixture(params=[kind for kind in KINDS if kind != "memory"])
async def sql_house(request: pytest.FixtureRequest) -> AsyncIterator[SqlHouse]:
    """Each SQL database in turn."""
    made = house_of(request.param, lambda: request.getfixturevalue("postgres_urls"))
    assert isinstance(made, SqlHouse)
    yield made
    await made.close()


@pytest.fixture
def new_database(postgres_urls: Mapping[str, str]) -> Iterator[str]:
    """The administrator's URL of an empty database, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with session(postgres_urls["admin"]) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield make_url(postgres_urls["admin"]).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
async def desk(sql_house: SqlHouse, tmp_path: Path) -> AsyncIterator[Desk]:
    """A PSP of the test's own on each SQL database in turn."""
    made = Desk(sql_house, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def world(desk: Desk) -> World:
    """The services of a test."""
    return World(desk.psp)


@pytest.fixture
async def inside(sql_house: SqlHouse, new_database: str) -> AsyncIterator[Inside]:
    """The hours of a database of its own, by the house's roles."""
    migrate(new_database)
    name = make_url(new_database).database
    made = Inside(
        {
            role: make_url(url).set(database=name).render_as_string(hide_password=False)
            for role, url in sql_house.urls.items()
        }
    )
    yield made
    await made.close()
