"""Fixtures of the contract suite: one embedded server a session, and each kind of database in turn."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.contract.house import KINDS, House, SqlHouse, house_of
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
