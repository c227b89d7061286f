"""Every line and every movement ends in one state, by rules and not by order. Source: failures.md L1 to L9; issue 4 point 2."""

from dataclasses import replace

import pytest

from tests.unit.reconcile_sample import (
    DAY_MS,
    NOON_MS,
    OVERDUE,
    RULES,
    charge,
    found_by,
    line,
    refund,
    refund_line,
    states,
    the_discrepancy,
)
from zerosum.domain.discrepancy import Action, Class, Kind, Posting
from zerosum.domain.money import Money
from zerosum.domain.reconcile import match_amount, match_object, match_reference, reconcile, set_apart
from zerosum.domain.reconcile_item import MatchedBy, Standing, State
from zerosum.domain.settlement import Category

# ---- what was told before ------------------------------------------------------------------------------------------


def test_a_line_whose_id_another_file_had_first_goes_no_further() -> None:
    """With the same content it moved nothing; with another nobody knows which holds, and its fee is a case as ever."""
    again, dearer, other = (line(file_id="b", number=number) for number in (1, 2, 3))
    dearer, other = replace(dearer, fee_minor=1), replace(other, id="txn_o2")
    first = line(file_id="a", number=7)

    items, others = set_apart([again, dearer, other], {again.item: first, dearer.item: first}, RULES)

    assert [(item.line, item.discrepancy and item.discrepancy.kind) for item in items] == [
        (again, Kind.DUPLICATE_LINE), (dearer, Kind.AMBIGUOUS),
    ]  # fmt: skip
    assert [item.fee and item.fee.kind for item in items] == [None, Kind.WRONG_FEE]
    assert items[0].discrepancy is not None
    assert items[0].discrepancy.ours == "line 7 of file a"
    assert others == [other]


def test_a_line_whose_first_is_in_its_own_group_is_left_to_the_first_pass() -> None:
    first, again = line(number=1), line(number=2)

    assert set_apart([first, again], {again.item: first}, RULES) == ((), [first, again])


# ---- what agrees ---------------------------------------------------------------------------------------------------


def test_a_charge_and_its_line_match_by_the_psps_id() -> None:
    (item,) = reconcile([line()], [charge()], RULES)

    assert (item.state, item.matched_by, item.discrepancy) == (State.MATCHED, MatchedBy.PSP_ID, None)


def test_charge_refund_and_payout_rows_of_one_payment_all_find_their_place() -> None:
    """Several rows a payment: the charge, its refund under its own key, and the payout that carried them."""
    payout = line("", -100, id="txn_po", number=3, category=Category.PAYOUT, object_id="", tenant="", fee_minor=0)

    found = found_by([line(), refund_line(), payout], [charge(), refund()])

    assert found == [("txn_o1", "o1", "MATCHED"), ("txn_po", "", "EXPLAINED"), ("txn_re_o1", "o1", "MATCHED")]


def test_l8_a_line_dated_another_day_than_the_movement_matches_all_the_same() -> None:
    shifted = line(created_at_ms=NOON_MS + 2 * DAY_MS)

    assert found_by([shifted], [charge()]) == [("txn_o1", "o1", "MATCHED")]


def test_l8_a_day_shift_closes_alone() -> None:
    """Cut-off: today's file has no line yet, which is no exception; the next file's line matches."""
    today = found_by([], [charge()])
    next_day = found_by([line()], [charge()])

    assert (today, next_day) == ([("", "o1", "EXPECTED")], [("txn_o1", "o1", "MATCHED")])


def test_a_movement_settled_by_an_earlier_file_needs_no_line() -> None:
    assert found_by([], [charge(settled_by="txn_0")]) == [("", "o1", "EXPLAINED")]


def test_a_line_matches_a_late_charge_whose_case_is_open() -> None:
    """The payment service holds the money in suspense already: the line tells nothing new."""
    assert found_by([line()], [charge(standing=Standing.CASE_OPEN)]) == [("txn_o1", "o1", "MATCHED")]


def test_a_line_without_names_matches_by_amount_and_day() -> None:
    nameless = line(object_id="", reference="", tenant="", checkout_id="")

    (item,) = reconcile([nameless], [charge()], RULES)

    assert (item.state, item.matched_by) == (State.MATCHED, MatchedBy.AMOUNT_DAY)


