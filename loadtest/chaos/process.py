"""Processes as the kernel tells of them: who lives, who stands still, who belongs to whose session. Linux only.

Invariant: a process that has ended and was not reaped yet (a zombie) does not live.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GONE: Final = ""
STOPPED: Final = "T"


def state(pid: int) -> str:
    """The kernel's letter for it (R, S, D, T, ..); GONE where it does not live."""
    found = _stat(pid)
    return found[0] if found is not None and found[0] not in "ZX" else GONE


def is_alive(pid: int) -> bool:
    """Whether it lives, running or stopped."""
    return state(pid) != GONE


def is_stopped(pid: int) -> bool:
    """Whether it stands still since a SIGSTOP."""
    return state(pid) == STOPPED


def send(pid: int, number: signal.Signals) -> bool:
    """Signals it; False where there is nobody any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def session_of(leader: int) -> dict[int, str]:
    """Everybody in the session that this process leads: command lines by process id."""
    return {
        pid: _command(pid) for pid in _pids() if (found := _stat(pid)) and found[1] == leader and found[0] not in "ZX"
    }


def ports_to(pid: int, port: int) -> set[int]:
    """Our ends' ports of its connections to that port of 127.0.0.1."""
    sockets = {link for handle in Path(f"/proc/{pid}/fd").glob("*") if (link := _link(handle)).startswith("socket:")}
    found = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, _, _, _, _, _, inode, *_ = line.split()
            if f"socket:[{inode}]" in sockets and remote == f"0100007F:{port:04X}":
                found.add(int(local.partition(":")[2], 16))
    return found


def _pids() -> Iterator[int]:
    return (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, session)."""
    try:
        letter, _, _, session, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return letter, int(session)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
