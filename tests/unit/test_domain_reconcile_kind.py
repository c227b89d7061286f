"""What is proposed for each kind of discrepancy, and an example that finds it. Source: issue 4 points 2 and 4."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.reconcile_sample import (
    OVERDUE,
    RULES,
    charge,
    is_balanced,
    line,
    refund,
    refund_line,
    returned,
    states,
    the_discrepancy,
)
from zerosum.domain.discrepancy import Action, Class, Kind, Posting
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import MatchedBy, Movement, Standing
from zerosum.domain.settlement import OTHERS, Category, Line

# ---- what code mends -----------------------------------------------------------------------------------------------


def test_a_line_for_an_order_in_flight_is_reported_to_payment() -> None:
    found = the_discrepancy(reconcile([line()], [charge(standing=Standing.IN_FLIGHT)], RULES))

    assert (found.kind, found.group, found.proposal.action) == (
        Kind.UNRESOLVED_ORDER, Class.AUTOMATIC, Action.REPORT_TO_PAYMENT,
    )  # fmt: skip
    assert found.proposal.command == "stripe/txn_o1"
    assert Posting("seller:s:pending:EUR", -10_000, "EUR") in found.proposal.postings


def test_a_line_for_an_order_whose_object_was_never_learned_is_found_by_our_reference() -> None:
    (item,) = reconcile([line()], [charge(standing=Standing.IN_FLIGHT, object_id="")], RULES)

    assert item.matched_by is MatchedBy.REFERENCE
    assert item.discrepancy is not None
    assert item.discrepancy.kind is Kind.UNRESOLVED_ORDER


def test_a_line_for_an_order_given_up_is_a_late_charge() -> None:
    found = the_discrepancy(reconcile([line()], [charge(standing=Standing.GIVEN_UP)], RULES))

    assert (found.kind, found.group, found.proposal.action) == (
        Kind.LATE_CHARGE, Class.AUTOMATIC, Action.REPORT_TO_PAYMENT,
    )  # fmt: skip
    assert found.proposal.postings == (
        Posting("psp:stripe:clearing:EUR", 10_000, "EUR"),
        Posting("suspense:EUR", -10_000, "EUR"),
    )
    assert "suspense:EUR 100.00 EUR; psp:stripe:clearing:EUR -100.00 EUR" in found.proposal.follows


@pytest.mark.parametrize(
    ("waiting", "follows"),
    [
        (charge(standing=Standing.IN_FLIGHT), "the wallet of s takes pending 100.00 EUR"),
        (refund(standing=Standing.IN_FLIGHT), ""),
    ],
    ids=["charge", "refund"],
)
def test_what_a_report_moves_in_the_wallet_is_told_beside_its_postings(waiting: Movement, follows: str) -> None:
    """A charge is credited once the payment service believes it; for a refund the wallet was debited first of all."""
    lines = [line()] if waiting.refund_key == "" else [refund_line()]

    found = the_discrepancy(reconcile(lines, [waiting], RULES))

    assert (found.kind, found.proposal.follows) == (Kind.UNRESOLVED_ORDER, follows)


def test_a_wrong_amount_for_an_order_in_flight_is_never_mended_by_code() -> None:
    found = the_discrepancy(reconcile([line(amount_minor=1)], [charge(standing=Standing.IN_FLIGHT)], RULES))

    assert (found.kind, found.group) == (Kind.WRONG_AMOUNT, Class.MANUAL)


@pytest.mark.parametrize(("is_from_suspense", "debited"), [(True, "suspense:EUR"), (False, "seller:s:pending:EUR")])
def test_a_refund_in_flight_shows_whose_money_goes_back(is_from_suspense: bool, debited: str) -> None:
    waiting = refund(standing=Standing.IN_FLIGHT, is_from_suspense=is_from_suspense)

    found = the_discrepancy(reconcile([line(), refund_line()], [charge(), waiting], RULES))

    assert found.kind is Kind.UNRESOLVED_ORDER
    assert Posting(debited, 10_000, "EUR") in found.proposal.postings
    assert Posting("psp:stripe:clearing:EUR", -10_000, "EUR") in found.proposal.postings


def test_a_refund_that_the_psp_had_declined_is_for_people() -> None:
    given_up = refund(standing=Standing.GIVEN_UP)

    found = the_discrepancy(reconcile([line(), refund_line()], [charge(), given_up], RULES))

    assert (found.kind, found.group) == (Kind.UNKNOWN_REFUND, Class.MANUAL)


def test_a_case_names_the_movement_that_it_is_about() -> None:
    """Of a line that comes on top of what a movement has, the movement is not what the case is about."""
    given_up = charge(standing=Standing.GIVEN_UP)
    second = line(id="txn_2", number=2, object_id="pi_2")

    assert the_discrepancy(reconcile([line()], [given_up], RULES)).movement == given_up.item
    assert the_discrepancy(reconcile([], [charge()], OVERDUE)).movement == charge().item
    assert the_discrepancy(reconcile([line(), second], [charge()], RULES)).movement == ""


# ---- a refund that came back ----------------------------------------------------------------------------------------


def test_a_refund_that_came_back_is_told_beside_its_refund_and_goes_to_suspense() -> None:
    """The PSP has the money again, and the books say that the buyer has it: suspense holds what the buyer is owed."""
    items = reconcile([line(), refund_line(), returned()], [charge(), refund()], RULES)
    found = the_discrepancy(items)

    assert states(items) == [
        ("txn_back_o1", "", "refund_failure"), ("txn_o1", "o1", "MATCHED"), ("txn_re_o1", "o1", "MATCHED"),
    ]  # fmt: skip
    assert (found.group, found.proposal.action) == (Class.MANUAL, Action.WRITE_OFF_TO_SUSPENSE)
    assert (found.order_id, found.ours, found.theirs) == ("o1", "a refund of 100.00 EUR", "100.00 EUR")
    assert found.proposal.postings == (
        Posting("psp:stripe:clearing:EUR", 10_000, "EUR"),
        Posting("suspense:EUR", -10_000, "EUR"),
    )


@pytest.mark.parametrize(
    ("changed", "ours"),
    [
        ({}, "a refund of 100.00 EUR"),
        ({"amount_minor": 6_000}, "a refund of 100.00 EUR"),
        ({"object_id": ""}, "a refund of 100.00 EUR"),
        ({"refund_key": ""}, "a refund of 100.00 EUR"),
        ({"refund_key": "", "amount_minor": 6_000}, "a charge of 100.00 EUR"),
        ({"refund_key": "made-elsewhere"}, "a charge of 100.00 EUR"),
        ({"object_id": "pi_9", "reference": "o9"}, ""),
    ],
    ids=["key", "key, part", "reference", "money", "no key, part", "key of another", "nothing of ours"],
)
def test_a_refund_that_came_back_weeks_later_names_what_it_is_of(changed: dict[str, Any], ours: str) -> None:
    """Charge and refund had their lines before. By its key, else by its money; else it is of the charge, or of nothing."""
    had = [charge(settled_by="txn_o1"), refund(settled_by="txn_re_o1")]

    items = reconcile([returned(**changed)], had, RULES)

    assert (the_discrepancy(items).kind, the_discrepancy(items).ours) == (Kind.REFUND_FAILURE, ours)
    assert [state for _, order, state in states(items) if order] == ["EXPLAINED", "EXPLAINED"]


def test_each_line_of_a_refund_that_failed_before_it_was_booked_is_a_case_and_both_come_to_nothing() -> None:
    """The webhook came before the file: our books hold the refund for declined, and never moved for it."""
    items = reconcile([line(), refund_line(), returned()], [charge(), refund(standing=Standing.GIVEN_UP)], RULES)
    found = {item.discrepancy.kind: item.discrepancy for item in items if item.discrepancy}

    assert set(found) == {Kind.UNKNOWN_REFUND, Kind.REFUND_FAILURE}
    assert sum(case.money.amount_minor for case in found.values()) == 0


# ---- what no payment makes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", sorted(OTHERS))
def test_a_movement_that_no_payment_makes_is_a_case_that_says_its_category_and_amount(category: Category) -> None:
    """Also where it is about a charge of ours: people ask the PSP what it was."""
    about, alone = line(category=category, **PART), line(category=category, **{**PART, "id": "txn_3"}, object_id="")

    items = reconcile([line(), about, replace(alone, reference="")], [charge()], RULES)

    told = [
        (item.discrepancy.kind, item.discrepancy.field, item.discrepancy.theirs) for item in items if item.discrepancy
    ]
    assert told == [(Kind.OTHER_MOVEMENT, category.value, "-1.00 EUR")] * 2
    assert {item.discrepancy.group for item in items if item.discrepancy} == {Class.UNCLASSIFIED}


@pytest.mark.parametrize("category", [Category.REFUND_FAILURE, Category.NETWORK_COST])
def test_a_fee_of_what_the_contract_does_not_name_is_a_case_beside(category: Category) -> None:
    """Settlement believes no fee but the contract's: what the PSP kept of such a line waits for two people too."""
    items = reconcile([line(id="txn_2", category=category, fee_minor=320)], [], RULES)

    assert [(item.discrepancy is not None, item.fee and item.fee.kind) for item in items] == [(True, Kind.WRONG_FEE)]


