"""The sweep: what is stuck in front holds up nobody behind, and what it finds while nothing is committed stays bounded."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from actors.payment import PaymentBinding
from tests.sim.faults import StoreDoor
from tests.sim.house import Doors, House, checkout
from tests.sim.virtual import run
from zerosum import limits
from zerosum.domain import message as m
from zerosum.domain.checkout_state import CheckoutStatus
from zerosum.errors import Bug, CommitAmbiguous, RowHeld, Unavailable
from zerosum.ports import Batch, Clash, Committed, DueTodo, SlotHead, Store

LEASE_OVER_MS = 60_000


class Faulty(Doors):
    """All copies of the first checkout shard see their store through `door`, whose fault is there while `is_on`."""

    def __init__(self, door: "type[FaultyStore]") -> None:
        self._door = door
        self.is_on = False

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return self._door(self, store) if (service, number) == ("payment", 0) else store


class FaultyStore(StoreDoor):
    """A store with a fault of `doors`."""

    def __init__(self, doors: Faulty, inner: Store[Any]) -> None:
        super().__init__(inner)
        self.doors = doors


async def left_behind(house: House, *names: str) -> None:
    """A shard accepts these checkouts, one after the other, and dies; their to-dos are due long ago, oldest first."""
    for name in names:
        await house.submit(checkout(name, 1_000))
        await house.crash(house.shard_number(name))
        await house.revive(house.shard_number(name))
    await house.crash(house.shard_number(names[0]))
    house.skipped_ms += LEASE_OVER_MS


def of_one_shard(house: House, *stems: str) -> list[str]:
    """A name with each of these stems, all of the first shard."""
    return [
        next(name for name in (f"{stem}-{n}" for n in range(99)) if house.shard_number(name) == 0) for stem in stems
    ]


# ---- stuck in front ------------------------------------------------------------------------------------------------


def test_the_sweep_passes_entities_that_are_stuck_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A4: a Bug quarantines its entity, never the shard. Their to-dos stay due, and are more than a sweep looks at.

    Method: what is behind them is in no shard's memory, so that the sweep alone can find it.
    """
    monkeypatch.setattr(limits, "SWEEP_ROWS_MAX", 2)
    take = PaymentBinding.take

    def stumble(binding: PaymentBinding, state: Any, command: m.CheckoutCommand, known: Any, now_ms: int) -> Any:
        if command.entity.id.startswith("stuck") and isinstance(command.body, m.ClaimTodo):
            raise Bug("a broken invariant")
        return take(binding, state, command, known, now_ms)

    monkeypatch.setattr(PaymentBinding, "take", stumble)

    async def tell() -> tuple[list[bool], CheckoutStatus]:
        house = await House().start()
        *stuck, healthy = of_one_shard(house, "stuck-a", "stuck-b", "stuck-c", "healthy")
        await left_behind(house, *stuck, healthy)
        await house.revive(0)
        status = (await house.settle(healthy, LEASE_OVER_MS)).status
        return [(await house.checkout(name)).is_settled for name in stuck], status

    assert run(tell()) == ([False, False, False], CheckoutStatus.DONE)


class Held(FaultyStore):
    """The rows of the shard's checkouts are held by somebody else, until a sweep came to the end."""

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        if self.doors.is_on:
            raise RowHeld("held by somebody else")
        return await self.inner.commit(batch)

    async def due_todos(
        self, slots: Sequence[int], overdue_ms: int, rows_max: int, after: DueTodo | None = None
    ) -> Sequence[DueTodo]:
        found = await self.inner.due_todos(slots, overdue_ms, rows_max, after)
        self.doors.is_on &= len(found) == rows_max
        return found


def test_the_sweep_comes_back_to_what_it_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Having come to the end it begins with the oldest again: what could not be stored for a while is not forgotten."""
    monkeypatch.setattr(limits, "SWEEP_ROWS_MAX", 2)

    async def tell() -> list[CheckoutStatus]:
        doors = Faulty(Held)
        house = await House(doors=doors).start()
        names = of_one_shard(house, "a", "b", "c")
        await left_behind(house, *names)
        doors.is_on = True
        await house.revive(0)
        return [(await house.settle(name, LEASE_OVER_MS)).status for name in names]

    assert run(tell()) == [CheckoutStatus.DONE] * 3


# ---- while nothing is committed ------------------------------------------------------------------------------------


class ReadOnly(FaultyStore):
    """The shard's commits end in doubt and its slots cannot be taken again; reads go on."""

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        if self.doors.is_on:
            raise CommitAmbiguous("the connection broke at COMMIT")
        return await self.inner.commit(batch)

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        if self.doors.is_on:
            raise Unavailable("the database takes no writes")
        return await self.inner.retake_slots(heads)


def test_sweeps_add_no_more_than_two_of_them_while_nothing_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: a database that only reads for ten minutes leaves callers no queue of claims that have come to nothing.

    Method: the sweep goes on finding the same to-dos; counted are the turns until a caller is answered again.
    """
    monkeypatch.setattr(limits, "SWEEP_ROWS_MAX", 4)

    async def tell() -> tuple[int, CheckoutStatus]:
        doors = Faulty(ReadOnly)
        house = await House(doors=doors).start()
        *names, fresh = of_one_shard(house, "a", "b", "fresh")
        await left_behind(house, *names)
        doors.is_on = True
        await house.revive(0)
        await asyncio.sleep(600)
        before = house.shard(0).figures.turns
        doors.is_on = False
        await house.submit(checkout(fresh, 1_000))
        turns = house.shard(0).figures.turns - before
        return turns, (await house.settle(names[0])).status

    turns, status = run(tell())

    assert turns <= 2 * limits.SWEEP_ROWS_MAX + 1
    assert status is CheckoutStatus.DONE
