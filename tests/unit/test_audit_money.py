"""Minor units of two worlds, in the auditor's own tables."""

import pytest

from simulator.audit.money import NotAnAmount, from_decimal, from_stripe


@pytest.mark.parametrize(
    ("amount", "currency", "expected_minor"),
    [
        (1250, "USD", 1250),
        (500, "JPY", 500),
        (12340, "KWD", 12340),
        (1200, "ISK", 12),
        (1200, "UGX", 12),
        (12, "MGA", 1200),
    ],
)
def test_stripe_amount_becomes_iso_minor_units(amount: int, currency: str, expected_minor: int) -> None:
    """Where Stripe's decimals differ from ISO 4217, the auditor shifts on its own."""
    assert from_stripe(amount, currency) == expected_minor


@pytest.mark.parametrize(
    ("text", "currency", "expected_minor"),
    [("12.50", "USD", 1250), ("-12.34", "USD", -1234), ("500", "JPY", 500), ("0.05", "USD", 5), ("12.00", "ISK", 12)],
)
def test_decimal_string_becomes_iso_minor_units(text: str, currency: str, expected_minor: int) -> None:
    """Integers only; a sign is allowed, as refunds have one."""
    assert from_decimal(text, currency) == expected_minor


@pytest.mark.parametrize(
    ("text", "currency"), [("", "USD"), ("1e3", "USD"), ("1.005", "USD"), ("0.50", "ISK"), ("--1", "USD")]
)
def test_what_is_no_whole_minor_unit_is_refused(text: str, currency: str) -> None:
    """Nothing is rounded."""
    with pytest.raises(NotAnAmount):
        from_decimal(text, currency)
