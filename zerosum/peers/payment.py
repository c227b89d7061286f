"""The payment service as the reconciler sees it: settlement lines as facts, batched.

Invariant: what is sent is the line as the outbox keeps it, under its own id; a repeat is the payment service's to recognise.
"""

from collections.abc import Sequence
from typing import Any

import grpc

from zerosum.domain.money import Money, format_amount
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.settlement import Category
from zerosum.errors import OutcomeUnknown
from zerosum.limits import PEER_TIMEOUT_MS, RETRY_AFTER_CAP_MS
from zerosum.peers.batch import Batcher, TokenProvider, Told, trouble_of, written
from zerosum.ports import Done, ItemOutcome, TryLater
from zerosum.reconciling import SettlementReport
from zerosum.v1 import common_pb2, payment_pb2, payment_pb2_grpc

_STATUSES = {
    Category.CHARGE: payment_pb2.SETTLEMENT_STATUS_CHARGED,
    Category.REFUND: payment_pb2.SETTLEMENT_STATUS_REFUNDED,
}
"""Only what moved an order's whole money is a fact about it."""

_RECORDED = frozenset({
    payment_pb2.SETTLEMENT_OUTCOME_APPLIED, payment_pb2.SETTLEMENT_OUTCOME_REPLAYED, payment_pb2.SETTLEMENT_OUTCOME_IGNORED,
})  # fmt: skip


class GrpcPaymentPeer:
    """PaymentPeer over gRPC. `channel`: a grpc.aio channel of the running loop; it stays the caller's to close."""

    def __init__(self, channel: Any, token: TokenProvider, timeout_ms: int = PEER_TIMEOUT_MS) -> None:
        self._report_settlement = payment_pb2_grpc.PaymentServiceStub(channel).ReportSettlement
        self._token = token
        self._timeout_s = timeout_ms / 1_000
        self._batcher: Batcher[payment_pb2.SettlementLine] = Batcher(self._send)

    async def report_settlement(self, report: SettlementReport) -> ItemOutcome:
        """Tells a line as a fact, once for ever under (psp, line id). Refuses UNKNOWN_ID where there is no such
        order, and MALFORMED, alone, what cannot be written.

        Raises NotSent, OutcomeUnknown: send the same again.
        """
        line = report.line
        if line.category not in _STATUSES:
            return Refusal(Reason.MALFORMED, "category", "only charges and refunds are facts about an order")
        message = written(_message, report)
        if isinstance(message, Refusal):
            return message
        return await self._batcher.put(message, key=f"{line.psp}/{line.id}", place=(line.tenant, report.order_id))

    async def close(self) -> None:
        """Stops sending."""
        await self._batcher.close()

    async def _send(self, lines: Sequence[payment_pb2.SettlementLine]) -> Sequence[Told]:
        request = payment_pb2.ReportSettlementRequest(lines=lines)
        metadata = (("authorization", f"Bearer {self._token()}"),)
        try:
            response = await self._report_settlement(request, timeout=self._timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise trouble_of(error) from error
        if [result.line_id for result in response.results] != [line.line_id for line in lines]:
            raise OutcomeUnknown("a peer's reply does not fit its request")
        return [_outcome(result) for result in response.results]


def _message(report: SettlementReport) -> payment_pb2.SettlementLine:
    line = report.line
    gross = Money(abs(line.gross.amount_minor), line.gross.currency)  # a refund's is negative in the file
    return payment_pb2.SettlementLine(
        tenant=line.tenant,
        checkout_id=line.checkout_id,
        payment_order_id=report.order_id,
        psp=line.psp,
        psp_object_id=line.object_id,
        status=_STATUSES[line.category],
        money=common_pb2.Money(amount=format_amount(gross), currency=gross.currency),
        reference=line.reference,
        line_id=line.id,
        file_id=report.file_id,
        refund_key=line.refund_key,
    )


_REASONS = {str(reason): reason for reason in Reason}


def _outcome(result: payment_pb2.SettlementResult) -> Told:
    match result.WhichOneof("result"):
        case "outcome" if result.outcome in _RECORDED:
            return Done()
        case "outcome" if result.outcome == payment_pb2.SETTLEMENT_OUTCOME_UNKNOWN_ORDER:
            return Refusal(Reason.UNKNOWN_ID, "payment_order_id", "there is no such order")
        case "retry":
            return TryLater(max(0, min(result.retry.retry_after_ms, RETRY_AFTER_CAP_MS)))
        case "refused" if result.refused.reason in _REASONS:
            return Refusal(_REASONS[result.refused.reason], result.refused.field, result.refused.message)
        case _:
            return OutcomeUnknown("a peer answered in words that are not ours")
