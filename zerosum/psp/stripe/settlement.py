"""Stripe's payout reconciliation report (itemized) as lines. Streams: memory stays flat.

Strict: UTF-8 (a byte order mark at the very beginning is skipped: spreadsheets add it), a heading with every column of
`COLUMNS` by its name and in any order, columns that we do not read ignored, amounts by the house's own grammar with Stripe's
decimals, instants in UTC, net = gross - fee, a last line that ends. What does not hold is a Refusal that names the line and
the column and never echoes a value. A cell that begins like a formula is data. A card number is nowhere: the file is refused.

Source: docs.stripe.com/reports/report-types/payout-reconciliation; failures.md L10, security tests 6, 7 and 8.

Invariant: nothing but a Refusal comes of bytes that are not a report, whatever they are.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import BinaryIO, Final, NamedTuple

from zerosum.domain.card import holds_card_number
from zerosum.domain.identity import Tenant
from zerosum.domain.money import Money, parse_signed
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.domain.settlement_control import Controls
from zerosum.limits import SETTLEMENT_CELL_LENGTH_MAX, SETTLEMENT_LINE_BYTES_MAX, SETTLEMENT_NAME_LENGTH_MAX
from zerosum.psp.stripe import PSP
from zerosum.psp.stripe.amount import SHIFTS
from zerosum.psp.stripe.mapping import CHECKOUT_ID, ORDER_ID, REFUND_KEY, TENANT

NAMES: Final = (
    "automatic_payout_id",
    "balance_transaction_id",
    "payment_intent_id",
    f"payment_metadata[{TENANT}]",
    f"payment_metadata[{CHECKOUT_ID}]",
    f"payment_metadata[{ORDER_ID}]",
    f"refund_metadata[{REFUND_KEY}]",
)
_STRIPES: Final = frozenset(NAMES[:3])
_PAYOUT, _ID = NAMES[:2]
COLUMNS: Final = (*NAMES, "created_utc", "currency", "gross", "fee", "net", "reporting_category")
"""What a report must have; the report is configured to show our references."""

CATEGORIES: Final[Mapping[str, Category]] = {category.value: category for category in Category}
"""All reporting categories that Stripe documents: our words are Stripe's own. Any other word refuses the file."""

_STRIPES_ID: Final = re.compile(r"[A-Za-z0-9_]{0,255}", re.ASCII)
_ALL_NAMES: Final = re.compile(
    rf"(?:[A-Za-z0-9_]{{0,255}}\0){{3}}(?:[^\0]{{0,{SETTLEMENT_NAME_LENGTH_MAX}}}\0){{3}}[^\0]{{0,{SETTLEMENT_NAME_LENGTH_MAX}}}",
    re.ASCII,
)
"""The names of a line that are as they should be, in their order, with U+0000 between them."""
_CURRENCY: Final = re.compile(r"[a-z]{3}", re.ASCII)
_INSTANT: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", re.ASCII)

_BYTE_ORDER_MARK: Final = "\ufeff"
_HOURS, _MINUTES, _SECONDS, _EPOCH_YEAR = 24, 60, 60, 1970


def read_lines(file: BinaryIO, controls: Controls) -> Iterator[Line | Refusal]:
    """Yields the report's lines, and feeds the controls with bytes and lines. The first Refusal is the last item.

    Raises what the file raises (OSError). `controls.check` tells afterwards whether the file is whole.
    """
    number, columns, texts = -1, _Columns(0, tuple), _Texts(file, controls)
    try:
        for number, cells in enumerate(csv.reader(texts, strict=True)):
            texts.size = 0
            if number == 0:
                heading = _heading(cells)
                if isinstance(heading, Refusal):
                    yield heading
                    return
                columns = heading
                continue
            line = _line(number, cells, columns)
            refused = line if isinstance(line, Refusal) else controls.add(line)
            yield refused or line
            if refused:
                return
    except _NotText as wrong:
        yield _refusal(number + 1, "", str(wrong))
    except csv.Error:
        yield _refusal(number + 1, "", "the line is not CSV as RFC 4180 has it")
    else:
        if number < 0:
            yield _refusal(0, "", "the file is empty")


# ---- bytes ---------------------------------------------------------------------------------------------------------


class _NotText(Exception):
    """Why bytes are not the text of a report. Ends the reader below; never leaves this module."""


class _Texts:
    """The file's lines as text, each with its line feed. `size`: bytes since it was last set to 0, which is capped: a cell in
    quotes may go on over several lines, but not for ever."""

    def __init__(self, file: BinaryIO, controls: Controls) -> None:
        self._file, self._controls = file, controls
        self._is_first = True
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        content = self._file.readline(SETTLEMENT_LINE_BYTES_MAX + 1)
        if not content:
            raise StopIteration
        self._controls.feed(content)
        self.size += len(content)
        if self.size > SETTLEMENT_LINE_BYTES_MAX:
            raise _NotText("the line is too long")
        if not content.endswith(b"\n"):
            raise _NotText("the last line does not end: the file is cut off")
        if b"\0" in content:
            raise _NotText("the line holds U+0000")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _NotText("the line is not UTF-8") from error
        if self._is_first:
            text = text.removeprefix(_BYTE_ORDER_MARK)
        self._is_first = False
        return text


# ---- cells ---------------------------------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """How many cells the heading has, and what picks those of `COLUMNS` out of a line, in their order."""

    width: int
    pick: Callable[[Sequence[str]], tuple[str, ...]]


