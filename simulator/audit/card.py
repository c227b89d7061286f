"""Card numbers in text: 13 to 19 digits bounded by non-alphanumerics, parted by spaces or dashes only, with an issuer's
prefix and Luhn's check digit (failures.md, I20).

Own code, as the product's door has its own. Foreign digits (full-width, Arabic) count as digits. UUIDs are passed over:
all-digit parts of them look like cards once in a hundred thousand. Invariant: a number found is never shown whole.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

_UUID: Final = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_RUN: Final = re.compile(r"[0-9]+(?:[ -][0-9]+)*")
_SHORTEST, _LONGEST = 13, 19

_ISSUERS: Final = re.compile(
    "4|5[0-8]|3[47]|30[0-5]|3[689]|35[2-8]|6011|64[4-9]|65|62|6[037]|"  # Visa, Mastercard, Maestro, Amex, Diners, JCB, ...
    "22[2-9]|2[3-6]|27[01]|2720"  # Mastercard's second range
)
_LAYOUTS: Final = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 6, 5), (4, 6, 4), (4, 4, 4, 1), (4, 4, 5)}
)
"""How cards are printed; other groupings count only where they fill the whole run of digits."""


def card_numbers(text: str) -> Iterator[str]:
    """The card numbers in a text, masked: first six and last four digits."""
    plain = _UUID.sub(" ", text if text.isascii() else _with_ascii_digits(text))
    for run in _RUN.finditer(plain):
        if run.end() - run.start() < _SHORTEST:
            continue
        groups = re.split("[ -]", run.group())
        if run.start() and plain[run.start() - 1].isalnum():
            del groups[0]
        if groups and run.end() < len(plain) and plain[run.end()].isalnum():
            del groups[-1]
        yield from (f"{number[:6]}..{number[-4:]}" for number in _candidates(groups) if is_card_number(number))


def is_card_number(digits: str) -> bool:
    """Whether these ASCII digits have the length, the issuer and the check digit of a card."""
    return _SHORTEST <= len(digits) <= _LONGEST and bool(_ISSUERS.match(digits)) and _luhn(digits)


def _candidates(groups: list[str]) -> Iterator[str]:
    seen = {"".join(groups)}
    lengths = tuple(map(len, groups))
    for first in range(len(groups)):
        for last in range(first + 1, min(first + 5, len(groups)) + 1):
            if last - first == 1 or lengths[first:last] in _LAYOUTS:
                seen.add("".join(groups[first:last]))
    yield from seen


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 (the sum of two digits)
    return total % 10 == 0


def _with_ascii_digits(text: str) -> str:
    return "".join(
        str(unicodedata.digit(character)) if character.isdecimal() and not character.isascii() else character
        for character in text
    )
