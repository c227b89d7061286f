"""What is not taken for something else, and what fits equally well. Source: issue 4 point 2: ambiguity is an outcome."""

import pytest

from tests.unit.reconcile_sample import (
    NOON_MS,
    RULES,
    charge,
    found_by,
    line,
    refund,
    refund_line,
    states,
    the_discrepancy,
)
from zerosum.domain.discrepancy import Kind
from zerosum.domain.reconcile import match_object, match_reference, reconcile
from zerosum.domain.reconcile_item import Standing, State

# ---- what is not taken for something else --------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "value"), [("tenant", "u"), ("checkout_id", "c9")])
def test_our_object_under_another_tenant_or_checkout_is_a_wrong_reference(field: str, value: str) -> None:
    found = the_discrepancy(reconcile([line(**{field: value})], [charge()], RULES))  # type: ignore[arg-type] # by name

    assert (found.kind, found.field, found.theirs) == (Kind.WRONG_REFERENCE, field, value)


@pytest.mark.parametrize("standing", [Standing.IN_FLIGHT, Standing.GIVEN_UP])
@pytest.mark.parametrize("object_id", ["", "pi_o1"])
def test_a_line_without_names_is_no_proof_that_an_open_order_was_charged(standing: Standing, object_id: str) -> None:
    """Amount and day may confirm what we know, and never move an order."""
    nameless = line(object_id="", reference="", tenant="", checkout_id="")

    found = found_by([nameless], [charge(standing=standing, object_id=object_id)])

    assert [state for _, _, state in found] == [
        "EXPECTED" if standing is Standing.IN_FLIGHT else "EXPLAINED",
        "unknown_charge",
    ]


def test_of_two_lines_of_our_object_the_one_that_names_the_order_is_the_charges() -> None:
    stranger = line(id="txn_early", reference="o9", created_at_ms=NOON_MS - 1)

    assert found_by([stranger, line(number=2)], [charge()]) == [
        ("txn_early", "", "unknown_charge"),
        ("txn_o1", "o1", "MATCHED"),
    ]


def test_of_two_attempts_of_an_order_a_strange_object_belongs_to_the_one_that_was_charged() -> None:
    attempts = [charge(standing=Standing.GIVEN_UP, object_id="pi_first"), charge(number=2)]

    assert found_by([line(object_id="pi_x")], attempts) == [("", "o1", "EXPLAINED"), ("txn_o1", "o1", "wrong_psp_id")]


@pytest.mark.parametrize("standing", [Standing.SETTLED, Standing.IN_FLIGHT])
def test_of_two_strange_objects_under_our_reference_the_one_of_our_amount_is_the_orders(standing: Standing) -> None:
    right, wrong = line(object_id="pi_x"), line(id="txn_9", object_id="pi_y", amount_minor=9, number=2)

    assert found_by([right, wrong], [charge(standing=standing)]) == [
        ("txn_9", "", "duplicate_charge"),
        ("txn_o1", "o1", "wrong_psp_id"),
    ]


def test_a_line_told_again_is_known_by_its_id_whatever_else_it_says() -> None:
    again = line(reference="o9")

    assert found_by([again], [charge(settled_by="txn_o1")]) == [
        ("", "o1", "EXPLAINED"),
        ("txn_o1", "", "duplicate_line"),
    ]


def test_a_second_charges_line_told_again_is_a_duplicate_of_its_own_line() -> None:
    """The order has two charges, each with its line of an earlier file."""
    both = [charge(settled_by="txn_0"), charge(number=1_001, object_id="pi_x", settled_by="txn_o1")]

    found = match_reference([line(object_id="pi_y")], both, RULES)

    assert states(found.items) == [("txn_o1", "", "duplicate_line")]


def test_the_first_pass_alone_tells_a_second_line_of_a_charge() -> None:
    """A run feeds it object by object: what is about our object must not need the passes after it."""
    outcome = match_object([line(), line(id="txn_2", number=2)], [charge()], RULES)

    assert states(outcome.items) == [("txn_2", "", "duplicate_charge"), ("txn_o1", "o1", "MATCHED")]
    assert (outcome.lines, outcome.movements) == ((), ())


# ---- ambiguity is an outcome ---------------------------------------------------------------------------------------


def test_two_orders_that_fit_a_nameless_line_equally_are_ambiguous() -> None:
    nameless = line(object_id="", reference="")

    items = reconcile([nameless], [charge(), charge("o2")], RULES)

    assert states(items) == [("", "o1", "ambiguous"), ("", "o2", "ambiguous"), ("txn_o1", "", "ambiguous")]
    assert len({item.discrepancy.id for item in items if item.discrepancy}) == 1
    assert items[0].discrepancy is not None
    assert items[0].discrepancy.ours == "o1, o2"


def test_two_strange_objects_under_one_reference_are_ambiguous() -> None:
    one, two = line(id="txn_a", object_id="pi_a"), line(id="txn_b", object_id="pi_b", number=2)

    assert found_by([one, two], [charge()]) == [
        ("", "o1", "ambiguous"),
        ("txn_a", "", "ambiguous"),
        ("txn_b", "", "ambiguous"),
    ]


def test_two_refunds_of_one_amount_are_not_told_apart_by_a_line_without_key() -> None:
    first, second = refund(refund_key="r1"), refund(refund_key="r2", number=2)

    found = found_by([line(), refund_line(refund_key="")], [charge(), first, second])

    assert [kind for _, _, kind in found] == ["ambiguous", "ambiguous", "MATCHED", "ambiguous"]


def test_a_tenant_that_the_line_names_decides_between_two_orders_of_one_name() -> None:
    theirs = charge(tenant="u", object_id="pi_u")

    found = reconcile([line(object_id="pi_x")], [charge(), theirs], RULES)

    assert [(item.movement.tenant, item.state) for item in found if item.movement] == [
        ("u", State.EXPECTED),
        ("t", State.MISMATCH),
    ]