# ---- every kind ----------------------------------------------------------------------------------------------------

INSIDE = {
    Kind.MISSING_JOURNAL, Kind.MISSING_TRANSFER, Kind.EXTRA_JOURNAL, Kind.EXTRA_TRANSFER, Kind.POSTED_DIFFERENTLY,
    Kind.CLEARING_NOT_OPEN_ITEMS, Kind.PAYMENT_CASE,
}  # fmt: skip
"""Kinds that no line is needed for: tests/unit/test_domain_reconcile_inside.py, and the payment service's own cases."""

PART: dict[str, Any] = {"id": "txn_2", "number": 2, "amount_minor": -100, "fee_minor": 0}

EXAMPLES: dict[Kind, tuple[list[Line], list[Movement]]] = {
    Kind.UNRESOLVED_ORDER: ([line()], [charge(standing=Standing.IN_FLIGHT)]),
    Kind.LATE_CHARGE: ([line()], [charge(standing=Standing.GIVEN_UP)]),
    Kind.DUPLICATE_LINE: ([line(), line(number=2)], [charge()]),
    Kind.MISSING_LINE: ([], [charge()]),
    Kind.DUPLICATE_CHARGE: ([line(), line(id="txn_2", number=2)], [charge()]),
    Kind.WRONG_AMOUNT: ([line(amount_minor=1)], [charge()]),
    Kind.WRONG_CURRENCY: ([line(currency="JPY")], [charge()]),
    Kind.WRONG_REFERENCE: ([line(reference="o9")], [charge()]),
    Kind.WRONG_PSP_ID: ([line(object_id="pi_9")], [charge()]),
    Kind.WRONG_FEE: ([line(fee_minor=1)], [charge()]),
    Kind.UNKNOWN_CHARGE: ([line()], []),
    Kind.UNKNOWN_REFUND: ([refund_line()], []),
    Kind.UNKNOWN_DISPUTE: ([line(category=Category.DISPUTE, **PART)], []),
    Kind.UNKNOWN_FEE: ([line(category=Category.FEE, **PART)], []),
    Kind.DISPUTE: ([line(), line(category=Category.DISPUTE, **PART)], [charge()]),
    Kind.PARTIAL_REFUND: ([line(), line(category=Category.REFUND, **PART)], [charge()]),
    Kind.PARTIAL_REVERSAL: ([line(), line(category=Category.PARTIAL_CAPTURE_REVERSAL, **PART)], [charge()]),
    Kind.REFUND_FAILURE: ([line(), refund_line(), returned()], [charge(), refund()]),
    Kind.OTHER_MOVEMENT: ([line(category=Category.TOPUP, **PART)], []),
    Kind.AMBIGUOUS: ([line(object_id="", reference="")], [charge(), charge("o2")]),
}


def test_every_kind_about_a_line_has_an_example() -> None:
    """A kind that nothing finds would be a promise to finance without a proof."""
    assert set(EXAMPLES) == set(Kind) - INSIDE


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_example_of_each_kind_is_found_alone_and_told_in_full(kind: Kind) -> None:
    items = reconcile(*EXAMPLES[kind], OVERDUE)
    found = {item.discrepancy.id: item.discrepancy for item in items if item.discrepancy}
    (only,) = found.values()

    assert only.kind is kind
    assert (only.psp, bool(only.field), bool(only.ours or only.theirs)) == ("stripe", True, True)
    assert is_balanced(only.proposal.postings)
