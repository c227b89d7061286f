"""The heads of the slots' logs, exported to a file outside the database: what a log rewritten whole cannot agree with.

One JSON object a line, appended and synced, never changed:

    {"service": "payment", "slot": 3, "seq": 120, "hash": "ab12..", "exported_at_ms": 1790000000000}

A slot has a line each time it is exported with a newer head than before. A torn last line, of an export that was killed,
counts for nothing and is cut off by the next one. Keep a copy where whoever may write to the database may not.

Invariant: a head is exported only while the heads exported before still stand in the log; the file grows, or says why not.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from simulator.audit.database import SERVICES, Database
from simulator.audit.finding import Findings, Harm, SourceBroken


class Slot(NamedTuple):
    """One log: each service has up to 64 of them."""

    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}:{self.number}"


@dataclass(slots=True)
class Heads:
    """Exported heads: slot -> seq -> hash. 100 bytes a head: an hour's export of 192 slots for a year is 170 MB."""

    of_slot: dict[Slot, dict[int, bytes]] = field(default_factory=dict)
    count: int = 0

    def note(self, line: dict[str, Any]) -> None:
        """Take over one line. Raises ValueError where two lines tell one head differently."""
        slot, seq, hash_ = Slot(line["service"], int(line["slot"])), int(line["seq"]), bytes.fromhex(line["hash"])
        if self.of_slot.setdefault(slot, {}).setdefault(seq, hash_) != hash_:
            raise ValueError(f"two heads of slot {slot} at seq {seq}")
        self.count += 1

    def newest(self, slot: Slot) -> tuple[int, bytes] | None:
        """The last head of a slot, None where there is none."""
        seqs = self.of_slot.get(slot)
        return None if not seqs else (last := max(seqs), seqs[last])


def read_heads(path: Path) -> Heads:
    """Read a file of heads. Raises SourceBroken when it is away, or damaged before its last line."""
    heads = Heads()
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    _note(heads, line, f"{path}: line {number}")
    except OSError as error:
        raise SourceBroken(f"the exported heads cannot be read: {error}") from error
    return heads


def export_heads(database: Database, path: Path, found: Findings) -> int:
    """Append the heads that have moved; returns how many. With a finding nothing is appended.

    Two exports at once wait for one another. Raises SourceBroken where the file is damaged, OSError where it cannot be
    written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        heads = _read_and_mend(file.fileno(), path)
        moved = b"".join(_moved(database, heads, found))
        if found.count or not moved:
            return 0
        file.write(moved)
        file.flush()
        os.fsync(file.fileno())
    return moved.count(b"\n")


def _note(heads: Heads, line: bytes, where: str) -> None:
    try:
        heads.note(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise SourceBroken(f"the exported heads are damaged, {where}: {error!r}") from error


def _read_and_mend(file: int, path: Path) -> Heads:
    """Read what is there, and cut off a torn last line, under the lock."""
    heads = read_heads(path)
    content_end = os.fstat(file).st_size
    with path.open("rb") as whole:
        whole.seek(max(0, content_end - 1_024))  # a line has some 150 bytes
        tail = whole.read()
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        os.ftruncate(file, content_end - torn)
    return heads


def _moved(database: Database, heads: Heads, found: Findings) -> Iterator[bytes]:
    """The lines of heads that are new; a head exported before that is not in its log any more is a finding."""
    for service in SERVICES:
        for number, seq, hash_ in database.all(
            f"SELECT DISTINCT ON (slot) slot, seq, hash FROM {service}.slot_log ORDER BY slot, seq DESC"  # noqa: S608 (names of ours)
        ):
            found.examined += 1
            slot = Slot(service, number)
            newest = heads.newest(slot)
            if newest is not None:
                _check_stands(database, slot, newest, found)
            if newest is None or seq > newest[0]:
                line = {"service": service, "slot": number, "seq": seq, "hash": bytes(hash_).hex()}
                line["exported_at_ms"] = database.now_ms
                yield json.dumps(line, separators=(",", ":")).encode() + b"\n"
    known = {Slot(service, number) for service in SERVICES for number in _slots(database, service)}
    for slot in heads.of_slot.keys() - known:
        found.add(f"slot {slot}", "was exported and has no log", expected="a log", found="none", harm=Harm.LOSS)


def _slots(database: Database, service: str) -> list[int]:
    return [slot for (slot,) in database.all(f"SELECT DISTINCT slot FROM {service}.slot_log")]  # noqa: S608 (names of ours)


def _check_stands(database: Database, slot: Slot, head: tuple[int, bytes], found: Findings) -> None:
    rows = database.all(
        f"SELECT hash FROM {slot.service}.slot_log WHERE slot = %s AND seq = %s",  # noqa: S608 (names of ours)
        (slot.number, head[0]),
    )
    stands = bytes(rows[0][0]) if rows else None
    if stands != head[1]:
        compare_head(slot, head, stands, found)


def compare_head(slot: Slot, head: tuple[int, bytes], stands: bytes | None, found: Findings) -> None:
    """Say what is wrong with a commit whose head was exported; `stands`: the log's hash there, None where it is gone."""
    seq, exported = head
    subject = f"slot {slot} at seq {seq}, table {slot.service}.slot_log"
    if stands is None:
        found.add(
            subject,
            "was exported and is gone: its log was cut",
            expected=_short(exported),
            found="none",
            harm=Harm.LOSS,
        )
    elif stands != exported:
        found.add(
            subject, "has another hash than was exported: its log was rewritten",
            expected=_short(exported), found=_short(stands),
        )  # fmt: skip


def _short(hash_: bytes) -> str:
    return hash_.hex()[:16]
