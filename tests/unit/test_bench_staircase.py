"""Steps and the knee, on a system that is a function of the rate; and what of a latency is the PSP's own."""

from dataclasses import replace

import pytest

from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.bench.staircase import STEP, Climb, Step, climb, cpu_a_checkout, step_of
from simulator.psp.faults import Rates


def _call(latency_ms: int, ending: Ending = Ending.FINAL, kind: Kind = Kind.CHECKOUT) -> Call:
    return Call(0, 500, latency_ms * 1_000, kind, ending)


def _step(calls: list[Call], *, drained_s: float = 0.0) -> Step:
    step = step_of(tuple(calls), offered_per_s=100.0, seconds=1.0, limit_ms=300.0)
    return replace(step, drained_s=drained_s)


async def _climbed(capacity: float, *, capacity_long: float | None = None, from_per_s: float = 100.0) -> Climb:
    """Up a system that answers in 10 ms up to its capacity and in 1 s beyond; over a long time it may bear less."""

    async def offer(rate: float, is_long: bool) -> Step:
        bears = capacity_long if is_long and capacity_long is not None else capacity
        latency_ms = 10 if rate <= bears else 1_000
        step = step_of((_call(latency_ms),), offered_per_s=rate, seconds=1.0, limit_ms=300.0, is_long=is_long)
        return replace(step, offered=1)

    return await climb(offer, from_per_s)


async def test_the_knee_is_the_last_rate_held_and_held_again_for_long() -> None:
    """Speed.md: steps of +25 % until p95 > 300 ms; knee = last step held 20 s."""
    found = await _climbed(200.0)

    rates = [(round(step.offered_per_s, 1), step.is_long, step.not_held) for step in found.steps]
    assert rates == [
        (100.0, False, ""), (125.0, False, ""), (156.2, False, ""), (195.3, False, ""),
        (244.1, False, "p95 above 300 ms"), (195.3, True, ""),
    ]  # fmt: skip
    assert found.knee_per_s == pytest.approx(195.3, abs=0.05)


async def test_a_rate_held_for_a_step_only_is_no_knee() -> None:
    """What holds for some seconds and not for twenty has a queue that grows."""
    found = await _climbed(200.0, capacity_long=130.0)

    assert found.knee_per_s == pytest.approx(125.0)
    assert [step.not_held for step in found.steps if step.is_long] == ["p95 above 300 ms", "p95 above 300 ms", ""]


async def test_a_climb_that_begins_too_high_goes_down_first() -> None:
    found = await _climbed(70.0)

    assert found.knee_per_s == pytest.approx(100.0 / STEP**2)


async def test_where_nothing_is_held_there_is_no_knee() -> None:
    found = await _climbed(0.0)

    assert found.knee_per_s is None
    assert len(found.steps) == 13


@pytest.mark.parametrize(
    ("ending", "why"), [(Ending.UNKNOWN, "1 unknown"), (Ending.SHED, "1 shed"), (Ending.REFUSED, "1 refused")]
)
def test_one_error_is_enough_not_to_hold_a_rate(ending: Ending, why: str) -> None:
    assert _step([_call(10)] * 99 + [_call(10, ending)]).not_held == why


def test_a_read_that_fails_is_an_error_too() -> None:
    read, lost = _call(5, Ending.READ, Kind.READ), _call(5, Ending.UNKNOWN, Kind.READ)
    held, broken = _step([_call(10), read]), _step([_call(10), read, lost])

    assert (held.not_held, broken.not_held) == ("", "1 unknown")
    assert held.reads.count == 1


def test_what_is_pending_or_owed_afterwards_does_not_hold_a_rate() -> None:
    """An answer that is not final is no service, and postings that lag behind grow without a bound."""
    pending = _step([_call(10)] * 96 + [_call(10, Ending.PENDING)] * 4)

    assert pending.not_held == "too few final"
    assert _step([_call(10)] * 97 + [_call(10, Ending.PENDING)] * 3).not_held == ""
    assert _step([_call(10)], drained_s=6.0).not_held == "backlog of 6 s"


def test_latency_is_of_final_answers_and_the_rate_counts_them() -> None:
    step = _step([_call(100), _call(200), _call(9_000, Ending.PENDING)])

    assert (step.latency.count, step.latency.max_ms, step.final_per_s) == (2, 200.0, 2.0)
    assert step.late_p95_ms == 0.5


def test_cpu_a_checkout_is_of_those_that_were_taken_on() -> None:
    """A caller turned away costs little and is no checkout: past the knee CPU would else fall with every refusal."""
    taken = [_call(10)] * 6 + [_call(10, Ending.PENDING)] * 2
    away = [_call(1, Ending.SHED)] * 30 + [_call(1, Ending.REFUSED), _call(1, Ending.UNKNOWN)]
    reads = [_call(5, Ending.READ, Kind.READ)] * 9 + [_call(5, Ending.SHED, Kind.READ)]
    step = _step([*taken, *away, *reads])

    assert cpu_a_checkout(step, {"shards": 80.0, "edge": 0.0}) == {"shards": 10.0}
    assert (step.taken_on, step.offered) == (8, 40)


def test_where_nothing_was_taken_on_cpu_is_told_as_it_was_spent() -> None:
    assert cpu_a_checkout(_step([_call(1, Ending.SHED)] * 50), {"edge": 70.0}) == {"edge": 70.0}


def test_the_psps_own_time_is_that_of_its_two_calls() -> None:
    zero, fixed, masonx = (PSP_PROFILES[name] for name in ("zero", "fixed-100ms", "masonx"))

    assert (zero.own_ms(0.95), fixed.own_ms(0.5), fixed.own_ms(0.95)) == (0.0, 200.0, 200.0)
    assert 240 < masonx.own_ms(0.5) < 290  # two medians of 120, and the sum leans to the right
    assert 400 < masonx.own_ms(0.95) < 480


def test_the_slowest_of_several_orders_is_the_psps_part() -> None:
    """Orders of a checkout are charged side by side, and the reply waits for all of them."""
    fixed, masonx = PSP_PROFILES["fixed-100ms"], PSP_PROFILES["masonx"]

    assert fixed.own_ms(0.95, orders=10) == 200.0
    assert masonx.own_ms(0.5, orders=10) > masonx.own_ms(0.9) > masonx.own_ms(0.5, orders=2)


def test_p95_is_held_to_300_ms_unless_the_psp_takes_those_by_itself() -> None:
    limits = {name: profile.p95_limit_ms() for name, profile in PSP_PROFILES.items()}

    assert (limits["zero"], limits["fixed-100ms"]) == (300.0, 300.0)
    assert limits["masonx"] == PSP_PROFILES["masonx"].own_ms(0.95) + 300.0


def test_masonx_fails_seven_calls_of_a_thousand() -> None:
    """Speed.md: 0.7 % faults. Method: the sum of all rates that are shares."""
    rates = Rates.parse(PSP_PROFILES["masonx"].rates).to_document()

    assert sum(rate for rate in rates.values() if isinstance(rate, float)) == pytest.approx(0.007)
