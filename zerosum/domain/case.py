"""A mismatch as a case: its states, the acts that move it, and who may. One table; a missing pair is a refusal.

    OPEN         nobody has settled it
    FIXING       the machine's own fix is on its way (class automatic)
    PROPOSED     one person has proposed how to settle it
    APPROVED     another person has approved; what is to be posted or sent is on its way
    RESOLVED     settled: fixed, closed with a reason, or gone by itself
    WRITTEN_OFF  settled by a posting to suspense

Money moves only out of FIXING (by a command under the key it always had) and out of APPROVED (by two people). Source: issue 4,
point 5; specification "Reconciliation".

Invariant: whoever proposes never approves; what is approved is the case as it was proposed upon, and nothing that was approved
changes afterwards.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from zerosum.domain.discrepancy import Action, Posting
from zerosum.domain.journal import clearing_account, suspense_account
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal


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
    """A later run met again what had closed alone, found something new where a case had been settled, or found the case
    other than it was when somebody proposed how to settle it."""


PEOPLES: Final = frozenset({Act.ASSIGN, Act.COMMENT, Act.PROPOSE, Act.APPROVE, Act.REJECT})
"""The acts of people; the others are the machine's."""

CLOSED: Final = frozenset({CaseState.RESOLVED, CaseState.WRITTEN_OFF})

