"""What several files of integration tests share: the audit's good world, a database of its own a test, and a rude server."""

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from simulator.audit.database import plain_url
from tests.integration.audit_case import Case, with_database
from tests.integration.audit_world import World
from tests.integration.reconciliation_world import Reconciled
from tests.integration.stub_process import Stub, running_stub
from zerosum.store.embedded import EmbeddedPostgres

_numbers = count(1)


@pytest.fixture(scope="module")
def good_world() -> World:
    return World()


@pytest.fixture(scope="module")
def reconciled(good_world: World) -> Reconciled:
    """A delivered file with every kind of damage, rightly reconciled."""
    return Reconciled(good_world)


@pytest.fixture(scope="module")
def audit_server(good_world: World, reconciled: Reconciled) -> Iterator[str]:
    """The administrator's URL of a server that has the good world as a template."""
    folder = Path(tempfile.mkdtemp(prefix="zerosum-audit-"))
    folder.chmod(0o711)
    postgres = EmbeddedPostgres(folder / "data")
    postgres.start()
    try:
        url = postgres.urls()["admin"]
        with psycopg.connect(plain_url(url), autocommit=True) as connection:
            connection.execute("CREATE DATABASE good")
        good_world.insert(with_database(url, "good"))
        reconciled.insert(with_database(url, "good"))
        yield url
    finally:
        postgres.stop()
        shutil.rmtree(folder)


@pytest.fixture
def case(audit_server: str, good_world: World, reconciled: Reconciled, tmp_path: Path) -> Iterator[Case]:
    name = f"case_{next(_numbers)}"
    with psycopg.connect(plain_url(audit_server), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE good".encode())
    yield Case(
        url=with_database(audit_server, name),
        truth=good_world.truth_lines(),
        journal=good_world.write_journal(tmp_path),
        settlement=good_world.write_settlement(tmp_path),
        delivered=reconciled.write(tmp_path),
        folder=tmp_path,
    )
    with psycopg.connect(plain_url(audit_server), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    """A rude payment server."""
    with running_stub(tmp_path) as running:
        yield running
