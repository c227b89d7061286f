"""A decision in the making: the state as it becomes, what happened so far, and what is to be done.

Local to one call of `decide`; the only mutable thing in the domain. Its words are those of the story in `checkout.py`:
things *happen*, operations are *started* and *settled*, to-dos *run*, *wait*, are *closed* or *die*.

Invariant: every to-do that changes has at least one event beside it, so that each change moves the version.
"""

from dataclasses import dataclass

from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, evolve
from zerosum.domain.effect import request_text
from zerosum.domain.identity import OrderId, derived_key
from zerosum.domain.money import Money
from zerosum.domain.order import Operation, OperationKind, OperationState, Order
from zerosum.domain.record import replace
from zerosum.domain.todo import PSP_KINDS, Todo, TodoKind, TodoState, todo_id
from zerosum.errors import Bug


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment sets. `horizon_ms`: how long the PSP remembers a key. `lease_ms`: the longest run of an effect."""

    psp: str
    answer_after_ms: int
    lease_ms: int
    backoff_base_ms: int
    backoff_cap_ms: int
    horizon_ms: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command leads to: what happened, and the state after all of it, to-dos included. No event = nothing changed.

    `runs`: ids of the to-dos whose effects start once this is committed.
    """

    events: tuple[m.Event, ...]
    runs: tuple[str, ...]
    after: Checkout


