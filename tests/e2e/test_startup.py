"""What a server refuses to start on, said in one line. Method: the real command on a real database that is not fit."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from servers.keys import make_keys
from tests.e2e.deadline import until
from tests.e2e.system import ROOT
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.migrate import HEAD, migrate

pytestmark = pytest.mark.e2e

MISCONFIGURED = 2


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A folder with keys and a migrated database that runs."""
    folder = Path(tempfile.mkdtemp(prefix="zerosum-e2e-"))
    folder.chmod(0o711)
    database = EmbeddedPostgres(folder / "postgres")
    database.start()
    make_keys(folder)
    migrate(database.urls()["admin"])
    yield folder
    database.stop()
    shutil.rmtree(folder)


def test_server_refuses_a_database_that_could_forget_a_commit(data: Path) -> None:
    """D7."""
    run_as_admin(data, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        until("fsync is off", lambda: shown(data, "fsync") == "off")
        status, told = serve(data, "payment")
    finally:
        run_as_admin(data, "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
        until("fsync is on", lambda: shown(data, "fsync") == "on")

    assert status == MISCONFIGURED
    assert told.startswith("zerosum: the database is not fit for money: fsync is off")
    assert "Traceback" not in told


def test_server_refuses_a_database_of_another_revision(data: Path) -> None:
    """D7, D11: a server works on the revision it was built for, or not at all."""
    run_as_admin(data, "UPDATE schema_revision SET version_num = '9999'")
    try:
        status, told = serve(data, "wallet")
    finally:
        run_as_admin(data, f"UPDATE schema_revision SET version_num = '{HEAD}'")  # noqa: S608 - our own constant

    assert status == MISCONFIGURED
    assert told.startswith("zerosum: ")
    assert ("9999" in told, HEAD in told, "Traceback" in told) == (True, True, False)


def test_server_without_a_database_says_so(tmp_path: Path) -> None:
    """A missing piece is named, with what to do."""
    make_keys(tmp_path)

    status, told = serve(tmp_path, "wallet")

    assert status == MISCONFIGURED
    assert told.startswith("zerosum: there is no embedded database in ")


def test_server_without_ray_says_so(data: Path) -> None:
    """The database is fit, and nobody is there to host the shards."""
    status, told = serve(data, "ledger")

    assert status == 1
    assert told.startswith("zerosum: no Ray head answers at 127.0.0.1:9")


def serve(data: Path, service: str) -> tuple[int, str]:
    """Exit status and standard error of `zerosum serve`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ZEROSUM_", "RAY_"))}
    environment = {
        **clean, "ZEROSUM_DATA_DIR": str(data), "ZEROSUM_RAY_ADDRESS": "127.0.0.1:9", "RAY_AUTH_MODE": "token"
    }  # fmt: skip
    command = [sys.executable, "-m", "servers.cli", "serve", service]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stderr


def run_as_admin(data: Path, *statements: str) -> None:
    """Statements, each by itself."""
    with _admin(data) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def shown(data: Path, setting: str) -> str:
    """A setting as a new connection sees it."""
    with _admin(data) as connection:
        row = connection.execute(f"SHOW {setting}".encode()).fetchone()
    assert row is not None
    return str(row[0])


def _admin(data: Path) -> psycopg.Connection[tuple[object, ...]]:
    url = EmbeddedPostgres(data / "postgres").urls()["admin"].replace("+psycopg", "")
    return psycopg.connect(url, autocommit=True, connect_timeout=5)