def _heading(cells: Sequence[str]) -> _Columns | Refusal:
    for name in COLUMNS:
        if cells.count(name) != 1:
            told = "twice" if name in cells else "missing"
            return _refusal(0, name, f"the column is {told}")
    return _Columns(len(cells), itemgetter(*(cells.index(name) for name in COLUMNS)))


def _line(number: int, cells: Sequence[str], columns: _Columns) -> Line | Refusal:
    if len(cells) != columns.width:
        return _refusal(number, "", "the line has another number of cells than the heading")
    if max(map(len, cells)) > SETTLEMENT_CELL_LENGTH_MAX:
        return _refusal(number, "", "a cell is too long")
    *names, created, currency, gross_text, fee_text, net_text, category_text = columns.pick(cells)
    payout_id, name, object_id, tenant, checkout_id, reference, refund_key = names
    category = CATEGORIES.get(category_text)
    if category is None:
        return _refusal(number, "reporting_category", "not a category that is known here")
    created_at_ms = _instant_ms(created)
    if created_at_ms is None:
        return _refusal(number, "created_utc", "not an instant as YYYY-MM-DD HH:MM:SS")
    wrong = _wrong_name(number, names) or _wrong_blank(number, category, name=name, payout_id=payout_id)
    if wrong is not None:
        return wrong
    money = _money(number, currency, gross=gross_text, fee=fee_text, net=net_text)
    if isinstance(money, Refusal):
        return money
    gross, fee_minor, net_minor = money
    return Line(
        psp=PSP,
        number=number,
        id=name,
        category=category,
        object_id=object_id,
        tenant=Tenant(tenant),
        checkout_id=checkout_id,
        reference=reference,
        refund_key=refund_key,
        gross=gross,
        fee_minor=fee_minor,
        net_minor=net_minor,
        created_at_ms=created_at_ms,
        payout_id=payout_id,
    )


def _wrong_name(number: int, names: Sequence[str]) -> Refusal | None:
    """Ids are Stripe's; references are as whoever made the object wrote them: any text that is not too long.

    Nearly all are fine, so all are looked at together first; U+0000 stands in no line, and no card number goes over it.
    """
    together = "\0".join(names)
    if _ALL_NAMES.fullmatch(together) and not holds_card_number(together):
        return None
    for column, name in zip(NAMES, names, strict=True):
        if column in _STRIPES and not _STRIPES_ID.fullmatch(name):
            return _refusal(number, column, "not an id of Stripe's")
        if len(name) > SETTLEMENT_NAME_LENGTH_MAX:
            return _refusal(number, column, "the name is too long")
        if holds_card_number(name):
            return _refusal(number, column, "a card number is never taken", Reason.CARD_NUMBER)
    return None


def _wrong_blank(number: int, category: Category, *, name: str, payout_id: str) -> Refusal | None:
    if not name:
        return _refusal(number, _ID, "a line without an id")
    if category is Category.PAYOUT and not payout_id:
        return _refusal(number, _PAYOUT, "a payout without an id")
    return None


def _money(number: int, currency: str, *, gross: str, fee: str, net: str) -> tuple[Money, int, int] | Refusal:
    """(gross, fee, net)."""
    if not _CURRENCY.fullmatch(currency):
        return _refusal(number, "currency", "not a currency as Stripe writes it", Reason.CURRENCY_UNKNOWN)
    amounts = []
    for column, text in (("gross", gross), ("fee", fee), ("net", net)):
        amount = amount_of(text, currency.upper(), f"line.{column}")
        if isinstance(amount, Refusal):
            return _refusal(number, amount.field.removeprefix("line."), amount.message, amount.reason)
        amounts.append(amount)
    whole, kept, left = amounts
    if left.amount_minor != whole.amount_minor - kept.amount_minor:
        return _refusal(number, "net", "net is not gross less fee")
    return whole, kept.amount_minor, left.amount_minor


def amount_of(text: str, currency: str, field: str) -> Money | Refusal:
    """A signed amount of Stripe's in major units as money of ours.

    Stripe writes some currencies with decimals that they do not have; these must be zeros. Refusals: as `parse_signed`.
    """
    decimals_more = SHIFTS.get(currency, 0)
    if decimals_more > 0:
        text = text.removesuffix("." + "0" * decimals_more)
    return parse_signed(text, currency, field)


def _instant_ms(text: str) -> int | None:
    """Milliseconds UTC of "YYYY-MM-DD HH:MM:SS", from 1970 on."""
    found = _INSTANT.fullmatch(text)
    day_ms = _day_ms(int(found[1]), int(found[2]), int(found[3])) if found else None
    if found is None or day_ms is None:
        return None
    hour, minute, second = int(found[4]), int(found[5]), int(found[6])
    is_time = hour < _HOURS and minute < _MINUTES and second < _SECONDS
    return day_ms + ((hour * _MINUTES + minute) * _SECONDS + second) * 1_000 if is_time else None


@lru_cache(maxsize=256)
def _day_ms(year: int, month: int, day: int) -> int | None:
    try:
        at = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None
    return int(at.timestamp()) * 1_000 if year >= _EPOCH_YEAR else None


def _refusal(number: int, column: str, message: str, reason: Reason = Reason.MALFORMED) -> Refusal:
    """`number`: of the line, 0 for the heading."""
    where = f"lines[{number}]" if number else "heading"
    return Refusal(reason, f"{where}.{column}" if column else where, message)
