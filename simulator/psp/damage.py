"""Damage on purpose: a settlement report's true rows in, spoiled rows out, and one record for each damage.

`KINDS` is the table: what is done to a line, and what a reconciliation must make of it, in the words of its own classes
(automatic, manual, unclassified; `expected` is what is not yet an exception). Damage is drawn from a seed, at most once a
line, and on charge lines only: the caller says which of them may be spoiled, so that no two causes meet in one payment.

Pure: no file, no clock. The invariant: a row that no record names leaves as it came, and every record is true of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from simulator.psp.ids import derive
from simulator.psp.settlement import AT, CHECKOUT, COLUMNS, ORDER, REFUND_KEY, TENANT, Row, payout_id
from simulator.psp.stripe.currency import DECIMALS, major_units, minor_units
from simulator.psp.stripe.payment import Behaviours

Record = dict[str, Any]

ID, PAYOUT, PAID_AT = "balance_transaction_id", "automatic_payout_id", "automatic_payout_effective_at_utc"
INTENT, CATEGORY, SOURCE, CHARGE = "payment_intent_id", "reporting_category", "source_id", "charge_id"
LINE: Final = "line"
"""The field of a record whose damage is a whole line: there or not there."""

_SPOILABLE_MIN: Final = 2  # minor units: a part of less is nothing
_DISPUTE_FEE_MINOR: Final = 1_500
_OTHER_CURRENCIES: Final = {0: ("jpy", "krw", "vnd"), 2: ("usd", "eur", "gbp"), 3: ("kwd", "bhd", "omr")}
"""By decimals, so that the amounts of a line read the same in the wrong currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to spoil. `rate`: share of the charge lines, from 0 to 1; `kinds`: which, all of them in even shares."""

    seed: int
    rate: float
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError("the rate of damage is a share from 0 to 1")
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"unknown damage {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")


@dataclass(slots=True)
class Payouts:
    """The payouts of the spoiled file: currency -> (id, paid at). Empty: this report pays nothing out."""

    of_currency: dict[str, tuple[str, str]]

    def place(self, row: Row, currency: str) -> tuple[str, str]:
        """Return the payout that a row of this currency belongs to, a new one where the file has none."""
        if not self.of_currency:
            return "", ""
        paid_at = next(iter(self.of_currency.values()))[1]
        return self.of_currency.setdefault(currency, (payout_id(f"{row[AT[ID]]} {currency}"), paid_at))


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one true row: the rows that stand in its place, what the next file gets, and the record."""

    rows: tuple[Row, ...]
    later: Row | None = None
    record: Record | None = None


@dataclass(slots=True)
class _Draw:
    """What a kind draws from. `other_order`: the order of an earlier line, "" before there is one."""

    chance: Random
    payouts: Payouts
    seed: int
    other_order: str = ""
    unknown: list[Row] = field(default_factory=list)
    highest: dict[str, int] = field(default_factory=dict)

    def id(self, prefix: str, row: Row, *names: object) -> str:
        return derive(prefix, self.seed, row[AT[ID]], *names)


@dataclass(frozen=True, slots=True)
class Kind:
    """What is done to a line, and what must be found: the `mismatch` that is opened and its `group` (class).

    `until_due`: the class while the PSP may still bring the line. "" in `mismatch`: nothing is opened.
    """

    spoil: Callable[[Row, _Draw], Step]
    mismatch: str
    group: str
    until_due: str = ""


def damage(
    rows: Iterable[Row], plan: Plan, payouts: Payouts, may: Callable[[Row], bool] = lambda _: True
) -> Iterator[Step]:
    """Spoil a share of the rows; lines of unknown charges come last. Memory: one row in about 1,600 at a rate of 1 %.

    `may`: which charge rows may be spoiled. The same rows, plan and payouts give the same steps.
    """
    draw = _Draw(Random(f"damage {plan.seed}"), payouts, plan.seed)
    deck: list[str] = []
    for row in rows:
        gross = _minor(row, "gross")
        currency = row[AT["currency"]]
        draw.highest[currency] = max(gross, draw.highest.get(currency, 0))
        is_charge = row[AT[CATEGORY]] == "charge" and gross >= _SPOILABLE_MIN
        if not (is_charge and draw.chance.random() < plan.rate and may(row)):
            step = Step((row,))
        else:
            if not deck:
                deck = list(plan.kinds or KINDS)
                draw.chance.shuffle(deck)
            name = deck.pop()
            step = _recorded(name, KINDS[name].spoil(row, draw))
        draw.other_order = row[AT[ORDER]] or draw.other_order
        yield step
    yield from (_recorded("extra_line", _unknown_charge(row, draw)) for row in draw.unknown)


