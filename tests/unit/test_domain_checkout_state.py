"""Checkouts are the fold of their events, and what cannot follow is a bug. Source: design section 5; I8."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, CheckoutStatus, evolve
from zerosum.domain.identity import CheckoutId, EntityKey, Key, OrderId, Tenant, derived_key
from zerosum.domain.money import Money
from zerosum.domain.order import (
    TERMINAL,
    TRANSITIONS,
    AttemptState,
    Operation,
    OperationKind,
    OperationState,
    OrderEvent,
    OrderStatus,
)
from zerosum.domain.refund import (
    PostingRefused,
    Refund,
    RefundCause,
    RefundEnded,
    RefundNotFound,
    RefundOpened,
    RefundStatus,
)
from zerosum.domain.refusal import Reason
from zerosum.domain.todo import Todo, TodoKind, TodoState, todo_id
from zerosum.errors import Bug

O1, O2 = OrderId("o1"), OrderId("o2")
NOWHERE = OrderId("nowhere")

SUBMIT = m.SubmitCheckout(
    tenant=Tenant("t"), checkout_id=CheckoutId("c1"), key=Key("k1"), buyer=m.Buyer("b1", "Ann", "ann@example.com", "DE"),
    token="tok_visa",
    lines=(m.OrderLine(O1, "s1", "10.00", Money(1000, "EUR")), m.OrderLine(O2, "s2", "5", Money(500, "EUR"))),
)  # fmt: skip
SUBMITTED = m.CheckoutSubmitted(SUBMIT, SUBMIT.fingerprint())

PATHS: dict[OrderStatus, tuple[OrderEvent, ...]] = {
    OrderStatus.NOT_STARTED: (),
    OrderStatus.EXECUTING: (OrderEvent.ATTEMPT_OPENED,),
    OrderStatus.PENDING: (OrderEvent.ATTEMPT_OPENED, OrderEvent.ORDER_PENDED),
    OrderStatus.AUTHORIZED: (OrderEvent.ATTEMPT_OPENED, OrderEvent.ORDER_AUTHORIZED),
    OrderStatus.SUCCESS: (OrderEvent.ATTEMPT_OPENED, OrderEvent.ORDER_CHARGED),
    OrderStatus.FAILED: (OrderEvent.ATTEMPT_OPENED, OrderEvent.ORDER_FAILED),
    OrderStatus.CANCELED: (OrderEvent.ATTEMPT_OPENED, OrderEvent.ORDER_CANCELED),
}
"""A way to every status."""


def event_of(kind: OrderEvent, order_id: OrderId) -> m.Event:
    if kind is OrderEvent.ATTEMPT_OPENED:
        return m.AttemptOpened(order_id, 1, "stripe")
    return m.OrderMoved(order_id, kind, "because")


def submitted() -> Checkout:
    return evolve(None, SUBMITTED, 100)


def told(checkout: Checkout, *events: m.Event) -> Checkout:
    for event in events:
        checkout = evolve(checkout, event, checkout.updated_at_ms + 1)
    return checkout


def brought_to(status: OrderStatus, order_id: OrderId, checkout: Checkout | None = None) -> Checkout:
    return told(checkout or submitted(), *(event_of(kind, order_id) for kind in PATHS[status]))


def operation(state: OperationState = OperationState.UNKNOWN) -> Operation:
    key = derived_key("t", O1, OperationKind.PREPARE, 1)
    return Operation(OperationKind.PREPARE, 1, 1, key, "{}", state, "", 0)


def todo(kind: TodoKind, state: TodoState = TodoState.OPEN) -> Todo:
    return Todo(todo_id(kind, O1, 1), kind, O1, 1, 0, 0, state, "", 0)


def mismatch() -> m.Mismatch:
    return m.Mismatch("mm-1", 1, O1, m.MismatchKind.LATE_CHARGE, "stripe", "pi_1", Money(1000, "EUR"), "", False, 0)


def test_a_submitted_checkout_has_its_orders_in_place_and_nothing_decided() -> None:
    checkout = submitted()

    assert checkout.key == EntityKey(Tenant("t"), "c1")
    assert (checkout.version, checkout.created_at_ms, checkout.updated_at_ms) == (1, 100, 100)
    assert [
        (order.id, order.position, order.amount, order.money, order.status) for order in checkout.orders.values()
    ] == [
        (O1, 0, "10.00", Money(1000, "EUR"), OrderStatus.NOT_STARTED),
        (O2, 1, "5", Money(500, "EUR"), OrderStatus.NOT_STARTED),
    ]
    assert checkout.status is CheckoutStatus.OPEN
    assert checkout.verdict is m.Verdict.NONE
    assert not checkout.is_answered
    assert checkout.reply is None


REFUND = Refund(1, RefundCause.REQUESTED, RefundStatus.PENDING, Money(1, "EUR"), "DUPLICATE", "fin", "", 1, 0)

ANY_BUT_SUBMITTED: list[m.Event] = [
    m.RiskAssessed(m.Verdict.ALLOW, ""),
    m.AttemptOpened(O1, 1, "stripe"),
    m.OperationStarted(O1, operation()),
    m.OperationSettled(O1, operation(OperationState.DONE)),
    m.OrderMoved(O1, OrderEvent.ORDER_FAILED, "risk"),
    m.WalletUpdated(O1),
    m.LedgerUpdated(O1),
    m.SettlementTold(O1, m.SettlementLineRef("stripe", "l", "f"), m.ObjectStatus.CHARGED, "pi_1", Money(1, "EUR")),
    PostingRefused(O1, TodoKind.CREDIT_WALLET, Reason.ACCOUNT_CLOSED),
    RefundOpened(O1, REFUND),
    RefundEnded(O1, replace(REFUND, status=RefundStatus.SUCCEEDED)),
    m.MismatchOpened(mismatch()),
    m.TodoMoved("TodoDeferred", todo(TodoKind.PREPARE), ""),
    m.CheckoutAnswered(),
]


@pytest.mark.parametrize("event", ANY_BUT_SUBMITTED, ids=lambda event: type(event).__name__)
def test_every_event_raises_the_version_by_one_and_none_can_be_the_first(event: m.Event) -> None:
    before = submitted()
    after = evolve(before, event, 200)

    assert after.version == before.version + 1
    assert (after.created_at_ms, after.updated_at_ms) == (100, 200)
    with pytest.raises(Bug):
        evolve(None, event, 0)


def test_every_kind_of_event_is_walked_here() -> None:
    """A new event must be added to the list above."""
    walked = {type(event) for event in ANY_BUT_SUBMITTED} | {
        m.CheckoutSubmitted, m.ObjectPrepared, m.MismatchResolved, RefundNotFound,
    }  # fmt: skip

    assert set(m.Event.__args__) == walked


def test_a_refund_that_was_not_found_stays_unknown_and_keeps_the_budget_it_was_asked_in() -> None:
    """Nothing is settled by it: the same operation may be sent once more, in that budget alone."""
    asked = replace(operation(), kind=OperationKind.REFUND)
    before = evolve(submitted(), m.OperationStarted(O1, asked), 200)
    after = evolve(before, RefundNotFound(O1, 1, 300), 400)

    assert after.orders[O1].operations == (replace(asked, answer="NOT_FOUND/300"),)
    with pytest.raises(Bug):
        evolve(before, RefundNotFound(O1, 2, 300), 400)


def test_a_checkout_is_submitted_once() -> None:
    with pytest.raises(Bug):
        evolve(submitted(), SUBMITTED, 0)


@pytest.mark.parametrize(("status", "kind"), list(product(OrderStatus, OrderEvent)))
def test_an_order_moves_by_the_table_and_anything_else_is_a_bug(status: OrderStatus, kind: OrderEvent) -> None:
    before = brought_to(status, O1)
    assert before.orders[O1].status is status

    if (status, kind) not in TRANSITIONS:
        with pytest.raises(Bug):
            evolve(before, event_of(kind, O1), 200)
        return
    after = evolve(before, event_of(kind, O1), 200)
    assert after.orders[O1].status is TRANSITIONS[status, kind]
    assert after.orders[O2] == before.orders[O2], "the other order is left alone"


@pytest.mark.parametrize(
    "event",
    [
        m.AttemptOpened(NOWHERE, 1, "stripe"),
        m.OperationStarted(NOWHERE, operation()),
        m.ObjectPrepared(NOWHERE, "pi_1"),
        m.ObjectPrepared(O1, "pi_1"),  # before any attempt
        m.OrderMoved(NOWHERE, OrderEvent.ORDER_FAILED, ""),
        m.WalletUpdated(NOWHERE),
        m.LedgerUpdated(NOWHERE),
        m.MismatchResolved("nowhere", O1),
    ],
    ids=lambda event: f"{type(event).__name__}",
)
def test_an_event_about_what_does_not_exist_is_a_bug(event: m.Event) -> None:
    """A Bug quarantines its entity; any other error would take the shard down."""
    with pytest.raises(Bug):
        evolve(submitted(), event, 200)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (OrderStatus.EXECUTING, AttemptState.UNKNOWN),
        (OrderStatus.PENDING, AttemptState.UNKNOWN),
        (OrderStatus.AUTHORIZED, AttemptState.UNKNOWN),
        (OrderStatus.SUCCESS, AttemptState.CHARGED),
        (OrderStatus.FAILED, AttemptState.NO_CHARGE),
        (OrderStatus.CANCELED, AttemptState.NO_CHARGE),
    ],
)
def test_an_attempt_is_unknown_until_the_order_is_final(status: OrderStatus, state: AttemptState) -> None:
    attempt = brought_to(status, O1).orders[O1].attempt

    assert attempt is not None
    assert attempt.state is state


def test_an_order_that_fails_before_any_attempt_has_none() -> None:
    checkout = evolve(submitted(), m.OrderMoved(O1, OrderEvent.ORDER_FAILED, "risk"), 200)

    assert checkout.orders[O1].attempt is None
    assert (checkout.orders[O1].status, checkout.orders[O1].reason) == (OrderStatus.FAILED, "risk")


def test_the_object_of_an_attempt_is_known_once_it_is_prepared() -> None:
    checkout = evolve(brought_to(OrderStatus.EXECUTING, O1), m.ObjectPrepared(O1, "pi_1"), 200)

    attempt = checkout.orders[O1].attempt
    assert attempt is not None
    assert (attempt.object_id, attempt.state) == ("pi_1", AttemptState.UNKNOWN)


def test_an_operation_is_started_and_then_settled_in_its_place() -> None:
    started = evolve(submitted(), m.OperationStarted(O1, operation()), 200)
    settled = evolve(started, m.OperationSettled(O1, operation(OperationState.DONE)), 300)

    assert [op.state for op in started.orders[O1].operations] == [OperationState.UNKNOWN]
    assert [op.state for op in settled.orders[O1].operations] == [OperationState.DONE]


def expected_status(statuses: tuple[OrderStatus, OrderStatus]) -> CheckoutStatus:
    if any(status not in TERMINAL for status in statuses):
        return CheckoutStatus.OPEN
    charged = statuses.count(OrderStatus.SUCCESS)
    return {2: CheckoutStatus.DONE, 1: CheckoutStatus.PARTIAL, 0: CheckoutStatus.FAILED}[charged]


@pytest.mark.parametrize("statuses", list(product(OrderStatus, repeat=2)))
def test_a_checkouts_status_is_read_from_its_orders(statuses: tuple[OrderStatus, OrderStatus]) -> None:
    """Row P7: orders stand for themselves; a checkout of which one was charged is PARTIAL."""
    checkout = brought_to(statuses[1], O2, brought_to(statuses[0], O1))

    assert checkout.status is expected_status(statuses)
    assert checkout.can_be_answered == all(status in TERMINAL | {OrderStatus.PENDING} for status in statuses)
    assert not checkout.is_payment_done


def test_payment_is_done_when_every_order_is_charged_and_both_books_have_taken_it() -> None:
    checkout = brought_to(OrderStatus.SUCCESS, O2, brought_to(OrderStatus.SUCCESS, O1))
    booked: list[m.Event] = [m.WalletUpdated(O1), m.LedgerUpdated(O1), m.LedgerUpdated(O2)]
    checkout = told(checkout, *booked)
    assert not checkout.is_payment_done

    assert told(checkout, m.WalletUpdated(O2)).is_payment_done


def test_a_mismatch_is_opened_and_resolved_beside_the_status() -> None:
    failed = brought_to(OrderStatus.FAILED, O1)
    opened = told(failed, m.MismatchOpened(mismatch()))
    resolved = told(opened, m.MismatchResolved("mm-1", O1))

    assert opened.orders[O1].status is resolved.orders[O1].status is OrderStatus.FAILED
    assert [found.is_resolved for found in opened.mismatches.values()] == [False]
    assert [found.is_resolved for found in resolved.mismatches.values()] == [True]


def test_a_checkout_is_settled_when_no_todo_is_open() -> None:
    open_todo = todo(TodoKind.CREDIT_WALLET)
    checkout = submitted().with_todos((open_todo, todo(TodoKind.POST_JOURNAL, TodoState.DONE)))
    assert not checkout.is_settled

    done = checkout.with_todos((replace(open_todo, state=TodoState.DONE),))
    assert done.is_settled
    assert len(done.todos) == 2
    assert checkout.todos[open_todo.id].is_open, "the state before is left as it was"


order_events = st.tuples(st.sampled_from(OrderEvent), st.sampled_from([O1, O2]))


@given(st.lists(order_events, max_size=20))
def test_versions_count_the_events_whatever_their_order(kinds: list[tuple[OrderEvent, OrderId]]) -> None:
    """An event that cannot follow changes nothing; statuses never regress; versions have no gap."""
    checkout, taken = submitted(), 1
    for kind, order_id in kinds:
        before = checkout
        try:
            checkout = evolve(checkout, event_of(kind, order_id), 200)
        except Bug:
            assert (before.orders[order_id].status, kind) not in TRANSITIONS
            continue
        taken += 1
        assert checkout.version == taken
        assert before.orders[order_id].status not in TERMINAL
        assert len(checkout.orders[order_id].attempts) <= 1


def test_a_fingerprint_is_pinned_and_leaves_the_key_out() -> None:
    """Stored for ever: a change of the hash would turn every replay into another request."""
    assert SUBMIT.fingerprint() == "1:9b98f17fa300f950c62f595884f37d87357cceb058b9bd67f6739d8802e8e3c2"
    assert replace(SUBMIT, key=Key("other")).fingerprint() == SUBMIT.fingerprint()
    assert replace(SUBMIT, tenant=Tenant("other")).fingerprint() == SUBMIT.fingerprint(), (
        "a key is of its tenant anyway"
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(SUBMIT, checkout_id=CheckoutId("c2")),
        replace(SUBMIT, token="tok_mastercard"),
        replace(SUBMIT, buyer=replace(SUBMIT.buyer, name="Bob")),
        replace(SUBMIT, buyer=replace(SUBMIT.buyer, account="b2")),
        replace(SUBMIT, lines=SUBMIT.lines[:1]),
        replace(SUBMIT, lines=SUBMIT.lines[::-1]),
        replace(SUBMIT, lines=(replace(SUBMIT.lines[0], money=Money(1001, "EUR")), SUBMIT.lines[1])),
        replace(SUBMIT, lines=(replace(SUBMIT.lines[0], money=Money(1000, "USD")), SUBMIT.lines[1])),
        replace(SUBMIT, lines=(replace(SUBMIT.lines[0], seller_account="s9"), SUBMIT.lines[1])),
    ],
)
def test_another_request_has_another_fingerprint(other: m.SubmitCheckout) -> None:
    assert other.fingerprint() != SUBMIT.fingerprint()


def test_the_same_amount_written_otherwise_is_the_same_request() -> None:
    """Fingerprints are over parsed fields: "10.00" and "10" EUR are one amount."""
    other = replace(SUBMIT, lines=(replace(SUBMIT.lines[0], amount="10"), SUBMIT.lines[1]))

    assert other.fingerprint() == SUBMIT.fingerprint()


@pytest.mark.parametrize("joint", ["\x1f", "\x1e"])
def test_text_that_looks_like_the_joint_of_a_fingerprint_is_told_apart(joint: str) -> None:
    one = replace(SUBMIT, buyer=m.Buyer("b1", f"Ann{joint}x", "y", "DE"))
    other = replace(SUBMIT, buyer=m.Buyer("b1", "Ann", f"x{joint}y", "DE"))

    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("causes", "status"),
    [
        ((RefundCause.ACCOUNT_CLOSED, RefundCause.CHECKOUT_FAILED), CheckoutStatus.REVERSED),
        ((RefundCause.ACCOUNT_CLOSED, None), CheckoutStatus.DONE),
        ((RefundCause.REQUESTED, RefundCause.REQUESTED), CheckoutStatus.DONE),
        ((RefundCause.ACCOUNT_CLOSED, RefundCause.REQUESTED), CheckoutStatus.DONE),
    ],
)
def test_a_checkout_is_reversed_when_we_gave_back_all_that_was_charged(
    causes: tuple[RefundCause | None, ...], status: CheckoutStatus
) -> None:
    """A refund that a caller asked for is no reversal, and one order of two is not the checkout."""
    checkout = submitted()
    for order_id, cause in zip((O1, O2), causes, strict=True):
        checkout = evolve(checkout, m.AttemptOpened(order_id, 1, "stripe"), 1)
        checkout = evolve(checkout, m.OrderMoved(order_id, OrderEvent.ORDER_CHARGED, ""), 1)
        if cause is not None:
            done = replace(REFUND, cause=cause, status=RefundStatus.SUCCEEDED)
            checkout = evolve(checkout, RefundEnded(order_id, done), 2)

    assert checkout.status is status


def test_the_callers_choice_is_part_of_the_fingerprint_and_the_default_is_not() -> None:
    """Fingerprints of before the choice stay what they were: replays must not become other requests."""
    assert SUBMIT.fingerprint() == PINNED
    assert replace(SUBMIT, on_partial=m.OnPartial.REVERSE).fingerprint() != PINNED


PINNED = "1:9b98f17fa300f950c62f595884f37d87357cceb058b9bd67f6739d8802e8e3c2"