class Draft:
    """Collects events and to-dos while the state evolves under them."""

    def __init__(self, checkout: Checkout | None, now_ms: int, policy: Policy) -> None:
        self._checkout = checkout
        self.now_ms = now_ms
        self.policy = policy
        self._events: list[m.Event] = []
        self._is_todo_changed = False
        self._fresh: list[Todo] = []
        self._runs: list[str] = []

    @property
    def checkout(self) -> Checkout:
        """The state so far. Raises Bug before the checkout is submitted."""
        if self._checkout is None:
            raise Bug("a checkout must be submitted first")
        if self._fresh:
            self._checkout, self._fresh = self._checkout.with_todos(self._fresh), []
        return self._checkout

    def order(self, order_id: OrderId) -> Order:
        """The order as it stands by now."""
        return self.checkout.orders[order_id]

    def decision(self) -> Decision:
        """All of it. Raises Bug where a to-do changed without an event."""
        if self._is_todo_changed and not self._events:
            raise Bug("a to-do changed and nothing happened")
        return Decision(tuple(self._events), tuple(self._runs), self.checkout)

    def happen(self, event: m.Event) -> None:
        """Records that something happened."""
        self._checkout = evolve(self._checkout and self.checkout, event, self.now_ms)
        self._events.append(event)

    # ---- to-dos ----------------------------------------------------------------------------------------------

    def open_todo(self, kind: TodoKind, order_id: str, number: int) -> Todo | None:
        """The to-do of that name, if it is open."""
        todo = self.checkout.todos.get(todo_id(kind, order_id, number))
        return todo if todo is not None and todo.is_open else None

    def asking(self, fact: m.Report) -> Todo | None:
        """The to-do whose present run brought this fact; None for one told from outside, or after its lease."""
        todo = self.checkout.todos.get(fact.todo_id)
        return todo if todo is not None and todo.is_open and todo.tries == fact.tries else None

    def run(self, kind: TodoKind, order_id: str, number: int, *, since_ms: int | None = None, tries: int = 1) -> None:
        """Opens a to-do that starts to run once this is committed. `since_ms`: when its budget in time began.

        `tries`: 2 for an operation that is asked about before it is sent.
        """
        lease_end_ms = self.now_ms + self.policy.lease_ms
        self._open(kind, order_id, number, tries=tries, due_at_ms=lease_end_ms, since_ms=since_ms)
        self._runs.append(todo_id(kind, order_id, number))

    def wait(self, kind: TodoKind, order_id: str, number: int, *, until_ms: int) -> None:
        """Opens a to-do that is claimed when its time has come."""
        self._open(kind, order_id, number, tries=0, due_at_ms=until_ms, since_ms=None)

    def rerun(self, todo: Todo, *, event: str, reason: str, tries: int, since_ms: int) -> None:
        """Leases an existing to-do for one more run."""
        due_at_ms = self.now_ms + self.policy.lease_ms
        again = replace(todo, state=TodoState.OPEN, tries=tries, due_at_ms=due_at_ms, created_at_ms=since_ms)
        self.move(again, event, reason)
        self._runs.append(todo.id)

    def defer(self, todo: Todo, *, by_ms: int, reason: str) -> None:
        """Puts a to-do off after a run that brought no end."""
        self.move(replace(todo, due_at_ms=self.now_ms + by_ms, reason=reason), "TodoDeferred", reason)

    def die(self, todo: Todo, reason: str) -> None:
        """Makes a to-do a dead letter: people decide. The state of the money is untouched. As in `close`, no run begins."""
        self._call_off(todo)
        self.move(replace(todo, state=TodoState.DEAD, reason=reason), "TodoDied", reason)

    def move(self, todo: Todo, event: str, reason: str) -> None:
        """Puts a to-do into a new state, as an event of its own."""
        self.happen(m.TodoMoved(event, todo, reason))

    def finish(self, todo: Todo) -> None:
        """Marks a to-do done where nothing else happened that would tell."""
        self.move(replace(todo, state=TodoState.DONE, reason=""), "TodoDone", "")

    def close(self, todo: Todo) -> None:
        """Marks a to-do done; the caller records what happened. A run that was not yet to start never will."""
        self._call_off(todo)
        self._put(replace(todo, state=TodoState.DONE, reason=""))

    def close_psp_todos(self, order_id: OrderId) -> None:
        """Marks everything that was still to be asked of the PSP for this order's charge as done."""
        for todo in self.checkout.todos.values():
            if todo.order_id == order_id and todo.state is not TodoState.DONE and todo.kind in _CHARGE_KINDS:
                self.close(todo)

    def _open(
        self, kind: TodoKind, order_id: str, number: int, *, tries: int, due_at_ms: int, since_ms: int | None
    ) -> None:
        began_ms = self.now_ms if since_ms is None else since_ms
        name = todo_id(kind, order_id, number)
        self._put(Todo(name, kind, OrderId(order_id), number, tries, due_at_ms, TodoState.OPEN, "", began_ms))

    def _call_off(self, todo: Todo) -> None:
        if todo.id in self._runs:
            self._runs.remove(todo.id)

    def _put(self, todo: Todo) -> None:
        self._is_todo_changed = True
        self._fresh.append(todo)

    # ---- cases -----------------------------------------------------------------------------------------------

    def open_case(
        self, kind: m.MismatchKind, order_id: OrderId, *, psp: str, object_id: str, money: Money, detail: str
    ) -> m.Mismatch | None:
        """Opens a case, once for each (kind, order, object). None: it is open or was closed already."""
        name = f"{kind}/{order_id}/{object_id}"
        if name in self.checkout.mismatches:
            return None
        number = len(self.checkout.mismatches) + 1
        case = m.Mismatch(name, number, order_id, kind, psp, object_id, money, detail, False, self.now_ms)
        self.happen(m.MismatchOpened(case))
        return case

    def open_case_about(self, fact: m.Report, kind: m.MismatchKind, detail: str) -> m.Mismatch | None:
        """The same for what a PSP says of an object."""
        return self.open_case(
            kind, fact.order_id, psp=fact.psp, object_id=fact.object_id, money=fact.money, detail=detail
        )

    # ---- operations ------------------------------------------------------------------------------------------

    def start(
        self,
        order_id: OrderId,
        kind: OperationKind,
        *,
        psp: str,
        object_id: str,
        since_ms: int | None = None,
        number: int = 0,
        tries: int = 1,
    ) -> None:
        """Starts an operation under its own derived key, and its to-do. `number`: 0 = the next. `tries`: see `run`."""
        order = self.order(order_id)
        newest = order.newest(kind)
        number = number or (newest.number + 1 if newest else 1)
        key = derived_key(self.checkout.key.tenant, order_id, kind, number)
        request = request_text(self.checkout, order, kind, key=key, psp=psp, object_id=object_id)
        attempt = order.attempt.number if order.attempt else 0
        operation = Operation(kind, number, attempt, key, request, OperationState.UNKNOWN, "", self.now_ms)
        self.happen(m.OperationStarted(order_id, operation))
        self.run(TodoKind(kind.value), order_id, number, since_ms=since_ms, tries=tries)

    def settle(self, order_id: OrderId, kind: OperationKind, state: OperationState, answer: str) -> None:
        """Settles the newest operation of a kind if it is still unknown, and closes its to-do."""
        operation = self.order(order_id).newest(kind)
        if operation is None or operation.state is not OperationState.UNKNOWN:
            return
        self.happen(m.OperationSettled(order_id, replace(operation, state=state, answer=answer)))
        todo = self.checkout.todos.get(todo_id(TodoKind(kind.value), order_id, operation.number))
        if todo is not None and todo.state is not TodoState.DONE:
            self.close(todo)


_CHARGE_KINDS = PSP_KINDS - {TodoKind.REFUND}
