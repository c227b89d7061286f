"""The door to all PSPs: choice, slots, deadline, breaker and limiter. Source: failures.md rows S1 to S3, design section 4."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.stripe_objects import INTENT_ID, request
from zerosum.domain.identity import OrderId
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.errors import NotSent, OutcomeUnknown, PspTrouble, StoredFailure
from zerosum.psp.breaker import Breaker, BreakerState
from zerosum.psp.gateway import DEADLINE_MARGIN_MS, Gateway
from zerosum.psp.limiter import Limiter
from zerosum.psp.trouble import TurnedAway, Unsettled

CONFIRM = request(PspVerb.CONFIRM)


def report(status: ObjectStatus = ObjectStatus.CHARGED, psp: str = "stripe") -> Report:
    return Report(ReportSource.ANSWER, OrderId("o-1"), psp, INTENT_ID, status, Money(1_250, "USD"), "o-1", "")


@dataclass
class HandClock:
    now_ms: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class FakePsp:
    """Answers with what it is given, in order; holds every call while `door` is shut."""

    answers: list[Report | BaseException] = field(default_factory=list)
    door: asyncio.Event | None = None
    calls: list[PspRequest] = field(default_factory=list)
    in_flight: int = 0
    in_flight_max: int = 0

    async def call(self, asked: PspRequest) -> Report:
        self.calls.append(asked)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            if self.door is not None:
                await self.door.wait()
            answer = self.answers.pop(0) if self.answers else report(psp=asked.psp)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        finally:
            self.in_flight -= 1


@dataclass
class House:
    """A gateway over one PSP on a hand-moved clock, and what it told its observer."""

    psp: FakePsp
    clock: HandClock = field(default_factory=HandClock)
    observed: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker("stripe", self.clock, calls_min=4, failed_percent=50, open_ms=1_000)
        self.limiter = Limiter("stripe", self.clock, rate_per_s=1_000, burst=1_000)

    def gateway(self, calls_max: int = 8, **options: Any) -> Gateway:
        def observe(operation: str, outcome: str, ms: int) -> None:
            self.observed.append((operation, outcome, ms))

        return Gateway(
            {"stripe": self.psp}, {"stripe": self.breaker}, {"stripe": self.limiter}, calls_max,
            clock_ms=self.clock, observe=observe, **options,
        )  # fmt: skip


async def until(is_so: Callable[[], bool]) -> None:
    """Lets the other tasks run until it is so; no time passes."""
    for _ in range(1_000):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")


async def test_the_request_goes_to_the_psp_it_names() -> None:
    """Choice is by `request.psp`, nothing else."""
    clock, one, two = HandClock(), FakePsp(), FakePsp()
    names = ("stripe", "square")
    gateway = Gateway(
        {"stripe": one, "square": two},
        {name: Breaker(name, clock) for name in names},
        {name: Limiter(name, clock) for name in names},
        clock_ms=clock,
    )
    asked = request(PspVerb.CONFIRM, psp="square")
    answer = await gateway.call(asked)

    assert answer.psp == "square"
    assert (one.calls, two.calls) == ([], [asked])


async def test_a_psp_without_adapter_is_not_sent() -> None:
    """A stored request outlives a deployment: it waits until the adapter is back."""
    house = House(FakePsp())
    with pytest.raises(NotSent):
        await house.gateway().call(request(PspVerb.CONFIRM, psp="gone"))

    assert house.observed == [("confirm", "NOT_SENT", 0)]


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (NotSent("refused"), "NOT_SENT"),
        (TurnedAway("429", 50), "NOT_SENT"),
        (OutcomeUnknown("reset"), "OUTCOME_UNKNOWN"),
        (Unsettled("409"), "OUTCOME_UNKNOWN"),
        (StoredFailure("stored 5xx replayed"), "STORED_FAILURE"),
    ],
)
async def test_the_adapters_trouble_passes_unchanged_and_is_observed(trouble: PspTrouble, outcome: str) -> None:
    """What the adapter says of the money is what the caller hears."""
    house = House(FakePsp([trouble]))
    with pytest.raises(type(trouble)) as caught:
        await house.gateway().call(CONFIRM)

    assert caught.value is trouble
    assert house.observed == [("confirm", outcome, 0)]


async def test_no_answer_by_the_deadline_is_unknown() -> None:
    """Row S1: the request had left; money may have moved."""
    house = House(FakePsp(door=asyncio.Event()))
    gateway = house.gateway(timeout_ms=-DEADLINE_MARGIN_MS)  # a deadline that is over at once
    with pytest.raises(OutcomeUnknown):
        await gateway.call(CONFIRM)

    assert house.psp.in_flight == 0
    assert house.observed == [("confirm", "OUTCOME_UNKNOWN", 0)]


async def test_no_more_calls_are_in_flight_than_slots() -> None:
    """The rest wait, and all are answered."""
    door = asyncio.Event()
    house = House(FakePsp(door=door))
    gateway = house.gateway(calls_max=2)
    waiting = [asyncio.create_task(gateway.call(CONFIRM)) for _ in range(5)]
    await until(lambda: house.psp.in_flight == 2)
    door.set()
    await asyncio.gather(*waiting)

    assert house.psp.in_flight_max == 2
    assert len(house.psp.calls) == 5


async def test_who_gets_no_slot_in_time_was_not_sent() -> None:
    """Waiting has an end inside the to-do's lease."""
    door = asyncio.Event()
    house = House(FakePsp(door=door))
    gateway = house.gateway(calls_max=1, wait_max_ms=0)
    first = asyncio.create_task(gateway.call(CONFIRM))
    await until(lambda: house.psp.in_flight == 1)
    with pytest.raises(NotSent) as caught:
        await gateway.call(CONFIRM)
    door.set()
    await first

    assert caught.value.retry_after_ms > 0
    assert len(house.psp.calls) == 1


