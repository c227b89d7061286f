"""A shard: owns a range of slots, hosts their entities, and turns waiting commands into batches. Plain asyncio, no Ray.

Two lanes of mailboxes: callers' commands are bounded, per entity and in all, and refused when full; results of effects,
webhooks, settlement lines and claims have a lane that admission never refuses. While one batch is on its way the next
collects; when it returns, all that waits goes, and in a crowd a moment later (`BATCH_PACE_MS`). Source: design section 3,
docs/adr/0007.

Invariant: at most one batch is under way, and within a lane an entity's commands are taken in the order they came. The inner
lane goes first: a webhook or a result overtakes what callers asked earlier, so no rule may hang on the order between lanes.
"""

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from actors.answer import Answer, Busy, Failed
from actors.batch import Batcher, Outcome, Waiting
from actors.loop import start_loop
from actors.memory import Memory
from actors.outcome import Outcomes
from actors.turn import Binding, Run, Versioned
from zerosum import limits
from zerosum.domain.identity import EntityKey
from zerosum.errors import Retryable, Superseded
from zerosum.ports import NOTHING, DueTodo, Store

S = TypeVar("S", bound=Versioned)
C = TypeVar("C")
_log = structlog.get_logger()


def _nobody(_: Answer) -> None:
    """Nobody waits for this answer."""


class Clock(Protocol):
    """Time and waiting, handed in, so that the same shard runs on virtual time."""

    def monotonic_ms(self) -> int:
        """Milliseconds that only ever grow."""
        ...

    async def sleep_ms(self, duration_ms: int) -> None:
        """Waits."""
        ...

    def jitter_ppm(self) -> int:
        """Chance: 0 to 999,999 parts of a million."""
        ...


class Effects(Protocol):
    """The runner, as the shard sees it."""

    def start(self, run: Run) -> None:
        """Begins an effect; its result comes back as a command."""
        ...


@dataclass(slots=True)
class Figures:
    """What this shard has done; the metrics are read from here."""

    batches: int = 0
    turns: int = 0
    conflicts: int = 0
    fenced: int = 0
    busy: int = 0


