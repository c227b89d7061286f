"""The token bucket on a hand-moved clock. Source: failures.md rows S2, S3."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.errors import NotSent
from zerosum.limits import RETRY_AFTER_CAP_MS
from zerosum.psp.limiter import Limiter


@dataclass
class HandClock:
    now_ms: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def test_a_burst_starts_at_once_and_the_rest_one_by_one() -> None:
    limiter = Limiter("stripe", HandClock(), rate_per_s=10, burst=3)

    assert [limiter.take(wait_max_ms=1_000) for _ in range(7)] == [0, 0, 0, 100, 200, 300, 400]


def test_the_bucket_fills_with_time_but_never_above_the_burst() -> None:
    clock = HandClock()
    limiter = Limiter("stripe", clock, rate_per_s=10, burst=3)
    for _ in range(3):
        limiter.take(wait_max_ms=0)
    clock.now_ms += 200
    assert [limiter.take(wait_max_ms=1_000) for _ in range(3)] == [0, 0, 100]

    clock.now_ms += 3_600_000
    assert [limiter.take(wait_max_ms=1_000) for _ in range(5)] == [0, 0, 0, 100, 200]


def test_a_line_that_is_too_long_is_refused_and_takes_no_place() -> None:
    clock = HandClock()
    limiter = Limiter("stripe", clock, rate_per_s=10, burst=1)
    for _ in range(3):
        limiter.take(wait_max_ms=200)

    for _ in range(100):
        with pytest.raises(NotSent) as refused:
            limiter.take(wait_max_ms=200)
        assert refused.value.retry_after_ms == 300
    assert limiter.take(wait_max_ms=300) == 300


def test_a_psp_that_says_too_many_holds_the_whole_line_back_and_gets_no_burst_after() -> None:
    clock = HandClock()
    limiter = Limiter("stripe", clock, rate_per_s=10, burst=5)
    limiter.hold(2_000)

    assert [limiter.take(wait_max_ms=10_000) for _ in range(3)] == [2_000, 2_100, 2_200]
    limiter.hold(500)
    assert limiter.take(wait_max_ms=10_000) == 2_300, "a shorter hold shortens nothing"


def test_a_long_hold_asks_callers_to_come_back_within_the_cap() -> None:
    limiter = Limiter("stripe", HandClock(), rate_per_s=10, burst=5)
    limiter.hold(10 * RETRY_AFTER_CAP_MS)

    with pytest.raises(NotSent) as refused:
        limiter.take(wait_max_ms=1_000)
    assert refused.value.retry_after_ms == RETRY_AFTER_CAP_MS


@given(
    st.integers(1, 5_000),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 30)), min_size=1, max_size=8),
)
def test_no_stretch_of_time_has_more_calls_than_burst_and_rate_allow(
    rate_per_s: int, burst: int, arrivals: list[tuple[int, int]]
) -> None:
    """Whatever the arrivals: (milliseconds after the last, how many at once). A start is rounded up to a millisecond."""
    clock = HandClock()
    limiter = Limiter("stripe", clock, rate_per_s=rate_per_s, burst=burst)
    starts = []
    for after_ms, callers in arrivals:
        clock.now_ms += after_ms
        starts += [clock.now_ms + limiter.take(wait_max_ms=10**9) for _ in range(callers)]

    assert starts == sorted(starts)
    for first, start in enumerate(starts):
        for last in range(first, len(starts), 7):
            allowed = burst + rate_per_s * (starts[last] - start + 1) // 1_000 + 1
            assert last - first + 1 <= allowed