def test_a_line_just_after_midnight_matches_the_day_before_by_amount() -> None:
    nameless = line(object_id="", reference="", created_at_ms=NOON_MS + DAY_MS)

    assert found_by([nameless], [charge()]) == [("txn_o1", "o1", "MATCHED")]


def test_a_line_two_days_away_does_not_match_by_amount() -> None:
    nameless = line(object_id="", reference="", created_at_ms=NOON_MS + 2 * DAY_MS)

    assert found_by([nameless], [charge()]) == [("", "o1", "EXPECTED"), ("txn_o1", "", "unknown_charge")]


def test_a_line_that_names_a_strange_order_is_never_paired_by_its_amount() -> None:
    """It contradicts the movement: amount and day are no evidence against a name."""
    strange = line("o9")

    assert found_by([strange], [charge()]) == [("", "o1", "EXPECTED"), ("txn_o9", "", "unknown_charge")]


# ---- L1 to L9: what differs ----------------------------------------------------------------------------------------


def test_l1_a_missing_line_is_expected_until_it_is_due_and_then_missing() -> None:
    before = states(reconcile([], [charge()], replace(OVERDUE, now_ms=OVERDUE.now_ms - 1)))
    after = states(reconcile([], [charge()], OVERDUE))

    assert (before, after) == ([("", "o1", "EXPECTED")], [("", "o1", "missing_line")])


@pytest.mark.parametrize(
    ("standing", "state"),
    [(Standing.IN_FLIGHT, "EXPECTED"), (Standing.GIVEN_UP, "EXPLAINED"), (Standing.CASE_OPEN, "missing_line")],
)
def test_l1_only_money_that_moved_is_missed(standing: Standing, state: str) -> None:
    assert states(reconcile([], [charge(standing=standing)], OVERDUE)) == [("", "o1", state)]


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        (Category.CHARGE, Kind.UNKNOWN_CHARGE),
        (Category.REFUND, Kind.UNKNOWN_REFUND),
        (Category.PARTIAL_CAPTURE_REVERSAL, Kind.UNKNOWN_REFUND),
        (Category.DISPUTE, Kind.UNKNOWN_DISPUTE),
        (Category.DISPUTE_REVERSAL, Kind.UNKNOWN_DISPUTE),
        (Category.FEE, Kind.UNKNOWN_FEE),
    ],
)
def test_l2_l7_l9_a_line_without_origin_is_unknown_by_its_category(category: Category, kind: Kind) -> None:
    """L2 extra line, L6 fee, L7 unknown reference, L9 refund or chargeback without origin."""
    extra = line("o9", -500, category=category, refund_key="r9")

    assert found_by([extra, line()], [charge()]) == [("txn_o1", "o1", "MATCHED"), ("txn_o9", "", kind)]


def test_l3_a_line_told_twice_is_a_duplicate_and_moves_nothing() -> None:
    items = reconcile([line(), line(number=7)], [charge()], RULES)
    found = the_discrepancy(items)

    assert states(items) == [("txn_o1", "", "duplicate_line"), ("txn_o1", "o1", "MATCHED")]
    assert (found.group, found.ours, found.theirs, found.proposal.postings) == (
        Class.AUTOMATIC, "line 1", "line 7", (),
    )  # fmt: skip


def test_l3_a_line_of_an_earlier_file_told_again_is_a_duplicate() -> None:
    again = found_by([line()], [charge(settled_by="txn_o1")])

    assert again == [("", "o1", "EXPLAINED"), ("txn_o1", "", "duplicate_line")]


def test_l3_one_id_with_two_stories_is_ambiguous() -> None:
    """Nobody can say which of them the PSP means; the charge waits for the PSP's word."""
    found = found_by([line(), line(amount_minor=999, number=2)], [charge()])

    assert found == [("", "o1", "EXPECTED"), ("txn_o1", "", "ambiguous"), ("txn_o1", "", "ambiguous")]


def test_a_second_line_id_for_one_charge_is_a_duplicate_charge() -> None:
    second = line(id="txn_second", number=2)

    items = reconcile([line(), second], [charge()], RULES)
    found = the_discrepancy(items)

    assert states(items) == [("txn_o1", "o1", "MATCHED"), ("txn_second", "", "duplicate_charge")]
    assert (found.order_id, found.ours, found.theirs) == ("o1", "txn_o1", "txn_second")