class Shard(Generic[S, C]):
    """Hosts the entities of `slots`. `start` raises their epochs; `submit` and `tell` are its two lanes.

    `ended`: it serves nobody any more; `end_reason`: why, in a sentence for people, "" while it lives.
    `pace_ms`: how soon after a batch of many the next may begin; 0 where whoever calls sends lists that waited already.
    `expects_replays`: see `Batcher`.
    """

    def __init__(
        self,
        *,
        binding: Binding[S, C],
        store: Store[S],
        slots: Sequence[int],
        deployment: str,
        clock: Clock,
        pace_ms: int = limits.BATCH_PACE_MS,
        expects_replays: bool = True,
    ) -> None:
        self._binding = binding
        self._store = store
        self._slots = tuple(slots)
        self._deployment = deployment
        self._clock = clock
        self._pace_ms = pace_ms
        self._expects_replays = expects_replays
        self._memory: Memory[S] = Memory()
        self._callers: deque[Waiting[C]] = deque()
        self._inner: deque[Waiting[C]] = deque()
        self._waiting_of: Counter[EntityKey] = Counter()
        self._work = asyncio.Event()
        self._timers: list[tuple[int, EntityKey, str]] = []
        self._rescheduled = asyncio.Event()
        self._database_ahead_ms: int | None = None
        self._effects: Effects | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.outcomes = Outcomes()
        self.figures = Figures()
        self.ended = asyncio.Event()
        self.end_reason = ""

    async def start(self, effects: Effects | None) -> None:
        """Takes the slots (every older copy is fenced from now on) and begins to serve. Raises Unavailable."""
        self._effects = effects
        heads = await self._store.take_slots(self._slots, self._deployment)
        self._set_time((await self._store.load(NOTHING)).now_ms)
        self.outcomes.begin(max((head.epoch for head in heads), default=0))
        batcher = Batcher(
            binding=self._binding, store=self._store, memory=self._memory, heads=heads,
            on_commit=self._committed, pause=self._pause, database_ms=self._database_ms,
            expects_replays=self._expects_replays, on_conflict=self._conflicted,
        )  # fmt: skip
        loops = (self._serve(batcher), self._keep_time(), self._sweep())
        self._tasks = [start_loop(loop, "a loop of the shard", self.end) for loop in loops]

    async def stop(self) -> None:
        """Stops serving. A commit under way is finished by the store; what waits is answered as unavailable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.end("the shard was stopped")

    def end(self, reason: str) -> None:
        """Serves nothing from now on, and says so (`ended`): its process ends. What waits is answered as unavailable."""
        self.end_reason = self.end_reason or reason  # the first is why; later ones only find it ended
        self.ended.set()
        self.outcomes.end()
        for lane in (self._inner, self._callers):
            while lane:
                lane.popleft().answer(Failed("Unavailable", reason))

    # ---- mailboxes -------------------------------------------------------------------------------------------

    async def submit(self, commands: Sequence[C]) -> list[Answer]:
        """Callers' lane: one answer each, in order, after the commit that makes it true. Full: Busy."""
        answers = _Answers(len(commands))
        for place, command in enumerate(commands):
            entity, answer = self._binding.entity(command), answers.at(place)
            if self.ended.is_set():
                answer(Failed("Unavailable", "the shard has ended"))
            elif self._is_full(entity):
                self.figures.busy += 1
                answer(Busy(limits.RETRY_HINT_MS))
            else:
                self._waiting_of[entity] += 1
                self._callers.append(Waiting(command, entity, answer))
        self._work.set()
        return await answers.whole

    async def deliver(self, commands: Sequence[C]) -> list[Answer]:
        """The lane that admission never refuses, with answers: webhooks and settlement lines."""
        answers = _Answers(len(commands))
        for place, command in enumerate(commands):
            self._inner.append(Waiting(command, self._binding.entity(command), answers.at(place)))
        self._work.set()
        if self.ended.is_set():
            self.end("the shard has ended")
        return await answers.whole

    def tell(self, command: C, answer: Callable[[Answer], None] = _nobody) -> None:
        """The same lane, waiting for nothing: results of effects and claims. What gets lost here, a lease brings back."""
        self._inner.append(Waiting(command, self._binding.entity(command), answer))
        self._work.set()

    def _is_full(self, entity: EntityKey) -> bool:
        return len(self._callers) >= limits.MAILBOX_SHARD_MAX or self._waiting_of[entity] >= limits.MAILBOX_ENTITY_MAX

    # ---- serving ---------------------------------------------------------------------------------------------

    async def _serve(self, batcher: Batcher[S, C]) -> None:
        try:
            while True:
                await self._work.wait()
                self._memory.tick(self._clock.monotonic_ms())
                batch = self._collect()
                if not batch:
                    self._work.clear()
                    continue
                self.figures.batches += 1
                self.figures.turns += len(batch)
                began_ms = self._clock.monotonic_ms()
                await batcher.run(batch)
                if len(batch) > 1:  # there is a crowd: what comes within the pace shares the next commit
                    next_ms = began_ms + self._pace_ms
                    await self._clock.sleep_ms(max(0, next_ms - self._clock.monotonic_ms()))
        except Superseded as end:
            self.figures.fenced += 1
            _log.warning("superseded: this copy of the shard ends", slots=len(self._slots), reason=str(end))
            self.end(str(end))

    def _collect(self) -> list[Waiting[C]]:
        """All that waits, inner lane first, up to the size of one commit."""
        batch: list[Waiting[C]] = []
        weight = 0
        for lane in (self._inner, self._callers):
            while lane and len(batch) < limits.BATCH_TURNS_MAX and weight < limits.BATCH_BYTES_MAX:
                item = lane.popleft()
                weight += self._binding.weight_bytes(item.command)
                batch.append(item)
                if lane is self._callers:
                    self._waiting_of[item.entity] -= 1
                    if not self._waiting_of[item.entity]:
                        del self._waiting_of[item.entity]
        return batch

    def _committed(self, outcome: Outcome[S]) -> None:
        for key, (before, after) in outcome.changed.items():
            known = self._binding.timers(before) if before is not None else {}
            for todo_id, due_at_ms in self._binding.timers(after).items():
                if known.get(todo_id) != due_at_ms:
                    self._remind(due_at_ms, key, todo_id)
            reply = self._binding.outcome(after)
            if reply is not None and (before is None or self._binding.outcome(before) is None):
                self.outcomes.publish(key, reply)
        if self._effects is not None:
            for run in outcome.runs:
                self._effects.start(run)

    def _set_time(self, database_ms: int) -> None:
        """Timers run by the database's clock, which may be ahead of ours, and may jump."""
        ahead_ms = database_ms - self._clock.monotonic_ms()
        if self._database_ahead_ms is None or abs(ahead_ms - self._database_ahead_ms) > _CLOCK_JUMP_MS:
            self._rescheduled.set()
        self._database_ahead_ms = ahead_ms

    def _database_ms(self) -> int | None:
        """The database's clock, followed by ours between two readings, which are at most a sweep apart. None: not read yet."""
        return None if self._database_ahead_ms is None else self._clock.monotonic_ms() + self._database_ahead_ms

    def _remind(self, due_at_ms: int, key: EntityKey, todo_id: str) -> None:
        heapq.heappush(self._timers, (due_at_ms, key, todo_id))
        if self._timers[0][0] == due_at_ms:
            self._rescheduled.set()

    def _conflicted(self) -> None:
        self.figures.conflicts += 1

    async def _pause(self, tries: int) -> None:
        """Full jitter, 1 ms doubling to 256 ms: conflicts are short."""
        await self._clock.sleep_ms(1 + self._clock.jitter_ppm() * (1 << min(tries, 8)) // 1_000_000)

    # ---- to-dos whose time comes -----------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Claims to-dos of entities in memory when they are due. The sweep finds all others."""
        loop = asyncio.get_running_loop()
        while True:
            self._rescheduled.clear()
            now_ms = self._database_ms() or 0
            while self._timers and self._timers[0][0] <= now_ms:
                due_at_ms, key, todo_id = heapq.heappop(self._timers)
                state = self._memory.peek(key)
                if state is not None and self._binding.timers(state).get(todo_id) == due_at_ms:
                    self.tell(self._binding.claim(key, todo_id))
            alarm = None
            if self._timers:
                alarm = loop.call_later((self._timers[0][0] - now_ms) / 1_000, self._rescheduled.set)
            await self._rescheduled.wait()
            if alarm is not None:
                alarm.cancel()

    async def _sweep(self) -> None:
        """Finds what a dead process left, in our own slots; lets idle entities leave memory.

        Each look goes on behind the last one, and having come to the end begins with the oldest again: a to-do that cannot
        be claimed, its entity quarantined or its row refused, stays due and must not hide those behind it. While as many
        claims of earlier looks wait as one brings, nothing is looked for: a stall would pile up the same ones for ever.
        """
        last: DueTodo | None = None
        waiting: list[_Answers] = []
        while True:
            await self._clock.sleep_ms(limits.SWEEP_EVERY_MS)
            self._memory.tick(self._clock.monotonic_ms())
            self._memory.passivate(limits.PASSIVATE_AFTER_MS, self._waiting_of)
            try:
                self._set_time((await self._store.load(NOTHING)).now_ms)
                waiting = [claims for claims in waiting if claims.missing]
                if sum(claims.missing for claims in waiting) >= limits.SWEEP_ROWS_MAX:
                    continue
                due = await self._store.due_todos(self._slots, limits.SWEEP_GRACE_MS, limits.SWEEP_ROWS_MAX, last)
            except Retryable as away:
                _log.warning("sweep failed", reason=str(away))
                continue
            last = due[-1] if len(due) == limits.SWEEP_ROWS_MAX else None
            claims = _Answers(len(due))
            waiting.append(claims)
            for place, found in enumerate(due):
                self.tell(self._binding.claim(found.entity, found.todo_id), claims.at(place))


_CLOCK_JUMP_MS = 100
"""The database's clock moved against ours by more than a round trip: look at the timers again."""


class _Answers:
    """The answers to one call, in the order of its commands; `whole` when the last of them is there."""

    def __init__(self, count: int) -> None:
        self.whole: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._given: dict[int, Answer] = {}
        self._count = count
        self._look()

    @property
    def missing(self) -> int:
        """How many commands have no answer yet."""
        return self._count - len(self._given)

    def at(self, place: int) -> Callable[[Answer], None]:
        """Where one command's answer goes: the first one counts."""

        def put(answer: Answer) -> None:
            self._given.setdefault(place, answer)
            self._look()

        return put

    def _look(self) -> None:
        if len(self._given) == self._count and not self.whole.done():  # it is done where the caller has gone
            self.whole.set_result([self._given[place] for place in range(self._count)])
