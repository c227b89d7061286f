"""The third source: the client's journal (format.py), folded into calls and checkouts.

Invariant: a call without an answer is unknown, whatever the other calls of its key brought.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.audit.finding import SourceBroken


@dataclass(frozen=True, slots=True)
class Line:
    """One order as the caller asked for it."""

    order_id: str
    seller: str
    amount: str
    currency: str


@dataclass(slots=True)
class Call:
    """One RPC. `result` stays unknown until an answer is read."""

    tenant: str
    key: str
    checkout_id: str
    fingerprint: str
    result: str = "unknown"
    is_answered: bool = False
    code: str = ""
    reply_sha256: str = ""
    statuses: tuple[tuple[str, str], ...] = ()
    """(payment_order_id, status) as acknowledged."""


@dataclass(slots=True)
class ClientJournal:
    """Everything the caller wrote down."""

    calls: dict[str, Call] = field(default_factory=dict)
    lines: dict[tuple[str, str, str], tuple[Line, ...]] = field(default_factory=dict)
    """(tenant, checkout_id, fingerprint) -> what was asked for."""
    torn_lines: int = 0

    @property
    def checkouts(self) -> set[tuple[str, str]]:
        """(tenant, checkout_id) of everything ever asked for."""
        return {(call.tenant, call.checkout_id) for call in self.calls.values()}

    def results(self) -> Counter[str]:
        """Calls by result."""
        return Counter(call.result for call in self.calls.values())

    def note(self, document: dict[str, Any]) -> None:
        """Take over one line."""
        if document["kind"] == "intent":
            call = Call(document["tenant"], document["key"], document["checkout_id"], document["fingerprint"])
            if self.calls.setdefault(document["call"], call) is not call:
                raise ValueError(f"call {document['call']} was sent twice")
            self.lines[(call.tenant, call.checkout_id, call.fingerprint)] = tuple(
                Line(each["payment_order_id"], each["seller_account"], each["amount"], each["currency"])
                for each in document["orders"]
            )
            return
        call = self.calls[document["call"]]
        if call.is_answered:
            raise ValueError(f"call {document['call']} was answered twice")
        call.is_answered = True
        call.result = document["result"]
        call.code = document["code"]
        call.reply_sha256 = document["reply_sha256"]
        call.statuses = tuple((each["payment_order_id"], each["status"]) for each in document["orders"])


def read_journal(paths: Iterable[Path]) -> ClientJournal:
    """Read all files. A torn last line is counted; any other damage raises SourceBroken, as does a missing file."""
    journal = ClientJournal()
    for path in paths:
        try:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n"):
                        journal.torn_lines += 1
                        break
                    try:
                        journal.note(json.loads(line))
                    except (ValueError, KeyError, TypeError) as error:
                        raise SourceBroken(f"{path}: line {number} of the journal is damaged: {error!r}") from error
        except OSError as error:
            raise SourceBroken(f"the client's journal cannot be read: {error}") from error
    return journal
