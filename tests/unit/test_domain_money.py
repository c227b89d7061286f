"""Amounts: what the parser takes and refuses, and what formatting and splitting keep. Source: failures.md, security test 7."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerosum.domain.money import EXPONENTS, Money, format_amount, parse_amount, parse_signed, split
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import Bug
from zerosum.limits import AMOUNT_LENGTH_MAX, AMOUNT_MINOR_MAX

FIELD = "payment_orders[2].amount"

currencies = st.sampled_from(sorted(EXPONENTS))
minor = st.integers(1, AMOUNT_MINOR_MAX)
signed_minor = st.integers(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)


def reason_of(text: str, currency: str) -> Reason:
    refused = parse_amount(text, currency, FIELD)
    assert isinstance(refused, Refusal), f"{text!r} {currency} was taken as {refused}"
    return refused.reason


@pytest.mark.parametrize(
    ("text", "currency", "amount_minor"),
    [
        ("1", "USD", 100),
        ("1.5", "USD", 150),
        ("1.05", "USD", 105),
        ("0.01", "USD", 1),
        ("10.00", "EUR", 1000),
        ("1", "JPY", 1),
        ("500", "JPY", 500),
        ("1.234", "KWD", 1234),
        ("0.001", "BHD", 1),
        ("500000000000000", "JPY", 5 * 10**14),
        ("1000000000000000", "JPY", 10**15),
        ("10000000000000.00", "USD", 10**15),
    ],
)
def test_an_amount_is_read_as_minor_units(text: str, currency: str, amount_minor: int) -> None:
    assert Money(amount_minor, currency) == parse_amount(text, currency, FIELD)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "-", "+", "1.", ".5", "+1", "-1", "-0", "-0.00", "--1", "1-", " 1 ", " 1", "1 ", "1\n", "\n1", "1\r\n",
        "1\t", "1e3", "1E3", "1e-3", "1E+999999999", "0x10", "0b1", "1_000", "1,00", "1,000.00", "1.000.000", "1..0",
        "1.0.0", "1'000", "1 000", "NaN", "nan", "sNaN", "Infinity", "inf", "-Infinity", "1\x00", "\x001", "\x00",
        "1.0\x00", "\u202e1", "1\u200f", "\u20661\u2069", "\ufeff1", "1\u00a0", "\u00a01", "1\u200b", "\u2212" "1",
        "\u0661", "\u0661\u0662.\u0665", "\u0967", "\uff11", "1\uff0e5", "1.\uff15", "\u00b2", "\u2460", "\U0001d7cf",
        "1\u066b5", "$1", "1USD", "USD 1", "one", "true", "None", "1;", "'1'", '"1"', "1/2", "1%", "(1)",
        "007", "00", "01.5", "00.5", "-007",
        "1" + "0" * 30, "1" + "0" * 400, "9" * 100_000, "0." + "0" * 400 + "1",
    ],
)  # fmt: skip
def test_what_is_not_plain_ascii_digits_is_malformed(text: str) -> None:
    """Signs, spaces, exponents, foreign digits, separators, control marks, padding and length are all refused alike."""
    assert {Reason.AMOUNT_MALFORMED} == {reason_of(text, currency) for currency in ("USD", "JPY", "KWD", "XXX")}


@pytest.mark.parametrize("text", ["0", "0.0", "0.00", "0.000", "0.0000000000"])
def test_zero_is_not_positive_whatever_the_currency(text: str) -> None:
    assert {Reason.AMOUNT_NOT_POSITIVE} == {reason_of(text, currency) for currency in ("USD", "JPY", "KWD", "XXX")}


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("1.005", "USD"),
        ("1.000", "USD"),
        ("0.001", "USD"),
        ("1.5", "JPY"),
        ("1.0", "JPY"),
        ("0.5", "JPY"),
        ("1.2345", "KWD"),
    ],
)
def test_more_decimals_than_the_currency_has_are_refused(text: str, currency: str) -> None:
    assert reason_of(text, currency) == Reason.AMOUNT_TOO_PRECISE


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("1000000000000001", "JPY"),
        ("10000000000000.01", "USD"),
        ("1000000000000.001", "KWD"),
        ("9" * AMOUNT_LENGTH_MAX, "USD"),
        ("10000000000000000.005", "USD"),
    ],
)
def test_more_than_the_largest_amount_is_refused(text: str, currency: str) -> None:
    """Too large is told before too precise, in the order of the enum."""
    assert reason_of(text, currency) == Reason.AMOUNT_TOO_LARGE


@pytest.mark.parametrize(
    "currency",
    [
        "", "US", "USDX", "usd", "Usd", "jpy", "USD ", " USD", "USD\n", "U\u0405D", "\uff35\uff33\uff24", "US\x00", "840",
        "ZZZ", "QQQ", "BTC",
        "HRK", "SLL", "ZWL", "CUC", "ANG", "BGN", "DEM", "FRF", "ITL", "LTL", "LVL", "EEK", "SKK", "BYR", "MRO", "STD", "VEF",
        "BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "UYW", "XAD", "XDR", "XSU", "XUA",
        "XAG", "XAU", "XPD", "XPT", "XBA", "XBB", "XBC", "XBD", "XTS", "XXX",
    ],
)  # fmt: skip
def test_unknown_retired_and_fund_currencies_are_refused_at_their_own_field(currency: str) -> None:
    refused = parse_amount("1", currency, FIELD)

    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.field) == (Reason.CURRENCY_UNKNOWN, "payment_orders[2].currency")


def test_the_field_of_a_bare_amount_has_a_bare_sibling() -> None:
    refused = parse_amount("1", "XXX", "amount")

    assert isinstance(refused, Refusal)
    assert refused.field == "currency"


def test_a_refusal_names_the_field_and_never_echoes_the_value() -> None:
    for text in ("4242.4242", "42424242424242424", "-4242", "4242e1"):
        refused = parse_amount(text, "USD", FIELD)
        assert isinstance(refused, Refusal)
        assert refused.field == FIELD
        assert "4242" not in refused.message


def test_the_table_has_every_currency_once_with_its_decimals() -> None:
    """155 codes of ISO 4217 list one as of 2026 are currencies of two, none or three decimals; nothing has four."""
    assert Counter(EXPONENTS.values()) == {0: 16, 2: 132, 3: 7}
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in EXPONENTS)


@given(minor, currencies)
def test_a_formatted_amount_reads_back_as_the_same_money(amount_minor: int, currency: str) -> None:
    money = Money(amount_minor, currency)

    assert money == parse_amount(format_amount(money), currency, FIELD)


@given(signed_minor, currencies)
@example(0, "USD")
@example(-1, "KWD")
def test_a_formatted_signed_amount_reads_back_as_the_same_money(amount_minor: int, currency: str) -> None:
    money = Money(amount_minor, currency)
    text = format_amount(money)

    assert len(text) <= AMOUNT_LENGTH_MAX
    assert money == parse_signed(text, currency, FIELD)


@given(st.from_regex(r"\A(0|[1-9][0-9]{0,12})(\.[0-9]{1,3})?\Z"), currencies)
def test_an_amount_taken_formats_to_the_same_figure(text: str, currency: str) -> None:
    """Nothing is lost or gained: both texts are equal once the decimals are filled up."""
    parsed = parse_amount(text, currency, FIELD)
    if isinstance(parsed, Refusal):
        return

    whole, _, decimals = text.partition(".")
    exponent = EXPONENTS[currency]
    assert format_amount(parsed) == (f"{whole}.{decimals.ljust(exponent, '0')}" if exponent else whole)


@given(st.text(max_size=30), st.one_of(currencies, st.text(max_size=4)))
def test_any_text_is_either_money_in_range_or_a_refusal(text: str, currency: str) -> None:
    for parsed in (parse_amount(text, currency, FIELD), parse_signed(text, currency, FIELD)):
        if isinstance(parsed, Money):
            assert text.isascii()
            assert abs(parsed.amount_minor) <= AMOUNT_MINOR_MAX
            assert parsed.currency in EXPONENTS


@pytest.mark.parametrize(
    ("text", "amount_minor"), [("-1", -100), ("-0.01", -1), ("0", 0), ("0.00", 0), ("2.50", 250), ("-10.5", -1050)]
)
def test_a_signed_amount_may_be_negative_or_zero(text: str, amount_minor: int) -> None:
    assert Money(amount_minor, "USD") == parse_signed(text, "USD", FIELD)


@pytest.mark.parametrize(
    "text", ["-0", "-0.00", "+1", "--1", "- 1", "-", "-.5", "-1.", "\u22121", "(1)", "1-", "-01", ""]
)
def test_a_malformed_signed_amount_is_refused(text: str) -> None:
    refused = parse_signed(text, "USD", FIELD)

    assert isinstance(refused, Refusal)
    assert refused.reason == Reason.AMOUNT_MALFORMED


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [(1, "USD", "0.01"), (-1, "USD", "-0.01"), (0, "USD", "0.00"), (1234, "USD", "12.34"), (0, "JPY", "0"),
     (-500, "JPY", "-500"), (5, "KWD", "0.005"), (-1234567, "KWD", "-1234.567")],
)  # fmt: skip
def test_money_is_written_with_all_the_decimals_of_its_currency(amount_minor: int, currency: str, text: str) -> None:
    assert text == format_amount(Money(amount_minor, currency))


@pytest.mark.parametrize(
    ("money", "text"),
    [(Money(1_000, "USD"), "10.00 USD"), (Money(-5, "JPY"), "-5 JPY"), (Money(7, "XXX"), "7 minor units of XXX")],
)
def test_money_in_a_sentence_reads_as_people_write_it(money: Money, text: str) -> None:
    """Refusals and cases name amounts; what a PSP says may be of any currency, and is told all the same."""
    assert f"{money}" == text


def test_money_of_an_unknown_currency_cannot_be_written() -> None:
    with pytest.raises(Bug):
        format_amount(Money(1, "XXX"))


@pytest.mark.parametrize(
    ("amount_minor", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (100, [97, 3], [97, 3]),
        (1, [1, 1], [1, 0]),
        (2, [0, 1, 1], [0, 1, 1]),
        (5, [1, 2, 3], [1, 2, 2]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (0, [1, 2], [0, 0]),
        (10, [7], [10]),
    ],
)
def test_a_split_goes_by_largest_remainder(amount_minor: int, weights: list[int], parts: list[int]) -> None:
    assert parts == [part.amount_minor for part in split(Money(amount_minor, "USD"), weights)]


@given(signed_minor, st.lists(st.integers(0, 10**12), min_size=1, max_size=30).filter(any))
def test_the_parts_of_a_split_sum_to_the_whole_and_are_off_by_less_than_a_unit(
    amount_minor: int, weights: list[int]
) -> None:
    parts = split(Money(amount_minor, "EUR"), weights)

    assert amount_minor == sum(part.amount_minor for part in parts)
    for part, weight in zip(parts, weights, strict=True):
        assert part.currency == "EUR"
        assert abs(part.amount_minor * sum(weights) - amount_minor * weight) < sum(weights)
        assert part.amount_minor * amount_minor >= 0


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [-1, 2], [1, -1]])
def test_weights_that_share_nothing_out_are_a_bug(weights: list[int]) -> None:
    with pytest.raises(Bug):
        split(Money(1, "EUR"), weights)
