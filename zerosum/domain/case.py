"""A mismatch as a case: its states, the acts that move it, and who may. One table; a missing pair is a refusal.

    OPEN         nobody has settled it
    FIXING       the machine's own fix is on its way (class automatic)
    PROPOSED     one person has proposed how to settle it
    APPROVED     another person has approved; what is to be posted or sent is on its way
    RESOLVED     settled: fixed, closed with a reason, or gone by itself
    WRITTEN_OFF  settled by a posting to suspense

Money moves only out of FIXING (by a command under the key it always had) and out of APPROVED (by two people). Source: issue 4,
point 5; specification "Reconciliation".

Invariant: whoever proposes never approves, and nothing that was approved changes afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zerosum.domain.discrepancy import Action
from zerosum.domain.refusal import Reason, Refusal

REASON_LENGTH_MAX = 1_000
"""Characters of a comment or a reason: a paragraph of 12 lines."""


class CaseState(StrEnum):
    """Where a case stands."""

    OPEN = "OPEN"
    FIXING = "FIXING"
    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    RESOLVED = "RESOLVED"
    WRITTEN_OFF = "WRITTEN_OFF"


class Act(StrEnum):
    """What was done to a case. The first five are people's; each is a row that nothing changes or deletes."""

    ASSIGN = "assign"
    COMMENT = "comment"
    PROPOSE = "propose"
    APPROVE = "approve"
    REJECT = "reject"
    SEE_AGAIN = "see_again"
    """A later run met it again."""
    FIX = "fix"
    """The machine's own fix was sent on its way."""
    GIVE_UP = "give_up"
    """The fix or the approved posting was refused for good: people again."""
    SETTLE = "settle"
    """What was to be done is done."""
    WRITE_OFF = "write_off"
    """The approved posting to suspense is in the ledger."""
    CLOSE_ALONE = "close_alone"
    """A later run found both sides alike: a line or an answer came late."""
    REOPEN = "reopen"
    """A later run met again what had closed alone."""


PEOPLES: Final = frozenset({Act.ASSIGN, Act.COMMENT, Act.PROPOSE, Act.APPROVE, Act.REJECT})
"""The acts of people; the others are the machine's."""

CLOSED: Final = frozenset({CaseState.RESOLVED, CaseState.WRITTEN_OFF})

_S, _A = CaseState, Act

TRANSITIONS: Final[Mapping[tuple[CaseState, Act], CaseState]] = {
    (_S.OPEN, _A.ASSIGN): _S.OPEN,
    (_S.OPEN, _A.COMMENT): _S.OPEN,
    (_S.OPEN, _A.PROPOSE): _S.PROPOSED,
    (_S.OPEN, _A.SEE_AGAIN): _S.OPEN,
    (_S.OPEN, _A.FIX): _S.FIXING,
    (_S.OPEN, _A.CLOSE_ALONE): _S.RESOLVED,
    (_S.FIXING, _A.ASSIGN): _S.FIXING,
    (_S.FIXING, _A.COMMENT): _S.FIXING,
    (_S.FIXING, _A.SEE_AGAIN): _S.FIXING,
    (_S.FIXING, _A.GIVE_UP): _S.OPEN,
    (_S.FIXING, _A.SETTLE): _S.RESOLVED,
    (_S.FIXING, _A.CLOSE_ALONE): _S.RESOLVED,
    (_S.PROPOSED, _A.ASSIGN): _S.PROPOSED,
    (_S.PROPOSED, _A.COMMENT): _S.PROPOSED,
    (_S.PROPOSED, _A.APPROVE): _S.APPROVED,
    (_S.PROPOSED, _A.REJECT): _S.OPEN,
    (_S.PROPOSED, _A.SEE_AGAIN): _S.PROPOSED,
    (_S.PROPOSED, _A.CLOSE_ALONE): _S.RESOLVED,
    (_S.APPROVED, _A.ASSIGN): _S.APPROVED,
    (_S.APPROVED, _A.COMMENT): _S.APPROVED,
    (_S.APPROVED, _A.SEE_AGAIN): _S.APPROVED,
    (_S.APPROVED, _A.GIVE_UP): _S.OPEN,
    (_S.APPROVED, _A.SETTLE): _S.RESOLVED,
    (_S.APPROVED, _A.WRITE_OFF): _S.WRITTEN_OFF,
    # what is closed may be talked about, and is met again by every re-run of its day
    (_S.RESOLVED, _A.COMMENT): _S.RESOLVED,
    (_S.RESOLVED, _A.SEE_AGAIN): _S.RESOLVED,
    (_S.RESOLVED, _A.REOPEN): _S.OPEN,
    (_S.WRITTEN_OFF, _A.COMMENT): _S.WRITTEN_OFF,
    (_S.WRITTEN_OFF, _A.SEE_AGAIN): _S.WRITTEN_OFF,
}


