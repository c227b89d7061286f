"""Card numbers are found in every disguise that people use; clean data raises no alarm. Source: failures.md I20, point 6."""

import unicodedata
import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zerosum.domain.card import holds_card_number
from zerosum.domain.identity import derived_key

CARDS = [
    "4242424242424242",  # Visa
    "4222222222222",  # Visa of 13 digits
    "4000000000000000006",  # Visa of 19 digits
    "5555555555554444",  # Mastercard
    "2223003122003222",  # Mastercard of the newer range
    "378282246310005",  # American Express
    "6011111111111117",  # Discover
    "30569309025904",  # Diners Club
    "36227206271667",  # Diners Club
    "3566002020360505",  # JCB
    "6200000000000005",  # UnionPay
    "6759649826438453",  # Maestro
    "2201382000000013",  # Mir
    "9792030000000000",  # Troy
]

SPACES_AND_DASHES = [
    " ", "-", "  ", " - ", "\t", "\n", "\u00a0", "\u2009", "\u202f", "\u3000", "\u2010", "\u2011", "\u2013", "\u2014", "\u2212",
    "\uff0d", "\u200b", "\u00ad", "\ufeff", "\u2060", "\u200f",
]  # fmt: skip

ZEROS = {"full-width": 0xFF10, "Arabic-Indic": 0x0660, "Persian": 0x06F0, "Devanagari": 0x0966, "Bengali": 0x09E6,
         "mathematical": 0x1D7CE}  # fmt: skip


def with_check_digit(body: str) -> str:
    """The digits and the one that makes them pass Luhn, found by trying."""
    for last in "0123456789":
        digits = [int(digit) for digit in body + last]
        doubled = [2 * digit if at % 2 else digit for at, digit in enumerate(reversed(digits))]
        if sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0:
            return body + last
    raise AssertionError("one of ten digits fits")


def in_script(text: str, zero: int) -> str:
    return "".join(chr(zero + int(mark)) if mark in "0123456789" else mark for mark in text)


visa_numbers = st.from_regex(r"\A4[0-9]{14}\Z").map(with_check_digit)
instants_ms = st.integers(1_000_000_000_000, 1_999_999_999_999)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_of_every_issuer_is_found(card: str) -> None:
    assert holds_card_number(card)


@pytest.mark.parametrize("mark", SPACES_AND_DASHES, ids=lambda mark: "+".join(f"U+{ord(part):04X}" for part in mark))
def test_a_card_number_grouped_by_any_space_or_dash_is_found(mark: str) -> None:
    assert holds_card_number(mark.join(("4242", "4242", "4242", "4242")))
    assert holds_card_number(mark.join("4242424242424242"))


@pytest.mark.parametrize("zero", ZEROS.values(), ids=ZEROS.keys())
def test_a_card_number_in_foreign_digits_is_found(zero: int) -> None:
    assert holds_card_number(in_script("4242424242424242", zero))
    assert holds_card_number(in_script("4242 4242-4242\u30004242", zero))
    assert holds_card_number("4242" + in_script("4242", zero) + "4242 4242")


@pytest.mark.parametrize(
    "around",
    [
        "card: {}.",
        "({})",
        "{}@example.com",
        "pi_{}",
        "a={}&b=1",
        "№{};",
        "ref 12 {} 12/27 123",
        "{} 12 27",
        "tel 555-{}",
        "«{}»",
    ],
)
def test_a_card_number_is_found_among_other_text(around: str) -> None:
    assert holds_card_number(around.format("4242424242424242"))
    assert holds_card_number(around.format("4242 4242 4242 4242"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4242",
        "4242424242424241",  # wrong check digit
        "424242424242",  # 12 digits
        "42424242424242424242",  # 20 digits
        "1000000000000008",  # right check digit, nobody's prefix
        "7000000000000005",
        "x4242424242424242",  # a letter right beside it: part of a longer id
        "4242424242424242x",
        "4242.4242.4242.4242",  # a point or a slash is no card's grouping
        "4242/4242/4242/4242",
        "4242a4242b4242c4242",
        "555555555555444",  # Mastercard has 16 digits
        "2026-11-20 12:30:45.123456",
        "2026-11-20T12:30:45.123456789Z",
        "tok_visa",
        "+44 20 7946 0958",
        "DE89 3704 0044 0532 0130 00",
    ],
)
def test_clean_text_raises_no_alarm(text: str) -> None:
    assert not holds_card_number(text)


@given(
    visa_numbers,
    st.lists(st.sampled_from(["", *SPACES_AND_DASHES]), min_size=15, max_size=15),
    st.sampled_from([0x30, *ZEROS.values()]),
)
def test_no_grouping_and_no_script_hides_a_card_number(card: str, marks: list[str], zero: int) -> None:
    disguised = "".join(digit + mark for digit, mark in zip(in_script(card, zero), [*marks, ""], strict=True))

    assert holds_card_number(disguised)


@given(visa_numbers, st.text(max_size=20), st.text(max_size=20))
def test_text_around_a_card_number_hides_it_only_by_touching_it(card: str, before: str, after: str) -> None:
    assume(not before or not before[-1].isalnum())
    assume(not after or not after[0].isalnum())

    assert holds_card_number(before + card + after)


@given(visa_numbers, st.integers(0, 14))
def test_a_slip_of_one_digit_is_no_card_number(card: str, at: int) -> None:
    """Luhn catches every single wrong digit."""
    slipped = card[:at] + str((int(card[at]) + 1) % 10) + card[at + 1 :]

    assert not holds_card_number(slipped)


@given(
    st.text(max_size=64),
    st.text(max_size=64),
    st.sampled_from(["prepare", "confirm", "cancel", "refund", "credit"]),
    st.integers(1, 99),
)
def test_our_derived_keys_raise_no_alarm(tenant: str, order_id: str, operation: str, number: int) -> None:
    assert not holds_card_number(derived_key(tenant, order_id, operation, number))


@given(st.uuids(), st.sampled_from(["{}", "urn:uuid:{}", "cart-{}", "{}-1", "{}_{}"]))
def test_uuids_raise_no_alarm(value: uuid.UUID, around: str) -> None:
    assume(any(mark.isalpha() for mark in str(value)))

    assert not holds_card_number(around.format(value, value))
    assert not holds_card_number(around.format(value, value).upper())


def test_a_uuid_whose_groups_look_like_a_card_raises_no_alarm_but_one_of_digits_alone_does() -> None:
    """The groups 8-4-4 of the first are a Visa number with a right check digit."""
    assert not holds_card_number("42424242-4242-4242-a123-0123456789ab")
    assert holds_card_number("42424242-4242-4242-8123-012345678901")


@given(instants_ms)
def test_instants_raise_no_alarm(at_ms: int) -> None:
    texts = [str(at_ms), str(at_ms * 1_000), str(at_ms * 1_000_000), f"at {at_ms}, {at_ms}"]

    assert [holds_card_number(text) for text in texts] == [False] * 4


@given(st.text(max_size=80))
def test_text_with_fewer_digits_than_a_card_raises_no_alarm(text: str) -> None:
    assume(sum(unicodedata.digit(mark, -1) >= 0 for mark in text) < 13)

    assert not holds_card_number(text)
