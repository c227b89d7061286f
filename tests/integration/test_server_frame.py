"""The frame around every call: identity, admission, detached work, drain, health, logs and metrics, over the wire."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from actors.answer import Answer, Applied, Replied
from servers.access import ACCESS
from servers.call import HOUSE, Caller, Role
from servers.ledger import LedgerServicer
from servers.metric import Metrics
from servers.oncall import OperatorServicer
from servers.payment import PaymentServicer
from servers.reply import encode_reply
from servers.wallet import WalletServicer
from tests.integration.reconciliation_fakes import servicer as reconciliation
from tests.integration.server_process import SETTINGS, detail, reason, serving
from tests.unit.server_fakes import (
    ISSUER,
    NOW_S,
    PAYMENT_PROCESS,
    TENANT,
    FakeLedgerReader,
    FakePaymentReader,
    FakeShards,
    FakeWalletReader,
    MemoryLog,
    bearer,
    checkout,
    create_request,
)
from zerosum.domain.identity import EntityKey
from zerosum.errors import Unavailable
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub

REPLY = encode_reply(checkout())
SERVICE = bearer()


class Gate(FakeShards):
    """Shards that answer only once they are let; a handler in them has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()
        self.finished = 0

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        """Waits at the gate."""
        self.submitted.extend(commands)
        self.begun.set()
        await self.opened.wait()
        self.finished += 1
        return [Replied(REPLY, is_replay=False) for _ in commands]


