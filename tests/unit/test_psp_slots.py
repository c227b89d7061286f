"""The line for slots: served in order, and no slot is lost or made, whoever gives up and when."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.psp.slots import Slots

LONG_S = 60.0


async def settle() -> None:
    """Lets every other task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def free(slots: Slots) -> int:
    """How many can be taken at once."""
    count = 0
    try:
        while True:
            await slots.take(0)
            count += 1
    except TimeoutError:
        return count


async def test_who_waits_longest_is_served_first() -> None:
    """And a newcomer does not overtake."""
    slots, served = Slots(1), list[int]()

    async def wait(number: int) -> None:
        await slots.take(LONG_S)
        served.append(number)

    await slots.take(0)
    tasks = [asyncio.create_task(wait(number)) for number in range(3)]
    await settle()
    for _ in tasks:
        slots.give_back()
    await asyncio.gather(*tasks, wait_refused(slots))

    assert served == [0, 1, 2]


async def wait_refused(slots: Slots) -> None:
    with pytest.raises(TimeoutError):
        await slots.take(0)


@given(st.lists(st.sampled_from(["take", "give", "cancel", "turn"]), max_size=40), st.integers(1, 3))
def test_no_slot_is_lost_whoever_is_canceled(steps: list[str], count: int) -> None:
    """Also where the slot is handed over in the moment of the cancellation: afterwards all are there again."""

    async def story() -> int:
        slots, tasks, held = Slots(count), list[asyncio.Task[None]](), 0
        for step in steps:
            if step == "take":
                tasks.append(asyncio.create_task(slots.take(LONG_S)))
            elif step == "cancel" and tasks:
                tasks[-1].cancel()
            elif step == "turn":
                await settle()
            elif step == "give" and (had := [task for task in tasks if is_served(task)]):
                tasks.remove(had[0])
                slots.give_back()
        for task in tasks:
            task.cancel()
        await settle()
        held = sum(map(is_served, tasks))
        return held + await free(slots)

    assert asyncio.run(story()) == count


def is_served(task: "asyncio.Task[None]") -> bool:
    return task.done() and not task.cancelled()
