"""Every slot's log verifies from its first commit: I18, recomputed from SQL alone.

For each commit of a slot: hash = SHA-256(previous hash || document); 32 zero bytes before the first. `document` is JSON
(sorted keys, no spaces, characters beyond ASCII as they are) of {"slot_log": {at_ms, epoch, seq, slot}} and, for each
logged table with rows of this (slot, seq), an array of these rows, each an object of all its columns, ordered by
(ord, line). Written apart from the writer, from that description. Invariant: one flipped byte is seen.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from simulator.audit.check_log import APPEND_ONLY, LOGGED
from simulator.audit.database import SERVICES, Database
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings

_GENESIS: Final = bytes(32)
_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def chains_verify(evidence: Evidence, found: Findings) -> None:
    """I18: the hash of every commit is made of the one before it and of the rows it wrote."""
    for service in SERVICES:
        _check_service(evidence.database, service, found)


def _check_service(database: Database, service: str, found: Findings) -> None:
    logged = {table: _Rows(database, service, table) for table in LOGGED[service]}
    slot_before, head = -1, _GENESIS
    for slot, seq, epoch, kept, at_ms in database.stream(
        f"SELECT slot, seq, epoch, hash, at_ms FROM {service}.slot_log ORDER BY slot, seq"  # noqa: S608 (names of ours)
    ):
        found.examined += 1
        if slot != slot_before:
            slot_before, head = slot, _GENESIS
        document: dict[str, Any] = {"slot_log": {"at_ms": at_ms, "epoch": epoch, "seq": seq, "slot": slot}}
        document |= {table: rows for table, source in logged.items() if (rows := source.of(slot, seq))}
        made = sha256(head + _encode(document).encode()).digest()
        if made != bytes(kept):
            subject = f"slot {service}:{slot} at seq {seq}"
            found.add(
                subject, "its hash is not that of its rows", expected=made.hex()[:16], found=bytes(kept).hex()[:16]
            )
        head = bytes(kept)  # so that one damaged commit is one finding


class _Rows:
    """The rows of one table in the order of the log, handed out commit by commit."""

    def __init__(self, database: Database, service: str, table: str) -> None:
        key, others = APPEND_ONLY[f"{service}.{table}"]
        self._columns = (*key, *others)
        columns, order = ", ".join(self._columns), ", ".join(key)
        self._rows: Iterator[tuple[Any, ...]] = database.stream(
            f"SELECT {columns} FROM {service}.{table} ORDER BY {order}"  # noqa: S608 (names of ours)
        )
        self._next = next(self._rows, None)

    def of(self, slot: int, seq: int) -> list[dict[str, Any]]:
        """The rows of one commit; earlier ones, which belong to no commit, are passed over."""
        rows = []
        while self._next is not None and self._next[:2] <= (slot, seq):
            if self._next[:2] == (slot, seq):
                rows.append(dict(zip(self._columns, self._next, strict=True)))
            self._next = next(self._rows, None)
        return rows
