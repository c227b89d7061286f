"""The bound on who may wait for a shard: it follows the rate the shard answers at, and nothing else."""

from actors.admission import Admission
from zerosum.limits import ADMISSION_WAIT_MS, ADMISSION_WAITING_MIN

MOST = 2_000


def _after(*calls: tuple[float, int]) -> Admission:
    """Calls answered one after the other: (mean wait in ms, how many waited)."""
    admission = Admission(MOST)
    for wait_ms, waiting in calls:
        admission.answered(wait_ms, waiting)
    return admission


def test_whoever_comes_may_wait_while_waits_are_short() -> None:
    admission = _after(*[(ADMISSION_WAIT_MS, 500)] * 20)

    assert admission.limit == MOST
    assert (admission.admits(MOST - 1), admission.admits(MOST)) == (True, False)


def test_past_the_target_as_many_may_wait_as_are_answered_within_it() -> None:
    """Little's law: 600 waiting for 400 ms are 1.5 a millisecond, 225 in 150 ms."""
    admission = _after(*[(400.0, 600)] * 5)

    assert admission.limit == 600 * ADMISSION_WAIT_MS // 400


def test_one_slow_commit_turns_nobody_away() -> None:
    """A checkpoint, a collection: 300 ms once, between calls of 50."""
    admission = _after(*[(50.0, 20)] * 10, (200.0, 80), *[(50.0, 20)] * 3)

    assert admission.limit == MOST


def test_a_slow_shard_is_always_left_one_call_of_callers() -> None:
    """Without them nothing would be measured any more."""
    assert _after(*[(60_000.0, 300)] * 10).limit == ADMISSION_WAITING_MIN


def test_the_bound_grows_again_when_waits_are_short_again() -> None:
    """25 calls of 80 ms are two seconds."""
    admission = _after(*[(400.0, 100)] * 10)
    low = admission.limit
    for _ in range(30):
        admission.answered(20.0, low)

    assert admission.limit > 8 * low


def test_a_long_wait_never_widens_the_bound() -> None:
    """Those who came before it was narrowed still wait: their number is no reason to let more in."""
    admission = _after(*[(400.0, 100)] * 10)
    low = admission.limit
    admission.answered(150.0, 1_900)

    assert admission.limit == low