def test_of_two_lines_for_one_charge_the_one_that_agrees_is_the_charges() -> None:
    early = line(id="txn_early", amount_minor=9_999, created_at_ms=NOON_MS - 1)

    assert found_by([early, line(number=2)], [charge()]) == [
        ("txn_early", "", "duplicate_charge"),
        ("txn_o1", "o1", "MATCHED"),
    ]


def test_a_charge_of_a_settled_order_under_another_object_is_a_duplicate_charge() -> None:
    other = line(id="txn_other", object_id="pi_other", number=2)

    assert found_by([line(), other], [charge()]) == [
        ("txn_o1", "o1", "MATCHED"),
        ("txn_other", "", "duplicate_charge"),
    ]


def test_l4_another_amount_tells_both_values_and_the_difference() -> None:
    items = reconcile([line(amount_minor=12_000)], [charge()], RULES)
    found = the_discrepancy(items)

    assert (found.kind, found.group, found.field) == (Kind.WRONG_AMOUNT, Class.MANUAL, "amount")
    assert (found.ours, found.theirs, found.money) == ("100.00 EUR", "120.00 EUR", Money(2_000, "EUR"))


def test_l5_another_currency_tells_both_values() -> None:
    found = the_discrepancy(reconcile([line(currency="USD")], [charge()], RULES))

    assert (found.kind, found.field, found.ours, found.theirs) == (
        Kind.WRONG_CURRENCY, "currency", "100.00 EUR", "100.00 USD",
    )  # fmt: skip


def test_l6_another_fee_than_the_contracts_proposes_to_book_the_difference() -> None:
    """2.9 % of 100.00 and 0.30 are 3.20; 3.70 was kept."""
    found = the_discrepancy(reconcile([line(fee_minor=370)], [charge()], RULES))

    assert (found.kind, found.ours, found.theirs, found.money) == (
        Kind.WRONG_FEE, "3.20 EUR", "3.70 EUR", Money(-50, "EUR"),
    )  # fmt: skip
    assert found.proposal.action is Action.BOOK_FEE
    assert found.proposal.postings == (
        Posting("fees:psp:stripe:EUR", 50, "EUR"),
        Posting("psp:stripe:clearing:EUR", -50, "EUR"),
    )


@pytest.mark.parametrize("reference", ["o9", ""])
def test_l7_another_reference_on_our_object_is_a_wrong_reference(reference: str) -> None:
    found = the_discrepancy(reconcile([line(reference=reference)], [charge()], RULES))

    assert (found.kind, found.field, found.ours, found.theirs) == (Kind.WRONG_REFERENCE, "reference", "o1", reference)


def test_another_object_under_our_reference_is_a_wrong_psp_id() -> None:
    (item,) = reconcile([line(object_id="pi_x")], [charge()], RULES)

    assert (item.matched_by, item.movement) == (MatchedBy.REFERENCE, charge())
    assert item.discrepancy is not None
    assert (item.discrepancy.kind, item.discrepancy.ours, item.discrepancy.theirs) == (
        Kind.WRONG_PSP_ID, "pi_o1", "pi_x",
    )  # fmt: skip


def test_a_line_under_another_orders_object_is_told_by_its_reference() -> None:
    """The object's own line is there, so the second one is not a second charge: it names the order it belongs to."""
    misnamed = line("o2", object_id="pi_o1", number=2)

    assert found_by([line(), misnamed], [charge(), charge("o2")]) == [
        ("txn_o1", "o1", "MATCHED"),
        ("txn_o2", "o2", "wrong_psp_id"),
    ]


def test_all_fields_that_differ_are_told_and_the_first_names_the_kind() -> None:
    found = the_discrepancy(reconcile([line(amount_minor=1, reference="o9")], [charge()], RULES))

    assert (found.kind, found.field, found.theirs) == (Kind.WRONG_AMOUNT, "amount, reference", "0.01 EUR, o9")


def test_l9_a_refund_nobody_asked_for_is_not_taken_for_another() -> None:
    """A refund key that is not ours names another refund, though the amount would fit."""
    strange = refund_line(refund_key="made-elsewhere")

    assert found_by([line(), strange], [charge(), refund()]) == [
        ("", "o1", "EXPECTED"),
        ("txn_o1", "o1", "MATCHED"),
        ("txn_re_o1", "", "unknown_refund"),
    ]


