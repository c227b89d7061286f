"""Hand-written fakes of the reconciler's parts, and its door over them. Nothing here sleeps or reads a clock."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import grpc
import pytest

from servers.call import HOUSE, Role
from servers.reconciliation import ReconciliationServicer
from tests.integration.server_process import reason
from tests.unit.server_fakes import NOW_S, bearer
from zerosum.domain.case import Asked, CaseState, Proposal, Resolution
from zerosum.domain.discrepancy import Action, Class, Posting
from zerosum.domain.money import Money
from zerosum.domain.refusal import Refusal
from zerosum.finance_queue import Acted, ActRow, Ageing, Band, CaseView, MismatchFilter, MismatchRow, Suspense
from zerosum.readers import Page
from zerosum.reconciling import (
    Difference,
    FileRow,
    FileState,
    Imported,
    Incoming,
    LateFile,
    RunKey,
    RunKind,
    RunRow,
    RunState,
    Summary,
)
from zerosum.v1 import reconciliation_pb2 as pb

ADA = bearer(Role.FINANCE, HOUSE, "ada")
CONTENT = b"balance_transaction_id,gross\n" + b"txn_1,12.50\n" * 1_000
DAY = "2023-11-14"
"""The day of NOW_S."""

FILE = FileRow(
    file_id=hashlib.sha256(CONTENT).hexdigest(), psp="stripe", name="day.csv", series="po_1", version=1,
    state=FileState.ACCEPTED, reason="", lines=1_000, day=DAY, period_from_ms=0, period_to_ms=1, received_by="ada",
    received_at_ms=1_000, decided_at_ms=2_000,
)  # fmt: skip
KEY = RunKey(RunKind.NIGHTLY, "stripe", DAY)
RUN = RunRow(
    "nightly-stripe-1", KEY, 1, "1", RunState.DONE, "test",
    Summary(lines=3, movements=2, by_state=(("MATCHED", 4), ("MISMATCH", 1)), by_kind=(("unknown_charge", 1),),
            explained_ppm=800_000), 1_000, 2_000, "ben",
)  # fmt: skip
ROW = MismatchRow(
    mismatch_id="m-1", kind="unknown_charge", group=Class.UNCLASSIFIED, state=CaseState.PROPOSED, psp="stripe", tenant="",
    checkout_id="", order_id="", line_id="txn_1", file_id=FILE.file_id, field="reference", ours="", theirs="ghost",
    likely_cause="a backup", action=Action.WRITE_OFF_TO_SUSPENSE, money=Money(1_250, "USD"), assignee="", opened_at_ms=1_000,
    closed_at_ms=None, first_run="r", last_run="r",
)  # fmt: skip
POSTINGS = (Posting("psp:stripe:clearing:USD", 1_250, "USD"), Posting("suspense:USD", -1_250, "USD"))
VIEW = CaseView(
    ROW, POSTINGS, Proposal(1, "ada", Resolution.WRITE_OFF, Action.WRITE_OFF_TO_SUSPENSE, POSTINGS, "the bank says so"),
    [ActRow(1, "propose", "ada", "{}", 1_500)], "the wallet of s takes pending 12.50 USD",
)  # fmt: skip
HELD = [
    Suspense(Money(1_250, "USD"), Money(0, "USD"), 1, 200_000_000),
    Suspense(Money(0, "JPY"), Money(700, "JPY"), 2, 3_600_000),
]
"""In suspense for two days and seven hours, and for an hour."""


class FakeBooks:
    """Files and runs over lists; keeps what was handed in."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, Incoming]] = []
        self.known: set[str] = set()

    async def take(self, content: BinaryIO, told: Incoming) -> Imported:
        """Accepted once; known afterwards."""
        whole = content.read()
        file_id = hashlib.sha256(whole).hexdigest()
        is_known = file_id in self.known
        self.known.add(file_id)
        self.taken.append((whole, told))
        return Imported(replace(FILE, file_id=file_id, received_by=told.received_by), is_known)

    async def refused(self) -> Sequence[FileRow]:
        """None."""
        return []

    async def late(self) -> Sequence[LateFile]:
        """None."""
        return []


