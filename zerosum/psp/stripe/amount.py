"""Amounts on Stripe's wire: its minor units are not always those of ISO 4217. Nothing else lives here.

Pure. Stripe counts like ISO 4217 but for the currencies of `SHIFTS`, and takes three-decimal currencies in steps of ten.
HUF and TWD are charged with two decimals like the rest; that Stripe pays them out whole concerns pay-outs only.
Source: docs.stripe.com/currencies ("Minor units in API amounts", "Special cases"), failures.md security test 7.

Invariant: nothing is ever rounded. What cannot be said exactly on the other side is None.
"""

from collections.abc import Mapping
from typing import Final

from zerosum.domain.money import Money

SHIFTS: Final[Mapping[str, int]] = {
    "ISK": 2,  # ISO: none. Whole krónur, written with two zeros since before Iceland gave up the eyrir
    "UGX": 2,  # ISO: none. Whole shillings, written with two zeros
    "MGA": -2,  # ISO: two. Stripe takes whole ariary
}
"""Decimals that Stripe writes more (or fewer) than ISO 4217."""

STEPS: Final[Mapping[str, int]] = dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10)
"""Three-decimal currencies: the last digit must be zero, as card schemes clear two decimals."""


def to_stripe(money: Money) -> int | None:
    """The amount as Stripe wants it, in its minor units; None where Stripe cannot charge exactly this much."""
    if money.amount_minor % STEPS.get(money.currency, 1):
        return None
    return _shifted(money.amount_minor, SHIFTS.get(money.currency, 0))


def from_stripe(amount: int, currency: str) -> Money | None:
    """Stripe's amount and its lower-case currency as money of ours; None where our minor units cannot say it."""
    code = currency.upper()
    amount_minor = _shifted(amount, -SHIFTS.get(code, 0))
    return None if amount_minor is None else Money(amount_minor, code)


def _shifted(amount: int, decimals: int) -> int | None:
    factor: int = 10 ** abs(decimals)
    if decimals >= 0:
        return amount * factor
    return None if amount % factor else amount // factor
