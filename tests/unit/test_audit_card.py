"""Card numbers in text, as the auditor looks for them."""

import pytest

from simulator.audit.card import card_numbers, is_card_number


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424242",
        "pan=4242424242424242&x=1",
        "pan_4242424242424242",
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "2026-11-28 4242424242424242",
        "4242424242424242 2026-11-28",
        "card 4242 4242 4242 4242 12 27",
        "5555555555554444",
        "2223003122003222",
        "3782 822463 10005",
        "6011111111111117",
        "3566002020360505",
        "30569309025904",
        "6200000000000005",
        "4222222222222",
        "\uff14242424242424242",
        "\u0664242424242424242",
    ],
)
def test_card_number_is_found_however_it_is_written(text: str) -> None:
    """I20: 13 to 19 digits, spaces or dashes between, bounded by what is no letter or digit."""
    (masked,) = card_numbers(text)

    assert "242424242" not in masked
    assert len(masked) == len("424242..4242")


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424241",
        "1790000000000",
        "at_ms=1790000000000 due 1790000000123",
        "pi_a4242424242424242",
        "4242424242424242abc",
        "424242424242",
        "42424242424242424242",
        "4242.4242.4242.4242",
        "41111111-1111-4111-8111-111111111111",
        "confirm-1-4242424242424242deadbeef",
        "9999999999999995",
        "",
    ],
)
def test_clean_text_raises_no_alarm(text: str) -> None:
    """A scan that alarms on ids, hashes and instants is switched off by its users."""
    assert list(card_numbers(text)) == []


def test_check_digit_decides() -> None:
    """Luhn: of the ten last digits exactly one is right."""
    numbers = [f"424242424242424{last}" for last in range(10)]

    assert [number for number in numbers if is_card_number(number)] == ["4242424242424242"]
