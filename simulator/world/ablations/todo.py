"""Ablations of to-dos: what is owed is not written, closed too early, run by nobody or by two.

Invariant: see `plant.py`.
"""

from dataclasses import replace
from typing import Any

from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import checkout
from zerosum.domain import message as m
from zerosum.domain.draft import Draft
from zerosum.domain.todo import TodoKind
from zerosum.store.memory import MemoryStore
from zerosum.store.plan import Step


@ablation("todo-not-written", "the wallet's credit is started after the commit and stands in no row", "P2, P5, P30, I5")
def todo_not_written(plant: Plant) -> None:
    honest = MemoryStore._carry_out

    def carry_out(self: Any, step: Step, undo: Any) -> Any:
        if step.table.name != "todos":
            return honest(self, step, undo)
        kept = [at for at, row in enumerate(step.rows) if row["kind"] != TodoKind.CREDIT_WALLET]
        part = Step(step.table, step.verb, [step.rows[at] for at in kept], [step.origins[at] for at in kept])
        lost = [row for row in step.rows if row["kind"] == TodoKind.CREDIT_WALLET]
        return [*honest(self, part, undo), *(self.tables["todos"].key(row) for row in lost)]

    plant.instead(MemoryStore, "_carry_out", carry_out)


@ablation("todo-closed-early", "a posting is ticked off whatever the wallet or the ledger said", "P30, D1, I5")
def todo_closed_early(plant: Plant) -> None:
    honest = checkout.record_trouble

    def record_trouble(draft: Draft, command: m.RecordTrouble) -> None:
        todo = draft.checkout.todos.get(command.todo_id)
        if todo is not None and todo.kind in (TodoKind.CREDIT_WALLET, TodoKind.POST_JOURNAL):
            checkout.record_delivery(draft, m.RecordDelivery(todo.id))
        else:
            honest(draft, command)

    plant.instead(checkout, "record_trouble", record_trouble)


@ablation("no-sweep", "nobody looks for to-dos that a dead process left", "P2, A1, I9")
def no_sweep(plant: Plant) -> None:
    async def due_todos(self: Any, *_: Any) -> tuple[()]:
        self.check_reachable()
        return ()

    plant.instead(MemoryStore, "due_todos", due_todos)


@ablation(
    "no-lease",
    "a to-do is claimed while it runs: two runs at once",
    "P3, I4",
    harmless="two runs of a to-do are the same request under the same key, and the older one's result counts for nothing",
)
def no_lease(plant: Plant) -> None:
    """Every open to-do of a PSP or peer looks due to the sweep and to the claim."""
    honest_claim, honest_due = checkout.claim, MemoryStore.due_todos

    def claim(draft: Draft, command: m.ClaimTodo) -> None:
        todo = draft.checkout.todos.get(command.todo_id)
        if todo is not None and todo.is_open and todo.kind is not TodoKind.ANSWER:
            draft._put(replace(todo, due_at_ms=min(todo.due_at_ms, draft.now_ms)))
        honest_claim(draft, command)

    async def due_todos(self: Any, slots: Any, _: int, rows_max: int, after: Any = None) -> Any:
        return await honest_due(self, slots, -_FOR_EVER_MS, rows_max, after)

    plant.instead(checkout, "claim", claim)
    plant.instead(MemoryStore, "due_todos", due_todos)


_FOR_EVER_MS = 10**12
