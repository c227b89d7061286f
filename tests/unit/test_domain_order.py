"""The order table: every pair of status and event is walked. Source: design section 5."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.domain.identity import OrderId, derived_key
from zerosum.domain.money import Money
from zerosum.domain.order import (
    ANSWERABLE,
    TERMINAL,
    TRANSITIONS,
    Attempt,
    AttemptState,
    Operation,
    OperationKind,
    OperationState,
    Order,
    OrderEvent,
    OrderStatus,
    next_status,
)
from zerosum.domain.refusal import Reason, Refusal

PAIRS = list(product(OrderStatus, OrderEvent))

RANKS = {
    OrderStatus.NOT_STARTED: 0,
    OrderStatus.EXECUTING: 1,
    OrderStatus.PENDING: 2,
    OrderStatus.AUTHORIZED: 3,
    OrderStatus.SUCCESS: 4,
    OrderStatus.FAILED: 4,
    OrderStatus.CANCELED: 4,
}
"""How far an order has come. Independent of the table: a status that regresses shows against it."""


def order() -> Order:
    return Order(
        id=OrderId("o1"), position=0, seller_account="s1", amount="10.00", money=Money(1000, "EUR"),
        status=OrderStatus.NOT_STARTED, reason="", wallet_updated=False, ledger_updated=False, attempts=(),
        operations=(), updated_at_ms=0,
    )  # fmt: skip


def operation(kind: OperationKind, number: int, state: OperationState = OperationState.UNKNOWN) -> Operation:
    return Operation(kind, number, 1, derived_key("t", "o1", kind, number), "{}", state, "", 0)


@pytest.mark.parametrize(("status", "event"), PAIRS)
def test_every_pair_moves_forward_or_is_a_typed_refusal(status: OrderStatus, event: OrderEvent) -> None:
    after = next_status(status, event)

    if (status, event) in TRANSITIONS:
        assert after is TRANSITIONS[status, event]
        assert RANKS[OrderStatus(str(after))] > RANKS[status]
    else:
        assert isinstance(after, Refusal)
        assert after.reason is Reason.ILLEGAL_TRANSITION
        assert event in after.message
        assert status in after.message


def test_no_transition_is_possible_from_a_terminal_status() -> None:
    assert {
        status for status in OrderStatus if all((status, event) not in TRANSITIONS for event in OrderEvent)
    } == TERMINAL


def test_every_status_but_the_first_is_reached_by_some_event() -> None:
    assert set(TRANSITIONS.values()) == set(OrderStatus) - {OrderStatus.NOT_STARTED}


def test_every_event_applies_somewhere_and_always_leads_to_its_own_status() -> None:
    targets = {event: {after for (_, used), after in TRANSITIONS.items() if used is event} for event in OrderEvent}

    assert targets == {
        OrderEvent.ATTEMPT_OPENED: {OrderStatus.EXECUTING},
        OrderEvent.ORDER_PENDED: {OrderStatus.PENDING},
        OrderEvent.ORDER_AUTHORIZED: {OrderStatus.AUTHORIZED},
        OrderEvent.ORDER_CHARGED: {OrderStatus.SUCCESS},
        OrderEvent.ORDER_FAILED: {OrderStatus.FAILED},
        OrderEvent.ORDER_CANCELED: {OrderStatus.CANCELED},
    }


def test_money_is_never_charged_before_an_attempt_is_open() -> None:
    assert (OrderStatus.NOT_STARTED, OrderEvent.ORDER_CHARGED) not in TRANSITIONS


def test_a_caller_is_answered_about_what_is_final_or_waits_for_someone() -> None:
    assert TERMINAL | {OrderStatus.PENDING} == ANSWERABLE


@given(st.lists(st.sampled_from(OrderEvent), max_size=30))
def test_no_sequence_of_events_leaves_a_terminal_status_or_goes_back(events: list[OrderEvent]) -> None:
    status, rank = OrderStatus.NOT_STARTED, 0
    for event in events:
        after = next_status(status, event)
        if isinstance(after, Refusal):
            continue
        assert status not in TERMINAL
        assert RANKS[after] > rank
        status, rank = after, RANKS[after]


@given(st.permutations([(kind, number) for kind in OperationKind for number in (1, 2, 3)]))
def test_an_operation_that_settles_late_takes_its_own_place(settled: list[tuple[OperationKind, int]]) -> None:
    """Whatever the order of answers, the newest operation of a kind is the one of the highest number."""
    changed = order()
    for kind, number in product(OperationKind, (1, 2, 3)):
        changed = changed.with_operation(operation(kind, number), 1)
    started = [(op.kind, op.number) for op in changed.operations]

    for kind, number in settled:
        changed = changed.with_operation(operation(kind, number, OperationState.DONE), 1)
        newest = changed.newest(kind)
        assert newest is not None
        assert newest.number == 3
    assert [(op.kind, op.number) for op in changed.operations] == started
    assert {op.state for op in changed.operations} == {OperationState.DONE}


def test_an_operation_is_found_by_kind_and_number_and_missing_ones_are_none() -> None:
    changed = order().with_operation(operation(OperationKind.PREPARE, 1), 1)

    assert changed.operation(OperationKind.PREPARE, 1) == operation(OperationKind.PREPARE, 1)
    assert changed.operation(OperationKind.PREPARE, 2) is None
    assert changed.newest(OperationKind.CONFIRM) is None


def test_the_newest_operation_has_the_highest_number_whatever_the_clock_said() -> None:
    """K1: a clock that jumped back gives the second an earlier time, and the store brings them in the order of time.

    Found by the world's seed 119: the second prepare was started once more, and its checkout stood still for good.
    """
    second, first = operation(OperationKind.PREPARE, 2), operation(OperationKind.PREPARE, 1)
    changed = order().with_operation(second, 1).with_operation(first, 1)

    assert changed.newest(OperationKind.PREPARE) == second


def test_the_attempt_of_an_order_is_the_newest_whichever_changes() -> None:
    first = Attempt(1, "stripe", AttemptState.NO_CHARGE, "pi_1", 0)
    second = Attempt(2, "square", AttemptState.UNKNOWN, "", 5)
    changed = order().with_attempt(first, 1).with_attempt(second, 1).with_attempt(first, 1)

    assert order().attempt is None
    assert changed.attempt == second
    assert changed.attempts == (first, second)
