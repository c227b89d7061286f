"""Files, runs and cases as messages: what callers of ReconciliationService see.

Pure: no clock, no reading. Invariant: every state and class has its word on the wire; the tables are total, a test holds them.
"""

from collections.abc import Sequence

from servers.reply import timestamp_of
from zerosum.domain.case import CaseState, Proposal, Resolution
from zerosum.domain.discrepancy import Class, Posting
from zerosum.domain.money import EXPONENTS, Money, format_amount
from zerosum.finance_queue import ActRow, Ageing, CaseView, MismatchRow
from zerosum.reconciling import Difference, FileRow, FileState, RunKind, RunRow
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1.common_pb2 import Money as MoneyMessage

FILE_STATES = {
    FileState.LOADING: pb.FILE_STATE_LOADING,
    FileState.ACCEPTED: pb.FILE_STATE_ACCEPTED,
    FileState.REFUSED: pb.FILE_STATE_REFUSED,
    FileState.SUPERSEDED: pb.FILE_STATE_SUPERSEDED,
}
RUN_KINDS = {RunKind.NIGHTLY: pb.RUN_KIND_NIGHTLY, RunKind.INSIDE: pb.RUN_KIND_INSIDE}
STATES = {
    CaseState.OPEN: pb.MISMATCH_STATE_OPEN,
    CaseState.FIXING: pb.MISMATCH_STATE_FIXING,
    CaseState.PROPOSED: pb.MISMATCH_STATE_PROPOSED,
    CaseState.APPROVED: pb.MISMATCH_STATE_APPROVED,
    CaseState.RESOLVED: pb.MISMATCH_STATE_RESOLVED,
    CaseState.WRITTEN_OFF: pb.MISMATCH_STATE_WRITTEN_OFF,
}
CLASSES = {
    Class.AUTOMATIC: pb.MISMATCH_CLASS_AUTOMATIC,
    Class.MANUAL: pb.MISMATCH_CLASS_MANUAL,
    Class.UNCLASSIFIED: pb.MISMATCH_CLASS_UNCLASSIFIED,
}
RESOLUTIONS = {
    Resolution.AS_PROPOSED: pb.RESOLUTION_AS_PROPOSED,
    Resolution.WRITE_OFF: pb.RESOLUTION_WRITE_OFF,
    Resolution.CLOSE: pb.RESOLUTION_CLOSE,
}
RUN_KINDS_ASKED: dict[int, RunKind] = {number: kind for kind, number in RUN_KINDS.items()}
STATES_ASKED: dict[int, CaseState] = {number: state for state, number in STATES.items()}
CLASSES_ASKED: dict[int, Class] = {number: group for group, number in CLASSES.items()}
RESOLUTIONS_ASKED: dict[int, Resolution] = {number: resolution for resolution, number in RESOLUTIONS.items()}


def file_of(row: FileRow) -> pb.SettlementFile:
    """A file."""
    return pb.SettlementFile(
        file_id=row.file_id,
        psp=row.psp,
        name=row.name,
        series=row.series,
        version=row.version,
        state=FILE_STATES[row.state],
        reason=row.reason,
        lines=row.lines,
        day=row.day,
        received_by=row.received_by,
        received_at=timestamp_of(row.received_at_ms),
    )


def run_of(row: RunRow) -> pb.Run:
    """A run with its figures."""
    run = pb.Run(
        run_id=row.run_id,
        kind=RUN_KINDS[row.key.kind],
        psp=row.key.psp,
        period=row.key.period,
        attempt=row.attempt,
        rules=row.rules,
        state=row.state,
        asked_by=row.asked_by,
        started_at=timestamp_of(row.started_at_ms),
        explained_ppm=row.summary.explained_ppm,
        lines=row.summary.lines,
        movements=row.summary.movements,
        reason=row.summary.reason,
        by_state=dict(row.summary.by_state),
        by_class=dict(row.summary.by_class),
        by_kind=dict(row.summary.by_kind),
    )
    if row.ended_at_ms is not None:
        run.ended_at.CopyFrom(timestamp_of(row.ended_at_ms))
    return run


def difference_of(row: Difference) -> pb.RunDifference:
    """What two attempts say differently of one item."""
    return pb.RunDifference(item=row.item, before=row.before, after=row.after)


def mismatch_of(row: MismatchRow) -> pb.Mismatch:
    """A case."""
    mismatch = pb.Mismatch(
        mismatch_id=row.mismatch_id,
        kind=row.kind,
        state=STATES[row.state],
        psp=row.psp,
        tenant=row.tenant,
        checkout_id=row.checkout_id,
        payment_order_id=row.order_id,
        line_id=row.line_id,
        file_id=row.file_id,
        field=row.field,
        ours=row.ours,
        theirs=row.theirs,
        likely_cause=row.likely_cause,
        proposed_action=row.action,
        money=_money(row.money),
        assignee=row.assignee,
        opened_at=timestamp_of(row.opened_at_ms),
        first_run_id=row.first_run,
        last_run_id=row.last_run,
    )
    setattr(mismatch, "class", CLASSES[row.group])  # a word of Python's own
    if row.closed_at_ms is not None:
        mismatch.closed_at.CopyFrom(timestamp_of(row.closed_at_ms))
    return mismatch


def case_of(view: CaseView) -> pb.GetMismatchResponse:
    """A case whole: its dry run, what is proposed, every act."""
    return pb.GetMismatchResponse(
        mismatch=mismatch_of(view.row),
        dry_run=_postings(view.dry_run),
        proposal=proposal_of(view.proposal),
        acts=[_act(act) for act in view.acts],
        follows=view.follows,
    )


def proposal_of(proposal: Proposal | None) -> pb.Proposal | None:
    """What a person proposed; None where nothing is."""
    if proposal is None:
        return None
    return pb.Proposal(
        number=proposal.number,
        proposed_by=proposal.by,
        resolution=RESOLUTIONS[proposal.resolution],
        action=proposal.action,
        postings=_postings(proposal.postings),
        reason=proposal.reason,
    )


def ageing_of(ageing: Ageing) -> pb.GetAgeingResponse:
    """How old the open cases are, and what stands in suspense."""
    response = pb.GetAgeingResponse(oldest_ms=ageing.oldest_ms, overdue=ageing.overdue)
    for band in ageing.bands:
        told = response.bands.add(from_hours=band.from_hours, to_hours=band.to_hours, cases=band.cases)
        setattr(told, "class", CLASSES[band.group])
    for held in ageing.suspense:
        response.suspense.add(
            came=_money(held.came), went=_money(held.went), parts=held.parts, oldest_ms=held.oldest_ms
        )
    return response


def _act(act: ActRow) -> pb.CaseAct:
    return pb.CaseAct(
        number=act.number, act=act.act, actor=act.actor, detail_json=act.detail, at=timestamp_of(act.at_ms)
    )


def _postings(postings: Sequence[Posting]) -> list[pb.Posting]:
    return [
        pb.Posting(account=side.account, money=_money(Money(side.amount_minor, side.currency))) for side in postings
    ]


def _money(money: Money) -> MoneyMessage | None:
    """None where a case is about no amount: its currency is "" then."""
    if money.currency not in EXPONENTS:
        return None
    return MoneyMessage(amount=format_amount(money), currency=money.currency)
