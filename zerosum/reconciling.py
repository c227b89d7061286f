"""What the reconciler does and shows, as protocols and plain rows: files in, runs, the tables behind them, what it sends.

    Files       takes a settlement file whole or not at all, keeps the calendar of expected ones
    Runs        one reconciliation of a period, once, whoever asks; it goes on where a dead one stopped
    Outbox      carries what was decided to the ledger and the payment service, once for ever under its key
    PaymentPeer our payment service as the reconciler sees it

Invariant: nothing here moves money but what stands in the outbox, under a key made from its source.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Protocol

from zerosum.domain.identity import OrderId
from zerosum.domain.settlement import Line
from zerosum.ports import ItemOutcome
from zerosum.readers import Page

# ---- files ---------------------------------------------------------------------------------------------------------


class FileState(StrEnum):
    """Lines count only while their file is ACCEPTED."""

    LOADING = "LOADING"
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file as recorded. `file_id`: SHA-256 of its bytes, hex. `reason`: why it was refused, else "". `day`: YYYY-MM-DD, UTC.

    `series`: what a file and its corrected re-issues share; `version` counts them from 1. `lines` excludes the heading.
    """

    file_id: str
    psp: str
    name: str
    series: str
    version: int
    state: FileState
    reason: str
    lines: int
    day: str
    period_from_ms: int
    period_to_ms: int
    received_by: str
    received_at_ms: int
    decided_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Incoming:
    """What somebody hands in beside the bytes. `manifest`: the PSP's own (JSON text), "" where there is none."""

    psp: str
    name: str
    manifest: str
    received_by: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file. `is_known`: these very bytes had been decided before; nothing was done.

    `superseded`: the file_id of the version this one took the place of, "" for none.
    """

    file: FileRow
    is_known: bool = False
    superseded: str = ""


@dataclass(frozen=True, slots=True)
class LateFile:
    """A file that is due and not there. `is_new`: nobody has been told before; the alarm is raised once."""

    psp: str
    day: str
    due_at_ms: int
    is_new: bool


class Files(Protocol):
    """Settlement files. Every method raises Unavailable when the database is away; the same call again is safe."""

    async def take(self, content: BinaryIO, told: Incoming) -> Imported:
        """Takes a file, whole or not at all. `content` is seekable; it is read in chunks.

        No money moves. A file that fails its controls is recorded REFUSED with its reason, and none of its lines. The key
        is the hash of the bytes: a second call, or one that goes on after a crash, ends the same.
        """
        ...

    async def list(self, psp: str, rows_max: int, after: str) -> Sequence[FileRow]:
        """Newest first; psp "" means all. `after`: the file_id of the last row of the page before, "" for the first."""
        ...

    async def refused(self) -> Sequence[FileRow]:
        """Files refused within 30 days that none was accepted for since, oldest first.

        Accepted for it: the same bytes with the right manifest, or a later file of its series; where no manifest was
        understood, of its day; where not even a line was, one of its name. After 30 days people have let it be.
        """
        ...

    async def late(self) -> Sequence[LateFile]:
        """Makes the calendar's rows ahead, and brings every file that is due and not there; marks the new ones as told."""
        ...


# ---- runs ----------------------------------------------------------------------------------------------------------


class RunKind(StrEnum):
    """NIGHTLY: the files of one PSP and day against our movements. INSIDE: our services among themselves."""

    NIGHTLY = "nightly"
    INSIDE = "inside"


SCHEDULE = "schedule"
"""Who asks for the runs that are due."""


class RunState(StrEnum):
    """FAILED: an error that is not going to pass; the reason is in the summary, and the next attempt may be asked for."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class RunKey:
    """What is reconciled. `psp`: "" for INSIDE. `period`: a day "YYYY-MM-DD", or an hour "YYYY-MM-DDTHH"; UTC."""

    kind: RunKind
    psp: str
    period: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found. Counts are of lines and movements. `by_kind` counts mismatches.

    `explained_ppm`: those MATCHED, EXPECTED or EXPLAINED among all, in millionths (an integer: 1_000_000 is all).
    """

    lines: int = 0
    movements: int = 0
    by_state: tuple[tuple[str, int], ...] = ()
    by_class: tuple[tuple[str, int], ...] = ()
    by_kind: tuple[tuple[str, int], ...] = ()
    explained_ppm: int = 1_000_000
    files: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as recorded. `attempt`: 1, 2, .. of the same key; `rules`: the version of the rules it went by.

    `asked_by`: the caller for whom this attempt was begun, SCHEDULE, or "" where it began before this was kept.
    """

    run_id: str
    key: RunKey
    attempt: int
    rules: str
    state: RunState
    holder: str
    summary: Summary
    started_at_ms: int
    ended_at_ms: int | None
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """An item whose outcome differs between two attempts; "" where one of them has no such item.

    `item`: "line/<the PSP's id of the line>", so that a corrected file has the same, or the item of what is not a line.
    """

    item: str
    before: str
    after: str


class Runs(Protocol):
    """Reconciliations. Every method raises Unavailable; the same call again goes on where this one stopped."""

    async def run(self, key: RunKey, holder: str, *, is_again: bool = False, asked_by: str = SCHEDULE) -> RunRow | None:
        """Runs a period to its end and returns what it found; the stored result where it was DONE before.

        None: another holder is at it and alive. `holder` names this process. `is_again`: a new attempt, by the rules and
        the files as they are now. `asked_by`: in whose name; it stands in the row of an attempt that this call begins. No
        money moves; what must move is in the outbox.
        """
        ...

    async def get(self, run_id: str) -> RunRow | None: ...

    async def list(self, kind: RunKind | None, rows_max: int, after: str) -> Sequence[RunRow]:
        """Newest first. `after`: the run_id of the last row of the page before."""
        ...

    async def newest(self, keys: Collection[RunKey]) -> Sequence[RunRow]:
        """The newest attempt of each of these, however long ago it ran; nothing of one that never ran."""
        ...

    async def failed(self) -> Sequence[RunRow]:
        """Runs that FAILED and that no later attempt has made good; of the inside, no later period. They wait for people."""
        ...

    async def compare(self, before: str, after: str, rows_max: int, position: str) -> Page[Difference]:
        """What differs between two runs, by item, behind `position` ("" = from the beginning). A page may be empty and not
        the last: where two large days agree, one call looks at a part of them."""
        ...


# ---- what it sends -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettlementReport:
    """A line told to the payment service as a fact. Its key is (psp, line id): told twice, it is one.

    `order_id`: the order that it was matched with; `line.tenant` and `line.checkout_id` are that order's.
    """

    line: Line
    file_id: str
    order_id: OrderId


class PaymentPeer(Protocol):
    """The payment service as the reconciler sees it."""

    async def report_settlement(self, report: SettlementReport) -> ItemOutcome:
        """Tells a line as a fact. Raises NotSent, OutcomeUnknown: send the same again."""
        ...


class Outbox(Protocol):
    """What was decided and is not yet known to have arrived."""

    async def deliver(self, rows_max: int) -> int:
        """Sends what is due, oldest first, and records what came of it; how many were sent. Money may move: in the ledger
        and in wallets by postings, in the payment service by facts; each once, under its key, however often it is sent."""
        ...
