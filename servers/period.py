"""Which period a run is asked for: a day of a PSP, or an hour of our own.

Invariant: a key that leaves here names a PSP of ours and a period that has begun, in this century.
"""

from collections.abc import Container
from datetime import UTC, datetime

from zerosum.domain.refusal import Reason, Refusal
from zerosum.reconciling import RunKey, RunKind

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
"""No PSP of ours is as old. Whoever counts days back from a period counts from here at the earliest."""

UNKNOWN_PSP = Refusal(Reason.MALFORMED, "psp", "not a PSP of ours")

_FORMATS = {RunKind.NIGHTLY: "%Y-%m-%d", RunKind.INSIDE: "%Y-%m-%dT%H"}
_EXAMPLES = {RunKind.NIGHTLY: "a day: YYYY-MM-DD", RunKind.INSIDE: "an hour: YYYY-MM-DDTHH"}


def run_key(kind: RunKind, psp: str, period: str, *, psps: Container[str], now_s: int) -> RunKey | Refusal:
    """The key of a run, or why there is none. `period`: UTC; "" = the present hour (INSIDE only). `now_s`: wall clock."""
    if kind is RunKind.NIGHTLY and psp not in psps:
        return UNKNOWN_PSP
    if kind is RunKind.INSIDE and psp:
        return Refusal(Reason.MALFORMED, "psp", "a run of our own services is of no PSP")
    now = datetime.fromtimestamp(now_s, UTC)
    if not period and kind is RunKind.INSIDE:
        return RunKey(kind, psp, now.strftime(_FORMATS[kind]))
    try:
        begin = datetime.strptime(period, _FORMATS[kind]).replace(tzinfo=UTC)
    except ValueError:
        return Refusal(Reason.MALFORMED, "period", _EXAMPLES[kind])
    if begin < FIRST:
        return Refusal(Reason.MALFORMED, "period", f"it is before {FIRST:%Y-%m-%d}")
    if begin > now:
        return Refusal(Reason.MALFORMED, "period", "it has not begun")
    return RunKey(kind, psp, period)
