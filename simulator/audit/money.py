"""Minor units of two worlds: ISO 4217's, which the database holds, and Stripe's, which the PSP's book holds.

Own tables, written from the two documents (ISO 4217 list one; docs.stripe.com/currencies), in integers only.
"""

from typing import Final

_ISO_ZERO: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_ISO_THREE: Final = "BHD IQD JOD KWD LYD OMR TND"
_STRIPE_ZERO: Final = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_STRIPE_THREE: Final = "BHD JOD KWD OMR TND"

_ISO: Final = {**dict.fromkeys(_ISO_ZERO.split(), 0), **dict.fromkeys(_ISO_THREE.split(), 3)}
_STRIPE: Final = {**dict.fromkeys(_STRIPE_ZERO.split(), 0), **dict.fromkeys(_STRIPE_THREE.split(), 3)}
_USUAL: Final = 2


class NotAnAmount(ValueError):
    """The text or number is not a whole number of ISO minor units of its currency."""


def iso_exponent(currency: str) -> int:
    """Decimals of the currency in the database."""
    return _ISO.get(currency, _USUAL)


def from_stripe(amount: int, currency: str) -> int:
    """A number of Stripe's wire as ISO minor units. Raises NotAnAmount."""
    return _rescaled(amount, _STRIPE.get(currency, _USUAL), currency)


def from_decimal(text: str, currency: str) -> int:
    """A signed decimal string in major units as ISO minor units. Raises NotAnAmount."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, part = digits.partition(".")
    if not (whole + part).isascii() or not (whole + part).isdigit() or not whole:
        raise NotAnAmount(f"{text!r} is not a decimal number")
    return sign * _rescaled(int(whole + part), len(part), currency)


def _rescaled(amount: int, decimals: int, currency: str) -> int:
    wanted = iso_exponent(currency)
    if decimals <= wanted:
        return int(amount * 10 ** (wanted - decimals))
    quotient, rest = divmod(amount, 10 ** (decimals - wanted))
    if rest:
        raise NotAnAmount(f"{amount} with {decimals} decimals is no whole amount of {currency}")
    return int(quotient)
