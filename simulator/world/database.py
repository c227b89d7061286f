"""The database of a world: memory stores behind a wire, with a clock that may jump.

Each shard sees a `StoreDoor`. What it asks for is carried out at the database's end of the wire, whether or not the shard
still lives by then. Between the ends: conflicts (40001), commits whose end is in doubt (applied, lost, or landing late),
rows held by somebody, connections that fail, and outages.

Invariant: the stores themselves stay whole: a commit is applied or it is not, and what was committed stays so.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

from simulator.world.loop import VirtualLoop
from simulator.world.safety import Safety
from simulator.world.trace import Trace
from simulator.world.weather import EPOCH_MS, Weather
from zerosum.errors import Bug, CommitAmbiguous, RowHeld, SerializationConflict, Unavailable, ZerosumError
from zerosum.ports import Batch, Clash, Committed, DueTodo, Loaded, SlotHead, Wanted
from zerosum.store.memory import MemoryStore, Trouble
from zerosum.store.opening import memory_store

T = TypeVar("T")

SERVICES: Final = ("wallet", "ledger", "payment")

_DOUBTS: Final = {
    Trouble.AMBIGUOUS_APPLIED: "ambiguous_applied",
    Trouble.AMBIGUOUS_LOST: "ambiguous_lost",
    Trouble.AMBIGUOUS_LATE: "ambiguous_late",
}
_LATE_S: Final = (0.0, 0.001, 0.05, 1.0, 20.0)


class Database:
    """All three services' stores. `jumped_ms`: how far its clock is from the true time."""

    def __init__(self, loop: VirtualLoop, weather: Weather, trace: Trace, safety: Safety) -> None:
        self.loop, self.weather, self.trace, self.safety = loop, weather, trace, safety
        self.jumped_ms = 0
        self.is_out = False
        self.stores: dict[str, MemoryStore[Any]] = {service: memory_store(service, self.now_ms) for service in SERVICES}

    def now_ms(self) -> int:
        """The database's clock."""
        return EPOCH_MS + int(self.loop.time() * 1_000) + self.jumped_ms

    def rows(self, service: str, table: str) -> list[Mapping[str, Any]]:
        """What a table holds: the rows themselves, to be read."""
        return list(self.stores[service].tables[table].rows.values())

    async def ask(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Carries out `act` at the other end of the wire. Raises what it raises, and Unavailable."""
        weather = self.weather
        if weather.is_over:
            return at_once(act())
        if self.is_out or weather.hits(weather.mix.away):
            await self._refuse()
        answer: asyncio.Future[T] = self.loop.create_future()
        self.loop.later(weather.way_s(), self._carry_out, act, answer)
        return await answer

    async def look(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The same for what changes nothing, where nobody can tell when on the way it was carried out: at either end of it."""
        weather = self.weather
        if weather.is_over:
            return at_once(act())
        if self.is_out or weather.hits(weather.mix.away):
            await self._refuse()
        if not weather.mix.latency_ms_max:
            return at_once(act())
        if weather.random.random() < 0.5:  # noqa: PLR2004 - one end or the other
            await asyncio.sleep(weather.way_s())
            return at_once(act())
        seen = at_once(act())
        await asyncio.sleep(weather.way_s())
        return seen

    async def _refuse(self) -> NoReturn:
        self.trace.fault("outages_per_minute" if self.is_out else "away")
        await asyncio.sleep(self.weather.way_s())
        raise Unavailable("no connection to the database")

    def _carry_out(self, act: Callable[[], Coroutine[Any, Any, T]], answer: "asyncio.Future[T]") -> None:
        try:
            result = at_once(act())
        except ZerosumError as trouble:
            self.loop.later(self.weather.way_s(), _settle, answer, None, trouble)
        else:
            self.loop.later(self.weather.way_s(), _settle, answer, result, None)


class StoreDoor:
    """A store as one shard sees it. Implements `ports.Store`."""

    def __init__(self, database: Database, service: str) -> None:
        self._database, self._service = database, service
        self._store = database.stores[service]

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        """See `ports.Store`."""
        return await self._database.ask(lambda: self._store.take_slots(slots, deployment))

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        """See `ports.Store`. Its own commit may be in doubt as well, and may have landed."""
        weather = self._database.weather
        if weather.hits(weather.mix.ambiguous):
            self._database.trace.fault("ambiguous", "the taking of slots")
            if weather.random.random() < 0.5:  # noqa: PLR2004 - half of them land
                await self._database.ask(lambda: self._store.retake_slots(heads))
            raise CommitAmbiguous("the taking of slots ended in doubt")
        return await self._database.ask(lambda: self._store.retake_slots(heads))

    async def load(self, wanted: Wanted) -> Loaded[Any]:
        """See `ports.Store`."""
        weather = self._database.weather
        if weather.hits(weather.mix.conflict // 4):  # reads conflict less than writes
            self._database.trace.fault("conflict", "a read")
            raise SerializationConflict("a read met a conflict (40001)")
        return await self._database.look(lambda: self._store.load(wanted))

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        """See `ports.Store`."""
        weather, mix, trace = self._database.weather, self._database.weather.mix, self._database.trace
        if weather.hits(mix.conflict):
            trace.fault("conflict", "a commit")
            await asyncio.sleep(weather.way_s())
            raise SerializationConflict("a commit met a conflict (40001)")
        if weather.hits(mix.row_held):
            trace.fault("row_held")
            await asyncio.sleep(weather.way_s())
            raise RowHeld("a row is held by somebody (55P03)")
        doubt = weather.random.choice(tuple(_DOUBTS)) if weather.hits(mix.ambiguous) else None
        if doubt is not None:
            trace.met["ambiguous"] += 1
            trace.fault(_DOUBTS[doubt], _told(batch))
        else:
            trace.tell(lambda: f"commit {self._service}: {_told(batch)}")
        return await self._database.ask(lambda: self._commit(batch, doubt))

    async def due_todos(
        self, slots: Sequence[int], overdue_ms: int, rows_max: int, after: DueTodo | None = None
    ) -> Sequence[DueTodo]:
        """See `ports.Store`."""
        due = await self._database.look(lambda: self._store.due_todos(slots, overdue_ms, rows_max, after))
        if due:
            self._database.trace.met["sweep_found"] += 1
        return due

    # ---- at the database's end -------------------------------------------------------------------------------

    async def _commit(self, batch: Batch[Any], doubt: Trouble | None) -> Committed | Clash:
        if doubt is not None:
            self._store.trouble_next(doubt)
        if doubt is Trouble.AMBIGUOUS_LATE:
            self._database.loop.later(self._database.weather.random.choice(_LATE_S), self._land)
        try:
            result = await self._store.commit(batch)
        finally:
            self._database.safety.look(self._service)
        if isinstance(result, Clash):
            self._database.trace.met["clash"] += 1
        return result

    def _land(self) -> None:
        landed = self._store.land_late()
        if landed:
            self._database.trace.fault("late_commit_landed", party="database")
        self._database.safety.look(self._service)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Runs what never waits, such as the memory store."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise Bug("the memory store is not supposed to wait")


def _settle(answer: "asyncio.Future[Any]", result: object, trouble: Exception | None) -> None:
    if answer.done():
        return
    if trouble is not None:
        answer.set_exception(trouble)
    else:
        answer.set_result(result)


def _told(batch: Batch[Any]) -> str:
    """Who comes to believe what: the events of each turn."""
    return ", ".join(
        [f"{turn.entity.id}[{' '.join([_event(event) for event in turn.events])}]" for turn in batch.turns]
    )


def _event(event: object) -> str:
    status = getattr(event, "status", None) or getattr(event, "event", None) or getattr(event, "state", None)
    return f"{type(event).__name__}{f'={status}' if status else ''}"
