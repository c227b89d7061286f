"""Refunds at the payment service's door: who may ask, what is told, and what is refused."""

from typing import Any

import grpc
import pytest

from actors.answer import Answer, Applied, Failed, Refused
from servers.call import Role
from servers.metric import Metrics
from servers.payment import PaymentServicer
from tests.integration.server_process import SETTINGS, reason, serving
from tests.unit.server_fakes import TENANT, FakePaymentReader, FakeShards, bearer, checkout, with_status
from zerosum.domain.checkout_state import evolve
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.order import OrderStatus
from zerosum.domain.refund import Refund, RefundCause, RefundOpened, RefundStatus, RequestRefund
from zerosum.domain.refusal import Reason, Refusal
from zerosum.v1 import common_pb2
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub

FINANCE = bearer(Role.FINANCE, subject="fin-1")
PENDING = Refund(
    1, RefundCause.REQUESTED, RefundStatus.PENDING, Money(1_250, "USD"), "DUPLICATE", "fin-1", "", 1_700_000_000_000, 0
)


def _servicer(shards: FakeShards) -> PaymentServicer:
    paid = with_status(checkout(), OrderStatus.SUCCESS, is_booked=True)
    reader = FakePaymentReader(evolve(paid, RefundOpened(OrderId("po-0"), PENDING), 1_700_000_000_000))
    return PaymentServicer(shards=shards, reader=reader, settings=SETTINGS, webhooks={}, metrics=Metrics())


def _request(**changed: Any) -> pb.CreateRefundRequest:
    asked: dict[str, Any] = {"payment_order_id": "po-0", "idempotency_key": "r-1", "reason": "DUPLICATE"}
    return pb.CreateRefundRequest(**(asked | changed))


@pytest.mark.parametrize("role", [Role.SERVICE, Role.FINANCE, Role.ADMIN])
async def test_a_refund_is_reserved_and_the_order_told_as_it_stands(role: Role) -> None:
    """Who asks comes from the token; the reply shows the refund, pending."""
    shards = FakeShards(Applied(is_replay=False))
    money = common_pb2.Money(amount="12.50", currency="USD")
    async with serving(_servicer(shards)) as (channel, _):
        call = PaymentServiceStub(channel).CreateRefund(_request(money=money), metadata=bearer(role, subject="someone"))
        order = (await call).payment_order

    asked = RequestRefund(OrderId("po-0"), Key("r-1"), Money(1_250, "USD"), "DUPLICATE", "someone")
    assert [(one.entity, one.body) for one in shards.submitted] == [(EntityKey(TENANT, "co-1"), asked)]
    (refund,) = order.refunds
    assert (refund.status, refund.cause) == (pb.REFUND_STATUS_PENDING, pb.REFUND_CAUSE_REQUESTED)
    assert (refund.amount, refund.currency, refund.reason) == ("12.50", "USD", "DUPLICATE")
    assert not refund.HasField("ended_at")
    assert order.status == pb.ORDER_STATUS_SUCCESS


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Refused(Refusal(Reason.ALREADY_REFUNDED, "payment_order_id", "x"), is_replay=False), "FAILED_PRECONDITION"),
        (Refused(Refusal(Reason.REFUND_NOT_WHOLE, "money", "x"), is_replay=False), "FAILED_PRECONDITION"),
        (Failed("Unavailable", "x"), "UNAVAILABLE"),
    ],
)
async def test_what_is_refused_or_fails_says_so(answer: Answer, code: str) -> None:
    """Design section 8: the error table holds here too."""
    async with serving(_servicer(FakeShards(answer))) as (channel, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await PaymentServiceStub(channel).CreateRefund(_request(), metadata=FINANCE)

    assert caught.value.code().name == code
    assert reason(caught.value) in {"ALREADY_REFUNDED", "REFUND_NOT_WHOLE", "UNAVAILABLE"}


@pytest.mark.parametrize(
    ("changed", "metadata", "code"),
    [
        ({"reason": "because"}, FINANCE, "INVALID_ARGUMENT"),
        ({"money": common_pb2.Money(amount="1.005", currency="USD")}, FINANCE, "INVALID_ARGUMENT"),
        ({"payment_order_id": "po-nobody"}, FINANCE, "NOT_FOUND"),
        ({}, bearer(Role.FINANCE, Tenant("other")), "NOT_FOUND"),
        ({}, bearer(Role.SUPPORT), "PERMISSION_DENIED"),
    ],
)
async def test_what_is_malformed_foreign_or_not_allowed_reaches_no_shard(
    changed: dict[str, Any], metadata: Any, code: str
) -> None:
    """Another tenant's order answers as if it were not there."""
    shards = FakeShards()
    async with serving(_servicer(shards)) as (channel, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await PaymentServiceStub(channel).CreateRefund(_request(**changed), metadata=metadata)

    assert caught.value.code().name == code
    assert shards.submitted == []