@pytest.mark.parametrize(
    ("category", "amount_minor", "kind"),
    [
        (Category.DISPUTE, -10_000, Kind.DISPUTE),
        (Category.DISPUTE_REVERSAL, 10_000, Kind.DISPUTE),
        (Category.REFUND, -4_000, Kind.PARTIAL_REFUND),
        (Category.REFUND, -10_000, Kind.UNKNOWN_REFUND),
        (Category.PARTIAL_CAPTURE_REVERSAL, -4_000, Kind.PARTIAL_REVERSAL),
    ],
)
def test_lines_about_a_charge_of_ours_are_classified_and_not_applied(
    category: Category, amount_minor: int, kind: Kind
) -> None:
    known = line(amount_minor=amount_minor, id="txn_2", number=2, category=category, fee_minor=0)

    items = reconcile([line(), known], [charge()], RULES)

    assert states(items) == [("txn_2", "", kind), ("txn_o1", "o1", "MATCHED")]
    assert the_discrepancy(items).order_id == "o1"


def test_the_contracts_dispute_fee_of_a_dispute_that_told_none_is_explained_and_any_other_is_not() -> None:
    """15.00 by contract, told as a fee row's gross."""
    ours, another = (
        line(amount_minor=minor, id=f"txn_{minor}", number=-minor, category=Category.FEE, fee_minor=0)
        for minor in (-1_500, -1_501)
    )
    dispute = line(amount_minor=-10_000, id="txn_dp", number=2, category=Category.DISPUTE, fee_minor=0)

    assert found_by([line(), dispute, ours, another], [charge()]) == [
        ("txn_-1500", "", "EXPLAINED"),
        ("txn_-1501", "", "unknown_fee"),
        ("txn_dp", "", "dispute"),
        ("txn_o1", "o1", "MATCHED"),
    ]


# ---- group by group ------------------------------------------------------------------------------------------------


def test_the_first_pass_leaves_what_it_does_not_know() -> None:
    strange, unmatched = line("o9"), charge()

    outcome = match_object([strange], [], RULES), match_object([], [unmatched], RULES)

    assert [(one.items, one.lines, one.movements) for one in outcome] == [
        ((), (strange,), ()),
        ((), (), (unmatched,)),
    ]


def test_the_second_pass_sees_orders_that_have_their_line_and_does_not_give_them_back() -> None:
    outcome = match_reference([line(object_id="pi_x")], [charge(settled_by="txn_0")], RULES)

    assert states(outcome.items) == [("txn_o1", "", "duplicate_charge")]
    assert (outcome.lines, outcome.movements) == ((), ())


def test_the_second_pass_knows_a_charge_by_its_object_where_the_first_had_not_read_its_order() -> None:
    """An order of the last seconds: of two lines for its object one is its charge's, and of another object neither is."""
    second = line(id="txn_second", number=2)
    other = line(id="txn_0_other", object_id="pi_other", number=3)

    outcome = match_reference([line(), second, other], [charge()], RULES)

    assert states(outcome.items) == [
        ("txn_0_other", "", "duplicate_charge"), ("txn_o1", "o1", "MATCHED"), ("txn_second", "", "duplicate_charge"),
    ]  # fmt: skip
    assert (outcome.lines, outcome.movements) == ((), ())


def test_the_third_pass_leaves_lines_that_name_something() -> None:
    outcome = match_amount([line("o9")], [charge()], RULES)

    assert (outcome.items, outcome.lines, outcome.movements) == ((), (line("o9"),), (charge(),))


def test_a_case_has_the_same_id_in_every_run_and_file() -> None:
    """Seen again tomorrow, or in a corrected file, it is the case of today."""
    today = the_discrepancy(reconcile([line(amount_minor=1)], [charge()], RULES))
    corrected = line(amount_minor=1, number=9, file_id="g", created_at_ms=NOON_MS + 1)
    tomorrow = the_discrepancy(reconcile([corrected], [charge()], OVERDUE))

    assert today.id == tomorrow.id
    assert today.id == "wrong_amount-1-7aa9fe5ec7d99073f375787407e225219f3aee64"