def _recorded(name: str, step: Step) -> Step:
    if step.record is None:
        return step
    kind = KINDS[name]
    expected = {"mismatch": kind.mismatch, "class": kind.group, "until_due": kind.until_due or kind.group}
    return Step(step.rows, step.later, {"kind": name, **step.record, "expected": expected})


# ---- what is done to a line ----------------------------------------------------------------------------------------


def _missing(row: Row, _: _Draw) -> Step:
    return Step((), record=_record(row, LINE, row[AT[ID]], ""))


def _extra(row: Row, draw: _Draw) -> Step:
    draw.unknown.append(row)  # its amount must be nobody's, so it waits until all amounts are known
    return Step((row,))


def _unknown_charge(row: Row, draw: _Draw) -> Step:
    """A charge that we know nothing of: its amount is above every other one, so that no order fits it by amount and day.

    Its fee is the PSP's usual one: a damage spoils one thing.
    """
    currency = row[AT["currency"]]
    draw.highest[currency] += draw.chance.randint(1, 9)
    gross = draw.highest[currency]
    fee = Behaviours().fee_minor(gross)
    names = {ID: draw.id("txn", row, "extra"), INTENT: draw.id("pi", row, "extra"), CHARGE: draw.id("ch", row, "extra")}
    unknown = {SOURCE: names[CHARGE], ORDER: draw.id("order", row, "extra"), CHECKOUT: draw.id("chk", row, "extra")}
    extra = _with(row, {**names, **unknown, **_amounts(currency, gross, fee)})
    return Step((extra,), record=_record(extra, LINE, "", extra[AT[ID]]))


def _duplicate_line(row: Row, _: _Draw) -> Step:
    return Step((row, list(row)), record=_record(row, LINE, "", row[AT[ID]]))


def _duplicate_charge(row: Row, draw: _Draw) -> Step:
    charge = draw.id("ch", row, "again")
    again = _with(row, {ID: draw.id("txn", row, "again"), SOURCE: charge, CHARGE: charge})
    return Step((row, again), record=_record(row, LINE, "", again[AT[ID]], again))


def _wrong_amount(row: Row, draw: _Draw) -> Step:
    gross, fee = _minor(row, "gross"), _minor(row, "fee")
    other = gross + draw.chance.randint(1, gross)
    if draw.chance.random() < 0.5:  # noqa: PLR2004 - as often less as more
        other = draw.chance.randint(1, gross - 1)
    return _changed(row, "gross", _amounts(row[AT["currency"]], other, fee))


def _wrong_currency(row: Row, draw: _Draw) -> Step:
    currency = row[AT["currency"]]
    others = [each for each in _OTHER_CURRENCIES[DECIMALS[currency]] if each != currency]
    other = draw.chance.choice(others)
    return _changed(row, "currency", {"currency": other, **_paid(row, other, draw)})


def _wrong_reference(row: Row, draw: _Draw) -> Step:
    unknown = draw.id("order", row, "wrong")
    is_known = draw.other_order not in ("", row[AT[ORDER]]) and draw.chance.random() < 0.5  # noqa: PLR2004 - half and half
    return _changed(row, ORDER, {ORDER: draw.other_order if is_known else unknown})


def _wrong_psp_id(row: Row, draw: _Draw) -> Step:
    return _changed(row, INTENT, {INTENT: draw.id("pi", row, "wrong")})


