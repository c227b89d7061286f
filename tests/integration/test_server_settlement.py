"""Settlement lines at the payment service's door: the reconciler's only, independent of one another, found by their order."""

import grpc
import pytest

from actors.answer import Answer, Applied, Busy, Refused
from servers.call import HOUSE
from servers.metric import Metrics
from servers.payment import PaymentServicer
from tests.integration.server_process import SETTINGS, serving
from tests.unit.server_fakes import EDGE_PROCESS, TENANT, FakePaymentReader, FakeShards, bearer, checkout
from zerosum.domain.identity import EntityKey
from zerosum.domain.refusal import Reason, Refusal
from zerosum.v1 import common_pb2
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub

RECONCILER = bearer(tenant=HOUSE, subject="reconciler")


def _servicer(shards: FakeShards) -> PaymentServicer:
    return PaymentServicer(
        shards=shards, reader=FakePaymentReader(checkout()), settings=SETTINGS, webhooks={}, metrics=Metrics()
    )


def _line(line_id: str = "txn_1", order_id: str = "po-0", amount: str = "12.50", home: str = "") -> pb.SettlementLine:
    return pb.SettlementLine(
        tenant=TENANT, checkout_id=home, payment_order_id=order_id, psp="stripe", psp_object_id="pi_1",
        status=pb.SETTLEMENT_STATUS_CHARGED, money=common_pb2.Money(amount=amount, currency="USD"), reference=order_id,
        line_id=line_id, file_id="file-1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Applied(False), pb.SETTLEMENT_OUTCOME_APPLIED),
        (Applied(True), pb.SETTLEMENT_OUTCOME_REPLAYED),
        (Applied(False, is_news=False), pb.SETTLEMENT_OUTCOME_IGNORED),
        (Refused(Refusal(Reason.UNKNOWN_ID, "x", "y"), is_replay=False), pb.SETTLEMENT_OUTCOME_UNKNOWN_ORDER),
    ],
)
async def test_a_line_is_told_to_the_checkout_of_its_order(answer: Answer, outcome: int) -> None:
    """The checkout is looked up where the line does not name it; the result says what the line did."""
    shards = FakeShards(answer)
    async with serving(_servicer(shards)) as (channel, _):
        request = pb.ReportSettlementRequest(lines=[_line()])
        response = await PaymentServiceStub(channel).ReportSettlement(request, metadata=RECONCILER)

    assert [result.outcome for result in response.results] == [outcome]
    assert [one.entity for one in shards.submitted] == [EntityKey(TENANT, "co-1")]


async def test_lines_are_independent_of_one_another() -> None:
    """Design section 8: a bad item costs only itself."""
    shards = FakeShards(Applied(False), Busy(70))
    lines = [_line("a"), _line("b", amount="1.005"), _line("c", order_id="po-nobody"), _line("d", home="co-1")]
    async with serving(_servicer(shards)) as (channel, _):
        request = pb.ReportSettlementRequest(lines=lines)
        response = await PaymentServiceStub(channel).ReportSettlement(request, metadata=RECONCILER)

    assert [result.WhichOneof("result") for result in response.results] == ["outcome", "refused", "outcome", "retry"]
    assert [result.line_id for result in response.results] == ["a", "b", "c", "d"]
    assert response.results[1].refused.field == "money.amount"
    assert response.results[2].outcome == pb.SETTLEMENT_OUTCOME_UNKNOWN_ORDER
    assert len(shards.submitted) == 2


async def test_a_line_twice_in_a_batch_and_any_other_caller_are_turned_away() -> None:
    """A line is a fact about money: only the reconciler tells it."""
    shards = FakeShards()
    async with serving(_servicer(shards)) as (channel, _):
        stub = PaymentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as twice:
            await stub.ReportSettlement(pb.ReportSettlementRequest(lines=[_line(), _line()]), metadata=RECONCILER)
        with pytest.raises(grpc.aio.AioRpcError) as edge:
            await stub.ReportSettlement(pb.ReportSettlementRequest(lines=[_line()]), metadata=EDGE_PROCESS)

    assert twice.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert edge.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert shards.submitted == []