def after(state: CaseState, act: Act) -> CaseState | Refusal:
    """The state after the act. Refuses ILLEGAL_TRANSITION; nothing moved."""
    return TRANSITIONS.get((state, act)) or Refusal(
        Reason.ILLEGAL_TRANSITION, "", f"a case that is {state} does not take the act {act}"
    )


class Resolution(StrEnum):
    """How a person proposes to settle a case."""

    AS_PROPOSED = "as_proposed"
    """By what the machine proposes, its dry run included."""
    WRITE_OFF = "write_off"
    """Post the case's money against suspense."""
    CLOSE = "close"
    """Nothing is posted; the reason says why that is right."""


Posting = tuple[str, int, str]
"""(account, signed minor units, currency): one side of a dry run."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a person proposed: kept as it was shown, so that what is approved is what was seen.

    `number`: of its act, which names it. `postings`: the dry run, empty where nothing is posted. `action`: see `Action`.
    """

    number: int
    by: str
    resolution: Resolution
    action: Action
    postings: tuple[Posting, ...]
    reason: str


def propose(
    state: CaseState,
    resolution: Resolution,
    *,
    number: int,
    by: str,
    reason: str,
    dry_run: tuple[Action, tuple[Posting, ...]],
    write_off: tuple[Posting, ...],
) -> Proposal | Refusal:
    """The proposal, or why it cannot be made. `dry_run`: the machine's; `write_off`: the postings of one, empty = no money.

    Refuses ILLEGAL_TRANSITION (not OPEN), NOTHING_TO_POST (a write-off without money; the machine proposes to ask the PSP
    first).
    """
    moved = after(state, Act.PROPOSE)
    if isinstance(moved, Refusal):
        return moved
    action, postings = dry_run
    match resolution:
        case Resolution.CLOSE:
            return Proposal(number, by, resolution, Action.NONE, (), reason)
        case Resolution.WRITE_OFF:
            if not write_off:
                return Refusal(
                    Reason.NOTHING_TO_POST, "resolution", "there is no amount to write off; close it instead"
                )
            return Proposal(number, by, resolution, Action.WRITE_OFF_TO_SUSPENSE, write_off, reason)
        case Resolution.AS_PROPOSED:
            if action is Action.ASK_PSP:
                return Refusal(
                    Reason.NOTHING_TO_POST,
                    "resolution",
                    "ask the PSP first; then write it off, or close it with a reason",
                )
            return Proposal(number, by, resolution, action, postings, reason)


def approve(state: CaseState, proposal: Proposal | None, *, seen: int, by: str) -> CaseState | Refusal:
    """APPROVED, or why not. `seen`: the number of the proposal this person looked at.

    Refuses ILLEGAL_TRANSITION (nothing is proposed), PROPOSAL_CHANGED (another one is), FOUR_EYES (it is one's own).
    """
    moved = after(state, Act.APPROVE)
    if isinstance(moved, Refusal) or proposal is None:
        return moved if isinstance(moved, Refusal) else Refusal(Reason.ILLEGAL_TRANSITION, "", "nothing is proposed")
    if proposal.number != seen:
        return Refusal(Reason.PROPOSAL_CHANGED, "proposal_number", "another proposal stands now; look at it first")
    if proposal.by == by:
        return Refusal(Reason.FOUR_EYES, "", "whoever proposed it cannot approve it; another person must")
    return moved


def needs_delivery(action: Action) -> bool:
    """Whether something is posted or sent once the action is approved; a case without is RESOLVED at once."""
    return action not in (Action.NONE, Action.ASK_PSP)
