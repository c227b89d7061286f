"""The auditor's own matching of delivered settlement lines against orders (SQL) and the PSP's book: what each line is.

Written from the words that were agreed upon, not from the product's rules: `OWN` is a line that stands for an order (or for
a refund of ours) and agrees with it, `FREE` one that needs no partner; every other word is a kind of mismatch, and `CLASSES`
says who deals with it. A line is known by the PSP's object first, then by our reference. One cause, one word: of several
differences the first in the order of `_difference` counts.

Invariant: every line gets exactly one word, and every order at most one line that is its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from simulator.audit.book import Book
from simulator.audit.database import Database, OrderKey, OrderRow
from simulator.audit.settlement import PAYOUT, SettlementFile, SettlementRow

OWN: Final = "matched"
FREE: Final = "explained"

CLASSES: Final = {
    "unresolved_order": "automatic",
    "late_charge": "automatic",
    "duplicate_line": "automatic",
    "missing_line": "manual",
    "duplicate_charge": "manual",
    "wrong_amount": "manual",
    "wrong_currency": "manual",
    "wrong_reference": "manual",
    "wrong_psp_id": "manual",
    "wrong_fee": "manual",
    "unknown_charge": "unclassified",
    "unknown_refund": "manual",
    "unknown_dispute": "manual",
    "unknown_fee": "unclassified",
    "dispute": "manual",
    "partial_refund": "manual",
    "partial_reversal": "manual",
    "refund_failure": "manual",
    "other_movement": "unclassified",
    "ambiguous": "unclassified",
}
"""Kind of mismatch -> its class, as the issue of reconciliation has it."""

_OF_UNKNOWN: Final = {
    "charge": "unknown_charge",
    "refund": "unknown_refund",
    "partial_capture_reversal": "unknown_refund",
    "dispute": "unknown_dispute",
    "dispute_reversal": "unknown_dispute",
    "fee": "unknown_fee",
    "refund_failure": "refund_failure",
}
"""Category -> what a line is that belongs to nothing of ours; any other is `_OTHER`."""

_OTHER: Final = "other_movement"
"""What a line is of a category that no payment has: the file counts, and people look at the line."""

_OF_KNOWN: Final = {
    "partial_capture_reversal": "partial_reversal",
    "dispute": "dispute",
    "dispute_reversal": "dispute",
    "fee": "unknown_fee",
    "refund_failure": "refund_failure",
}
"""Category -> what a line is that is about a charge of ours, without being its charge or a refund."""


class LineKey(NamedTuple):
    """A line's place: the file's hash, and its number from 1, the heading left out."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"line {self.number} of {self.file[:12]}"


@dataclass(slots=True)
class Matched:
    """What became of the lines. `words`: every line's; `own`: order -> its own line; `refunds`: refund key -> its line."""

    words: dict[LineKey, str] = field(default_factory=dict)
    orders: dict[LineKey, OrderKey] = field(default_factory=dict)
    own: dict[OrderKey, LineKey] = field(default_factory=dict)
    refunds: dict[str, LineKey] = field(default_factory=dict)


def match_lines(files: Iterable[SettlementFile], database: Database, book: Book | None) -> Matched:
    """Give every line of these files its word; the files in the order in which their periods came."""
    matched, seen = Matched(), dict[str, SettlementRow]()
    refund_keys = {key for (key,) in database.stream("SELECT key FROM payment.operations WHERE kind = 'refund'")}
    rest: list[tuple[LineKey, SettlementRow]] = []
    for key, row in _lines(files):
        earlier = seen.setdefault(row.id, row)
        if row.category == PAYOUT:
            matched.words[key] = FREE
        elif earlier is not row:
            matched.words[key] = "duplicate_line" if earlier == row else "ambiguous"
        elif row.category == "refund" and row.refund_key in refund_keys:
            matched.words[key] = "unknown_refund" if row.refund_key in matched.refunds else OWN
            matched.refunds.setdefault(row.refund_key, key)
        else:
            rest.append((key, row))
    _match_by_object(rest, matched, database, book)
    _match_by_reference(rest, matched, database)
    return matched


def _lines(files: Iterable[SettlementFile]) -> Iterator[tuple[LineKey, SettlementRow]]:
    for file in files:
        for number, row in enumerate(file.rows, 1):
            yield LineKey(file.sha256, number), row


def _match_by_object(
    lines: list[tuple[LineKey, SettlementRow]], matched: Matched, database: Database, book: Book | None
) -> None:
    groups: defaultdict[OrderKey, list[tuple[LineKey, SettlementRow]]] = defaultdict(list)
    for key, row in lines:
        order = database.order_of_object.get(row.intent) if row.intent else None
        if order is not None and order in database.orders:
            groups[order].append((key, row))
    cases = {case.psp_object_id for case in database.mismatches}
    for order, group in groups.items():
        _judge_group(order, database.orders[order], group, matched, (cases, book))


def _judge_group(
    order: OrderKey,
    row: OrderRow,
    group: list[tuple[LineKey, SettlementRow]],
    matched: Matched,
    known: tuple[set[str], Book | None],
) -> None:
    """All lines of one order's object: one charge line is its own, every further one a charge too many."""
    charges = [(key, line) for key, line in group if line.category == "charge"]
    for key, line in sorted(charges, key=lambda one: _strangeness(one[1], order, row)):
        matched.orders[key] = order
        if order in matched.own:
            matched.words[key] = "duplicate_charge"
        else:
            matched.own[order] = key
            matched.words[key] = _difference(line, order, row, *known)
    for key, line in group:
        if line.category != "charge":
            matched.orders[key] = order
            matched.words[key] = _of_known(line, row)


def _strangeness(line: SettlementRow, order: OrderKey, row: OrderRow) -> int:
    """Of several charge lines of an order, the one that agrees with it best is its own."""
    money = (line.gross_minor, line.currency) != (row.amount_minor, row.currency)
    return 2 * money + (line.reference != order.order_id)


def _difference(line: SettlementRow, order: OrderKey, row: OrderRow, cases: set[str], book: Book | None) -> str:
    if line.currency != row.currency:
        return "wrong_currency"
    if line.gross_minor != row.amount_minor:
        return "wrong_amount"
    if line.reference != order.order_id or (line.tenant and line.tenant != order.tenant):
        return "wrong_reference"
    if row.status != "SUCCESS" and line.intent not in cases:
        return "late_charge" if row.status in ("FAILED", "CANCELED") else "unresolved_order"
    if book is not None and book.fees.get(line.id, line.fee_minor) != line.fee_minor:
        return "wrong_fee"
    return OWN


def _of_known(line: SettlementRow, row: OrderRow) -> str:
    if line.category == "refund":
        is_part = line.currency == row.currency and -line.gross_minor < row.amount_minor
        return "partial_refund" if is_part else "unknown_refund"
    return _OF_KNOWN.get(line.category, _OTHER)


def _match_by_reference(lines: list[tuple[LineKey, SettlementRow]], matched: Matched, database: Database) -> None:
    """What names no object of ours: it may name an order of ours, and that order may have its line or not."""
    for key, row in lines:
        if key in matched.words:
            continue
        order = database.find_order("", row.reference, row.tenant) if row.reference else None
        if order is None or (row.category != "charge" and order not in database.orders):
            matched.words[key] = _OF_UNKNOWN.get(row.category, _OTHER)
        elif row.category != "charge":
            matched.words[key] = _of_known(row, database.orders[order])
        else:
            matched.words[key] = "duplicate_charge" if order in matched.own else "wrong_psp_id"
            matched.own.setdefault(order, key)
        if order is not None:
            matched.orders[key] = order
