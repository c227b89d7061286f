"""Every slot's log verifies from its first commit: I18, recomputed from SQL alone.

For each commit of a slot: hash = SHA-256(previous hash || document); 32 zero bytes before the first. `document` is JSON
(sorted keys, no spaces, characters beyond ASCII as they are) of {"slot_log": {at_ms, epoch, seq, slot}} and, for each
logged table with rows of this (slot, seq), an array of these rows, each an object of all its columns, ordered by
(ord, line). Written apart from the writer, from that description.

Where a hash does not hold, the next commit (or, at the end, the slot's own row) tells what was changed: it was chained
either to the hash that stands there, then the rows of the commit are other, or to the one that can be made from the rows,
then the hash itself is. Heads exported outside the database (heads.py) show a log that was cut or rewritten whole.

Invariant: one flipped byte of a covered row is seen, and named by service, slot, seq and table.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from simulator.audit.check_log import APPEND_ONLY, LOGGED
from simulator.audit.database import SERVICES, Database
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm
from simulator.audit.heads import Heads, Slot, compare_head

_GENESIS: Final = bytes(32)
_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def chains_verify(evidence: Evidence, found: Findings) -> None:
    """I18: the hash of every commit is made of the one before it and of the rows it wrote; exported heads stand."""
    if evidence.heads is None:
        found.notes.append("no exported heads were given: a log that was cut or rewritten whole would not be seen")
    verify_chains(evidence.database, evidence.heads or Heads(), found)


def verify_chains(database: Database, heads: Heads, found: Findings) -> None:
    """Walk every log of all services from its first commit, and compare it with the exported heads."""
    for service in SERVICES:
        _check_service(database, service, heads, found)


@dataclass(slots=True)
class _Walk:
    """One slot's log as far as it was read. `broken`: the last commit, if its hash did not hold."""

    slot: Slot
    heads: dict[int, bytes]
    found: Findings
    seq: int = 0
    kept: bytes = _GENESIS
    broken: "_Broken | None" = None
    seen: set[int] = field(default_factory=set)

    def commit(self, seq: int, kept: bytes, document: dict[str, Any]) -> None:
        """Check one commit against the one before it."""
        if seq != self.seq + 1:
            gap = f"seq {self.seq + 1} to {seq - 1}"
            self._add(seq, "slot_log", "comes after a gap in the log", expected=gap, found="none", harm=Harm.LOSS)
        encoded = _encode(document).encode()
        made = sha256(self.kept + encoded).digest()
        if self.broken is not None:
            self._name(self.broken, is_hash_changed=sha256(self.broken.made + encoded).digest() == kept)
            if sha256(self.broken.made + encoded).digest() == kept:
                made = kept
        self.broken = None if made == kept else _Broken(seq, made, kept, tuple(document))
        self.seq, self.kept = seq, kept
        if seq in self.heads:
            self.seen.add(seq)
            compare_head(self.slot, (seq, self.heads[seq]), kept, self.found)

    def end(self, head: tuple[int, bytes] | None) -> None:
        """Compare the end of the log with the slot's own row and with the heads that were exported beyond it."""
        if self.broken is not None:
            self._name(self.broken, is_hash_changed=head == (self.broken.seq, self.broken.made))
        elif head is None or head != (self.seq, self.kept):
            problem = "its row in slots is not the end of its log"
            found = "none" if head is None else f"{head[0]} {head[1].hex()[:16]}"
            self._add(self.seq, "slots", problem, expected=f"{self.seq} {self.kept.hex()[:16]}", found=found)
        for seq in sorted(self.heads.keys() - self.seen):
            compare_head(self.slot, (seq, self.heads[seq]), None, self.found)

    def _name(self, broken: "_Broken", *, is_hash_changed: bool) -> None:
        """A changed hash stands in slot_log; else a row of the commit is other, in one of the tables it wrote."""
        tables = (
            "slot_log" if is_hash_changed else ", ".join(sorted(broken.tables, key=lambda name: name == "slot_log"))
        )
        problem = "its hash was changed" if is_hash_changed else "its hash is not that of its rows"
        self._add(broken.seq, tables, problem, expected=broken.made.hex()[:16], found=broken.kept.hex()[:16])

    def _add(self, seq: int, tables: str, problem: str, **more: Any) -> None:
        named = ", ".join(f"{self.slot.service}.{table}" for table in tables.split(", "))
        self.found.add(f"slot {self.slot} at seq {seq}, table {named}", problem, **more)


