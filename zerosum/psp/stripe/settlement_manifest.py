"""The manifest beside a payout reconciliation report: its control totals. Pure, over bytes of any kind.

JSON: rows (payout rows included), sums {currency: {gross, fee, net}} of all rows but those, payouts [{id, currency, amount}],
sha256, version (of the reports of one period), period {from_ms, to_ms}, report_type. Amounts are decimal strings in major
units. Stripe itself sends the report alone; whoever fetches it writes the manifest, as the simulator does.

Invariant: what is not as above is a Refusal that names the path and never echoes a value.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.settlement_control import Manifest, Sums
from zerosum.limits import AMOUNT_MINOR_MAX, SETTLEMENT_MANIFEST_BYTES_MAX, SETTLEMENT_PAYOUTS_MAX
from zerosum.psp.stripe.settlement import amount_of

REPORT_TYPE: Final = "payout_reconciliation.itemized.5"

_TO_MS_MAX: Final = 253_402_300_800_000
"""The end of the year 9999: later instants are no dates."""
_VERSION_MAX: Final = 2**31 - 1
"""A column of 32 bits keeps it."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
_CURRENCY: Final = re.compile(r"[a-z]{3}", re.ASCII)


def read_manifest(content: bytes) -> Manifest | Refusal:
    """The manifest's control totals. Refusals: MALFORMED, AMOUNT_MALFORMED and its like, with the path of what is wrong."""
    if len(content) > SETTLEMENT_MANIFEST_BYTES_MAX:
        return Refusal(Reason.MALFORMED, "manifest", "the manifest is too large")
    try:
        told = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return _wrong("", "not JSON in UTF-8")
    if not isinstance(told, dict) or told.get("report_type") != REPORT_TYPE:
        return _wrong("report_type", f"not a report of the type {REPORT_TYPE}")
    period, digest = told.get("period"), told.get("sha256")
    period = period if isinstance(period, dict) else {}
    from_ms, to_ms = _whole(period.get("from_ms")), _whole(period.get("to_ms"))
    rows, version = _whole(told.get("rows")), _whole(told.get("version"))
    if from_ms is None or to_ms is None or not from_ms < to_ms <= _TO_MS_MAX:
        return _wrong("period", "not a period in milliseconds")
    if rows is None or not version or version > _VERSION_MAX:
        return _wrong("rows" if rows is None else "version", "not a whole number")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        return _wrong("sha256", "not 64 hex digits")
    sums, payouts = _sums(told.get("sums")), _payouts(told.get("payouts", []))
    if isinstance(sums, Refusal):
        return sums
    if isinstance(payouts, Refusal):
        return payouts
    return Manifest(
        rows=rows,
        sums=sums,
        payouts=payouts,
        sha256=digest,
        series=f"{REPORT_TYPE}/{from_ms}-{to_ms}",
        version=version,
        period_from_ms=from_ms,
        period_to_ms=to_ms,
    )


def _sums(told: object) -> Mapping[str, Sums] | Refusal:
    if not isinstance(told, dict):
        return _wrong("sums", "not sums by currency")
    sums = {}
    for currency, totals in told.items():
        parts = []
        for name in ("gross", "fee", "net"):
            minor = _minor(totals.get(name) if isinstance(totals, dict) else None, currency, "sums")
            if isinstance(minor, Refusal):
                return minor
            parts.append(minor)
        sums[currency.upper()] = Sums(*parts)
    return sums


def _payouts(told: object) -> Mapping[tuple[str, str], int] | Refusal:
    if not isinstance(told, list) or len(told) > SETTLEMENT_PAYOUTS_MAX:
        return _wrong("payouts", "not a list of payouts, or too long")
    payouts = {}
    for number, payout in enumerate(told):
        where = f"payouts[{number}]"
        name = payout.get("id") if isinstance(payout, dict) else None
        if not isinstance(name, str) or not _ID.fullmatch(name):
            return _wrong(where, "not a payout with an id")
        minor = _minor(payout.get("amount"), payout.get("currency"), where)
        if isinstance(minor, Refusal):
            return minor
        payouts[name, payout["currency"].upper()] = minor
    return payouts


def _minor(text: object, currency: object, where: str) -> int | Refusal:
    """A total in minor units. It is bounded as an amount is: ten trillion of a currency with two decimals."""
    if not isinstance(text, str) or not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        return _wrong(where, "not an amount with its currency")
    money = amount_of(text, currency.upper(), f"manifest.{where}.amount")
    return money if isinstance(money, Refusal) else money.amount_minor


def _whole(value: object) -> int | None:
    """A whole number from 0 on, below any that could be meant."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and isinstance(value, int) and 0 <= value <= AMOUNT_MINOR_MAX else None


def _wrong(where: str, message: str) -> Refusal:
    return Refusal(Reason.MALFORMED, f"manifest.{where}" if where else "manifest", message)
