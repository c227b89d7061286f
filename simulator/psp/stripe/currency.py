"""The currencies Stripe settles and how many decimals each has on Stripe's wire.

Where Stripe differs from ISO 4217 (ISK and UGX are sent with two decimals), Stripe's number stands here.
"""

from __future__ import annotations

from typing import Final

_TWO: Final = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc"
    " cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes kgs khr"
    " kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk"
    " php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah ugx usd"
    " uyu uzs wst xcd yer zar zmw"
)
_ZERO: Final = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
_THREE: Final = "bhd jod kwd omr tnd"

DECIMALS: Final[dict[str, int]] = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_ZERO.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
}
"""Lower-case code -> decimals of its minor unit on Stripe's wire."""


def major_units(amount_minor: int, currency: str) -> str:
    """Return the amount as a decimal string: -1234 usd -> "-12.34", 500 jpy -> "500"."""
    decimals = DECIMALS[currency]
    if decimals == 0:
        return str(amount_minor)
    whole, part = divmod(abs(amount_minor), 10**decimals)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole}.{part:0{decimals}d}"


def minor_units(text: str, currency: str) -> int:
    """Return what `major_units` was given: "-12.34" usd -> -1234. Raises ValueError for any other form of a number."""
    whole, _, part = text.removeprefix("-").partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit() and whole) or len(part) != DECIMALS[currency]:
        raise ValueError(f"{text!r} is no amount of {currency}")
    return -int(digits) if text.startswith("-") else int(digits)
