"""The table of a case: every pair of state and act is walked; four eyes in every order of people. Source: issue 4, point 5."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from zerosum.domain.case import (
    CLOSED,
    PEOPLES,
    TRANSITIONS,
    Act,
    Approve,
    Asked,
    Assign,
    Case,
    CaseState,
    Comment,
    Decided,
    Proposal,
    Propose,
    Reject,
    Resolution,
    after,
    decide,
    dry_run,
    still_to_post,
    write_off,
)
from zerosum.domain.discrepancy import Action, Posting
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal

PAIRS = list(product(CaseState, Act))
DRY_RUN = (Posting("fees:psp:stripe:USD", 5, "USD"), Posting("psp:stripe:clearing:USD", -5, "USD"))
WRITE_OFF = (Posting("psp:stripe:clearing:USD", 100, "USD"), Posting("suspense:USD", -100, "USD"))

MOVES_MONEY = {CaseState.FIXING, CaseState.APPROVED}
"""Where something is on its way. Independent of the table."""


def case(state: CaseState = CaseState.OPEN, action: Action = Action.ASK_PSP, **changed: Any) -> Case:
    """A case of 1.00 USD too much, with two acts behind it."""
    made = Case(state, "stripe", Money(100, "USD"), "", action, DRY_RUN, 2, None)
    return replace(made, **changed)


def proposed(by: str = "ada", action: Action = Action.WRITE_OFF_TO_SUSPENSE) -> Case:
    """The case with a proposal of that person, its third act."""
    proposal = Proposal(3, by, Resolution.WRITE_OFF, action, WRITE_OFF, "bank confirmed")
    return case(CaseState.PROPOSED, acts=3, proposal=proposal)


def reason(decided: object) -> Reason:
    """Why not."""
    assert isinstance(decided, Refusal)
    return decided.reason


def decided(before: Case, asked: Asked, by: str = "ben") -> Decided:
    """What was decided; it must not be refused."""
    found = decide(before, asked, by=by)
    assert isinstance(found, Decided)
    return found


@pytest.mark.parametrize(("state", "act"), PAIRS)
def test_every_pair_is_a_row_of_the_table_or_a_typed_refusal(state: CaseState, act: Act) -> None:
    moved = after(state, act)

    if (state, act) in TRANSITIONS:
        assert moved == TRANSITIONS[state, act]
    else:
        assert isinstance(moved, Refusal)
        assert moved.reason is Reason.ILLEGAL_TRANSITION


def test_what_is_under_way_is_entered_by_the_machines_fix_or_by_an_approval_alone() -> None:
    """Money moves out of FIXING and APPROVED only; nobody comes there by another road."""
    entries = {(act, after_it) for (before, act), after_it in TRANSITIONS.items() if before != after_it}

    assert {(act, state) for act, state in entries if state in MOVES_MONEY} == {
        (Act.FIX, CaseState.FIXING), (Act.APPROVE, CaseState.APPROVED),
    }  # fmt: skip
    assert {state for (state, act) in TRANSITIONS if act is Act.APPROVE} == {CaseState.PROPOSED}


def test_no_act_of_people_moves_a_case_that_is_closed_or_under_way() -> None:
    stuck = CLOSED | MOVES_MONEY

    assert [
        pair for pair, moved in TRANSITIONS.items() if pair[0] in stuck and pair[1] in PEOPLES and moved is not pair[0]
    ] == []


def test_every_state_can_be_reached_and_every_open_one_be_closed() -> None:
    def reach(start: CaseState) -> set[CaseState]:
        found, fresh = {start}, [start]
        while fresh:
            at = fresh.pop()
            new = {moved for (before, _), moved in TRANSITIONS.items() if before is at} - found
            found |= new
            fresh += new
        return found

    assert reach(CaseState.OPEN) == set(CaseState)
    assert [state for state in CaseState if not reach(state) & CLOSED] == []


def test_whoever_proposed_cannot_approve() -> None:
    """Four eyes."""
    assert reason(decide(proposed(by="ada"), Approve(3), by="ada")) is Reason.FOUR_EYES
    assert decided(proposed(by="ada"), Approve(3), by="ben").case.state is CaseState.APPROVED


@pytest.mark.parametrize("by", ["Ada", "ADA", " ada", "ada "])
def test_the_same_person_in_other_letters_is_no_second_person(by: str) -> None:
    """Four eyes: two tokens of one person, whose names differ in case or blanks, are two eyes."""
    assert reason(decide(proposed(by="ada"), Approve(3), by=by)) is Reason.FOUR_EYES


def test_an_approval_of_another_proposal_than_the_one_that_stands_is_refused() -> None:
    """What is approved is what was seen: here the third act's, and nobody else's."""
    assert reason(decide(proposed(), Approve(2), by="ben")) is Reason.PROPOSAL_CHANGED
    assert reason(decide(case(CaseState.PROPOSED), Approve(3), by="ben")) is Reason.PROPOSAL_CHANGED


@pytest.mark.parametrize("state", [state for state in CaseState if state is not CaseState.PROPOSED])
def test_only_what_is_proposed_can_be_approved(state: CaseState) -> None:
    refused = decide(replace(proposed(), state=state), Approve(3), by="ben")

    assert reason(refused) is Reason.ILLEGAL_TRANSITION


def test_an_approved_posting_is_what_was_proposed_to_the_last_unit() -> None:
    """The dry run of the proposal is delivered, whatever the machine would propose by now."""
    before = replace(proposed(), action=Action.BOOK_FEE, money=Money(7, "USD"))
    after_it = decided(before, Approve(3))

    assert after_it.to_deliver == before.proposal
    assert not after_it.is_settled


def test_approving_a_close_settles_at_once_and_delivers_nothing() -> None:
    after_it = decided(proposed(action=Action.NONE), Approve(3))

    assert (after_it.case.state, after_it.case.acts, after_it.to_deliver) == (CaseState.RESOLVED, 5, None)
    assert after_it.is_settled


def test_a_rejected_proposal_can_never_be_approved_and_another_can() -> None:
    reopened = decided(proposed(), Reject("not so"), by="ada").case
    again = decided(reopened, Propose(Resolution.CLOSE, "rounding"), by="ada").case

    assert reopened.state is CaseState.OPEN
    assert reason(decide(again, Approve(3), by="ben")) is Reason.PROPOSAL_CHANGED
    assert decided(again, Approve(5), by="ben").case.state is CaseState.RESOLVED


@pytest.mark.parametrize(
    ("resolution", "action", "expected"),
    [
        (Resolution.AS_PROPOSED, Action.BOOK_FEE, (Action.BOOK_FEE, DRY_RUN)),
        (Resolution.AS_PROPOSED, Action.NONE, (Action.NONE, DRY_RUN)),
        (Resolution.WRITE_OFF, Action.ASK_PSP, (Action.WRITE_OFF_TO_SUSPENSE, WRITE_OFF)),
        (Resolution.WRITE_OFF, Action.WRITE_OFF_TO_SUSPENSE, (Action.WRITE_OFF_TO_SUSPENSE, DRY_RUN)),
        (Resolution.CLOSE, Action.BOOK_FEE, (Action.NONE, ())),
    ],
)
def test_a_proposal_keeps_the_dry_run_it_was_made_of(
    resolution: Resolution, action: Action, expected: tuple[Action, tuple[Posting, ...]]
) -> None:
    made = decided(case(action=action), Propose(resolution, "because"), by="ada").case

    assert made.state is CaseState.PROPOSED
    assert made.proposal == Proposal(3, "ada", resolution, *expected, "because")


def test_asking_the_psp_is_no_settlement() -> None:
    """Nothing is posted before the PSP has answered: then people write off, or close with a reason."""
    refused = decide(case(action=Action.ASK_PSP), Propose(Resolution.AS_PROPOSED, "r"), by="ada")

    assert reason(refused) is Reason.NOTHING_TO_POST


@pytest.mark.parametrize("action", [Action.BOOK_FEE, Action.WRITE_OFF_TO_SUSPENSE])
def test_a_posting_without_sides_cannot_be_proposed(action: Action) -> None:
    """A line of zero leaves the machine a dry run of nothing: no ledger takes such a journal."""
    refused = decide(case(action=action, dry_run=()), Propose(Resolution.AS_PROPOSED, "r"), by="ada")

    assert reason(refused) is Reason.NOTHING_TO_POST


@pytest.mark.parametrize("changed", [{"money": Money(0, "USD")}, {"psp": ""}])
def test_a_write_off_of_no_money_of_a_psp_is_refused(changed: dict[str, Any]) -> None:
    refused = decide(case(**changed), Propose(Resolution.WRITE_OFF, "r"), by="ada")

    assert reason(refused) is Reason.NOTHING_TO_POST


@pytest.mark.parametrize("minor", [100, -100])
def test_a_write_off_sums_to_zero_and_puts_what_came_into_suspense(minor: int) -> None:
    """Design section 6: psp:clearing against suspense, or its reverse."""
    postings = write_off(case(money=Money(minor, "USD")))

    assert postings == (Posting("psp:stripe:clearing:USD", minor, "USD"), Posting("suspense:USD", -minor, "USD"))
    assert sum(posting.amount_minor for posting in postings) == 0


@pytest.mark.parametrize("state", [state for state in CaseState if state is not CaseState.OPEN])
def test_only_an_open_case_takes_a_proposal(state: CaseState) -> None:
    refused = decide(case(state), Propose(Resolution.CLOSE, "r"), by="ada")

    assert reason(refused) is Reason.ILLEGAL_TRANSITION


def test_assigning_and_commenting_move_nothing_but_the_count_of_acts() -> None:
    assigned = decided(proposed(), Assign("cleo")).case
    commented = decided(assigned, Comment("called the bank")).case

    assert commented == replace(proposed(), assignee="cleo", acts=5)


# ---- what was posted before, or by somebody else -------------------------------------------------------------------


@pytest.mark.parametrize("minor", [900, 100, 40, -100])
def test_a_second_write_off_is_of_what_is_still_off(minor: int) -> None:
    """100 were written off; told with another amount, all that is posted comes to that amount."""
    rest = write_off(case(money=Money(minor, "USD"), posted=WRITE_OFF))

    sums = {side.account: side.amount_minor for side in rest}
    assert sums.get("psp:stripe:clearing:USD", 0) == minor - 100
    assert sum(sums.values()) == 0


def test_another_resolution_takes_the_place_of_the_one_before() -> None:
    """A fee written off to suspense and then booked after all: suspense gives it back, clearing is as the fee leaves it."""
    before = (Posting("psp:stripe:clearing:USD", -3, "USD"), Posting("suspense:USD", 3, "USD"))

    assert set(dry_run(case(action=Action.BOOK_FEE, posted=before))) == {
        Posting("fees:psp:stripe:USD", 5, "USD"), Posting("psp:stripe:clearing:USD", -2, "USD"),
        Posting("suspense:USD", -3, "USD"),
    }  # fmt: skip


def test_what_nobody_posted_before_is_posted_as_it_is_wanted_and_what_is_posted_whole_not_again() -> None:
    assert still_to_post(DRY_RUN, ()) == DRY_RUN
    assert still_to_post(DRY_RUN, DRY_RUN) == ()


def test_a_command_of_the_machine_is_shown_whole_whatever_people_posted() -> None:
    """It is the payment service that posts it."""
    assert dry_run(case(action=Action.REPORT_TO_PAYMENT, posted=WRITE_OFF)) == DRY_RUN


HOME = "the payment service has it"


@pytest.mark.parametrize("resolution", [Resolution.WRITE_OFF, Resolution.AS_PROPOSED])
def test_money_that_somebody_has_booked_is_not_proposed_to_be_posted(resolution: Resolution) -> None:
    """The same money never goes to suspense twice; the refusal says who has it."""
    found = decide(case(action=Action.BOOK_FEE, home=HOME), Propose(resolution, "r"), by="ada")

    assert reason(found) is Reason.NOTHING_TO_POST
    assert isinstance(found, Refusal)
    assert found.message.startswith(HOME)


def test_a_proposal_is_not_approved_once_somebody_has_booked_its_money() -> None:
    """Proposed before, booked since."""
    assert reason(decide(replace(proposed(), home=HOME), Approve(3), by="ben")) is Reason.NOTHING_TO_POST


def test_what_was_posted_before_somebody_booked_it_is_taken_back() -> None:
    """The one posting that such a case takes, proposed and approved: the reverse."""
    posted = case(action=Action.WRITE_OFF_TO_SUSPENSE, dry_run=WRITE_OFF, posted=WRITE_OFF, home=HOME)
    back = decided(posted, Propose(Resolution.AS_PROPOSED, "r"), by="ada").case

    agreed = decided(back, Approve(3))

    assert agreed.to_deliver is not None
    assert agreed.to_deliver.postings == tuple(replace(side, amount_minor=-side.amount_minor) for side in WRITE_OFF)


def test_a_case_that_somebody_has_booked_may_be_closed() -> None:
    agreed = decided(decided(case(home=HOME), Propose(Resolution.CLOSE, "r"), by="ada").case, Approve(3))

    assert agreed.is_settled
