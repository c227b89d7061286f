"""From rows to cases: what a decision looks at, and what people are shown.

Invariant: a proposal is read from its act, which nothing changes: what is approved is what was proposed.
"""

import json
from collections.abc import Sequence
from typing import Any

from zerosum.domain.case import CLOSED, Act, Case, CaseState, Proposal, Resolution, dry_run
from zerosum.domain.discrepancy import Action, Class, Posting
from zerosum.domain.money import Money
from zerosum.finance_queue import ActRow, CaseView, MismatchRow
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.home import posted_of


def case_of(found: Row, acts: Sequence[Row]) -> Case:
    """What a decision about the case looks at. The row also has `home` and `posted`, as `home` tells them."""
    action, proposed = _dry_run(found)
    return Case(
        state=CaseState(found["state"]), psp=found["psp"], money=Money(found["amount_minor"], found["currency"]),
        assignee=found["assignee"], action=action, dry_run=proposed, acts=next_number(acts) - 1, proposal=_proposal(acts),
        posted=posted_of(found["kind"], found["posted"]), home=found["home"],
    )  # fmt: skip


def next_number(acts: Sequence[Row]) -> int:
    """The number of the next act of a case, by its newest ones."""
    return int(acts[-1]["number"]) + 1 if acts else 1


def view(found: Row, acts: Sequence[Row]) -> CaseView:
    """The case whole. A proposal that was rejected, given up or reopened stands no more.

    What the machine's proposal would post is told as it would be now, and of a closed case as it was.
    """
    is_proposed = next((act["act"] == Act.PROPOSE for act in reversed(acts) if act["act"] in _SAY_OF_PROPOSAL), False)
    stands = is_proposed or found["state"] in {CaseState.APPROVED, *CLOSED}
    shown = [ActRow(act["number"], act["act"], act["actor"], act["detail"], act["at_ms"]) for act in acts]
    proposed = _dry_run(found)[1] if found["state"] in CLOSED else dry_run(case_of(found, acts))
    follows = json.loads(found["proposal"] or "{}").get("follows", "")
    return CaseView(row_of(found), proposed, _proposal(acts) if stands else None, shown, follows)


_SAY_OF_PROPOSAL = frozenset({Act.PROPOSE, Act.REJECT, Act.GIVE_UP, Act.REOPEN})


def row_of(row: Row) -> MismatchRow:
    """The case a row stands for."""
    return MismatchRow(
        mismatch_id=row["mismatch_id"], kind=row["kind"], group=Class(row["class"]), state=CaseState(row["state"]),
        psp=row["psp"], tenant=row["tenant"], checkout_id=row["checkout_id"], order_id=row["payment_order_id"],
        line_id=row["line_id"], file_id=row["file_id"], field=row["field"], ours=row["ours"], theirs=row["theirs"],
        likely_cause=row["likely_cause"], action=_dry_run(row)[0], money=Money(row["amount_minor"], row["currency"]),
        assignee=row["assignee"], opened_at_ms=row["opened_at_ms"], closed_at_ms=row["closed_at_ms"],
        first_run=row["first_run"], last_run=row["last_run"],
    )  # fmt: skip


def _dry_run(row: Row) -> tuple[Action, tuple[Posting, ...]]:
    """What the machine proposes, and would post."""
    told = json.loads(row["proposal"] or "{}")
    return Action(told.get("action", Action.NONE)), _postings(told.get("postings", ()))


def _postings(told: Sequence[Any]) -> tuple[Posting, ...]:
    return tuple(Posting(*posting) for posting in told)


def _proposal(acts: Sequence[Row]) -> Proposal | None:
    """The last proposal made, from its act."""
    made = next((act for act in reversed(acts) if act["act"] == Act.PROPOSE), None)
    if made is None:
        return None
    told = json.loads(made["detail"])["proposal"]
    return Proposal(
        number=made["number"], by=made["actor"], resolution=Resolution(told["resolution"]), action=Action(told["action"]),
        postings=_postings(told["postings"]), reason=told["reason"],
    )  # fmt: skip


def shown(proposal: Proposal | None) -> dict[str, Any]:
    """A proposal as its act keeps it. `_proposal` reads it again."""
    assert proposal is not None  # whoever proposes has one
    return {
        "resolution": str(proposal.resolution), "action": str(proposal.action),
        "postings": [[side.account, side.amount_minor, side.currency] for side in proposal.postings],
        "reason": proposal.reason,
    }  # fmt: skip
