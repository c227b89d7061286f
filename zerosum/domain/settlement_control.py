"""Control totals of a settlement file: what it adds up to while it is read, against what it should.

A file counts whole or not at all. What proves it whole: a manifest (rows, sums, payouts, hash) where the PSP writes one, and
for each payout row that the net of its other rows is what was paid out. Without a manifest every line must belong to a payout
that has its row, and there must be one: a file that ends early lacks either.

Source: failures.md L10.

Invariant: memory grows with the currencies and payouts of a file (capped), never with its lines.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.limits import SETTLEMENT_PAYOUTS_MAX


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one currency, in its minor units; payout rows left out."""

    gross_minor: int = 0
    fee_minor: int = 0
    net_minor: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the PSP says of a file. `rows`: payout rows included, the heading not. `payouts`: (id, currency) -> amount paid out.

    `series`: what the file and its corrected re-issues share. The period is [from, to) in ms UTC. `sha256`: hex.
    """

    rows: int
    sums: Mapping[str, Sums]
    payouts: Mapping[tuple[str, str], int]
    sha256: str
    series: str
    version: int
    period_from_ms: int
    period_to_ms: int


@dataclass(slots=True)
class _Payout:
    """`paid_minor`: by the payout's own rows, None before there is one. `net_minor`: of its other rows."""

    net_minor: int = 0
    paid_minor: int | None = None


class Controls:
    """Adds up one file while it is read."""

    def __init__(self) -> None:
        self._digest = sha256()
        self._rows = 0
        self._sums: dict[str, Sums] = {}
        self._payouts: dict[tuple[str, str], _Payout] = {}
        self._unpaid = 0
        self._first_ms, self._last_ms = 0, 0

    def feed(self, content: bytes) -> None:
        """Takes the bytes as they stand, in order."""
        self._digest.update(content)

    def add(self, line: Line) -> Refusal | None:
        """Counts one line. Refuses with MALFORMED where the file has more payouts than anybody makes."""
        self._rows += 1
        if not line.payout_id:
            self._unpaid += 1
            payout = _Payout()
        else:
            key = (line.payout_id, line.gross.currency)
            payout = self._payouts.setdefault(key, _Payout())
            if len(self._payouts) > SETTLEMENT_PAYOUTS_MAX:
                return Refusal(Reason.MALFORMED, f"lines[{line.number}]", "the file has too many payouts")
        if line.category is Category.PAYOUT:
            payout.paid_minor = (payout.paid_minor or 0) - line.net_minor
            return None
        payout.net_minor += line.net_minor
        before = self._sums.get(line.gross.currency, Sums())
        self._sums[line.gross.currency] = Sums(
            before.gross_minor + line.gross.amount_minor,
            before.fee_minor + line.fee_minor,
            before.net_minor + line.net_minor,
        )
        self._first_ms = min(self._first_ms or line.created_at_ms, line.created_at_ms)
        self._last_ms = max(self._last_ms, line.created_at_ms)
        return None

    @property
    def rows(self) -> int:
        """Lines so far, payout rows included."""
        return self._rows

    @property
    def sums(self) -> Mapping[str, Sums]:
        """By currency, so far."""
        return self._sums

    @property
    def sha256(self) -> str:
        """Of the bytes so far, hex."""
        return self._digest.hexdigest()

    @property
    def period_ms(self) -> tuple[int, int]:
        """[from, to) as a manifest's: around the instants that lines are dated, payout rows left out; (0, 0) without lines."""
        return (self._first_ms, self._last_ms + 1) if self._sums else (0, 0)

    def check(self, manifest: Manifest | None) -> Refusal | None:
        """None where the file that was read to its end is whole; else CONTROLS_DIFFER, naming the first that differs.

        `field` names the total ("sums[EUR].net", "payouts[po_1]"), the message never the values.
        """
        against = self._against_itself() if manifest is None else self._against(manifest)
        found = next(self._payouts_that_differ(), None) or next(against, None)
        return found and Refusal(Reason.CONTROLS_DIFFER, *found)

    def _payouts_that_differ(self) -> Iterator[tuple[str, str]]:
        for (name, _), payout in self._payouts.items():
            if payout.paid_minor is not None and payout.paid_minor != payout.net_minor:
                yield f"payouts[{name}]", "the payout is not the sum of its lines"

    def _against_itself(self) -> Iterator[tuple[str, str]]:
        """Without a manifest."""
        for (name, _), payout in self._payouts.items():
            if payout.paid_minor is None:
                yield f"payouts[{name}]", "the payout has lines and no row of its own: the file may be cut off"
        if self._unpaid or not self._payouts:
            yield "payouts", "lines without a payout, and no manifest: nothing proves that the file is whole"

    def _against(self, manifest: Manifest) -> Iterator[tuple[str, str]]:
        if self._rows != manifest.rows:
            yield "rows", "the manifest says another number of rows"
        for currency in sorted({*self._sums, *manifest.sums}):
            here, there = self._sums.get(currency, Sums()), manifest.sums.get(currency, Sums())
            for name in ("gross", "fee", "net"):
                if getattr(here, f"{name}_minor") != getattr(there, f"{name}_minor"):
                    yield f"sums[{currency}].{name}", "the manifest says another sum"
        for key in sorted({*self._payouts, *manifest.payouts}):
            payout = self._payouts.get(key)
            if payout is None or payout.net_minor != manifest.payouts.get(key, payout.net_minor):
                yield f"payouts[{key[0]}]", "the manifest says another payout"
        if self.sha256 != manifest.sha256:
            yield "sha256", "the file is not the one that the manifest names"
