"""Webhooks at the payment service's door, one and many: 2xx only for what is durably recorded, and nothing unverified."""

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from actors.answer import Answer, Applied, Busy, Failed
from servers.metric import Metrics
from servers.payment import PaymentServicer
from servers.webhook import Ignored, Incoming
from tests.integration.server_process import SETTINGS, serving
from tests.unit.server_fakes import EDGE_PROCESS, TENANT, FakePaymentReader, FakeShards
from zerosum.domain.identity import EntityKey, OrderId
from zerosum.domain.message import Delivery, ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub


def _servicer(shards: FakeShards, metrics: Metrics | None = None) -> PaymentServicer:
    return PaymentServicer(
        shards=shards, reader=FakePaymentReader(), settings=SETTINGS, webhooks={"stripe": _incoming},
        metrics=metrics or Metrics(),
    )  # fmt: skip


async def _refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def _incoming(body: bytes, headers: Mapping[str, str]) -> Incoming | Ignored | Refusal:
    if headers.get("stripe-signature") != "good":
        return Refusal(Reason.MALFORMED, "", "SIGNATURE_WRONG")
    if body == b"ignored":
        return Ignored("customer.created")
    delivery = Delivery("stripe", "evt_1", "payment_intent.succeeded", "00", "secret-1")
    report = Report(
        ReportSource.WEBHOOK, OrderId("po-0"), "stripe", "pi_1", ObjectStatus.CHARGED, Money(1_250, "USD"), "po-0", "",
        delivery=delivery,
    )  # fmt: skip
    return Incoming(EntityKey(TENANT, "co-1"), report)


def _webhook(body: bytes = b"{}", signature: str = "good", psp: str = "stripe") -> pb.ReceiveWebhookRequest:
    return pb.ReceiveWebhookRequest(psp=psp, body=body, headers={"stripe-signature": signature})


@pytest.mark.parametrize("is_replay", [False, True])
async def test_verified_webhook_is_recorded_by_its_checkout(is_replay: bool) -> None:
    """Design section 8, failures.md S4: OK only after the record, duplicates say so."""
    shards, metrics = FakeShards(Applied(is_replay)), Metrics()
    async with serving(_servicer(shards, metrics=metrics)) as (channel, _):
        response = await PaymentServiceStub(channel).ReceiveWebhook(_webhook(), metadata=EDGE_PROCESS)

    assert response.duplicate is is_replay
    assert [(type(one.body), one.entity) for one in shards.submitted] == [(Report, EntityKey(TENANT, "co-1"))]
    outcome = "duplicate" if is_replay else "recorded"
    assert metrics.registry.get_sample_value("zerosum_webhooks_total", {"psp": "stripe", "outcome": outcome}) == 1


async def test_ignored_webhook_is_ok_and_counted() -> None:
    """An event type that tells us nothing is not sent again for ever."""
    shards, metrics = FakeShards(), Metrics()
    async with serving(_servicer(shards, metrics=metrics)) as (channel, _):
        await PaymentServiceStub(channel).ReceiveWebhook(_webhook(b"ignored"), metadata=EDGE_PROCESS)

    assert shards.submitted == []
    assert metrics.registry.get_sample_value("zerosum_webhooks_total", {"psp": "stripe", "outcome": "ignored"}) == 1


@pytest.mark.parametrize("bad", [_webhook(signature="forged"), _webhook(signature=""), _webhook(psp="other")])
async def test_webhook_that_does_not_verify_changes_nothing(bad: pb.ReceiveWebhookRequest) -> None:
    """failures.md S7: 400, no state change."""
    shards = FakeShards()
    async with serving(_servicer(shards)) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).ReceiveWebhook(bad, metadata=EDGE_PROCESS))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert shards.submitted == []


@pytest.mark.parametrize("answer", [Busy(100), Failed("Unavailable", "x")])
async def test_webhook_that_is_not_recorded_is_no_success(answer: Answer) -> None:
    """failures.md P29: never 2xx before the durable insert."""
    async with serving(_servicer(FakeShards(answer))) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).ReceiveWebhook(_webhook(), metadata=EDGE_PROCESS))

    assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_webhooks_of_a_batch_are_answered_each_on_its_own_in_order() -> None:
    """Design section 8, "Batch RPCs": a bad item costs only itself; what is not durably recorded is never `done`."""
    shards, metrics = (
        FakeShards(Applied(is_replay=False), Applied(is_replay=True), Failed("Unavailable", "x")),
        Metrics(),
    )
    sent = [
        _webhook(), _webhook(signature="forged"), _webhook(), _webhook(psp="other"), _webhook(b"ignored"), _webhook(psp="?"),
        _webhook(),
    ]  # fmt: skip
    async with serving(_servicer(shards, metrics=metrics)) as (channel, _):
        request = pb.ReceiveWebhooksRequest(webhooks=sent)
        results = (await PaymentServiceStub(channel).ReceiveWebhooks(request, metadata=EDGE_PROCESS)).results

    assert [result.WhichOneof("outcome") for result in results] == [
        "done", "refused", "done", "refused", "done", "refused", "retry"
    ]  # fmt: skip
    assert [results[at].done.replayed for at in (0, 2, 4)] == [False, True, False]
    assert [(results[at].refused.reason, results[at].refused.field) for at in (1, 3, 5)] == [
        ("WEBHOOK_NOT_VERIFIED", ""), ("MALFORMED", "psp"), ("MALFORMED", "psp")
    ]  # fmt: skip
    assert len(shards.submitted) == 3
    counted = {
        outcome: metrics.registry.get_sample_value("zerosum_webhooks_total", {"psp": "stripe", "outcome": outcome})
        for outcome in ("recorded", "duplicate", "ignored", "refused", "failed")
    }
    assert set(counted.values()) == {1}