class Broken(FakeShards):
    """Shards that raise what they are told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        """Raises."""
        raise self._error

    async def outcome(self, entity: EntityKey, timeout_ms: int) -> bytes | None:
        """Raises."""
        raise self._error


def _payment(
    shards: FakeShards, reader: FakePaymentReader | None = None, metrics: Metrics | None = None
) -> PaymentServicer:
    return PaymentServicer(
        shards=shards, reader=reader or FakePaymentReader(), settings=SETTINGS, webhooks={},
        metrics=metrics or Metrics(),
    )  # fmt: skip


def _everything() -> list[Any]:
    shards = FakeShards()
    return [
        _payment(shards),
        OperatorServicer(shards=shards, reader=FakePaymentReader(), settings=SETTINGS),
        WalletServicer(shards, FakeWalletReader()),
        LedgerServicer(shards, FakeLedgerReader()),
        reconciliation(Path("not-used")),
    ]


async def _refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def _until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - the frame's counters have no event; the loop turns once a look
        await asyncio.sleep(0)


# ---- who may -------------------------------------------------------------------------------------------------------

IDENTITIES = {
    "none": (),
    "expired": (("authorization", f"Bearer {ISSUER.token(Caller(TENANT, Role.ADMIN, 'a'), expires_at_s=NOW_S - 60)}"),),
    "garbage": (("authorization", "Bearer x.y.z"),),
    **{str(role): bearer(role) for role in Role},
    "payment": PAYMENT_PROCESS,
    "stranger": bearer(tenant=HOUSE, subject="stranger"),
    "house finance": bearer(Role.FINANCE, HOUSE, "ada"),
}


REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


async def _code(call: Any) -> Any:
    try:
        await (call.read() if hasattr(call, "read") else call)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _expected(method: str, name: str) -> set[Any]:
    """The codes that refuse this identity; empty where it may."""
    if name in {"none", "expired", "garbage"}:
        return {grpc.StatusCode.UNAUTHENTICATED}
    if name == "house finance":
        return (
            set() if ACCESS[method].allows(Caller(HOUSE, Role.FINANCE, "ada")) else {grpc.StatusCode.PERMISSION_DENIED}
        )
    tenant = HOUSE if name in {"payment", "stranger"} else TENANT
    role = Role.SERVICE if tenant == HOUSE else Role(name)
    may = ACCESS[method].allows(Caller(tenant, role, name if tenant == HOUSE else "shop"))
    return set() if may else {grpc.StatusCode.PERMISSION_DENIED}


@pytest.mark.parametrize("method", [method for method, rule in ACCESS.items() if not rule.is_public])
async def test_rpc_opens_to_whom_the_table_says_and_to_nobody_else(method: str) -> None:
    """failures.md security point 1: every RPC x every identity, over the wire."""
    codes = {}
    async with serving(*_everything()) as (channel, _):
        call = channel.unary_stream(method) if method.endswith("/WatchPayment") else channel.unary_unary(method)
        for name, metadata in IDENTITIES.items():
            codes[name] = await _code(call(b"", metadata=metadata))

    assert {name: {code} & REFUSED for name, code in codes.items()} == {
        name: _expected(method, name) for name in IDENTITIES
    }


async def test_unknown_rpc_is_unimplemented() -> None:
    """Nothing answers where nobody serves."""
    async with serving(*_everything()) as (channel, _):
        code = await _code(channel.unary_unary("/zerosum.v1.PaymentService/StealAll")(b"", metadata=SERVICE))

    assert code is grpc.StatusCode.UNIMPLEMENTED


# ---- admission -----------------------------------------------------------------------------------------------------


async def test_call_beyond_the_admission_limit_is_told_when_to_come_back() -> None:
    """failures.md G1: RESOURCE_EXHAUSTED + RetryInfo, nothing done; the others are served."""
    gate = Gate()
    async with serving(_payment(gate)) as (channel, server):
        stub = PaymentServiceStub(channel)
        held = [asyncio.ensure_future(stub.CreatePayment(create_request(), metadata=SERVICE)) for _ in range(4)]
        await _until(lambda: server.frame.in_flight == SETTINGS.admission_max)
        error = await _refused(stub.CreatePayment(create_request(), metadata=SERVICE))
        gate.opened.set()
        answered = await asyncio.gather(*held)

    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ADMISSION_FULL")
    assert detail(error, details.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert detail(error, details.QuotaFailure).violations[0].subject == "ADMISSION_FULL"
    assert len(answered) == len(gate.submitted) == 4


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_message_beyond_four_megabytes_is_refused_unread(compression: grpc.Compression) -> None:
    """failures.md security point 5: 4 MB + 1, plain and as a gzip bomb."""
    shards = FakeShards()
    async with serving(_payment(shards)) as (channel, _):
        call = channel.unary_unary("/zerosum.v1.PaymentService/CreatePayment")
        code = await _code(call(b"\x00" * (4 * 1024 * 1024 + 1), metadata=SERVICE, compression=compression))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shards.submitted == []


async def test_stream_beyond_the_bound_of_streams_is_told_when_to_come_back() -> None:
    """failures.md security point 5: 10^4 open streams cost what the bound allows."""
    never = asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    servicer = PaymentServicer(
        shards=FakeShards(), reader=FakePaymentReader(checkout()), settings=SETTINGS, webhooks={}, metrics=Metrics(),
        sleep=sleep,
    )  # fmt: skip
    asked = pb.WatchPaymentRequest(checkout_id="co-1")
    async with serving(servicer, streams_max=1) as (channel, _):
        stub = PaymentServiceStub(channel)
        first = stub.WatchPayment(asked, metadata=SERVICE)
        await first.read()
        error = await _refused(stub.WatchPayment(asked, metadata=SERVICE).read())
        first.cancel()

    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ADMISSION_FULL")


# ---- callers that go away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancels", "deadline"])
async def test_handler_that_has_begun_finishes_although_its_caller_is_gone(how: str) -> None:
    """failures.md C4, G3: the work is detached from the call."""
    gate = Gate()
    async with serving(_payment(gate)) as (channel, server):
        await channel.channel_ready()
        timeout = 0.2 if how == "deadline" else None
        call = PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE, timeout=timeout)
        await asyncio.wait(
            {asyncio.ensure_future(call.initial_metadata()), asyncio.ensure_future(gate.begun.wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if how == "cancels":
            call.cancel()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
        gate.opened.set()
        assert await server.frame.drained(5)

    assert gate.finished == 1


async def test_abandoned_work_still_counts_against_the_limit() -> None:
    """What is abandoned stays bounded."""
    gate = Gate()
    async with serving(_payment(gate)) as (channel, server):
        stub = PaymentServiceStub(channel)
        calls = [stub.CreatePayment(create_request(), metadata=SERVICE) for _ in range(SETTINGS.admission_max)]
        await _until(lambda: server.frame.in_flight == SETTINGS.admission_max)
        for call in calls:
            call.cancel()
        error = await _refused(stub.CreatePayment(create_request(), metadata=SERVICE))
        gate.opened.set()

    assert reason(error) == "ADMISSION_FULL"


# ---- the drain -----------------------------------------------------------------------------------------------------


async def test_drain_finishes_what_has_begun_and_admits_nothing_more() -> None:
    """failures.md G1: graceful drain."""
    gate = Gate()
    async with serving(_payment(gate)) as (channel, server):
        stub = PaymentServiceStub(channel)
        begun = asyncio.ensure_future(stub.CreatePayment(create_request(), metadata=SERVICE))
        await gate.begun.wait()
        server.frame.stop_admitting()
        error = await _refused(stub.CreatePayment(create_request(), metadata=SERVICE))
        gate.opened.set()
        response = await begun

    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert response.SerializeToString(deterministic=True) == REPLY


async def test_drain_ends_a_stream_that_waits_for_news() -> None:
    """A watcher moves to another server instead of holding the drain up."""
    never = asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    servicer = PaymentServicer(
        shards=FakeShards(), reader=FakePaymentReader(checkout()), settings=SETTINGS, webhooks={}, metrics=Metrics(),
        sleep=sleep,
    )  # fmt: skip
    async with serving(servicer) as (channel, server):
        call = PaymentServiceStub(channel).WatchPayment(pb.WatchPaymentRequest(checkout_id="co-1"), metadata=SERVICE)
        await call.read()
        server.frame.stop_admitting()
        error = await _refused(call.read())

    assert reason(error) == "DRAINING"


async def test_health_says_not_serving_while_the_server_drains() -> None:
    """grpc.health.v1, watched by those who route."""
    gate = Gate()
    seen = []
    async with serving(_payment(gate)) as (channel, server):
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="zerosum.v1.PaymentService")
        watching = health.Watch(asked)
        seen.append((await watching.read()).status)
        await server.begin_drain()
        seen.append((await watching.read()).status)
        watching.cancel()

    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


async def test_reflection_tells_the_services_without_a_token() -> None:
    """The contracts are public."""
    async with serving(*_everything()) as (channel, _):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {service.name for service in (await call.read()).list_services_response.service}

    assert {"zerosum.v1.PaymentService", "zerosum.v1.OperatorService", "grpc.health.v1.Health"} <= names


# ---- errors, ids, lines and counts ---------------------------------------------------------------------------------


async def test_anything_unexpected_is_internal_with_an_incident_id() -> None:
    """Design section 8: a broken invariant tells nothing of itself."""
    async with serving(_payment(Broken(KeyError("jo@example.com")))) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE))
    status = dict(error.trailing_metadata())["grpc-status-details-bin"]

    assert (error.code(), reason(error)) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert detail(error, details.ErrorInfo).metadata["incident_id"] in error.details()
    assert b"jo@example.com" not in status


async def test_database_that_is_away_is_unavailable_with_the_same_key_required() -> None:
    """Design section 8."""
    async with serving(_payment(Broken(Unavailable("payment database")))) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(error, details.ErrorInfo).metadata["same_key_required"] == "true"
    assert "database" not in error.details()


async def test_request_id_of_the_caller_comes_back_on_success_and_on_refusal() -> None:
    """x-request-id, in and out; without one the server makes it."""
    shards = FakeShards(Replied(REPLY, is_replay=False), Replied(REPLY, is_replay=False))
    async with serving(_payment(shards)) as (channel, _):
        stub = PaymentServiceStub(channel)
        mine = stub.CreatePayment(create_request(), metadata=(*SERVICE, ("x-request-id", "req-1")))
        made = stub.CreatePayment(create_request(), metadata=SERVICE)
        error = await _refused(stub.GetPayment(pb.GetPaymentRequest(), metadata=(("x-request-id", "req-2"),)))
        ids = [dict(await call.trailing_metadata())["x-request-id"] for call in (mine, made)]

    assert ids[0] == "req-1"
    assert len(ids[1]) == 32
    assert dict(error.trailing_metadata())["x-request-id"] == "req-2"


async def test_every_call_leaves_one_line_and_one_count(log: MemoryLog) -> None:
    """One structured line a call, with who and what and never with content; the same by method and code for Prometheus."""
    metrics = Metrics()
    async with serving(_payment(FakeShards(Applied(False)), metrics=metrics), metrics=metrics) as (channel, _):
        stub = PaymentServiceStub(channel)
        await _refused(stub.GetPayment(pb.GetPaymentRequest(checkout_id="co-1"), metadata=SERVICE))
        await stub.ListPayments(pb.ListPaymentsRequest(), metadata=SERVICE)
        await _refused(stub.CreatePayment(create_request()))
    ended = [line for line in log.lines if line["event"] == "call_ended"]

    assert [(line["method"].rpartition("/")[2], line["code"], line.get("subject")) for line in ended] == [
        ("GetPayment", "NOT_FOUND", "shop"), ("ListPayments", "OK", "shop"), ("CreatePayment", "UNAUTHENTICATED", None)
    ]  # fmt: skip
    labels = {"method": "/zerosum.v1.PaymentService/GetPayment", "code": "NOT_FOUND"}
    assert metrics.registry.get_sample_value("zerosum_grpc_calls_total", labels) == 1
    assert metrics.registry.get_sample_value("zerosum_grpc_in_flight") == 0


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """The server's log, kept."""
    kept = MemoryLog()
    monkeypatch.setattr("servers.main.logger_of", lambda _: kept)
    return kept
