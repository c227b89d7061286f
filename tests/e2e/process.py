"""Processes as the kernel tells of them: who lives, whose child, what they listen to. Linux only.

Invariant: a process that has ended and was not reaped yet (a zombie) does not live.
"""

import os
import socket
from pathlib import Path

LISTENING = "0A"


def is_alive(pid: int) -> bool:
    """Whether it runs."""
    return _stat(pid) is not None


def family(pid: int) -> set[int]:
    """The process, its children, theirs, and whoever shares a session with one of them."""
    stats = {int(folder.name): stat for folder in Path("/proc").glob("[0-9]*") if (stat := _stat(int(folder.name)))}
    found, before = {pid}, set[int]()
    while found != before:
        before = set(found)
        led = {session for member, (_, session) in stats.items() if member in found and session in found}
        found |= {member for member, (parent, session) in stats.items() if parent in found or session in led}
    return found


def survivors(pids: set[int]) -> dict[int, str]:
    """Those that still run, by what they are."""
    return {pid: _name(pid) for pid in pids if is_alive(pid)}


def naming(text: str) -> dict[int, str]:
    """Processes whose command line or environment names this, but for our own."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told and int(folder.name) != os.getpid() and is_alive(int(folder.name)):
            found[int(folder.name)] = _name(int(folder.name))
    return found


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses and ports it accepts connections at."""
    ours = {link for fd in Path(f"/proc/{pid}/fd").glob("*") if (link := _link(fd)).startswith("socket:")}
    found = set()
    for table, family_ in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in ours:
                packed, _, port = fields[1].partition(":")
                found.add((_address(packed, family_), int(port, 16)))
    return found


def _address(packed: str, family_: socket.AddressFamily) -> str:
    words = [bytes.fromhex(packed[at : at + 8])[::-1] for at in range(0, len(packed), 8)]
    return socket.inet_ntop(family_, b"".join(words)).removeprefix("::ffff:")


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
    except OSError:
        return ""


def _stat(pid: int) -> tuple[int, int] | None:
    """(parent, session) of a process that runs."""
    try:
        state, parent, _, session, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else (int(parent), int(session))
