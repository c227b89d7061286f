"""Card numbers: found wherever somebody puts one, so that none is ever kept. Never stores, returns or prints what it finds.

A card number is 13 to 19 digits with an issuer's prefix, of that issuer's lengths, and a right check digit (Luhn). Its
digits may be of any script, and may be grouped by spaces or dashes of any kind, marks without width included; nothing
else may stand inside it, and no letter or digit right beside it. Looser rules alarm on clean data: hashes, instants.

Every string of a request is searched. No alarm by construction: our derived keys (their 40
hex digits are longer than a card), UUIDs with a letter in them (dashes at 8-4-4-4-12 are no card's grouping), instants in
milliseconds, microseconds and nanoseconds (they begin with 1, no issuer's digit). Source: failures.md I20, security test 6.

Invariant: the text is only looked at; a caller names the field, never the value.
"""

import re
import unicodedata

DIGITS_MIN = 13
DIGITS_MAX = 19

_ISSUERS: tuple[tuple[str, str, int, int], ...] = (
    # first prefix, last prefix, fewest digits, most digits; source: ISO/IEC 7812 ranges as the schemes publish them
    ("2200", "2204", 16, 19),  # Mir
    ("2221", "2720", 16, 16),  # Mastercard
    ("300", "305", 14, 19),  # Diners Club
    ("3095", "3095", 14, 19),  # Diners Club
    ("34", "34", 15, 15),  # American Express
    ("3528", "3589", 16, 19),  # JCB
    ("36", "36", 14, 19),  # Diners Club
    ("37", "37", 15, 15),  # American Express
    ("38", "39", 14, 19),  # Diners Club
    ("4", "4", 13, 13),  # Visa, old
    ("4", "4", 16, 16),  # Visa
    ("4", "4", 18, 19),  # Visa, Visa Electron
    ("50", "50", 13, 19),  # Maestro, Elo, Verve, RuPay
    ("51", "55", 16, 16),  # Mastercard
    ("56", "58", 13, 19),  # Maestro
    ("60", "69", 13, 19),  # Maestro, Discover, UnionPay, RuPay, Hipercard, InterPayment
    ("81", "82", 16, 19),  # UnionPay, RuPay
    ("9792", "9792", 16, 16),  # Troy
)

_UUID = re.compile(r"(?<![^\W_])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![^\W_])")
"""A UUID between non-alphanumerics."""

_ENOUGH_DIGITS = re.compile(r"(?:[0-9][^0-9A-Za-z]*){13}", re.ASCII)
"""What an ASCII text must hold before it is worth a closer look; nearly none does."""

_SEPARATOR_CATEGORIES = frozenset({"Zs", "Zl", "Zp", "Pd", "Cf", "Mn", "Me"})
"""Unicode's spaces, dashes, and the marks that take no room of their own (zero-width, direction, combining)."""

_SEPARATORS_MORE = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2212\u2043")
"""Spaces that Unicode calls controls; the minus sign and the hyphen bullet, which it does not call dashes."""


def holds_card_number(text: str) -> bool:
    """Whether a card number stands anywhere in the text."""
    if len(text) < DIGITS_MIN or (text.isascii() and not _ENOUGH_DIGITS.search(text)):
        return False
    runs = _digit_runs(_UUID.sub(_masked, text))
    return any(_starts_with_card(run[at : at + DIGITS_MAX]) for run in runs for at in range(len(run)))


def _masked(uuid: re.Match[str]) -> str:
    """A word instead of the UUID; one of digits alone stays, and is searched like any other text."""
    return uuid[0] if uuid[0].replace("-", "").isdigit() else "u"


def _digit_runs(text: str) -> list[list[str]]:
    """The text's runs of digit groups: groups are whole words of digits, only separators stand between those of a run."""
    runs: list[list[str]] = []
    is_joined = False
    for word, is_word in _words(text):
        if is_word:
            digits = _ascii_digits(word)
            if digits is None:
                is_joined = False
            elif is_joined:
                runs[-1].append(digits)
            else:
                runs.append([digits])
                is_joined = True
        elif not all(_is_separator(mark) for mark in word):
            is_joined = False
    return runs


def _words(text: str) -> list[tuple[str, bool]]:
    """The text cut into words (letters and digits) and what stands between them, in order; True marks a word."""
    words: list[tuple[str, bool]] = []
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or text[end].isalnum() != text[start].isalnum():
            words.append((text[start:end], text[start].isalnum()))
            start = end
    return words


def _ascii_digits(word: str) -> str | None:
    """The word in ASCII digits, whatever script they are of, or None where something else stands in it."""
    values = [unicodedata.digit(mark, -1) for mark in word]
    return None if -1 in values else "".join(map(str, values))


def _is_separator(mark: str) -> bool:
    return mark in _SEPARATORS_MORE or unicodedata.category(mark) in _SEPARATOR_CATEGORIES


def _starts_with_card(groups: list[str]) -> bool:
    """Whether the first group, or it and some that follow it, are a card number."""
    number = ""
    for group in groups:
        number += group
        if len(number) > DIGITS_MAX:
            return False
        if len(number) >= DIGITS_MIN and _is_issued(number) and _is_luhn(number):
            return True
    return False


def _is_issued(number: str) -> bool:
    return any(
        first <= number[: len(first)] <= last and fewest <= len(number) <= most
        for first, last, fewest, most in _ISSUERS
    )


def _is_luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    doubled = (2 * digit for digit in digits[1::2])
    return (sum(digits[::2]) + sum(digit // 10 + digit % 10 for digit in doubled)) % 10 == 0
