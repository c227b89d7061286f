"""The doors' way to the shards of one service: routing by slot, natural batching, and the wait for outcomes.

Per lane of a shard one call is under way; everything that waits meanwhile goes with the next, and in a crowd a moment later
(`CALL_PACE_MS`, docs/adr/0007). A shard that dies is asked again with the same commands until it serves or patience ends:
commands are idempotent, so asking again is always safe.
Beside the submits one call is always outstanding and brings what has become final. No Ray here: a link is a protocol.

Invariant: waiting is never state; whatever is lost here is found in the database.
"""

import asyncio
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

from actors.admission import Admission
from actors.answer import Accepted, Answer, Busy, Failed, InFlight
from actors.loop import start_loop
from actors.outcome import News
from zerosum import limits
from zerosum.domain.identity import EntityKey, slot_of
from zerosum.errors import Retryable, Unavailable

C = TypeVar("C")
_log = structlog.get_logger()

PATIENCE_S = 8.0
"""How long a shard that does not serve is asked again: a killed one is back in 2 to 5 s."""

RECENT_MAX = 5_000
"""Replies kept for waiters that register a moment late: 5,000 x 0.5 KB."""


class ShardLink(Protocol):
    """One shard, wherever it lives. Every call raises Unavailable where the shard cannot be reached."""

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        """Submits to the callers' lane, or to the one that admission never refuses."""
        ...

    async def outcomes(self, epoch: int, position: int) -> News:
        """What became final after the position; waits a while for news."""
        ...


_Queued = tuple[C, "asyncio.Future[Answer]", float]
"""A command, its answer, and since when (s) it waits."""


def _nobody(_: str) -> None:
    """Nobody ends with this front."""


