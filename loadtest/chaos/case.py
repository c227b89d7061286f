"""The table of crash points: who is hurt where, at which pass, and which row of failures.md that is.

A case is carried out once for each kind of harm. `matrix.py` does it; the page `docs/crash-points.md` is drawn from here.
Invariant: every point of every process stands here (tests/tidy/test_crash_points.py holds it to that).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from zerosum.crash import Point, Process


class Harm(StrEnum):
    """What is done to a process at a point."""

    KILL = "kill"  # SIGKILL
    STOP = "stop"  # SIGSTOP, and after a while SIGCONT
    CUT = "cut"  # its connections to the database end; at a commit: this COMMIT's, before or after the server has it


class Journey(StrEnum):
    """What the checkout goes through whose process is hurt; `journey.py` leads it."""

    CHECKOUT = "checkout"  # submitted; its seller takes the money
    REFUND = "refund"  # paid before; then its caller asks for the money back
    REVERSAL = "reversal"  # submitted to a seller whose account was closed before: charged, and given back by itself


class Case(NamedTuple):
    """One point as one process passes it. `detail`: of the point, "" = any; `nth`: at which pass of the journey, from 1."""

    row: str
    process: Process
    point: Point
    detail: str
    nth: int
    journey: Journey = Journey.CHECKOUT

    @property
    def name(self) -> str:
        """What a person types and a file keeps."""
        detail = f"@{self.detail}" if self.detail else ""
        journey = f"/{self.journey}" if self.journey is not Journey.CHECKOUT else ""
        return f"{self.process}@{self.point}{detail}#{self.nth}{journey}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A case with its harm."""

    case: Case
    harm: Harm

    @property
    def name(self) -> str:
        """Unique in the matrix."""
        return f"{self.case.name} {self.harm}"


_SHARD, _SERVER = Process.PAYMENT_SHARD, Process.PAYMENT_SERVER

_CHECKOUT: Final = (
    Case("P1", _SERVER, Point.REPLY_BEFORE, "", 1),
    Case("P1", _SHARD, Point.COMMIT_BEFORE, "", 1),
    Case("P2", _SHARD, Point.COMMIT_AFTER, "", 1),
    Case("P2", _SHARD, Point.RISK_BEFORE, "", 1),
    Case("A1", _SHARD, Point.RISK_AFTER, "", 1),
    Case("A1", _SHARD, Point.COMMIT_BEFORE, "", 2),
    Case("A1", _SHARD, Point.COMMIT_AFTER, "", 2),
    Case("P3", _SHARD, Point.PSP_BEFORE, "prepare", 1),
    Case("P3", _SHARD, Point.PSP_AFTER, "prepare", 1),
    Case("P3", _SHARD, Point.PSP_BEFORE, "confirm", 1),
    Case("P5", _SHARD, Point.PSP_AFTER, "confirm", 1),
    Case("P5", _SHARD, Point.COMMIT_BEFORE, "", 3),
    Case("P6", _SHARD, Point.COMMIT_AFTER, "", 3),
    Case("P6", _SERVER, Point.REPLY_AFTER, "", 1),
    Case("P29", _SERVER, Point.WEBHOOK_BEFORE, "", 1),
    Case("P29", _SERVER, Point.WEBHOOK_AFTER, "", 1),
    Case("P30", _SHARD, Point.WALLET_BEFORE, "", 1),
    Case("P30", _SHARD, Point.WALLET_AFTER, "", 1),
    Case("P30", _SHARD, Point.LEDGER_BEFORE, "", 1),
    Case("P30", _SHARD, Point.LEDGER_AFTER, "", 1),
    Case("A3", Process.WALLET_SHARD, Point.COMMIT_BEFORE, "", 1),
    Case("A3", Process.WALLET_SHARD, Point.COMMIT_AFTER, "", 1),
    Case("A3", Process.LEDGER_SHARD, Point.COMMIT_BEFORE, "", 1),
    Case("A3", Process.LEDGER_SHARD, Point.COMMIT_AFTER, "", 1),
)
"""Every pair of every process; commits at each of the passes a checkout's story has."""

