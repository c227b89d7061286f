"""The table of a case: every pair of state and act is walked; four eyes in every order of people. Source: issue 4, point 5."""

from itertools import product

import pytest

from zerosum.domain.case import (
    CLOSED,
    PEOPLES,
    TRANSITIONS,
    Act,
    CaseState,
    Posting,
    Proposal,
    Resolution,
    after,
    approve,
    needs_delivery,
    propose,
)
from zerosum.domain.discrepancy import Action
from zerosum.domain.refusal import Reason, Refusal

PAIRS = list(product(CaseState, Act))
DRY_RUN: tuple[Posting, ...] = (("fees:psp:stripe:USD", 5, "USD"), ("psp:stripe:clearing:USD", -5, "USD"))
WRITE_OFF: tuple[Posting, ...] = (("psp:stripe:clearing:USD", 100, "USD"), ("suspense:USD", -100, "USD"))

MOVES_MONEY = {CaseState.FIXING, CaseState.APPROVED}
"""Where something is on its way. Independent of the table."""


def proposed(by: str = "ada", number: int = 3) -> Proposal:
    """A proposal to write off."""
    return Proposal(number, by, Resolution.WRITE_OFF, Action.WRITE_OFF_TO_SUSPENSE, WRITE_OFF, "bank confirmed")


def made(resolution: Resolution, action: Action, *, state: CaseState = CaseState.OPEN) -> Proposal | Refusal:
    """What comes of proposing this for a case of which the machine proposes that action."""
    return propose(
        state, resolution, number=3, by="ada", reason="because", dry_run=(action, DRY_RUN), write_off=WRITE_OFF
    )


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
    refused = approve(CaseState.PROPOSED, proposed(by="ada"), seen=3, by="ada")

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.FOUR_EYES
    assert approve(CaseState.PROPOSED, proposed(by="ada"), seen=3, by="ben") is CaseState.APPROVED


def test_an_approval_of_another_proposal_than_the_one_that_stands_is_refused() -> None:
    """What is approved is what was seen."""
    refused = approve(CaseState.PROPOSED, proposed(number=5), seen=3, by="ben")

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.PROPOSAL_CHANGED


@pytest.mark.parametrize("state", [state for state in CaseState if state is not CaseState.PROPOSED])
def test_only_what_is_proposed_can_be_approved(state: CaseState) -> None:
    refused = approve(state, proposed(), seen=3, by="ben")

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.ILLEGAL_TRANSITION


def test_a_proposal_keeps_the_dry_run_it_was_made_of() -> None:
    by_machine = made(Resolution.AS_PROPOSED, Action.BOOK_FEE)
    written_off = made(Resolution.WRITE_OFF, Action.ASK_PSP)
    closed = made(Resolution.CLOSE, Action.BOOK_FEE)

    assert by_machine == Proposal(3, "ada", Resolution.AS_PROPOSED, Action.BOOK_FEE, DRY_RUN, "because")
    assert written_off == Proposal(3, "ada", Resolution.WRITE_OFF, Action.WRITE_OFF_TO_SUSPENSE, WRITE_OFF, "because")
    assert closed == Proposal(3, "ada", Resolution.CLOSE, Action.NONE, (), "because")


def test_asking_the_psp_is_no_settlement() -> None:
    """Nothing is posted before the PSP has answered: then people write off, or close with a reason."""
    refused = made(Resolution.AS_PROPOSED, Action.ASK_PSP)

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOTHING_TO_POST


def test_a_write_off_of_no_money_is_refused() -> None:
    refused = propose(
        CaseState.OPEN, Resolution.WRITE_OFF, number=1, by="ada", reason="r", dry_run=(Action.NONE, ()), write_off=()
    )

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOTHING_TO_POST


@pytest.mark.parametrize("state", [state for state in CaseState if state is not CaseState.OPEN])
def test_only_an_open_case_takes_a_proposal(state: CaseState) -> None:
    refused = made(Resolution.CLOSE, Action.NONE, state=state)

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.ILLEGAL_TRANSITION


def test_only_actions_that_post_or_send_need_a_delivery() -> None:
    assert [action for action in Action if not needs_delivery(action)] == [Action.NONE, Action.ASK_PSP]
