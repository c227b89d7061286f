"""A server full of callers' calls: webhooks, settlement lines and on-call pass all the same, and so does another tenant."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from actors.answer import Answer, Replied
from servers.call import HOUSE, Role
from servers.metric import Metrics
from servers.oncall import OperatorServicer
from servers.payment import PaymentServicer
from servers.reply import encode_reply
from tests.integration.server_process import SETTINGS, reason, serving
from tests.unit.server_fakes import (
    EDGE_PROCESS,
    TENANT,
    FakePaymentReader,
    FakeShards,
    bearer,
    checkout,
    create_request,
)
from zerosum.domain.identity import Tenant
from zerosum.domain.message import SubmitCheckout
from zerosum.v1 import common_pb2
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import OperatorServiceStub, PaymentServiceStub

RECONCILER_PROCESS = bearer(tenant=HOUSE, subject="reconciler")
ON_CALL = bearer(Role.SUPPORT)
OTHER_TENANT = Tenant("other")
OTHER = bearer(tenant=OTHER_TENANT)


class _Silent(FakeShards):
    """The PSP is silent: whoever submits a checkout waits until he is let; all else is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        if any(isinstance(command.body, SubmitCheckout) for command in commands):
            await self.opened.wait()
            return [Replied(encode_reply(checkout()), is_replay=False) for _ in commands]
        return await super().submit(commands)


@asynccontextmanager
async def _full(calls: int = SETTINGS.admission_max) -> AsyncIterator[Any]:
    """A channel to a server on which so many calls of one tenant wait."""
    shards, reader = _Silent(), FakePaymentReader(checkout())
    payments = PaymentServicer(shards=shards, reader=reader, settings=SETTINGS, webhooks={}, metrics=Metrics())
    oncall = OperatorServicer(shards=shards, reader=reader, settings=SETTINGS)
    async with serving(payments, oncall) as (channel, server):
        create = PaymentServiceStub(channel).CreatePayment
        held = [asyncio.ensure_future(create(create_request(), metadata=bearer())) for _ in range(calls)]
        while server.frame.in_flight < calls:  # noqa: ASYNC110 - the frame's counter has no event
            await asyncio.sleep(0)
        try:
            yield channel
        finally:
            shards.opened.set()
            await asyncio.gather(*held)


async def _reason(call: Any) -> str:
    """Why it is refused, "" where it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return ""


@pytest.mark.parametrize("name", ["ReceiveWebhooks", "ReportSettlement", "ListTodos"])
async def test_a_server_full_of_callers_still_hears_facts_and_on_call(name: str) -> None:
    """docs/failure-modes.md: what resolves the orders that callers wait for must never wait behind them."""
    line = pb.SettlementLine(
        tenant=TENANT, checkout_id="co-1", payment_order_id="po-0", psp="stripe", psp_object_id="pi_1",
        status=pb.SETTLEMENT_STATUS_CHARGED, money=common_pb2.Money(amount="12.50", currency="USD"), reference="po-0",
        line_id="txn_1", file_id="file-1",
    )  # fmt: skip
    async with _full() as channel:
        payments, oncall = PaymentServiceStub(channel), OperatorServiceStub(channel)
        full = await _reason(payments.CreatePayment(create_request(), metadata=bearer()))
        told = {
            "ReceiveWebhooks": lambda: payments.ReceiveWebhooks(
                pb.ReceiveWebhooksRequest(webhooks=[pb.ReceiveWebhookRequest(psp="nobody")]), metadata=EDGE_PROCESS
            ),
            "ReportSettlement": lambda: payments.ReportSettlement(
                pb.ReportSettlementRequest(lines=[line]), metadata=RECONCILER_PROCESS
            ),
            "ListTodos": lambda: oncall.ListTodos(pb.ListTodosRequest(), metadata=ON_CALL),
        }
        heard = await _reason(told[name]())

    assert full == "ADMISSION_FULL"
    assert heard == ""


async def test_a_tenant_has_half_of_a_server_where_another_one_calls() -> None:
    """failures.md security point 5: a limit per tenant; the other half is there for the others."""
    asked = pb.ListPaymentsRequest()
    async with _full(SETTINGS.admission_max // 2) as channel:
        payments = PaymentServiceStub(channel)
        told = [await _reason(payments.ListPayments(asked, metadata=who)) for who in (bearer(), OTHER, bearer(), OTHER)]

    assert told == ["", "", "ADMISSION_FULL", ""]


async def test_a_tenant_has_half_of_the_streams_where_another_one_watches() -> None:
    """The same for those who watch: reads of one tenant's streams leave room for another's."""
    never = asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    theirs = checkout(tenant=OTHER_TENANT)
    payments = PaymentServicer(
        shards=FakeShards(), reader=FakePaymentReader(checkout(), theirs), settings=SETTINGS, webhooks={},
        metrics=Metrics(), sleep=sleep,
    )  # fmt: skip
    asked = pb.WatchPaymentRequest(checkout_id="co-1")
    async with serving(payments, streams_max=4) as (channel, _):
        watch = PaymentServiceStub(channel).WatchPayment
        streams = [watch(asked, metadata=who) for who in (OTHER, bearer(), bearer())]
        for stream in streams:
            await stream.read()
        mine, other = watch(asked, metadata=bearer()), watch(asked, metadata=OTHER)
        told = [await _reason(mine.read()), await _reason(other.read())]
        for stream in (*streams, other):
            stream.cancel()

    assert told == ["ADMISSION_FULL", ""]