_REFUND: Final = tuple(
    Case(row, process, point, detail, nth, Journey.REFUND)
    for row, process, pair, detail, nth in (
        ("P16", _SERVER, (Point.REPLY_BEFORE, Point.REPLY_AFTER), "", 1),
        ("P16", _SHARD, (Point.COMMIT_BEFORE, Point.COMMIT_AFTER), "", 1),  # it is reserved
        ("P17", _SHARD, (Point.WALLET_BEFORE, Point.WALLET_AFTER), "", 1),  # the seller is debited
        ("P17", _SHARD, (Point.COMMIT_BEFORE, Point.COMMIT_AFTER), "", 2),  # debited; the PSP may be asked
        ("P17", _SHARD, (Point.PSP_BEFORE, Point.PSP_AFTER), "refund", 1),
        ("P17", _SHARD, (Point.COMMIT_BEFORE, Point.COMMIT_AFTER), "", 3),  # given back, with proof
        ("P30", _SHARD, (Point.LEDGER_BEFORE, Point.LEDGER_AFTER), "", 1),
        ("A3", Process.WALLET_SHARD, (Point.COMMIT_BEFORE, Point.COMMIT_AFTER), "", 1),
        ("A3", Process.LEDGER_SHARD, (Point.COMMIT_BEFORE, Point.COMMIT_AFTER), "", 1),
    )
    for point in pair
)
"""A refund's road from the request on: the seller's wallet, the PSP, the ledger."""

_REVERSAL: Final = tuple(
    Case(row, _SHARD, point, detail, nth, Journey.REVERSAL)
    for row, pair, detail, nth in (
        ("P30", (Point.WALLET_BEFORE, Point.WALLET_AFTER), "", 1),  # the wallet refuses the credit for good
        (
            "P30",
            (Point.LEDGER_BEFORE, Point.LEDGER_AFTER),
            "",
            2,
        ),  # into suspense; at the first pass the ledger refuses
        ("P17", (Point.PSP_BEFORE, Point.PSP_AFTER), "refund", 1),
        ("P30", (Point.LEDGER_BEFORE, Point.LEDGER_AFTER), "", 3),  # out of suspense
    )
    for point in pair
)
"""A charge without a home: from what wallet and ledger refuse to the journal that takes it out of suspense."""

CASES: Final = (*_CHECKOUT, *_REFUND, *_REVERSAL)
"""The whole table, by journeys."""

RECONCILER_CASES: Final = tuple(
    Case("P31", Process.RECONCILER, point, "", nth)
    for point in (Point.COMMIT_BEFORE, Point.COMMIT_AFTER)
    for nth in (1, 4, 9)
) + tuple(Case("O1", Process.RECONCILER, point, "", 1) for point in (Point.DELIVERY_BEFORE, Point.DELIVERY_AFTER))
"""The reconciler's story is a file and not a checkout: tests/e2e/test_reconciliation_crash.py. A file of one part, its run and
its postings are some 15 commits: the lines, the acceptance, the claim, each step, the end, what is sent, what came of it."""

MATRIX: Final = tuple(Cell(case, harm) for case in CASES for harm in Harm)
"""The whole matrix."""

_BY_NAME: Final = {cell.name: cell for cell in MATRIX}

FEW: Final = tuple(
    _BY_NAME[name]
    for name in (
        "payment-server@reply.before#1 kill",
        "payment-server@webhook.after#1 stop",
        "payment-shard@commit.before#1 cut",
        "payment-shard@commit.after#2 cut",
        "payment-shard@psp.after@refund#1/refund kill",
        "payment-shard@psp.after@confirm#1 stop",
        "payment-shard@ledger.before#2/reversal cut",
        "payment-shard@risk.after#1 kill",
        "wallet-shard@commit.before#1 cut",
        "ledger-shard@commit.after#1 kill",
    )
)
"""Ten cells for a quick look: every process, every kind of harm, every journey, both sides of a COMMIT."""