class Front(Generic[C]):
    """Implements `actors.answer.Shards` over links. `stored_reply` reads a checkout's fixed reply from the database.

    `waiting_max`: of callers before one shard; None: whoever comes waits (peers bound themselves, and inner commands always).
    """

    def __init__(
        self,
        *,
        links: Sequence[ShardLink],
        entity_of: Callable[[C], EntityKey],
        is_inner: Callable[[C], bool],
        stored_reply: Callable[[EntityKey], Awaitable[bytes | None]] | None,
        waiting_max: int | None = None,
    ) -> None:
        self._links = list(links)
        self._entity_of = entity_of
        self._is_inner = is_inner
        self._stored_reply = stored_reply
        self._admissions = [Admission(waiting_max) for _ in links] if waiting_max is not None else []
        self._waiting: Counter[tuple[int, bool]] = Counter()
        self._back_s: dict[int, float] = {}
        self._lanes: defaultdict[tuple[int, bool], deque[_Queued[C]]] = defaultdict(deque)
        self._senders: set[tuple[int, bool]] = set()
        self._waiters: defaultdict[EntityKey, list[asyncio.Future[bytes]]] = defaultdict(list)
        self._recent: OrderedDict[EntityKey, bytes] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, end: Callable[[str], object] = _nobody) -> None:
        """Begins to listen for outcomes, where this service has any. `end` ends the server, where it cannot listen any more."""
        if self._stored_reply is not None:
            for position in range(len(self._links)):
                self._keep(start_loop(self._listen(position), "a front's wait for outcomes", end))

    async def stop(self) -> None:
        """Stops listening and sending. What waits is answered as unavailable: it may have been recorded."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            _abandon(lane)
            lane.clear()

    # ---- submitting ------------------------------------------------------------------------------------------

    async def submit(self, commands: Sequence[C]) -> Sequence[Answer]:
        """One answer each, in order. Never raises for one of them: trouble is `Failed`."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Answer]] = []
        for command in commands:
            shard = shard_of(self._entity_of(command), len(self._links))
            lane = (shard, self._is_inner(command))
            answers.append(loop.create_future())
            if self._is_full(lane):
                answers[-1].set_result(Busy(limits.RETRY_HINT_MS))
                continue
            self._waiting[lane] += 1
            self._lanes[lane].append((command, answers[-1], loop.time()))
            if lane not in self._senders:
                self._senders.add(lane)
                self._keep(asyncio.get_running_loop().create_task(self._send_all(*lane)))
        return [await answer for answer in answers]

    def _is_full(self, lane: tuple[int, bool]) -> bool:
        shard, is_inner = lane
        return not is_inner and bool(self._admissions) and not self._admissions[shard].admits(self._waiting[lane])

    async def _send_all(self, shard: int, is_inner: bool) -> None:
        """Sends what waits in the lane, call after call, until nothing does: also after a call that failed."""
        lane, loop = self._lanes[shard, is_inner], asyncio.get_running_loop()
        try:
            while lane:
                next_s = loop.time() + limits.CALL_PACE_MS / 1_000
                batch = [lane.popleft() for _ in range(min(len(lane), limits.BATCH_TURNS_MAX))]
                await self._send(shard, is_inner, batch)
                if len(batch) > 1:  # a crowd shares the next call, as it shares commits
                    await asyncio.sleep(next_s - loop.time())
        finally:
            self._senders.discard((shard, is_inner))

    async def _send(self, shard: int, is_inner: bool, batch: list[_Queued[C]]) -> None:
        try:
            answers = await self._ask(shard, is_inner, [command for command, _, _ in batch])
            pairs = list(zip(batch, answers, strict=True))  # as many, before the first is believed
            for (_, waiter, _), answer in pairs:
                if not waiter.done():
                    waiter.set_result(answer)
            if self._admissions and not is_inner:
                self._admissions[shard].answered(self._mean_wait_ms(shard, batch), self._waiting[shard, is_inner])
        except Exception:  # noqa: BLE001 - whoever waits is answered, and the lane goes on with those behind
            _log.exception("a call to a shard failed", shard=shard)
        finally:
            self._waiting[shard, is_inner] -= len(batch)
            _abandon(batch)

    def _mean_wait_ms(self, shard: int, batch: list[_Queued[C]]) -> float:
        """How long these have waited; while the shard was away nobody waited for a crowd."""
        now_s, back_s = asyncio.get_running_loop().time(), self._back_s.get(shard, 0.0)
        return sum(now_s - max(since_s, back_s) for _, _, since_s in batch) / len(batch) * 1_000

    async def _ask(self, shard: int, is_inner: bool, commands: list[C]) -> Sequence[Answer]:
        """Asks until the shard answers or patience ends. Our own second asking may find the first in flight."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + PATIENCE_S
        is_again = False
        while True:
            try:
                answers = await self._links[shard].submit(commands, is_inner)
            except Unavailable as away:
                if loop.time() >= end_s:
                    return [Failed("Unavailable", str(away))] * len(commands)
                is_again = True
                await asyncio.sleep(0.1)
                self._back_s[shard] = loop.time()
                continue
            if is_again:
                return [Accepted() if isinstance(answer, InFlight) else answer for answer in answers]
            return answers

    # ---- outcomes --------------------------------------------------------------------------------------------

    async def outcome(self, entity: EntityKey, timeout_ms: int) -> bytes | None:
        """The fixed reply, by messenger or, after 2 s without news, from the database. None: not fixed in time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_ms / 1_000
        while (left_s := end_s - loop.time()) > 0:
            if entity in self._recent:
                return self._recent[entity]
            waiter: asyncio.Future[bytes] = loop.create_future()
            self._waiters[entity].append(waiter)
            try:
                async with asyncio.timeout(min(left_s, limits.WAITER_SILENCE_MS / 1_000)):
                    return await waiter
            except TimeoutError:
                reply = await self._read(entity)
                if reply is not None:
                    return reply
            finally:
                self._leave(entity, waiter)
        return None

    def _leave(self, entity: EntityKey, waiter: "asyncio.Future[bytes]") -> None:
        waiters = self._waiters.get(entity, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(entity, None)

    async def _listen(self, shard: int) -> None:
        epoch, position = -1, 0
        while True:
            try:
                news = await self._links[shard].outcomes(epoch, position)
            except Unavailable:
                await asyncio.sleep(0.2)
                continue
            for entity, reply in news.replies:
                self._deliver(entity, reply)
            if news.is_reset:
                await self._read_all()
            epoch, position = news.epoch, news.position
            if len(news.replies) > 1:
                await asyncio.sleep(limits.CALL_PACE_MS / 1_000)  # a crowd again

    async def _read_all(self) -> None:
        """News may be missing: look in the database for everyone who waits."""
        for entity in list(self._waiters):
            reply = await self._read(entity)
            if reply is not None:
                self._deliver(entity, reply)

    async def _read(self, entity: EntityKey) -> bytes | None:
        try:
            return await self._stored_reply(entity) if self._stored_reply is not None else None
        except Retryable:
            return None

    def _deliver(self, entity: EntityKey, reply: bytes) -> None:
        self._recent[entity] = reply
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        for waiter in self._waiters.pop(entity, []):
            if not waiter.done():
                waiter.set_result(reply)

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _abandon(queued: Iterable[_Queued[Any]]) -> None:
    """Nobody waits for ever: who has no answer by now gets none from here."""
    for _, answer, _ in queued:
        if not answer.done():
            answer.set_result(Failed("Unavailable", "the server stopped asking the shard"))


def shard_of(entity: EntityKey, shards: int) -> int:
    """The shard that owns an entity: slots are dealt out in ranges."""
    return slot_of(*entity) * shards // limits.SLOTS


def slots_of_shard(shard: int, shards: int) -> tuple[int, ...]:
    """The slots a shard owns; the inverse of `shard_of`."""
    return tuple(slot for slot in range(limits.SLOTS) if slot * shards // limits.SLOTS == shard)
