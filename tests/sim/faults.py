"""Faults at chosen places: a commit with a doubtful end, a shard that dies at its n-th step, a store that is slow.

A story is first counted, then told again once for each of its places, until it runs through without meeting the fault.

Invariant: a fault here is one that the real thing has: the store below stays whole, and what was committed stays so.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.sim.house import SHARDS_OF, Doors, House, LocalPeer, ScriptedRisk
from zerosum.domain import message as m
from zerosum.domain.journal import Journal
from zerosum.domain.request import AssessRisk, PspRequest
from zerosum.domain.wallet import Transfer
from zerosum.ports import (
    Batch,
    Clash,
    Committed,
    DueTodo,
    ItemOutcome,
    Loaded,
    PspGateway,
    RiskAnswer,
    SlotHead,
    Store,
    Wanted,
)
from zerosum.store.memory import MemoryStore, Trouble

T = TypeVar("T")

PLACES_MAX = 400
"""More places than any story has."""

DOWN_S = 0.5
"""How long a shard that died is away."""


class StoreDoor:
    """A store as one shard sees it; what a test is interested in is overridden."""

    def __init__(self, inner: Store[Any]) -> None:
        self.inner = inner

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        return await self.inner.take_slots(slots, deployment)

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        return await self.inner.retake_slots(heads)

    async def load(self, wanted: Wanted) -> Loaded[Any]:
        return await self.inner.load(wanted)

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        return await self.inner.commit(batch)

    async def due_todos(
        self, slots: Sequence[int], overdue_ms: int, rows_max: int, after: DueTodo | None = None
    ) -> Sequence[DueTodo]:
        return await self.inner.due_todos(slots, overdue_ms, rows_max, after)


# ---- doubtful commits ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class DoubtfulDoors(Doors):
    """The commit number `at` (1, 2, ..) of a service meets `troubles`, one each from there on.

    `lands_after_ms`: when a late commit tries to land; 0 = before the shard takes its next step.
    """

    service: str = "payment"
    at: int = 0
    troubles: Sequence[Trouble] = ()
    lands_after_ms: int = 0
    commits: int = 0
    landed: int = 0

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _DoubtfulStore(self, store) if service == self.service else store


class _DoubtfulStore(StoreDoor):
    def __init__(self, doors: DoubtfulDoors, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._doors = doors

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        doors, store = self._doors, self.inner
        assert isinstance(store, MemoryStore)
        doors.commits += 1
        if doors.commits == doors.at:
            store.trouble_next(*doors.troubles)
            if Trouble.AMBIGUOUS_LATE in doors.troubles:
                asyncio.get_running_loop().call_later(doors.lands_after_ms / 1_000, self._land)
        try:
            return await store.commit(batch)
        finally:
            if doors.commits == doors.at and doors.lands_after_ms == 0:
                self._land()

    def _land(self) -> None:
        assert isinstance(self.inner, MemoryStore)
        self._doors.landed += self.inner.land_late()


# ---- crashes at every place ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class CrashDoors(Doors):
    """Kills the shard that comes to place number `at` (1, 2, ..), counted over all shards in the order they are met.

    Places: before and after each commit, each call to the PSP, the risk check, and wallet and ledger. `again`: also at
    that many places further on, while the successor recovers (0 = once only).
    """

    at: int = 0
    again: int = 0
    seen: list[str] = field(default_factory=list)
    killed: list[tuple[str, int]] = field(default_factory=list)
    house: House | None = None

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _CrashStore(self, service, number, store)

    def gateway(self, number: int, gateway: PspGateway) -> PspGateway:
        return _CrashGateway(self, number, gateway)

    def peer(self, number: int, peer: LocalPeer) -> Any:
        return _CrashPeer(self, number, peer)

    def risk(self, number: int, risk: ScriptedRisk) -> Any:
        return _CrashRisk(self, number, risk)

    async def around(self, service: str, number: int, name: str, work: Awaitable[T]) -> T:
        """One step of a shard with a place on either side."""
        await self._reach(service, number, f"{service}: before {name}", work)
        result = await work
        await self._reach(service, number, f"{service}: after {name}", None)
        return result

    async def _reach(self, service: str, number: int, name: str, work: Any) -> None:
        self.seen.append(name)
        if len(self.seen) not in (self.at, self.at + self.again if self.again else self.at):
            return
        assert self.house is not None
        self.killed.append((service, number))
        self.house.kill(number, service)
        if work is not None:
            work.close()
        await asyncio.Event().wait()  # a dead process takes no further step


class _CrashStore(StoreDoor):
    def __init__(self, doors: CrashDoors, service: str, number: int, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._doors, self._service, self._number = doors, service, number

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        return await self._doors.around(self._service, self._number, "commit", self.inner.commit(batch))


@dataclass(slots=True)
class _CrashGateway:
    doors: CrashDoors
    number: int
    inner: PspGateway

    async def call(self, request: PspRequest) -> m.Report:
        return await self.doors.around("payment", self.number, request.verb, self.inner.call(request))


@dataclass(slots=True)
class _CrashPeer:
    doors: CrashDoors
    number: int
    inner: LocalPeer

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        return await self.doors.around("payment", self.number, "wallet", self.inner.apply(transfer))

    async def post(self, journal: Journal) -> ItemOutcome:
        return await self.doors.around("payment", self.number, "ledger", self.inner.post(journal))


@dataclass(slots=True)
class _CrashRisk:
    doors: CrashDoors
    number: int
    inner: ScriptedRisk

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        return await self.doors.around("payment", self.number, "risk", self.inner.assess(request))


async def keep_alive(house: House) -> None:
    """What Ray does: a shard that died or ended comes back, with the same slots."""
    while True:
        await asyncio.sleep(DOWN_S)
        for service, shards in SHARDS_OF.items():
            for number in range(shards):
                copy = house.copies[service][number]
                if copy is None or copy.host.shard.ended.is_set():
                    await house.revive(number, service)


def die_from_here(doors: CrashDoors, at: int) -> "asyncio.Task[None]":
    """From here on the shard that comes to place number `at` dies, and a successor is started."""
    assert doors.house is not None
    doors.seen.clear()
    doors.at = at
    return asyncio.create_task(keep_alive(doors.house))