POSTED: Final = frozenset({Action.WRITE_OFF_TO_SUSPENSE, Action.BOOK_FEE})
"""What two people may have posted: a journal of its own, which must have sides."""

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
    (_S.PROPOSED, _A.REOPEN): _S.OPEN,
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
    (_S.WRITTEN_OFF, _A.REOPEN): _S.OPEN,
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


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a person proposed (the machine's is `discrepancy.Proposal`): kept as shown, so that what was seen is approved.

    `number`: of its act, which names it. `postings`: the dry run, empty where nothing is posted. `action`: see `Action`.
    """

    number: int
    by: str
    resolution: Resolution
    action: Action
    postings: tuple[Posting, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """What a decision about a case looks at. `money`: at stake, signed as the PSP books it: positive came to us.

    `action` and `dry_run`: what the machine proposes, and would post. `acts`: how many there are. `proposal`: the last one
    made, also where it was rejected. `posted`: every side that people's approvals have posted for it so far. `home`: who has
    booked its money by now, so that nothing of it is off any more; "" = nobody.
    """

    state: CaseState
    psp: str
    money: Money
    assignee: str
    action: Action
    dry_run: tuple[Posting, ...]
    acts: int
    proposal: Proposal | None
    posted: tuple[Posting, ...] = ()
    home: str = ""


def write_off(case: Case) -> tuple[Posting, ...]:
    """What a write-off posts: psp:clearing against suspense, or the reverse; empty where no money of a PSP is at stake.

    Where the machine's dry run is one, it is that; always less what was posted for the case before. Source: design section 6,
    "fact without a home".
    """
    if case.action is Action.WRITE_OFF_TO_SUSPENSE:
        return dry_run(case)
    minor, currency = case.money.amount_minor, case.money.currency
    wanted: tuple[Posting, ...] = ()
    if case.psp and minor and not case.home:
        clearing, suspense = clearing_account(case.psp, currency), suspense_account(currency)
        wanted = (Posting(clearing, minor, currency), Posting(suspense, -minor, currency))
    return still_to_post(wanted, case.posted)


def dry_run(case: Case) -> tuple[Posting, ...]:
    """What the machine's proposal would post now: where it waits for people, less what was posted for the case before."""
    if case.action not in POSTED:
        return case.dry_run
    return still_to_post(() if case.home else case.dry_run, case.posted)


def still_to_post(wanted: Iterable[Posting], posted: Iterable[Posting]) -> tuple[Posting, ...]:
    """What makes all that is posted for a case come to `wanted`, account by account; () where it does already.

    Both sum to zero, and so does what comes of them: where nothing is wanted any more, it is what was posted, reversed.
    """
    sides: Counter[tuple[str, str]] = Counter()
    for sign, postings in ((1, wanted), (-1, posted)):
        for side in postings:
            sides[side.account, side.currency] += sign * side.amount_minor
    return tuple(Posting(account, minor, currency) for (account, currency), minor in sides.items() if minor)


# ---- what people ask -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the case to a person; "" = to nobody."""

    assignee: str


@dataclass(frozen=True, slots=True)
class Comment:
    """Say something about it."""

    text: str


@dataclass(frozen=True, slots=True)
class Propose:
    """Propose how to settle it."""

    resolution: Resolution
    reason: str


@dataclass(frozen=True, slots=True)
class Approve:
    """Approve the proposal of that number: the one this person looked at."""

    proposal_number: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Reject what is proposed, or take back one's own."""

    reason: str


Asked = Assign | Comment | Propose | Approve | Reject

ACT_OF: Final[Mapping[type[Asked], Act]] = {
    Assign: Act.ASSIGN,
    Comment: Act.COMMENT,
    Propose: Act.PROPOSE,
    Approve: Act.APPROVE,
    Reject: Act.REJECT,
}


@dataclass(frozen=True, slots=True)
class Decided:
    """The case after what was asked. `is_settled`: the machine's act SETTLE follows at once, for nothing is on its way.

    `to_deliver`: what is to be posted or sent now, once.
    """

    case: Case
    is_settled: bool = False
    to_deliver: Proposal | None = None


def decide(case: Case, asked: Asked, *, by: str) -> Decided | Refusal:
    """What comes of an act of a person. Money may move by an approval alone: what is in `to_deliver`.

    Refuses ILLEGAL_TRANSITION, and what `_propose` and `_approve` name.
    """
    moved = after(case.state, ACT_OF[type(asked)])
    if isinstance(moved, Refusal):
        return moved
    next_case = replace(case, state=moved, acts=case.acts + 1)
    match asked:
        case Assign(assignee):
            return Decided(replace(next_case, assignee=assignee))
        case Comment() | Reject():
            return Decided(next_case)
        case Propose():
            proposal = _propose(case, asked, by)
            return proposal if isinstance(proposal, Refusal) else Decided(replace(next_case, proposal=proposal))
        case Approve():
            return _approve(next_case, asked, by)
        case _:
            assert_never(asked)


def _propose(case: Case, asked: Propose, by: str) -> Proposal | Refusal:
    """The proposal. Refuses NOTHING_TO_POST: a posting without money, of what is booked already, or the machine proposes to ask
    the PSP first."""
    number = case.acts + 1
    match asked.resolution:
        case Resolution.CLOSE:
            return Proposal(number, by, asked.resolution, Action.NONE, (), asked.reason)
        case Resolution.WRITE_OFF:
            postings = write_off(case)
            if not postings:
                return _nothing(case, "there is no amount to write off; close it instead")
            return Proposal(number, by, asked.resolution, Action.WRITE_OFF_TO_SUSPENSE, postings, asked.reason)
        case Resolution.AS_PROPOSED:
            if case.action is Action.ASK_PSP:
                return Refusal(
                    Reason.NOTHING_TO_POST,
                    "resolution",
                    "ask the PSP first; then write it off, or close it with a reason",
                )
            if case.action in POSTED and not dry_run(case):
                return _nothing(case, "there is no amount to post; close it instead")
            return Proposal(number, by, asked.resolution, case.action, dry_run(case), asked.reason)


def _nothing(case: Case, otherwise: str, field: str = "resolution") -> Refusal:
    why = f"{case.home}; posted for this case too it would be booked twice" if case.home else otherwise
    return Refusal(Reason.NOTHING_TO_POST, field, why)


def _approve(approved: Case, asked: Approve, by: str) -> Decided | Refusal:
    """The case approved. Refuses PROPOSAL_CHANGED (another one stands), FOUR_EYES (it is one's own), NOTHING_TO_POST (its money
    was booked since)."""
    proposal = approved.proposal
    if proposal is None or proposal.number != asked.proposal_number:
        return Refusal(Reason.PROPOSAL_CHANGED, "proposal_number", "another proposal stands now; look at it first")
    if _is_same_person(proposal.by, by):
        return Refusal(Reason.FOUR_EYES, "", "whoever proposed it cannot approve it; another person must")
    if approved.home and proposal.action in POSTED and proposal.postings != still_to_post((), approved.posted):
        return _nothing(approved, "", field="")
    if proposal.action is Action.NONE:
        settled = TRANSITIONS[approved.state, Act.SETTLE]
        return Decided(replace(approved, state=settled, acts=approved.acts + 1), is_settled=True)
    return Decided(approved, to_deliver=proposal)


def _is_same_person(one: str, other: str) -> bool:
    """Names are compared as people read them: a second token in other letters is no second person."""
    return one.strip().casefold() == other.strip().casefold()