def _wrong_fee(row: Row, draw: _Draw) -> Step:
    gross, fee = _minor(row, "gross"), _minor(row, "fee")
    other = fee + draw.chance.randint(1, max(fee, 1))
    return _changed(row, "fee", _amounts(row[AT["currency"]], gross, other))


def _day_shift(row: Row, _: _Draw) -> Step:
    return Step((), later=row, record=_record(row, LINE, row[AT[ID]], ""))


def _fee_line(row: Row, draw: _Draw) -> Step:
    minor = draw.chance.randint(1, _minor(row, "gross"))
    return _added(row, draw, "fee", -minor, 0, {SOURCE: draw.id("fee", row), **_NO_PAYMENT})


def _refund_line(row: Row, draw: _Draw) -> Step:
    """The whole charge given back in the PSP's own console; or a refund of a charge that nobody knows."""
    source = {SOURCE: draw.id("re", row)}
    if draw.chance.random() < 0.5:  # noqa: PLR2004 - half and half
        source |= {**_NO_PAYMENT, CHARGE: draw.id("ch", row, "refund"), INTENT: draw.id("pi", row, "refund")}
    return _added(row, draw, "refund", -_minor(row, "gross"), 0, source)


def _partial_refund(row: Row, draw: _Draw) -> Step:
    part = draw.chance.randint(1, _minor(row, "gross") - 1)
    return _added(row, draw, "refund", -part, 0, {SOURCE: draw.id("re", row)})


def _partial_reversal(row: Row, draw: _Draw) -> Step:
    part = draw.chance.randint(1, _minor(row, "gross") - 1)
    return _added(row, draw, "partial_capture_reversal", -part, 0, {SOURCE: draw.id("re", row)})


def _dispute(row: Row, draw: _Draw) -> Step:
    return _added(row, draw, "dispute", -_minor(row, "gross"), _DISPUTE_FEE_MINOR, {SOURCE: draw.id("dp", row)})


def _unknown_dispute(row: Row, draw: _Draw) -> Step:
    names = {SOURCE: draw.id("dp", row), CHARGE: draw.id("ch", row, "dispute"), INTENT: draw.id("pi", row, "dispute")}
    return _added(row, draw, "dispute", -_minor(row, "gross"), _DISPUTE_FEE_MINOR, {**_NO_PAYMENT, **names})


def _refund_failure(row: Row, draw: _Draw) -> Step:
    """A refund of the whole charge that the buyer's bank sent back (docs.stripe.com/refunds, "Failed refunds"); it went out in
    the PSP's own console, in an earlier file. Or one of a charge that nobody knows."""
    source = {SOURCE: draw.id("re", row)}
    if draw.chance.random() < 0.5:  # noqa: PLR2004 - half and half
        source |= {**_NO_PAYMENT, CHARGE: draw.id("ch", row, "back"), INTENT: draw.id("pi", row, "back")}
    return _added(row, draw, "refund_failure", _minor(row, "gross"), 0, source)


def _other_movement(row: Row, draw: _Draw) -> Step:
    """A movement of the account that no payment makes, of a category that Stripe documents."""
    category, sign = draw.chance.choice(_OTHER_MOVEMENTS)
    names = {**_NO_PAYMENT, SOURCE: draw.id("src", row)}
    return _added(row, draw, category, sign * draw.chance.randint(1, _minor(row, "gross")), 0, names)


_OTHER_MOVEMENTS: Final = (
    ("other_adjustment", -1), ("other_adjustment", 1), ("payout_reversal", 1), ("network_cost", -1), ("tax", -1),
    ("topup", 1), ("transfer", -1), ("connect_reserved_funds", -1), ("risk_reserved_funds", 1),
)  # fmt: skip
"""Categories of the account's own movements, and which way their money goes."""


