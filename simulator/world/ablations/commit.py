"""Ablations of the commit: its fence, its order among answers and effects, and what follows from a store that says no.

Invariant: see `plant.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from actors.answer import Applied, Refused
from actors.batch import Batcher, Outcome
from actors.shard import Shard
from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import CommitAmbiguous, RowsRefused, Superseded
from zerosum.ports import Batch, Committed, SlotHead
from zerosum.store.memory import MemoryStore, _undo
from zerosum.store.plan import SEEN, Plan, Step, Verb

# ---- the fence -----------------------------------------------------------------------------------------------------


def _no_fence(plant: Plant) -> None:
    """`UPDATE slot SET seq = seq + 1 .. WHERE slot = ANY(..)`, without `AND epoch = :mine`, wherever slots are written."""
    honest_commit, honest_move = MemoryStore.commit, MemoryStore._move_slots

    def head_now(store: Any, head: SlotHead) -> SlotHead:
        row = store.tables["slots"].rows[head.slot,]
        return replace(head, seq=row["seq"], hash=row["hash"])

    async def commit(self: Any, batch: Batch[Any]) -> Any:
        return await honest_commit(self, replace(batch, heads=[head_now(self, head) for head in batch.heads]))

    def move_slots(self: Any, prepared: Plan, undo: Any) -> None:
        epoch_of = {slot: row["epoch"] for (slot,), row in self.tables["slots"].rows.items()}
        heads = [replace(head, epoch=epoch_of[head.slot]) for head in prepared.heads]
        honest_move(self, replace(prepared, heads=heads), undo)

    async def retake_slots(self: Any, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        self.check_reachable()
        return [head_now(self, head) for head in heads]

    plant.instead(MemoryStore, "commit", commit)
    plant.instead(MemoryStore, "_move_slots", move_slots)
    plant.instead(MemoryStore, "retake_slots", retake_slots)


def _no_swap(plant: Plant) -> None:
    honest = MemoryStore._carry_out

    def carry_out(self: Any, step: Step, undo: Any) -> Any:
        if step.verb is Verb.SWAP:
            step = Step(step.table, Verb.UPDATE, [{**row, SEEN: _version(self, step, row)} for row in step.rows])
        return honest(self, step, undo)

    plant.instead(MemoryStore, "_carry_out", carry_out)


def _version(store: Any, step: Step, row: Any) -> Any:
    table = store.tables[step.table.name]
    return table.rows[table.key(row)]["version"]


@ablation("no-fence", "the epoch of a slot is not checked: a superseded copy goes on writing", "A2, A8, I7")
def no_fence(plant: Plant) -> None:
    _no_fence(plant)


@ablation(
    "no-version-check",
    "the version of an entity is not compared with the one that was read",
    "A6, P15, I7",
    harmless="the epoch of the slot stands in front of it: there is one writer",
)
def no_version_check(plant: Plant) -> None:
    _no_swap(plant)


@ablation("no-fence-no-version", "neither epoch nor version is checked: the last writer wins", "A2, A8, I5, I7")
def no_fence_no_version(plant: Plant) -> None:
    _no_fence(plant)
    _no_swap(plant)


@ablation("no-batch-filter", "what is left of a batch after a clash is committed", "A7, C1, P36, I5, I6")
def no_batch_filter(plant: Plant) -> None:
    def apply(self: Any, prepared: Plan, _: Any) -> Committed:
        undo: list[Any] = []
        try:
            self._move_slots(prepared, undo)
            for step in prepared.steps:
                self._carry_out(step, undo)
        except (Superseded, CommitAmbiguous, RowsRefused):
            _undo(undo)
            raise
        return Committed(prepared.heads)

    plant.instead(MemoryStore, "_apply", apply)


# ---- before the commit ---------------------------------------------------------------------------------------------


@ablation("ack-before-commit", "commands are answered before their commit", "P1, P6, I6, I24")
def ack_before_commit(plant: Plant) -> None:
    honest = Batcher._commit

    async def commit(self: Any, decided: Any) -> Any:
        for item, turn in decided.turns:
            item.answer(turn.answer)
        return await honest(self, decided)

    plant.instead(Batcher, "_commit", commit)


@ablation("webhook-ack-first", "a webhook is answered with 2xx before it is in the inbox", "P29, I10")
def webhook_ack_first(plant: Plant) -> None:
    async def deliver(self: Any, commands: Sequence[Any]) -> list[Any]:
        for command in commands:
            self.tell(command)
        return [Applied(is_replay=False) for _ in commands]

    plant.instead(Shard, "deliver", deliver)


@ablation("effects-before-commit", "effects start before the commit that decided them", "P1, P3, I3, I4")
def effects_before_commit(plant: Plant) -> None:
    honest = Batcher._commit

    async def commit(self: Any, decided: Any) -> Any:
        early: Outcome[Any] = Outcome(now_ms=decided.now_ms)
        for item, turn in decided.turns:
            state = decided.states.get(item.entity)
            found = [self._run_of(item, state, todo_id, decided.now_ms) for todo_id in turn.runs if state is not None]
            early.runs.extend(run for run in found if run is not None)
        self._on_commit(early)
        return await honest(self, decided)

    plant.instead(Batcher, "_commit", commit)


# ---- when the store says no ----------------------------------------------------------------------------------------


_NO: Final = Refusal(Reason.ILLEGAL_TRANSITION, "", "insufficient funds")


@ablation("ambiguous-is-failed", "a commit that ended in doubt is answered as if it had not been done", "D2, I6")
def ambiguous_is_failed(plant: Plant) -> None:
    """Behind the fence, so that the shard goes on: it is the conclusion that is wrong."""

    async def conclude(self: Any, waiting: Any, decided: Any) -> None:
        self._memory.forget({item.entity for item in waiting})
        await self._fence(decided)
        for item in waiting:
            item.answer(Refused(_NO, is_replay=False))

    plant.instead(Batcher, "_settle_ambiguity", conclude)


@ablation("ambiguous-is-done", "a commit that ended in doubt is answered as if it had been done", "D2, I5, I6, I24")
def ambiguous_is_done(plant: Plant) -> None:
    honest = Batcher._settle_ambiguity

    async def conclude(self: Any, waiting: Any, decided: Any) -> None:
        if decided is None:
            await honest(self, waiting, decided)
            return
        await self._fence(decided)
        self._publish(decided)

    plant.instead(Batcher, "_settle_ambiguity", conclude)


@ablation("conflict-is-refusal", "a transaction that the database would not serialize is a business no", "D1, I5, I6")
def conflict_is_refusal(plant: Plant) -> None:
    async def again(self: Any, waiting: Any) -> None:
        self._memory.forget({item.entity for item in waiting})
        for item in waiting:
            item.answer(Refused(_NO, is_replay=False))

    plant.instead(Batcher, "_again", again)
