"""The loop on virtual time: order, pause, death, deadlock, and limits."""

import asyncio
from collections.abc import Coroutine
from itertools import count
from random import Random
from typing import Any

import pytest

from simulator.world.loop import Deadlock, Exhausted, Party, VirtualLoop, bury


def _told(story: Coroutine[Any, Any, Any], loop: VirtualLoop) -> Any:
    try:
        return loop.run_until_complete(story)
    finally:
        bury(loop)


def _loop(seed: int = 1, *, seconds_max: float = 1_000, steps_max: int = 100_000) -> VirtualLoop:
    return VirtualLoop(Random(seed), seconds_max=seconds_max, steps_max=steps_max)


def test_a_sleep_takes_virtual_time_only() -> None:
    loop = _loop()

    async def story() -> float:
        await asyncio.sleep(600)
        return loop.time()

    assert _told(story(), loop) == 600


def test_who_goes_first_at_one_instant_is_drawn_by_the_seed() -> None:
    def order(seed: int) -> str:
        loop = _loop(seed)
        met: list[str] = []

        async def walk(name: str) -> None:
            await asyncio.sleep(1)
            met.append(name)

        async def story() -> None:
            await asyncio.gather(*(loop.start(Party(name), walk(name)) for name in "abcd"))

        _told(story(), loop)
        return "".join(met)

    orders = [order(seed) for seed in range(20)]

    assert orders == [order(seed) for seed in range(20)]
    assert len(set(orders)) > 5


def test_a_party_keeps_its_own_order() -> None:
    """asyncio promises first come, first served within a process; only processes race one another."""
    loop = _loop()
    met: list[int] = []

    async def story() -> None:
        for number in range(50):
            loop.call_soon(met.append, number)
        await asyncio.sleep(1)

    _told(story(), loop)

    assert met == list(range(50))


def test_a_paused_party_takes_no_step_until_it_goes_on() -> None:
    loop, party = _loop(), Party("clock")
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(loop.time())

    async def story() -> None:
        loop.start(party, tick())
        await asyncio.sleep(2.5)
        party.is_paused = True
        await asyncio.sleep(10)
        loop.resume(party)
        await asyncio.sleep(1.75)

    _told(story(), loop)

    assert ticks == [1, 2, 12.5, 13.5]


def test_a_dead_party_never_takes_another_step() -> None:
    """No `finally`, no answer: as a process that was killed."""
    loop, party = _loop(), Party("victim")
    said: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            said.append("goodbye")

    async def story() -> list[str]:
        loop.start(party, work())
        await asyncio.sleep(1)
        party.is_dead = True
        await asyncio.sleep(100)
        return list(said)

    assert _told(story(), loop) == []


def test_a_deadlock_is_an_error_that_says_who_waits() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="wait_for_nobody"):
        _told(wait_for_nobody(), _loop())


def test_a_story_without_an_end_is_stopped() -> None:
    async def never_sleep() -> None:
        for _ in count():
            await asyncio.sleep(0)

    async def sleep_for_ever() -> None:
        for _ in count():
            await asyncio.sleep(60)

    with pytest.raises(Exhausted, match=r"steps.*never_sleep"):
        _told(never_sleep(), _loop(steps_max=1_000))
    with pytest.raises(Exhausted, match=r"virtual seconds.*sleep_for_ever"):
        _told(sleep_for_ever(), _loop(seconds_max=3_600))