class FakeFiles(FakeBooks):
    """Three files, newest first."""

    async def list(self, psp: str, rows_max: int, after: str) -> Sequence[FileRow]:
        """By position of the id."""
        rows = [replace(FILE, file_id=f"f{at}") for at in range(3)]
        begin = next((at + 1 for at, row in enumerate(rows) if row.file_id == after), 0)
        return rows[begin : begin + rows_max]


class FakeRuns:
    """One run, and what it says differently from itself."""

    def __init__(self, *rows: RunRow) -> None:
        self.rows = list(rows)
        self.asked: list[tuple[RunKey, bool]] = []
        self.asked_by: list[str] = []
        self.answer: RunRow | None = RUN

    async def run(self, key: RunKey, *, is_again: bool, asked_by: str) -> RunRow | None:
        """The answer it was given."""
        self.asked.append((key, is_again))
        self.asked_by.append(asked_by)
        return self.answer

    async def get(self, run_id: str) -> RunRow | None:
        return next((row for row in self.rows if row.run_id == run_id), None)

    async def list(self, kind: RunKind | None, rows_max: int, after: str) -> Sequence[RunRow]:
        return self.rows[:rows_max]

    async def newest(self, keys: Collection[RunKey]) -> Sequence[RunRow]:
        return [row for row in self.rows if row.key in keys]

    async def failed(self) -> Sequence[RunRow]:
        return []

    async def compare(self, before: str, after: str, rows_max: int, position: str) -> Page[Difference]:
        """An empty page first, as of two large days that agree for long."""
        if not position:
            return Page([], "line/txn_0")
        return Page([Difference("line/txn_1", "MATCHED", "MISMATCH wrong_fee")], "")


class FakeQueue:
    """One case; keeps what was asked."""

    def __init__(self, answer: Acted | Refusal | None = None) -> None:
        self.answer = answer
        self.acts: list[tuple[str, Asked, str, str]] = []
        self.wanted: list[tuple[MismatchFilter, int, str]] = []

    async def mismatches(self, wanted: MismatchFilter, rows_max: int, after: str) -> Page[MismatchRow]:
        self.wanted.append((wanted, rows_max, after))
        return Page([ROW], "next")

    async def case(self, mismatch_id: str) -> CaseView | None:
        return VIEW if mismatch_id == "m-1" else None

    async def act(self, mismatch_id: str, asked: Asked, *, by: str, key: str) -> Acted | Refusal | None:
        self.acts.append((mismatch_id, asked, by, key))
        return self.answer

    async def ageing(self, overdue_after_ms: int) -> Ageing:
        return Ageing([Band(0, 24, Class.MANUAL, 3)], 5_000, 1, HELD)


def servicer(spool: Path, **parts: Any) -> ReconciliationServicer:
    """The door over fakes."""
    runs = parts.pop("runs", FakeRuns(RUN))
    return ReconciliationServicer(
        files=parts.pop("files", FakeFiles()), runs=runs, queue=parts.pop("queue", FakeQueue()), reconciler=runs,
        psps=["stripe"], spool=spool, overdue_after_ms=1_000, now_s=lambda: NOW_S,
    )  # fmt: skip


def header(content: bytes = CONTENT, **changed: Any) -> pb.ImportFileRequest:
    """The header of a file."""
    made = pb.ImportFileHeader(
        psp="stripe", name="day.csv", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(),
        manifest=b'{"rows": 1000}',
    )  # fmt: skip
    for name, value in changed.items():
        setattr(made, name, value)
    return pb.ImportFileRequest(header=made)


def chunks(content: bytes = CONTENT, size: int = 4_096) -> Iterator[pb.ImportFileRequest]:
    """Its bytes in pieces."""
    for at in range(0, len(content), size):
        yield pb.ImportFileRequest(chunk=content[at : at + size])


async def refusal(call: Any) -> tuple[Any, str]:
    """The code and reason of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), reason(caught.value)
