"""Control totals of a settlement file: what it adds up to while it is read, against what it should.

A file counts whole or not at all. What proves it whole: a manifest (rows, sums, hash) where the PSP writes one, and for each
payout that the net of its rows is the payout's amount. Without a manifest every row must belong to a payout that has its row.

Source: failures.md L10.

Invariant: memory grows with the currencies and payouts of a file, never with its rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Line


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one currency, in its minor units; payout rows left out."""

    gross_minor: int
    fee_minor: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the PSP says of a file. `rows`: payout rows included, the heading not. `payouts`: (id, currency) -> amount.

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


class Controls:
    """Adds up one file while it is read."""

    __slots__ = ()

    def feed(self, content: bytes) -> None:
        """Takes the bytes as they stand, in order."""
        raise NotImplementedError

    def add(self, line: Line) -> None:
        """Counts one line."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Lines so far, payout rows included."""
        raise NotImplementedError

    @property
    def sums(self) -> Mapping[str, Sums]:
        """By currency, so far."""
        raise NotImplementedError

    @property
    def sha256(self) -> str:
        """Of the bytes so far, hex."""
        raise NotImplementedError

    @property
    def period_ms(self) -> tuple[int, int]:
        """The first and the last instant that a line is dated, payout rows left out; (0, 0) without lines."""
        raise NotImplementedError

    def check(self, manifest: Manifest | None) -> Refusal | None:
        """None where the file that was read to its end is whole; else CONTROLS_DIFFER, naming what differs."""
        raise NotImplementedError