KINDS: Final[Mapping[str, Kind]] = {
    "missing_line": Kind(_missing, "missing_line", "manual", until_due="expected"),
    "extra_line": Kind(_extra, "unknown_charge", "unclassified"),
    "duplicate_line": Kind(_duplicate_line, "duplicate_line", "automatic"),
    "duplicate_charge": Kind(_duplicate_charge, "duplicate_charge", "manual"),
    "wrong_amount": Kind(_wrong_amount, "wrong_amount", "manual"),
    "wrong_currency": Kind(_wrong_currency, "wrong_currency", "manual"),
    "wrong_reference": Kind(_wrong_reference, "wrong_reference", "manual"),
    "wrong_psp_id": Kind(_wrong_psp_id, "wrong_psp_id", "manual"),
    "wrong_fee": Kind(_wrong_fee, "wrong_fee", "manual"),
    "unknown_fee": Kind(_fee_line, "unknown_fee", "unclassified"),
    "day_shift": Kind(_day_shift, "", "expected"),
    "unknown_refund": Kind(_refund_line, "unknown_refund", "manual"),
    "unknown_dispute": Kind(_unknown_dispute, "unknown_dispute", "manual"),
    "partial_refund": Kind(_partial_refund, "partial_refund", "manual"),
    "partial_reversal": Kind(_partial_reversal, "partial_reversal", "manual"),
    "dispute": Kind(_dispute, "dispute", "manual"),
    "refund_failure": Kind(_refund_failure, "refund_failure", "manual"),
    "other_movement": Kind(_other_movement, "other_movement", "unclassified"),
}
"""Every damage of a line there is."""


# ---- rows and records ----------------------------------------------------------------------------------------------

_NO_PAYMENT: Final = dict.fromkeys(
    (CHARGE, INTENT, "charge_created_utc", "payment_method_type", TENANT, CHECKOUT, ORDER), ""
)
"""The cells of a line that belongs to no payment of ours."""


def place_later(row: Row, payouts: Payouts) -> Row:
    """Return a row that was shifted out of its own file as it stands in the next one: in that file's payout."""
    payout, paid_at = payouts.place(row, row[AT["currency"]])
    return _with(row, {PAYOUT: payout, PAID_AT: paid_at})


def _added(row: Row, draw: _Draw, category: str, gross: int, fee: int, names: Mapping[str, str]) -> Step:
    """The row, and behind it a movement that we never asked for."""
    line = {ID: draw.id("txn", row, category), CATEGORY: category, "description": "", REFUND_KEY: ""}
    money = {**_amounts(row[AT["currency"]], gross, fee), "customer_facing_amount": "", "customer_facing_currency": ""}
    extra = _with(row, {**line, **money, **names})
    return Step((row, extra), record=_record(extra, LINE, "", extra[AT[ID]]))


def _changed(row: Row, leading: str, cells: Mapping[str, str]) -> Step:
    spoiled = _with(row, cells)
    record = _record(row, leading, row[AT[leading]], spoiled[AT[leading]])
    record["cells"] = {name: [row[AT[name]], value] for name, value in cells.items() if row[AT[name]] != value}
    return Step((spoiled,), record=record)


def _record(row: Row, field_: str, true: str, damaged: str, *others: Row) -> Record:
    """Say what was done: to which lines, of whose order, in which field, the true value and the damaged one."""
    return {
        "lines": [each[AT[ID]] for each in (row, *others)],
        "tenant": row[AT[TENANT]],
        "checkout_id": row[AT[CHECKOUT]],
        "payment_order_id": row[AT[ORDER]],
        "field": field_,
        "true": true,
        "damaged": damaged,
    }


def _paid(row: Row, currency: str, draw: _Draw) -> dict[str, str]:
    payout, paid_at = draw.payouts.place(row, currency) if row[AT[PAYOUT]] else ("", "")
    return {PAYOUT: payout, PAID_AT: paid_at}


def _amounts(currency: str, gross: int, fee: int) -> dict[str, str]:
    amounts = {"gross": gross, "fee": fee, "net": gross - fee}
    return {name: major_units(amount, currency) for name, amount in amounts.items()}


def _minor(row: Row, name: str) -> int:
    return minor_units(row[AT[name]], row[AT["currency"]])


def _with(row: Row, cells: Mapping[str, str]) -> Row:
    return [cells.get(column, value) for column, value in zip(COLUMNS, row, strict=True)]