async def test_a_canceled_call_gives_its_slot_back() -> None:
    """A caller that goes away holds nothing."""
    house = House(FakePsp(door=asyncio.Event()))
    gateway = house.gateway(calls_max=1)
    first = asyncio.create_task(gateway.call(CONFIRM))
    await until(lambda: house.psp.in_flight == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    house.psp.door = None

    assert await gateway.call(CONFIRM) == report()
    assert [outcome for _, outcome, _ in house.observed] == ["CANCELED", "CHARGED"]


# ---- breaker and limiter -------------------------------------------------------------------------------------------


async def called(gateway: Gateway, times: int) -> None:
    for _ in range(times):
        try:
            await gateway.call(CONFIRM)
        except PspTrouble:
            continue


@pytest.mark.parametrize("trouble", [NotSent("refused"), OutcomeUnknown("reset"), OutcomeUnknown("APIError 503")])
async def test_a_psp_that_is_away_opens_the_breaker(trouble: PspTrouble) -> None:
    """Row S3: then nothing is sent, and the caller is told how long to wait."""
    house = House(FakePsp([trouble] * 4))
    gateway = house.gateway()
    await called(gateway, 4)
    with pytest.raises(NotSent) as caught:
        await gateway.call(CONFIRM)

    assert house.breaker.state is BreakerState.OPEN
    assert caught.value.retry_after_ms == 1_000
    assert len(house.psp.calls) == 4


@pytest.mark.parametrize(
    "answer",
    [
        report(ObjectStatus.DECLINED),
        report(ObjectStatus.REFUSED),
        Unsettled("409"),
        TurnedAway("429"),
        TurnedAway("psp refuses our key"),
        StoredFailure("stored 5xx replayed"),
    ],
)
async def test_a_psp_that_answers_keeps_the_breaker_closed(answer: Report | PspTrouble) -> None:
    """Declines, refusals, conflicts and replays are answers: infrastructure is not at fault."""
    house = House(FakePsp([answer] * 20))
    await called(house.gateway(), 20)

    assert house.breaker.state is BreakerState.CLOSED
    assert len(house.psp.calls) == 20


async def test_one_probe_finds_out_whether_the_psp_is_back() -> None:
    """Half open: one call passes, the others are NotSent until it has brought an answer."""
    door = asyncio.Event()
    house = House(FakePsp([OutcomeUnknown("reset")] * 4))
    gateway = house.gateway()
    await called(gateway, 4)
    house.clock.now_ms += 1_000
    house.psp.door = door
    probe = asyncio.create_task(gateway.call(CONFIRM))
    await until(lambda: house.psp.in_flight == 1)
    with pytest.raises(NotSent):
        await gateway.call(CONFIRM)
    door.set()

    assert await probe == report()
    assert house.breaker.state is BreakerState.CLOSED
    assert len(house.psp.calls) == 5


async def test_a_call_that_met_an_open_breaker_takes_no_place_in_the_line() -> None:
    """The line is for those who may call: at one place a second, two places for two calls sent, and none besides."""
    house = House(FakePsp([OutcomeUnknown("reset")] * 4))
    gateway = house.gateway()
    await called(gateway, 4)
    house.limiter = Limiter("stripe", house.clock, rate_per_s=1, burst=1)
    gateway = house.gateway(wait_max_ms=0)
    await called(gateway, 10)
    house.clock.now_ms += 1_000

    assert await gateway.call(CONFIRM) == report()


async def test_too_many_requests_holds_the_whole_line() -> None:
    """Row S2: a 429 with Retry-After is for every call, not for one."""
    house = House(FakePsp([TurnedAway("429", 2_000)]))
    gateway = house.gateway(wait_max_ms=500)
    await called(gateway, 1)
    with pytest.raises(NotSent) as caught:
        await gateway.call(CONFIRM)

    assert 0 < caught.value.retry_after_ms <= 2_000
    assert len(house.psp.calls) == 1
