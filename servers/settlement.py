"""Settlement lines at the payment service's door: from a message to a fact about one order, and what became of it.

Invariant: a line that is taken carries the PSP's own id of it; nothing here decides what follows from it.
"""

from actors.answer import Accepted, Answer, Applied, Busy, Failed, InFlight, Refused, Replied
from servers.batch import item_result
from servers.status import Problem, of_answer
from zerosum.domain.identity import OrderId
from zerosum.domain.message import ObjectStatus, Report, ReportSource, SettlementLineRef
from zerosum.domain.money import parse_amount
from zerosum.domain.refusal import Reason, Refusal
from zerosum.v1 import payment_pb2 as pb

_STATUSES = {
    pb.SETTLEMENT_STATUS_CHARGED: ObjectStatus.CHARGED,
    pb.SETTLEMENT_STATUS_REFUNDED: ObjectStatus.REFUNDED,
}

UNKNOWN_ORDER = Refusal(Reason.UNKNOWN_ID, "payment_order_id", "there is nothing under this id")


def settlement_report(line: pb.SettlementLine) -> Report | Refusal:
    """The fact a line tells, or why its amount is none."""
    money = parse_amount(line.money.amount, line.money.currency, "money.amount")
    if isinstance(money, Refusal):
        return money
    return Report(
        source=ReportSource.SETTLEMENT,
        order_id=OrderId(line.payment_order_id),
        psp=line.psp,
        object_id=line.psp_object_id,
        status=_STATUSES[line.status],
        money=money,
        reference=line.reference,
        reason="",
        settlement=SettlementLineRef(line.psp, line.line_id, line.file_id),
        refund_key=line.refund_key,
    )


def settlement_result(line_id: str, became: Answer | Refusal) -> pb.SettlementResult:
    """What the reconciler is told about one line."""
    match became:
        case Applied(is_replay=True):
            return _outcome(line_id, pb.SETTLEMENT_OUTCOME_REPLAYED)
        case Applied(is_news=is_news):
            return _outcome(line_id, pb.SETTLEMENT_OUTCOME_APPLIED if is_news else pb.SETTLEMENT_OUTCOME_IGNORED)
        case Refusal(Reason.UNKNOWN_ID) | Refused(Refusal(Reason.UNKNOWN_ID), _):
            return _outcome(line_id, pb.SETTLEMENT_OUTCOME_UNKNOWN_ORDER)
        case Refusal():
            return _not_recorded(line_id, became)
        case Refused(refusal, _):
            return _not_recorded(line_id, refusal)
        case InFlight() | Busy() | Failed():
            return _not_recorded(line_id, of_answer(became))
        case Accepted() | Replied():
            return _not_recorded(line_id, Problem("INTERNAL", inner="a settlement line was answered as a submit"))


def _outcome(line_id: str, outcome: pb.SettlementOutcome.ValueType) -> pb.SettlementResult:
    return pb.SettlementResult(line_id=line_id, outcome=outcome)


def _not_recorded(line_id: str, told: Refusal | Problem) -> pb.SettlementResult:
    item = item_result(line_id, told)
    if item.HasField("refused"):
        return pb.SettlementResult(line_id=line_id, refused=item.refused)
    return pb.SettlementResult(line_id=line_id, retry=item.retry)