@dataclass(frozen=True, slots=True)
class _Broken:
    seq: int
    made: bytes
    kept: bytes
    tables: tuple[str, ...]


def _check_service(database: Database, service: str, heads: Heads, found: Findings) -> None:
    logged = {table: _Rows(database, service, table, found) for table in LOGGED[service]}
    own = {
        slot: (seq, bytes(hash_))
        for slot, seq, hash_ in database.all(f"SELECT slot, seq, hash FROM {service}.slots")  # noqa: S608 (names of ours)
    }
    walks: list[_Walk] = []
    for slot, seq, epoch, kept, at_ms in database.stream(
        f"SELECT slot, seq, epoch, hash, at_ms FROM {service}.slot_log ORDER BY slot, seq"  # noqa: S608 (names of ours)
    ):
        found.examined += 1
        if not walks or walks[-1].slot.number != slot:
            walks.append(_Walk(Slot(service, slot), heads.of_slot.get(Slot(service, slot), {}), found))
        document: dict[str, Any] = {"slot_log": {"at_ms": at_ms, "epoch": epoch, "seq": seq, "slot": slot}}
        document |= {table: rows for table, source in logged.items() if (rows := source.of(slot, seq))}
        walks[-1].commit(seq, bytes(kept), document)
    for source in logged.values():
        source.end()
    for walk in walks:
        walk.end(own.pop(walk.slot.number, None))
    _check_without_log(service, own, heads, {walk.slot for walk in walks}, found)


def _check_without_log(
    service: str, own: dict[int, tuple[int, bytes]], heads: Heads, walked: set[Slot], found: Findings
) -> None:
    """Slots that have no commit: their own row must say so, and none may have been exported."""
    empty = {Slot(service, number) for number, (seq, _) in own.items() if seq == 0}
    exported = {slot for slot in heads.of_slot if slot.service == service}
    for slot in sorted(exported | {Slot(service, number) for number in own} - empty):
        if slot not in walked:
            walk = _Walk(slot, heads.of_slot.get(slot, {}), found)
            walk.end(own.get(slot.number, (0, _GENESIS)))


class _Rows:
    """The rows of one table in the order of the log, handed out commit by commit."""

    def __init__(self, database: Database, service: str, table: str, found: Findings) -> None:
        key, others = APPEND_ONLY[f"{service}.{table}"]
        self._columns = (*key, *others)
        self._table, self._found = f"{service}.{table}", found
        columns, order = ", ".join(self._columns), ", ".join(key)
        self._rows: Iterator[tuple[Any, ...]] = database.stream(
            f"SELECT {columns} FROM {service}.{table} ORDER BY {order}"  # noqa: S608 (names of ours)
        )
        self._next = next(self._rows, None)
        self._orphan: tuple[int, int] | None = None

    def of(self, slot: int, seq: int) -> list[dict[str, Any]]:
        """The rows of one commit; earlier ones belong to no commit."""
        rows = []
        while self._next is not None and self._next[:2] <= (slot, seq):
            if self._next[:2] == (slot, seq):
                rows.append(dict(zip(self._columns, self._next, strict=True)))
            else:
                self._note_orphan(self._next[:2])
            self._next = next(self._rows, None)
        return rows

    def end(self) -> None:
        """What is left over when the log has ended belongs to no commit either."""
        while self._next is not None:
            self._note_orphan(self._next[:2])
            self._next = next(self._rows, None)

    def _note_orphan(self, at: tuple[int, int]) -> None:
        """One finding for all rows of a commit that is not there."""
        if at == self._orphan:
            return
        self._orphan = at
        subject = f"slot {self._table.partition('.')[0]}:{at[0]} at seq {at[1]}, table {self._table}"
        self._found.add(subject, "has rows of no commit", expected="a commit in the log", found="none")
