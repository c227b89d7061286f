"""Who gets into a real server, what leaks out of it (nothing), and which server is refused."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine

from zerosum.errors import Misconfigured
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.preflight import preflight
from zerosum.store.role import ROLES, ensure_roles


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder others may pass through; pytest's own below /tmp are closed to everyone but us."""
    path = Path(tempfile.mkdtemp(prefix="zerosum-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server that was never started before; ended when the test ends."""
    server = EmbeddedPostgres(folder / "data")
    server.start()
    yield server
    server.stop()


def run(url: str, statement: str) -> Any:
    """The first value of one statement in a connection of its own; None when it returns no row."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def check(url: str, **engine_options: Any) -> None:
    engine = create_engine(url, poolclass=NullPool, **engine_options)
    with engine.connect() as connection:
        preflight(connection)


def test_wrong_and_missing_passwords_are_refused(server: EmbeddedPostgres) -> None:
    """SCRAM for everyone, the administrator too; loopback alone is no proof of anything."""
    for role, url in server.urls().items():
        password = url.split("@")[0].rsplit(":", 1)[1]
        for wrong in (url.replace(password, "wrong"), url.replace(f":{password}", "")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                run(wrong, "SELECT 1")

        assert run(url, "SELECT 1") == 1, role


def test_passwords_differ_and_are_never_arguments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone on a machine may read arguments. Method: every command of a first start, then all of /proc."""
    commands: list[str] = []
    popen = subprocess.Popen

    class Recorded(popen):  # type: ignore[valid-type, misc]  # a base held in a variable
        def __init__(self, args: list[str], **options: Any) -> None:
            commands.append(" ".join(args))
            super().__init__(args, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    server = EmbeddedPostgres(folder / "data")
    server.start()
    passwords = {url.split("@")[0].rsplit(":", 1)[1] for url in server.urls().values()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            commands.append((process / "cmdline").read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    server.stop()

    assert len(passwords) == 1 + len(ROLES)
    assert any("initdb" in command for command in commands)
    assert [command for command in commands if any(password in command for password in passwords)] == []


def test_log_never_shows_passwords_or_rows(server: EmbeddedPostgres, folder: Path) -> None:
    """The detail of an error would quote the row; the log keeps to the error itself."""
    url = server.urls()["admin"]
    run(url, "CREATE TABLE buyer (name text PRIMARY KEY)")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("INSERT INTO buyer VALUES (%s)", ["Ada Lovelace"])
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO buyer VALUES (%s)", ["Ada Lovelace"])
    server.stop()
    log = "".join(file.read_text() for file in (folder / "data" / "log").iterdir())

    assert "duplicate key" in log
    assert "Lovelace" not in log


def test_ensuring_roles_again_changes_the_password_and_makes_no_second_role(server: EmbeddedPostgres) -> None:
    """Idempotent by name; the password given last is the one that counts."""
    urls = server.urls()
    odd = 'it\'s "quoted"; DROP ROLE payment --'
    ensure_roles(urls["admin"], {"payment": odd})
    ensure_roles(urls["admin"], {"payment": odd})
    port = urls["payment"].rsplit(":", 1)[1].split("/")[0]

    with psycopg.connect(
        host="127.0.0.1", port=port, user="payment", password=odd, dbname="zerosum", connect_timeout=5
    ) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("payment",)
    with pytest.raises(psycopg.OperationalError):
        run(urls["payment"], "SELECT 1")


def test_roles_may_make_neither_roles_nor_databases(server: EmbeddedPostgres) -> None:
    """A service's role can do what migrations grant; `ensure_roles` through it is refused by name."""
    urls = server.urls()
    with pytest.raises(Misconfigured, match="permission denied"):
        ensure_roles(urls["payment"], {"intruder": "password"})

    privileged = "SELECT count(*) FROM pg_roles WHERE rolname = ANY(ARRAY['payment','wallet','ledger','auditor'])"
    assert run(urls["admin"], f"{privileged} AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls)") == 0


def test_preflight_accepts_our_server_as_every_role(server: EmbeddedPostgres) -> None:
    """No role needs more rights than its own to know that its database is fit."""
    for url in server.urls().values():
        check(url)


def test_preflight_refuses_a_connection_of_lower_isolation(server: EmbeddedPostgres) -> None:
    """What counts is the connection in use, not the server's default."""
    with pytest.raises(Misconfigured, match="transaction_isolation is read committed"):
        check(server.urls()["payment"], isolation_level="READ COMMITTED")


def test_preflight_refuses_a_server_that_became_unfit(server: EmbeddedPostgres) -> None:
    """D7. Method: an operator's ALTER SYSTEM goes before our settings; a role is dropped. All of it is named at once."""
    admin = server.urls()["admin"]
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        run(admin, f"ALTER SYSTEM SET {setting} = off")
    server.stop()
    server.start()
    run(admin, "DROP ROLE auditor")

    with pytest.raises(Misconfigured, match=r"fsync is off.*full_page_writes is off.*synchronous_commit is off.*audit"):
        check(server.urls()["payment"])
