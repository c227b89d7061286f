"""From waiting commands to one commit: decide in memory, commit all or nothing, divide where the store says no.

The answer to every "no" of the store is one of these, all here:

    Clash                  a row was there before: those turns and every later turn of their entities are decided again
    SerializationConflict  the same batch again, reads included; after two, in halves
    RowsRefused            halves, down to the one turn whose row cannot be stored: only it fails; a row that is only held
                           by somebody else (RowHeld) may be asked for again
    CommitAmbiguous        raise our own epoch, so that what is still on its way can never land; forget; follow what has
                           landed (its open to-dos run); run the same commands again: their rows decide
    Superseded             a newer copy owns these slots: this one ends

A `Bug` while rows are made is divided like a refused row, and quarantines the entity it stands alone with; so does whatever a
turn stumbles over while it is decided, or one command would end the shard again and again.

Invariant: nothing is answered and no effect leaves before the commit; a filtered remainder is never committed; every
command that was taken is answered, however the batch ends.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import structlog

from actors.answer import Accepted, Answer, Failed, InFlight
from actors.memory import Memory
from actors.turn import Binding, Known, Run, Turn, Versioned
from zerosum.domain.identity import EntityKey, slot_of
from zerosum.errors import Bug, CommitAmbiguous, RowHeld, RowsRefused, SerializationConflict, Superseded, Unavailable
from zerosum.ports import NOTHING, Batch, Change, Clash, Committed, Loaded, SlotHead, Store, Wanted

S = TypeVar("S", bound=Versioned)
C = TypeVar("C")
_log = structlog.get_logger()

TRIES_MAX = 8
"""Runs of the same turns against conflicts: 2 whole, then halves of 256 = 2^8."""


@dataclass(slots=True)
class Waiting(Generic[C]):
    """A command in a batch, and where its answer goes: the first one counts.

    `doubted`: what it was to be answered by a commit of ours that ended in doubt, None where there was none.
    """

    command: C
    entity: EntityKey
    answer: Callable[[Answer], None]
    tries: int = 0
    doubted: Answer | None = None


@dataclass(slots=True)
class Outcome(Generic[S]):
    """What a commit brought: states that changed (before, after), and effects to start."""

    changed: dict[EntityKey, tuple[S | None, S]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    now_ms: int = 0


@dataclass(slots=True)
class _Decided(Generic[S]):
    """Turns decided over the same base, not yet committed."""

    now_ms: int
    turns: list[tuple[Waiting[Any], Turn[S]]]
    base: dict[EntityKey, S | None]
    states: dict[EntityKey, S | None]


class Batcher(Generic[S, C]):
    """Runs batches for one shard. One batch at a time; `heads` are the slots' logs as this copy knows them.

    `expects_replays`: commands are looked for before they are decided. Without, one that is known shows at the commit, by its
    command row, and is looked for then: for services whose every turn writes that row and whose commands are nearly all new.
    `on_conflict`: the database refused a batch (40001); it is run again.
    """

    def __init__(
        self,
        *,
        binding: Binding[S, C],
        store: Store[S],
        memory: Memory[S],
        heads: Sequence[SlotHead],
        on_commit: Callable[[Outcome[S]], None],
        pause: Callable[[int], Awaitable[None]],
        database_ms: Callable[[], int | None] = lambda: None,
        expects_replays: bool = True,
        on_conflict: Callable[[], None] = lambda: None,
    ) -> None:
        self._binding = binding
        self._store = store
        self._memory = memory
        self._heads = {head.slot: head for head in heads}
        self._on_commit = on_commit
        self._pause = pause
        self._database_ms = database_ms
        self._expects_replays = expects_replays
        self._on_conflict = on_conflict
        self._quarantined: set[EntityKey] = set()

    async def run(self, waiting: Sequence[Waiting[C]]) -> None:
        """Takes the turns of all commands and answers each. Raises Superseded; every command is answered before."""
        ended = Failed("Unavailable", "the shard ended while the command was being committed")
        try:
            await self._run(list(waiting))
        except Superseded as end:
            ended = Failed("Superseded", str(end))
            raise
        finally:
            for item in waiting:
                item.answer(ended)  # those who have their answer keep it

    async def _run(self, waiting: list[Waiting[C]]) -> None:
        if not waiting:
            return
        decided: _Decided[S] | None = None
        try:
            decided = await self._decide(waiting)
            result = await self._commit(decided)
        except SerializationConflict:
            self._on_conflict()
            await self._again(waiting)
        except (RowsRefused, Bug) as refused:
            await self._bisect(waiting, refused)
        except CommitAmbiguous:
            await self._settle_ambiguity(waiting, decided)
        except Unavailable as away:
            for item in waiting:
                item.answer(Failed("Unavailable", str(away)))
        else:
            if isinstance(result, Clash):
                await self._divide(decided, result)
            else:
                self._publish(decided)

    # ---- decide ----------------------------------------------------------------------------------------------

    async def _decide(self, waiting: list[Waiting[C]]) -> _Decided[S]:
        held = {item.entity: self._memory.get(item.entity) for item in waiting}  # it may leave memory while we load
        loaded = await self._load(self._wanted(waiting, held))
        for key, state in loaded.entities.items():
            self._memory.put(key, state)
        known = Known.of(loaded)
        base = {key: loaded.entities.get(key, state) for key, state in held.items()}
        decided: _Decided[S] = _Decided(loaded.now_ms, [], base, dict(base))
        for item in waiting:
            if item.entity in self._quarantined:
                item.answer(Failed("Bug", "the entity is quarantined"))
                continue
            try:
                turn = self._binding.take(decided.states[item.entity], item.command, known, loaded.now_ms)
            except Exception as slip:  # noqa: BLE001 - the turn loop: whatever a turn stumbles over is its entity's alone
                bug = slip if isinstance(slip, Bug) else Bug(f"a turn stumbled: {type(slip).__name__}")
                _log.error("a turn failed", exc_info=slip)
                self._quarantine(item.entity, bug)
                item.answer(Failed("Bug", str(bug)))
                continue
            decided.states[item.entity] = turn.after
            decided.turns.append((item, turn))
        return decided

    async def _load(self, wanted: Wanted) -> Loaded[S]:
        """What is wanted; where that is nothing but the time, the database's clock as the shard follows it will do."""
        now_ms = self._database_ms() if wanted == NOTHING else None
        return await self._store.load(wanted) if now_ms is None else Loaded(now_ms, {}, {}, {}, {})

    def _wanted(self, waiting: Sequence[Waiting[C]], held: Mapping[EntityKey, S | None]) -> Wanted:
        looked_for = waiting if self._expects_replays else [item for item in waiting if item.tries]
        wants = [want for item in looked_for if (want := self._binding.wants(item.command)) is not NOTHING]
        absent = [key for key, state in held.items() if state is None]
        if not (wants or absent):
            return NOTHING
        return Wanted(
            entities=tuple(dict.fromkeys([*absent, *(key for want in wants for key in want.entities)])),
            commands=tuple({key: None for want in wants for key in want.commands}),
            claims=tuple({key: None for want in wants for key in want.claims}),
            deliveries=tuple({event: None for want in wants for event in want.deliveries}),
        )

    def _quarantine(self, entity: EntityKey, bug: Bug) -> None:
        """A broken invariant stops its entity, never the shard. Its earlier turns of this batch stand."""
        _log.error("entity quarantined", tenant=entity.tenant, entity=entity.id, bug=str(bug))
        self._quarantined.add(entity)

    # ---- commit ----------------------------------------------------------------------------------------------

    async def _commit(self, decided: _Decided[S]) -> Committed | Clash:
        records = [turn.record for _, turn in decided.turns if turn.record is not None]
        if not records:
            return Committed(())
        slots = sorted({slot_of(*record.entity) for record in records})
        changes = [
            Change(key, decided.base[key], after)
            for key, after in decided.states.items()
            if after is not None and after is not decided.base[key]
        ]
        batch = Batch(decided.now_ms, [self._heads[slot] for slot in slots], records, changes)
        result = await self._store.commit(batch)
        if isinstance(result, Committed):
            self._heads.update({head.slot: head for head in result.heads})
        return result

    def _publish(self, decided: _Decided[S]) -> None:
        """It is durable: remember, start effects, answer."""
        self._follow(decided, decided.states, decided.now_ms)
        for item, turn in decided.turns:
            is_own_twin = isinstance(turn.answer, InFlight) and isinstance(item.doubted, Accepted)
            item.answer(Accepted() if is_own_twin else turn.answer)

    def _follow(self, decided: _Decided[S], states: Mapping[EntityKey, S | None], now_ms: int) -> None:
        """Remembers what is committed by now (`states`), and lets out what follows from it."""
        outcome: Outcome[S] = Outcome(now_ms=now_ms)
        for key, after in states.items():
            if after is not None and after is not decided.base[key]:
                self._memory.put(key, after)
                outcome.changed[key] = (decided.base[key], after)
        for item, turn in decided.turns:
            state = states.get(item.entity)
            for todo_id in turn.runs:
                run = self._run_of(item, state, todo_id, now_ms) if state is not None else None
                if run is not None:
                    outcome.runs.append(run)
        self._on_commit(outcome)

    def _run_of(self, item: Waiting[C], state: S, todo_id: str, now_ms: int) -> Run | None:
        try:
            return self._binding.run_of(state, todo_id, now_ms)
        except Bug as bug:  # what is committed stands, and is answered; the effect waits for people
            self._quarantine(item.entity, bug)
            return None

    # ---- when the store says no ------------------------------------------------------------------------------

    async def _divide(self, decided: _Decided[S], clash: Clash) -> None:
        """The rest first, without the turns concerned and all later turns of their entities; then those, decided again."""
        recorded = [item for item, turn in decided.turns if turn.record is not None]
        hit = {id(recorded[position]) for position in clash.turns}
        rest: list[Waiting[C]] = []
        again: list[Waiting[C]] = []
        fallen: set[EntityKey] = set(clash.entities)
        for item, _ in decided.turns:
            if id(item) in hit:
                fallen.add(item.entity)
            (again if item.entity in fallen else rest).append(item)
        if not again:
            raise Bug(f"a clash on {clash.table} concerns no turn")
        self._memory.forget(fallen)
        _log.info("clash", table=clash.table, again=len(again), rest=len(rest))
        await self._run(rest)
        await self._run(self._with_budget(again, "rows kept clashing"))

    async def _again(self, waiting: list[Waiting[C]]) -> None:
        left = self._with_budget(waiting, "the database kept refusing to serialize")
        self._memory.forget({item.entity for item in left})
        tries = max((item.tries for item in left), default=0)
        await self._pause(tries)
        if tries <= 2 or len(left) < 2:  # noqa: PLR2004 - "after two, in halves"
            await self._run(left)
        else:
            await self._run(left[: len(left) // 2])
            await self._run(left[len(left) // 2 :])

    async def _bisect(self, waiting: list[Waiting[C]], refused: RowsRefused | Bug) -> None:
        self._memory.forget({item.entity for item in waiting})
        if len(waiting) == 1:
            (item,) = waiting
            if isinstance(refused, RowHeld):
                _log.warning("row held", tenant=item.entity.tenant, entity=item.entity.id, reason=str(refused))
                item.answer(Failed("Unavailable", str(refused)))
                return
            if isinstance(refused, Bug):
                self._quarantine(item.entity, refused)
            else:
                _log.error("poison command", tenant=item.entity.tenant, entity=item.entity.id, reason=str(refused))
            item.answer(Failed("Bug", "a row of this command cannot be stored"))
            return
        await self._run(waiting[: len(waiting) // 2])
        await self._run(waiting[len(waiting) // 2 :])

    async def _settle_ambiguity(self, waiting: list[Waiting[C]], decided: _Decided[S] | None) -> None:
        """Never read and conclude: fence what may still land, then run the same commands; their rows decide.

        Behind the fence nothing can land any more, so the to-dos that are stored with our lease are ours to run.
        """
        self._memory.forget({item.entity for item in waiting})
        for item, turn in decided.turns if decided is not None else ():
            item.doubted = turn.answer
        stored = await self._fence(decided)
        if decided is not None and stored is not None:
            landed = {
                key: state
                for key, state in stored.entities.items()
                if state.version == _version(decided.states[key]) != _version(decided.base[key])
            }
            self._follow(decided, landed, stored.now_ms)
        await self._run(self._with_budget(waiting, "commits kept ending in doubt"))

    async def _fence(self, decided: _Decided[S] | None) -> Loaded[S] | None:
        """Raises the epoch of our own slots until it is done, then loads what the commit was to change."""
        while True:
            try:
                heads = await self._store.retake_slots(tuple(self._heads.values()))
                self._heads = {head.slot: head for head in heads}
                if decided is None:
                    return None
                changed = [key for key, after in decided.states.items() if after is not decided.base[key]]
                return await self._store.load(Wanted(entities=tuple(changed)))
            except (Unavailable, CommitAmbiguous, SerializationConflict):
                await self._pause(TRIES_MAX)

    def _with_budget(self, waiting: list[Waiting[C]], reason: str) -> list[Waiting[C]]:
        """Counts one more run for each; those over budget are answered with a typed, retryable failure."""
        left: list[Waiting[C]] = []
        for item in waiting:
            item.tries += 1
            if item.tries > TRIES_MAX:
                item.answer(Failed("CommitAmbiguous" if item.doubted is not None else "ConflictBudget", reason))
            else:
                left.append(item)
        return left


def _version(state: Versioned | None) -> int:
    return state.version if state is not None else 0
