"""Which period a run is asked for: one that has begun, and that some file could be of."""

import pytest

from servers.period import run_key
from zerosum.domain.refusal import Reason, Refusal
from zerosum.reconciling import RunKey, RunKind

NOW_S = 1_772_451_000
"""2026-03-02T11:30:00Z."""


def _asked(kind: RunKind, period: str) -> RunKey | Refusal:
    return run_key(kind, "stripe" if kind is RunKind.NIGHTLY else "", period, psps={"stripe"}, now_s=NOW_S)


@pytest.mark.parametrize(
    ("kind", "period"),
    [
        (RunKind.NIGHTLY, "0001-01-01"),
        (RunKind.NIGHTLY, "1999-12-31"),
        (RunKind.INSIDE, "0001-01-01T00"),
        (RunKind.NIGHTLY, "2026-03-03"),
        (RunKind.INSIDE, "2026-03-02T12"),
    ],
)
def test_a_period_before_there_was_any_file_or_that_has_not_begun_is_refused_by_name(
    kind: RunKind, period: str
) -> None:
    """The first days there are have no day so long before them as movements are kept: such a run would never end."""
    refused = _asked(kind, period)

    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.field) == (Reason.MALFORMED, "period")


@pytest.mark.parametrize(
    ("kind", "period"),
    [(RunKind.NIGHTLY, "2000-01-01"), (RunKind.NIGHTLY, "2026-03-02"), (RunKind.INSIDE, "2026-03-02T11")],
)
def test_a_period_from_the_first_to_the_present_one_is_run(kind: RunKind, period: str) -> None:
    assert _asked(kind, period) == RunKey(kind, "stripe" if kind is RunKind.NIGHTLY else "", period)
