"""What may befall the house of one seed: a mix of rates, and the doors where it strikes.

Invariant: the faults are those of real things: a store is atomic, a PSP keeps its keys, and chance has one source.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.sim import psp as faults
from tests.sim.faults import StoreDoor
from tests.sim.house import Doors, LocalPeer, ScriptedRisk
from tests.sim.psp import Object, ScriptedPsp
from zerosum.domain import message as m
from zerosum.domain.journal import Journal
from zerosum.domain.wallet import Transfer
from zerosum.errors import CommitAmbiguous, NotSent, OutcomeUnknown, SerializationConflict, Unavailable
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


@dataclass(frozen=True, slots=True)
class Mix:
    """Rates in percent, drawn by a seed; one seed in ten has none, one in ten a single one that is high."""

    drop_request: int = 0
    drop_response: int = 0
    stored_failure: int = 0
    late: int = 0
    not_sent: int = 0
    conflict: int = 0
    ambiguous: int = 0
    away: int = 0
    crashes_per_minute: int = 0
    splits_per_minute: int = 0
    front_restarts_per_minute: int = 0
    peer_trouble: int = 0
    risk_trouble: int = 0
    webhook_lost: int = 0
    webhook_copies_max: int = 1
    late_charge: int = 0
    latency_max_ms: int = 5


_RATES_MAX = {
    "drop_request": 30, "drop_response": 30, "stored_failure": 15, "late": 15, "not_sent": 20, "conflict": 40,
    "ambiguous": 20, "away": 5, "crashes_per_minute": 20, "splits_per_minute": 6, "front_restarts_per_minute": 6,
    "peer_trouble": 40, "risk_trouble": 40, "webhook_lost": 100, "webhook_copies_max": 5, "late_charge": 50,
    "latency_max_ms": 400,
}  # fmt: skip


def mix_of(seed: int) -> Mix:
    """What befalls the house of this seed."""
    chance = Random(f"mix {seed}")
    if seed % 10 == 0:
        return Mix()
    if seed % 10 == 1:
        name = chance.choice(sorted(_RATES_MAX))
        return Mix(**{name: 2 * _RATES_MAX[name] if name not in _COUNTS else _RATES_MAX[name]})
    drawn = {name: chance.choice((0, chance.randint(0, most))) for name, most in _RATES_MAX.items()}
    return Mix(**{**drawn, "webhook_copies_max": max(drawn["webhook_copies_max"], 1)})


_COUNTS = {"webhook_lost", "webhook_copies_max", "latency_max_ms", "late_charge"}
"""What is not doubled when it stands alone: it is at its most already, or no rate."""


@dataclass(slots=True)
class Chance:
    """The one source of chance of a story, and whether there is still trouble."""

    seed: int
    mix: Mix
    is_over: bool = False
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(f"story {self.seed}")

    def hits(self, percent: int) -> bool:
        return not self.is_over and self.random.random() * 100 < percent

    async def pause(self) -> None:
        """The time a message takes on its way; none once all is well, so that coming to rest is told quickly."""
        if not self.is_over:
            await asyncio.sleep(self.random.randint(0, self.mix.latency_max_ms) / 1_000)


# ---- between the shards and the world ------------------------------------------------------------------------------


class _Store(StoreDoor):
    """A database at the other end of a wire."""

    def __init__(self, chance: Chance, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._chance = chance

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        return await self._over_the_wire(lambda: self.inner.take_slots(slots, deployment))

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        """Its own commit may be in doubt as well, and may have landed."""
        if self._chance.hits(self._chance.mix.ambiguous):
            if self._chance.random.random() < 0.5:
                await self.inner.retake_slots(heads)
            raise CommitAmbiguous("the taking of slots ended in doubt")
        return await self._over_the_wire(lambda: self.inner.retake_slots(heads))

    async def load(self, wanted: Wanted) -> Loaded[Any]:
        if self._chance.hits(self._chance.mix.conflict // 4):
            raise SerializationConflict("a read met a conflict")
        return await self._over_the_wire(lambda: self.inner.load(wanted))

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        chance, store = self._chance, self.inner
        assert isinstance(store, MemoryStore)
        if chance.hits(chance.mix.conflict):
            await chance.pause()
            raise SerializationConflict("40001")
        if chance.hits(chance.mix.ambiguous):
            kind = chance.random.choice([Trouble.AMBIGUOUS_APPLIED, Trouble.AMBIGUOUS_LOST, Trouble.AMBIGUOUS_LATE])
            await chance.pause()
            if kind is Trouble.AMBIGUOUS_LATE:
                delay_s = chance.random.choice((0.0, 0.001, 0.05, 1.0, 20.0))
                asyncio.get_running_loop().call_later(delay_s, store.land_late)
            store.trouble_next(kind)
            return await store.commit(batch)
        return await self._over_the_wire(lambda: store.commit(batch))

    async def due_todos(self, slots: Sequence[int], overdue_ms: int, rows_max: int) -> Sequence[DueTodo]:
        return await self._over_the_wire(lambda: self.inner.due_todos(slots, overdue_ms, rows_max))

    async def _over_the_wire(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._chance.hits(self._chance.mix.away):
            raise Unavailable("no connection")
        await self._chance.pause()
        result = await call()
        await self._chance.pause()
        return result


@dataclass(slots=True)
class _Peer:
    chance: Chance
    inner: LocalPeer

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        return await self._send(lambda: self.inner.apply(transfer))

    async def post(self, journal: Journal) -> ItemOutcome:
        return await self._send(lambda: self.inner.post(journal))

    async def _send(self, call: Callable[[], Awaitable[ItemOutcome]]) -> ItemOutcome:
        await self.chance.pause()
        if self.chance.hits(self.chance.mix.peer_trouble):
            if self.chance.random.random() < 0.5:
                raise NotSent("connection refused")
            await call()
            raise OutcomeUnknown("the answer was lost")
        return await call()


@dataclass(slots=True)
class _Risk:
    chance: Chance
    inner: ScriptedRisk

    async def assess(self, request: m.AssessRisk) -> RiskAnswer:
        await self.chance.pause()
        if self.chance.hits(self.chance.mix.risk_trouble):
            raise OutcomeUnknown("the risk check did not answer")
        return await self.inner.assess(request)


@dataclass(slots=True)
class SwarmDoors(Doors):
    """Trouble between every shard and its surroundings."""

    chance: Chance

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _Store(self.chance, store)

    def gateway(self, number: int, gateway: PspGateway) -> PspGateway:
        return gateway

    def peer(self, number: int, peer: LocalPeer) -> Any:
        return _Peer(self.chance, peer)

    def risk(self, number: int, risk: ScriptedRisk) -> Any:
        return _Risk(self.chance, risk)


@dataclass(slots=True)
class SwarmPsp(ScriptedPsp):
    """A PSP whose troubles are drawn, and that tells of every change by webhook."""

    chance: Chance | None = None
    tell: Callable[[Object], None] = lambda _: None

    async def call(self, request: m.PspRequest) -> m.Report:
        assert self.chance is not None
        await self.chance.pause()
        try:
            return await super(SwarmPsp, self).call(request)
        finally:
            await self.chance.pause()

    def _fault(self, verb: str) -> str:
        assert self.chance is not None
        mix = self.chance.mix
        is_keyed = verb != m.PspVerb.READ
        rates = {
            faults.DROP_REQUEST: mix.drop_request, faults.DROP_RESPONSE: mix.drop_response,
            faults.NOT_SENT: mix.not_sent, faults.LATE: mix.late if is_keyed else 0,
            faults.STORED_AFTER: mix.stored_failure if is_keyed else 0,
            # A refund whose key was burnt before it was executed is for people: no proof of absence is ever enough.
            faults.STORED_FAILURE: mix.stored_failure if is_keyed and verb != m.PspVerb.REFUND else 0,
        }  # fmt: skip
        return next((fault for fault, percent in rates.items() if self.chance.hits(percent)), "")

    def _execute(self, request: m.PspRequest) -> Object | None:
        known = self.objects.get(request.object_id)
        before = known.status if known else None
        obj = super(SwarmPsp, self)._execute(request)
        if obj is not None and obj.status is not before:
            self.tell(obj)
        return obj
