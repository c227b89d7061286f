"""Money: integer minor units and a currency, nothing else. The one table of exponents, the one parser, the one split.

On the wire an amount is a decimal string. Its grammar is `0` or digits that do not begin with 0, optionally a point and at
least one digit more; ASCII only, nothing around it. `parse_signed` allows a minus before it. Refused on purpose: "007", for
a zero-padded figure is minor units in the formats that pad ("000000001250" is 12.50), and reading it as major units
charges a hundredfold; "1.50" of a currency without decimals, although nothing would be lost, for the caller has the wrong
currency in mind. Fewer decimals than the currency has are fine: "1.5" USD is 150.

A PSP that counts a currency otherwise than ISO 4217 is its adapter's affair. Source: design section 6, failures.md
security test 7.

Invariant: no float and no Decimal, and `parse(format(money)) == money`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import Bug
from zerosum.limits import AMOUNT_LENGTH_MAX, AMOUNT_MINOR_MAX


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount in minor units (cents, yen, fils) of an ISO 4217 currency. May be negative where a field says signed."""

    amount_minor: int
    currency: str

    @property
    def can_be_posted(self) -> bool:
        """Whether a movement of this much can stand in the books: what a PSP says may be of a currency that we do not take,
        of nothing, or of more than an amount can be."""
        return self.currency in EXPONENTS and 0 < self.amount_minor <= AMOUNT_MINOR_MAX

    def __str__(self) -> str:
        """For people, in a sentence: "10.00 USD". Never raises: what a PSP says may be of a currency that we do not take."""
        is_ours = self.currency in EXPONENTS
        return f"{format_amount(self) if is_ours else f'{self.amount_minor} minor units of'} {self.currency}"


# ---- currencies ----------------------------------------------------------------------------------------------------

_TWO_DECIMALS = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE
    CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR
    KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB
    PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY
    TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"

EXPONENTS: dict[str, int] = {
    **dict.fromkeys(_TWO_DECIMALS.split(), 2),
    **dict.fromkeys(_NO_DECIMALS.split(), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(), 3),
}
"""ISO 4217 code -> decimals of its minor unit: the currencies of list one in which somebody can be charged.

Left out: funds and units of account (BOV, CHE, CHW, CLF, COU, MXV, USN, UYI, UYW, XAD, XDR, XSU, XUA; with CLF and UYW go
the only ones of four decimals), metals and bond units (XAG, XAU, XBA to XBD, XPD, XPT), XTS and XXX, and what has been
withdrawn (last: HRK, SLL, ZWL, CUC, ANG for XCG, and BGN, which became EUR on 2026-01-01).
"""


# ---- text to money and back ----------------------------------------------------------------------------------------

_AMOUNT = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


def parse_amount(text: str, currency: str, field: str) -> Money | Refusal:
    """The money a caller's amount stands for: above zero, at most `AMOUNT_MINOR_MAX` minor units.

    `field` is the path of the amount ("payment_orders[2].amount"); that of the currency is its sibling. Refusals:
    AMOUNT_MALFORMED (a sign included), AMOUNT_NOT_POSITIVE, AMOUNT_TOO_LARGE, AMOUNT_TOO_PRECISE, CURRENCY_UNKNOWN.
    """
    figure = _read(text)
    if figure is None or figure.is_negative:
        return Refusal(Reason.AMOUNT_MALFORMED, field, "an amount is digits, optionally a point and more digits")
    if figure.is_zero:
        return Refusal(Reason.AMOUNT_NOT_POSITIVE, field, "an amount is more than zero")
    return _money(figure, currency, field)


def parse_signed(text: str, currency: str, field: str) -> Money | Refusal:
    """The money of a signed amount, as in ledger entries and balances: zero is allowed, "-0" is not.

    At most `AMOUNT_MINOR_MAX` either way. Refusals: as `parse_amount`, without AMOUNT_NOT_POSITIVE.
    """
    figure = _read(text)
    if figure is None or (figure.is_negative and figure.is_zero):
        return Refusal(Reason.AMOUNT_MALFORMED, field, "a signed amount is an amount, with a minus where below zero")
    return _money(figure, currency, field)


class _Figure(NamedTuple):
    """An amount as written: it has the grammar, and means nothing yet."""

    is_negative: bool
    whole: str
    decimals: str

    @property
    def is_zero(self) -> bool:
        return not (self.whole + self.decimals).strip("0")


def _read(text: str) -> _Figure | None:
    matched = _AMOUNT.fullmatch(text) if len(text) <= AMOUNT_LENGTH_MAX else None
    return matched and _Figure(matched[1] == "-", matched[2], matched[3] or "")


def _money(figure: _Figure, currency: str, field: str) -> Money | Refusal:
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        currency_field = ".".join((*field.split(".")[:-1], "currency"))
        return Refusal(Reason.CURRENCY_UNKNOWN, currency_field, "not an ISO 4217 code of a currency in use")
    amount_minor = int(figure.whole + figure.decimals[:exponent].ljust(exponent, "0"))
    if amount_minor > AMOUNT_MINOR_MAX:
        return Refusal(Reason.AMOUNT_TOO_LARGE, field, f"an amount has at most {AMOUNT_MINOR_MAX} minor units")
    if len(figure.decimals) > exponent:
        return Refusal(Reason.AMOUNT_TOO_PRECISE, field, f"the currency has {exponent} decimals")
    return Money(-amount_minor if figure.is_negative else amount_minor, currency)


def format_amount(money: Money) -> str:
    """The amount as a decimal string with all the decimals its currency has: the inverse of the parsers.

    Raises Bug for a currency that is not in the table: no such money can have come in.
    """
    exponent = EXPONENTS.get(money.currency)
    if exponent is None:
        raise Bug("money of an unknown currency")
    sign = "-" if money.amount_minor < 0 else ""
    digits = str(abs(money.amount_minor)).zfill(exponent + 1)
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else f"{sign}{digits}"


# ---- arithmetic ----------------------------------------------------------------------------------------------------


def split(money: Money, weights: Sequence[int]) -> list[Money]:
    """Splits money by weights, by the largest remainder; the parts sum to the whole, in the order of the weights.

    Each part is its exact share rounded down or up; of equal remainders the first gets the unit; a weight of 0 gets
    nothing; negative money splits as the positive does. Raises Bug unless the weights are not negative and sum to more
    than 0.
    """
    total = sum(weights)
    if total <= 0 or any(weight < 0 for weight in weights):
        raise Bug("weights are not negative and sum to more than 0")
    sign = -1 if money.amount_minor < 0 else 1
    shares = [divmod(abs(money.amount_minor) * weight, total) for weight in weights]
    parts = [share for share, _ in shares]
    left = abs(money.amount_minor) - sum(parts)
    by_remainder = sorted(range(len(shares)), key=lambda at: -shares[at][1])
    for at in by_remainder[:left]:
        parts[at] += 1
    return [Money(sign * part, money.currency) for part in parts]
