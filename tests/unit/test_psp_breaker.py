"""The circuit breaker on a hand-moved clock. Source: failures.md rows S2, S3."""

from dataclasses import dataclass

import pytest

from zerosum.errors import NotSent
from zerosum.psp.breaker import Breaker, BreakerState


@dataclass
class HandClock:
    now_ms: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> Breaker:
    return Breaker("stripe", clock, window_ms=10_000, calls_min=10, failed_percent=50, open_ms=1_000, open_cap_ms=8_000)


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def call(breaker: Breaker, *, is_answered: bool, times: int = 1) -> None:
    for _ in range(times):
        with breaker.enter() as passage:
            passage.answered() if is_answered else passage.failed()


def opened(breaker: Breaker) -> Breaker:
    call(breaker, is_answered=False, times=10)
    assert state_of(breaker) is BreakerState.OPEN
    return breaker


def wait_asked(breaker: Breaker) -> int:
    with pytest.raises(NotSent) as refused:
        breaker.enter()
    return refused.value.retry_after_ms


def test_calls_pass_while_the_psp_answers(breaker: Breaker) -> None:
    call(breaker, is_answered=True, times=1_000)

    assert state_of(breaker) is BreakerState.CLOSED


def test_too_few_calls_prove_nothing(breaker: Breaker) -> None:
    call(breaker, is_answered=False, times=9)

    assert state_of(breaker) is BreakerState.CLOSED


def test_a_psp_that_fails_less_than_the_share_stays_open_to_calls(breaker: Breaker) -> None:
    for _ in range(100):
        call(breaker, is_answered=True, times=6)
        call(breaker, is_answered=False, times=4)

    assert state_of(breaker) is BreakerState.CLOSED


def test_too_many_failures_open_it_and_nothing_is_sent_until_the_pause_is_over(
    breaker: Breaker, clock: HandClock
) -> None:
    opened(breaker)
    clock.now_ms += 400

    assert wait_asked(breaker) == 600


def test_failures_that_are_past_the_window_are_forgotten(breaker: Breaker, clock: HandClock) -> None:
    call(breaker, is_answered=False, times=9)
    clock.now_ms += 10_000
    call(breaker, is_answered=False, times=9)

    assert state_of(breaker) is BreakerState.CLOSED


def test_one_probe_passes_when_the_pause_is_over_and_no_other(breaker: Breaker, clock: HandClock) -> None:
    opened(breaker)
    clock.now_ms += 1_000

    assert state_of(breaker) is BreakerState.HALF_OPEN
    with breaker.enter():
        assert [wait_asked(breaker) for _ in range(50)] == [1_000] * 50


def test_a_probe_that_is_answered_closes_it(breaker: Breaker, clock: HandClock) -> None:
    opened(breaker)
    clock.now_ms += 1_000
    call(breaker, is_answered=True)

    assert state_of(breaker) is BreakerState.CLOSED
    call(breaker, is_answered=False, times=9)
    assert state_of(breaker) is BreakerState.CLOSED, "the failures before the outage are forgotten"


def test_each_failed_probe_doubles_the_pause_up_to_the_cap(breaker: Breaker, clock: HandClock) -> None:
    opened(breaker)
    pauses = []
    for _ in range(6):
        pauses.append(wait_asked(breaker))
        clock.now_ms += pauses[-1]
        call(breaker, is_answered=False)

    assert pauses == [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]


def test_the_pause_starts_anew_after_a_recovery(breaker: Breaker, clock: HandClock) -> None:
    opened(breaker)
    clock.now_ms += 1_000
    call(breaker, is_answered=False)
    clock.now_ms += 2_000
    call(breaker, is_answered=True)
    opened(breaker)

    assert wait_asked(breaker) == 1_000


def test_a_canceled_probe_lets_the_next_one_go(breaker: Breaker, clock: HandClock) -> None:
    """A probe that tells neither success nor failure must not shut the PSP out for ever."""
    opened(breaker)
    clock.now_ms += 1_000
    with pytest.raises(RuntimeError), breaker.enter():
        raise RuntimeError("the caller was canceled")

    assert state_of(breaker) is BreakerState.HALF_OPEN
    call(breaker, is_answered=True)
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_call_that_was_turned_away_with_429_counts_neither_way(breaker: Breaker) -> None:
    call(breaker, is_answered=False, times=9)
    for _ in range(100):
        with breaker.enter():
            pass

    assert state_of(breaker) is BreakerState.CLOSED


def test_a_late_answer_from_before_the_outage_does_not_close_it(breaker: Breaker, clock: HandClock) -> None:
    slow = breaker.enter()
    opened(breaker)
    slow.answered()
    assert state_of(breaker) is BreakerState.OPEN

    clock.now_ms += 1_000
    probe = breaker.enter()
    slow.failed()
    assert wait_asked(breaker) == 1_000, "the probe is still under way"
    probe.answered()
    assert state_of(breaker) is BreakerState.CLOSED


def test_calls_sent_before_the_outage_neither_prolong_the_pause_nor_open_it_again(
    breaker: Breaker, clock: HandClock
) -> None:
    """What was under way when it opened times out later, all at once: old news."""
    during, after = ([breaker.enter() for _ in range(20)] for _ in range(2))
    opened(breaker)
    clock.now_ms += 900
    for passage in during:
        passage.failed()
    assert wait_asked(breaker) == 100

    clock.now_ms += 100
    call(breaker, is_answered=True)
    for passage in after:
        passage.failed()
    assert state_of(breaker) is BreakerState.CLOSED


def test_an_hour_of_outage_costs_one_call_in_each_pause(breaker: Breaker, clock: HandClock) -> None:
    """Ten callers try each second for an hour; once the PSP is back, the first probe lets everybody in."""
    sent = 0
    for _ in range(36_000):
        clock.now_ms += 100
        try:
            passage = breaker.enter()
        except NotSent:
            continue
        with passage:
            sent += 1
            passage.failed()

    assert sent <= 10 + 3_600_000 // 8_000 + 4
    clock.now_ms += 8_000
    call(breaker, is_answered=True, times=100)
    assert state_of(breaker) is BreakerState.CLOSED
