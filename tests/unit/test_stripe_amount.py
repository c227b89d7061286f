"""Stripe's minor units against ISO 4217, both ways. Source: docs.stripe.com/currencies, failures.md security test 7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.domain.money import EXPONENTS, Money
from zerosum.psp.stripe.amount import STEPS, from_stripe, to_stripe

_ZERO = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_TWO = "AED CHF EUR GBP HUF ISK TWD UGX USD"
_THREE = "BHD JOD KWD OMR TND"
STRIPE_DECIMALS = {
    **dict.fromkeys(_ZERO.split(), 0),
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_THREE.split(), 3),
}
"""As Stripe's page has them: its zero-decimal list, its three-decimal list, and two for all others, of which some here."""


@pytest.mark.parametrize("currency", sorted(STRIPE_DECIMALS))
def test_one_whole_unit_is_written_with_stripes_decimals(currency: str) -> None:
    """1 dollar is 100, 1 yen 1, 1 dinar 1000, 1 króna 100: Stripe's number, whatever ISO says."""
    one = Money(10 ** EXPONENTS[currency], currency)

    assert 10 ** STRIPE_DECIMALS[currency] == to_stripe(one)
    assert one == from_stripe(10 ** STRIPE_DECIMALS[currency], currency.lower())


@pytest.mark.parametrize(
    ("money", "stripe"),
    [
        (Money(500, "JPY"), 500),
        (Money(5, "ISK"), 500),
        (Money(5, "UGX"), 500),
        (Money(500, "MGA"), 5),
        (Money(550, "MGA"), None),  # half an ariary
        (Money(1_990, "HUF"), 1_990),
        (Money(1_234, "KWD"), None),  # card schemes clear two decimals
        (Money(1_230, "KWD"), 1_230),
        (Money(5 * 10**14, "JPY"), 5 * 10**14),
    ],
)
def test_an_amount_is_sent_exactly_or_not_at_all(money: Money, stripe: int | None) -> None:
    """Nothing is ever rounded: what Stripe cannot charge exactly is None."""
    assert stripe == to_stripe(money)


@pytest.mark.parametrize(
    ("amount", "currency", "money"),
    [
        (550, "isk", None),  # 5.50 krónur cannot be: neither 5 nor 6 would be true
        (550, "ugx", None),
        (7, "mga", Money(700, "MGA")),
        (1_234, "kwd", Money(1_234, "KWD")),  # a fact, though we would not have sent it
        (100, "zzz", Money(100, "ZZZ")),  # unknown to us: no money we asked for equals it
    ],
)
def test_an_amount_is_read_exactly_or_not_at_all(amount: int, currency: str, money: Money | None) -> None:
    """What Stripe says is a fact, if our minor units can say it."""
    assert money == from_stripe(amount, currency)


@given(st.sampled_from(sorted(EXPONENTS)), st.integers(0, 10**15))
def test_what_is_sent_is_read_back_the_same(currency: str, amount_minor: int) -> None:
    """from_stripe is the inverse of to_stripe for every currency of the house."""
    money = Money(amount_minor, currency)
    amount = to_stripe(money)

    assert amount is None or money == from_stripe(amount, currency.lower())


@given(st.sampled_from(sorted(STEPS)), st.integers(0, 10**12))
def test_three_decimal_currencies_go_in_steps_of_ten(currency: str, tens: int) -> None:
    """The last digit must be zero, or Stripe refuses the charge."""
    assert tens * 10 == to_stripe(Money(tens * 10, currency))
    assert to_stripe(Money(tens * 10 + 1, currency)) is None
