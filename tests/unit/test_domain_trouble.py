"""What follows from trouble is one table, and the checkout does what it says. Source: failures.md rows S1, S2, P30."""

from dataclasses import replace
from itertools import product

import pytest

from tests.sim.house import POLICY, checkout
from zerosum.domain import message as m
from zerosum.domain.checkout import decide
from zerosum.domain.checkout_state import Checkout, evolve
from zerosum.domain.identity import Key, OrderId
from zerosum.domain.message import Trouble
from zerosum.domain.order import Operation, OperationKind, OperationState
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.retry import AFTER, AfterTrouble
from zerosum.domain.todo import Todo, TodoKind, TodoState, todo_id

NOW_MS = 1_800_000_000_000
ORDER = OrderId("c-1-o0")
ROWS = [pytest.param(trouble, kind, id=f"{trouble}-{kind}") for trouble, kind in product(Trouble, TodoKind)]


def test_the_table_is_total() -> None:
    """What may befall a to-do of any kind has its row, and no row is of anything else."""
    assert set(product(Trouble, TodoKind)) == set(AFTER)


def test_only_a_peer_s_refusal_ends_a_to_do() -> None:
    """Trouble is retried: nothing is given up, or reversed, for it."""
    assert {Trouble.REFUSED} == {trouble for (trouble, _), after in AFTER.items() if after is AfterTrouble.NEVER}
    assert all(AFTER[Trouble.REFUSED, kind] is AfterTrouble.NEVER for kind in TodoKind)


def test_only_a_prepare_goes_on_under_another_key() -> None:
    """S1: what may have moved money is sent again under its own key, or asked for; a prepare moves none."""
    anew = [row for row, after in AFTER.items() if after is AfterTrouble.ANEW]

    assert anew == [(Trouble.STORED_FAILURE, TodoKind.PREPARE)]


@pytest.mark.parametrize(("trouble", "kind"), ROWS)
def test_a_checkout_does_what_the_table_says(trouble: Trouble, kind: TodoKind) -> None:
    """Put off under its own name, begun anew under the next number, or a dead letter."""
    after = told(trouble, kind)

    todos = [(todo.number, todo.state) for todo in after.todos.values()]
    expected = {
        AfterTrouble.AGAIN: [(1, TodoState.OPEN)],
        AfterTrouble.ANEW: [(1, TodoState.DONE), (2, TodoState.OPEN)],
        AfterTrouble.NEVER: [(1, TodoState.DEAD)],
    }[AFTER[trouble, kind]]
    assert todos == expected


@pytest.mark.parametrize("then", [AfterTrouble.AGAIN, AfterTrouble.NEVER])
@pytest.mark.parametrize(("trouble", "kind"), ROWS)
def test_another_row_is_another_decision(
    trouble: Trouble, kind: TodoKind, then: AfterTrouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing beside the table has a say."""
    monkeypatch.setitem(AFTER, (trouble, kind), then)

    (todo,) = told(trouble, kind).todos.values()
    assert (TodoState.DEAD if then is AfterTrouble.NEVER else TodoState.OPEN) is todo.state


def told(trouble: Trouble, kind: TodoKind) -> Checkout:
    """A checkout whose one to-do, of its order and in its first run, met this trouble."""
    command = checkout("c-1", 1_000)
    state = evolve(None, m.CheckoutSubmitted(command, command.fingerprint()), NOW_MS)
    state = evolve(state, m.AttemptOpened(ORDER, 1, "stripe"), NOW_MS)
    prepare = Operation(OperationKind.PREPARE, 1, 1, Key("p-1"), "{}", OperationState.UNKNOWN, "", NOW_MS)
    state = evolve(state, m.OperationStarted(ORDER, prepare), NOW_MS)
    todo = Todo(todo_id(kind, ORDER, 1), kind, ORDER, 1, 1, NOW_MS + 15_000, TodoState.OPEN, "", NOW_MS)
    refusal = Reason.UNKNOWN_ID if trouble is Trouble.REFUSED else None
    met = m.RecordTrouble(todo.id, 1, trouble, "why", 0, 0, refusal)
    decision = decide(replace(state, todos={todo.id: todo}), met, NOW_MS, POLICY)
    assert not isinstance(decision, Refusal)
    return decision.after
