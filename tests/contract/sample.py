"""Batches for the contract suite, made from the real domain: what a shard would hand to the store.

Invariant: states here are folds of events; nothing is written that the domain could not have decided.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from zerosum.domain import checkout_state, journal, message, wallet
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import (
    CheckoutId,
    CommandKey,
    EntityKey,
    Key,
    OrderId,
    Tenant,
    derived_key,
    slot_of,
)
from zerosum.domain.journal import Journal, JournalPosted, Owner
from zerosum.domain.message import Buyer, OrderLine, SubmitCheckout
from zerosum.domain.money import Money
from zerosum.domain.order import Operation, OperationKind, OperationState, OrderEvent
from zerosum.domain.refusal import Refusal
from zerosum.domain.todo import Todo, TodoKind, TodoState, todo_id
from zerosum.domain.wallet import Transfer, TransferKind, Wallet
from zerosum.ports import Batch, Change, InboxRecord, KeyReuse, SlotHead, StoredCommand, TurnRecord, Wanted

S = TypeVar("S")

NOW_MS = 1_790_000_000_000
TOKEN = "pm_card_visa"
METHOD = "CreatePayment"


class Draft(Generic[S]):
    """Turns of several entities, collected into one batch, as a shard does."""

    def __init__(self, evolve: Callable[[S | None, Any, int], S], now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms
        self.turns: list[TurnRecord] = []
        self._evolve = evolve
        self._before: dict[EntityKey, S | None] = {}
        self._after: dict[EntityKey, S | None] = {}

    def turn(
        self,
        key: EntityKey,
        before: S | None,
        events: Sequence[Any],
        *,
        command: StoredCommand | None = None,
        inbox: InboxRecord | None = None,
        key_reuse: KeyReuse | None = None,
        then: Callable[[S], S] | None = None,
        empty: S | None = None,
    ) -> S | None:
        """One turn of an entity whose state before the batch is `before`; returns its state after the turn.

        `empty`: what a new entity is before its first event, where that is something. `then`: what stands beside events.
        """
        self._before.setdefault(key, before)
        state = self._after.setdefault(key, before) or empty
        first_version = 1 if state is None else state.version + 1  # type: ignore[attr-defined]  # every state has a version
        for event in events:
            state = self._evolve(state, event, self.now_ms)
        if then is not None and state is not None:
            state = then(state)
        self._after[key] = state
        self.turns.append(TurnRecord(key, first_version, tuple(events), command, inbox, key_reuse))
        return state

    def batch(self, heads: Iterable[SlotHead]) -> Batch[S]:
        """All of it, with the heads of the slots it needs."""
        slots = {slot_of(*turn.entity) for turn in self.turns}
        changes = [
            Change(key, self._before[key], after)
            for key, after in self._after.items()
            if after is not None and after is not self._before[key]
        ]
        return Batch(self.now_ms, [head for head in heads if head.slot in slots], tuple(self.turns), changes)


# ---- checkouts -----------------------------------------------------------------------------------------------------


def checkouts(now_ms: int = NOW_MS) -> Draft[Checkout]:
    """An empty batch of checkouts."""
    return Draft(checkout_state.evolve, now_ms)


def submit(
    tenant: Tenant,
    checkout_id: str,
    *order_ids: str,
    key: str = "",
    seller: str = "seller_1",
    minor: int = 1_250,
    name: str = "Ada",
) -> SubmitCheckout:
    """A submit with one order a given id, or one named after the checkout."""
    lines = tuple(
        OrderLine(OrderId(order_id), seller, f"{minor // 100}.{minor % 100:02}", Money(minor, "USD"))
        for order_id in order_ids or (f"{checkout_id}_o1",)
    )
    buyer = Buyer("buyer_1", name, "ada@example.com", "FR")
    return SubmitCheckout(tenant, CheckoutId(checkout_id), Key(key or checkout_id), buyer, TOKEN, lines)


def accepted(command: SubmitCheckout, refusal: Refusal | None = None) -> StoredCommand:
    """The command row of a submit."""
    key = CommandKey(command.tenant, METHOD, command.key)
    return StoredCommand(key, command.fingerprint(), EntityKey(command.tenant, command.checkout_id), refusal)


def submitted(draft: Draft[Checkout], command: SubmitCheckout, *, with_command: bool = True) -> Checkout:
    """Adds the first turn of a checkout: stored, risk to be asked."""
    event = message.CheckoutSubmitted(command, command.fingerprint())
    todo = open_todo(TodoKind.ASSESS_RISK, "", now_ms=draft.now_ms)
    after = draft.turn(
        EntityKey(command.tenant, command.checkout_id),
        None,
        [event],
        command=accepted(command) if with_command else None,
        then=lambda state: state.with_todos([todo]),
    )
    assert after is not None
    return after


def open_todo(kind: TodoKind, order_id: str, *, now_ms: int, number: int = 1, due_in_ms: int = 0) -> Todo:
    """A to-do as decided."""
    return Todo(
        todo_id(kind, order_id, number),
        kind,
        OrderId(order_id),
        number,
        0,
        now_ms + due_in_ms,
        TodoState.OPEN,
        "",
        now_ms,
    )


def done(todo: Todo) -> Todo:
    """The same to-do, closed."""
    return replace(todo, state=TodoState.DONE)


def operation(
    tenant: Tenant, order_id: str, kind: OperationKind, *, number: int = 1, now_ms: int = NOW_MS
) -> Operation:
    """An operation as started; its request holds the token, as the real one does."""
    key = derived_key(tenant, order_id, kind, number)
    request = f'{{"amount":1250,"token":"{TOKEN}"}}'
    return Operation(kind, number, 1, key, request, OperationState.UNKNOWN, "", now_ms)


def executing(draft: Draft[Checkout], state: Checkout, order_id: str) -> Checkout:
    """Adds the turn that opens an attempt and starts its first operation."""
    risk = state.todos[todo_id(TodoKind.ASSESS_RISK, "", 1)]
    prepare = open_todo(TodoKind.PREPARE, order_id, now_ms=draft.now_ms)
    started = operation(state.key.tenant, order_id, OperationKind.PREPARE, now_ms=draft.now_ms)
    events = [
        message.RiskAssessed(message.Verdict.ALLOW, ""),
        message.AttemptOpened(OrderId(order_id), 1, "stripe"),
        message.OperationStarted(OrderId(order_id), started),
    ]
    after = draft.turn(state.key, state, events, then=lambda now: now.with_todos([done(risk), prepare]))
    assert after is not None
    return after


def charged(draft: Draft[Checkout], state: Checkout, order_id: str, *, reply: bytes | None = None) -> Checkout:
    """Adds the turn that learns of the charge; with `reply` it is answered too."""
    order = OrderId(order_id)
    prepare = state.todos[todo_id(TodoKind.PREPARE, order_id, 1)]
    settled = replace(state.orders[order].operations[0], state=OperationState.DONE, answer="succeeded")
    events: list[Any] = [
        message.OperationSettled(order, settled),
        message.ObjectPrepared(order, f"pi_{order_id}"),
        message.OrderMoved(order, OrderEvent.ORDER_CHARGED, ""),
    ]
    credit = open_todo(TodoKind.CREDIT_WALLET, order_id, now_ms=draft.now_ms)
    post = open_todo(TodoKind.POST_JOURNAL, order_id, now_ms=draft.now_ms)
    if reply is not None:
        events.append(message.CheckoutAnswered())

    def then(now: Checkout) -> Checkout:
        owed = now.with_todos([done(prepare), credit, post])
        return owed if reply is None else replace(owed, reply=reply)

    after = draft.turn(state.key, state, events, then=then)
    assert after is not None
    return after


# ---- wallets and owners --------------------------------------------------------------------------------------------


def wallets(now_ms: int = NOW_MS) -> Draft[Wallet]:
    """An empty batch of wallets."""
    return Draft(_evolve_wallet, now_ms)


def _evolve_wallet(state: Wallet | None, event: Any, now_ms: int) -> Wallet:
    assert state is not None
    return wallet.evolve(state, event, now_ms)


def transfer(tenant: Tenant, transfer_id: str, owner: str = "seller_1", minor: int = 1_250) -> Transfer:
    """A credit to a seller."""
    return Transfer(
        tenant,
        Key(transfer_id),
        owner,
        TransferKind.CREDIT_PENDING,
        Money(minor, "USD"),
        OrderId(f"order_{transfer_id}"),
    )


def credit(draft: Draft[Wallet], before: Wallet | None, asked: Transfer) -> Wallet:
    """Adds the turn that applies a transfer."""
    key = wallet.wallet_key(asked.tenant, asked.owner, asked.money.currency)
    command = StoredCommand(
        CommandKey(asked.tenant, "ApplyTransfer", asked.transfer_id), asked.fingerprint(), key, None
    )
    fresh = wallet.empty(asked, draft.now_ms)
    event = wallet.decide(before or fresh, asked)
    after = draft.turn(key, before, [event], command=command, empty=fresh)
    assert after is not None
    return after


def owners(now_ms: int = NOW_MS) -> Draft[Owner]:
    """An empty batch of ledger owners."""
    return Draft(_evolve_owner, now_ms)


def _evolve_owner(state: Owner | None, event: Any, now_ms: int) -> Owner:
    before = state or journal.new_owner(EntityKey(event.journal.tenant, event.journal.owner), now_ms)
    return journal.evolve(before, event, now_ms)


def capture(tenant: Tenant, journal_id: str, owner: str = "seller_1", minor: int = 1_250) -> Journal:
    """The journal of a capture without fee."""
    entries = journal.entries_of(
        journal.Movement.CAPTURE,
        gross=Money(minor, "USD"),
        fee=Money(0, "USD"),
        buyer="buyer_1",
        seller=owner,
        psp="stripe",
    )
    made = journal.journal(
        tenant=tenant, journal_id=Key(journal_id), owner=owner, movement=journal.Movement.CAPTURE, entries=entries,
        order_id=OrderId(f"order_{journal_id}"),
    )  # fmt: skip
    assert isinstance(made, Journal)
    return made


def post(draft: Draft[Owner], before: Owner | None, asked: Journal) -> Owner:
    """Adds the turn that posts a journal."""
    key = EntityKey(asked.tenant, asked.owner)
    command = StoredCommand(CommandKey(asked.tenant, "PostJournal", asked.journal_id), asked.fingerprint(), key, None)
    after = draft.turn(key, before, [JournalPosted(asked)], command=command)
    assert after is not None
    return after


def nothing() -> Wanted:
    """Nothing but the clock."""
    return Wanted()
