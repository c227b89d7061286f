"""The payment service's door over the wire: replies, replays, refusals, reads, watching, webhooks, on-call."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from actors.answer import Accepted, Answer, Applied, Busy, Failed, InFlight, Refused, Replied
from servers.call import Role
from servers.metric import Metrics
from servers.oncall import OperatorServicer
from servers.payment import ANSWER_SLACK_MS, PaymentServicer
from servers.reply import encode_reply
from tests.integration.server_process import SETTINGS, detail, reason, serving
from tests.unit.server_fakes import (
    CARD,
    TENANT,
    FakePaymentReader,
    FakeShards,
    bearer,
    checkout,
    create_request,
    dead_todo,
    with_status,
)
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.domain.message import CheckoutCommand, ReplayTodo
from zerosum.domain.order import OrderStatus
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.todo import TodoState
from zerosum.readers import HistoryRow
from zerosum.v1 import common_pb2
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import OperatorServiceStub, PaymentServiceStub

SERVICE = bearer()
ADMIN = bearer(Role.ADMIN, subject="ada")
FINAL = with_status(checkout(), OrderStatus.SUCCESS, is_booked=True)
REPLY = encode_reply(FINAL)


class Naps:
    """A sleep that only counts."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Returns at once."""
        self.seconds.append(seconds)


def _servicer(
    shards: FakeShards | None = None,
    reader: FakePaymentReader | None = None,
    metrics: Metrics | None = None,
    naps: Naps | None = None,
) -> PaymentServicer:
    return PaymentServicer(
        shards=shards or FakeShards(),
        reader=reader or FakePaymentReader(),
        settings=SETTINGS,
        webhooks={},
        metrics=metrics or Metrics(),
        sleep=naps or Naps(),
    )


async def _refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


# ---- CreatePayment -------------------------------------------------------------------------------------------------


async def test_accepted_checkout_is_answered_with_the_stored_bytes() -> None:
    """Design section 4: the reply is fixed; the door sends what is stored."""
    shards = FakeShards(Accepted(), reply=REPLY)
    async with serving(_servicer(shards)) as (channel, _):
        call = PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE)
        response = await call
        trailers = dict(await call.trailing_metadata())

    assert response.SerializeToString(deterministic=True) == REPLY
    assert "idempotent-replayed" not in trailers
    assert shards.waited == [(EntityKey(TENANT, "co-1"), SETTINGS.answer_after_ms + ANSWER_SLACK_MS)]


async def test_replayed_reply_is_the_same_bytes_with_the_trailer() -> None:
    """Design section 4: afterwards the same bytes for ever, trailer `idempotent-replayed: true`."""
    async with serving(_servicer(FakeShards(Replied(REPLY, is_replay=True)))) as (channel, _):
        call = PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE)
        response = await call
        trailers = dict(await call.trailing_metadata())

    assert response.SerializeToString(deterministic=True) == REPLY
    assert trailers["idempotent-replayed"] == "true"


async def test_reply_holds_no_buyer_data_and_no_token() -> None:
    """Design section 8: buyer data lives in one erasable row, never in stored replies."""
    assert not any(secret in REPLY for secret in (b"Jo Doe", b"jo@example.com", b"buyer-1", b"pm_card_visa"))
    assert encode_reply(FINAL) == REPLY


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (Accepted(), grpc.StatusCode.UNAVAILABLE, "NOT_ANSWERED"),
        (InFlight(750), grpc.StatusCode.RESOURCE_EXHAUSTED, "IN_FLIGHT"),
        (Busy(750), grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
        (Failed("ConflictBudget", "x"), grpc.StatusCode.ABORTED, "CONFLICT_BUDGET"),
        (Failed("CommitAmbiguous", "x"), grpc.StatusCode.UNAVAILABLE, "COMMIT_AMBIGUOUS"),
    ],
)
async def test_what_is_not_answered_asks_for_the_same_key(answer: Answer, code: grpc.StatusCode, told: str) -> None:
    """Design section 8: RetryInfo and same_key_required wherever something may have been recorded."""
    async with serving(_servicer(FakeShards(answer))) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE))

    assert (error.code(), reason(error)) == (code, told)
    assert detail(error, details.ErrorInfo).metadata["same_key_required"] == "true"
    assert detail(error, details.RetryInfo).retry_delay.ToMilliseconds() > 0


async def test_reused_key_is_a_precondition_and_a_replay_of_the_refusal_says_so() -> None:
    """failures.md C2; a refusal is a turn too, and replayed like a reply."""
    refusal = Refusal(Reason.KEY_REUSED, "idempotency_key", "the key was used for another request")
    async with serving(_servicer(FakeShards(Refused(refusal, is_replay=True)))) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).CreatePayment(create_request(), metadata=SERVICE))

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert detail(error, details.PreconditionFailure).violations[0].type == "KEY_REUSED"
    assert dict(error.trailing_metadata())["idempotent-replayed"] == "true"


async def test_malformed_request_names_its_fields_reaches_no_shard_and_echoes_nothing() -> None:
    """Design section 8: BadRequest with field paths, value never echoed."""
    request = create_request()
    request.payment_orders[1].amount = "1.005"
    request.payment_orders[0].seller_account = f"s {CARD}"
    shards = FakeShards()
    async with serving(_servicer(shards)) as (channel, _):
        error = await _refused(PaymentServiceStub(channel).CreatePayment(request, metadata=SERVICE))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {bad.field for bad in detail(error, details.BadRequest).field_violations} == {
        "payment_orders[0].seller_account"
    }
    assert CARD.encode() not in dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert CARD not in error.details()
    assert shards.submitted == []


async def test_broken_invariant_tells_an_incident_id_only() -> None:
    """Design section 8: INTERNAL, an incident id, nothing else leaves."""
    async with serving(_servicer(FakeShards(Failed("Bug", "order po-0 of jo@example.com")))) as (channel, _):
        metadata = (*SERVICE, ("x-request-id", "req-7"))
        error = await _refused(PaymentServiceStub(channel).CreatePayment(create_request(), metadata=metadata))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "incident req-7")
    assert detail(error, details.ErrorInfo).metadata == {"same_key_required": "true", "incident_id": "req-7"}


# ---- reads ---------------------------------------------------------------------------------------------------------


async def test_payment_and_order_are_read_as_stored() -> None:
    """Get reads the database."""
    async with serving(_servicer(reader=FakePaymentReader(FINAL))) as (channel, _):
        stub = PaymentServiceStub(channel)
        payment = (await stub.GetPayment(pb.GetPaymentRequest(checkout_id="co-1"), metadata=SERVICE)).payment
        asked = pb.GetPaymentOrderRequest(payment_order_id="po-1")
        order = (await stub.GetPaymentOrder(asked, metadata=SERVICE)).payment_order

    assert (payment.status, payment.is_payment_done) == (pb.PAYMENT_STATUS_DONE, True)
    assert payment.created_at.ToMilliseconds() == FINAL.created_at_ms
    assert order == payment.payment_orders[1]
    assert (order.amount, order.status, order.psp_reference) == ("12.50", pb.ORDER_STATUS_SUCCESS, "pi_1")


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetPayment", pb.GetPaymentRequest(checkout_id="co-1")),
        ("GetPaymentOrder", pb.GetPaymentOrderRequest(payment_order_id="po-1")),
        ("GetHistory", pb.GetHistoryRequest(checkout_id="co-1")),
    ],
)
async def test_ids_of_another_tenant_answer_as_not_found(method: str, request_: Any) -> None:
    """failures.md security point 1: IDOR."""
    row = HistoryRow(1, 0, "CheckoutSubmitted", "", "", "{}")
    reader = FakePaymentReader(checkout(tenant=Tenant("other")), history=[row])
    async with serving(_servicer(reader=reader)) as (channel, _):
        error = await _refused(getattr(PaymentServiceStub(channel), method)(request_, metadata=ADMIN))

    assert (error.code(), reason(error)) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ID")
    assert detail(error, details.ResourceInfo).resource_name == ""


async def test_list_is_filtered_and_paged_within_the_tenant() -> None:
    """Filters and the page's position reach the reader; the token comes back as the same position."""
    reader = FakePaymentReader(FINAL, checkout("co-2", tenant=Tenant("other")))
    reader.after = "7:abc"
    asked = pb.ListPaymentsRequest(page=common_pb2.PageRequest(page_size=2), status=pb.PAYMENT_STATUS_DONE)
    asked.created_from.FromMilliseconds(1_500)
    async with serving(_servicer(reader=reader)) as (channel, _):
        stub = PaymentServiceStub(channel)
        first = await stub.ListPayments(asked, metadata=SERVICE)
        asked.page.page_token = first.next_page_token
        await stub.ListPayments(asked, metadata=SERVICE)

    assert [payment.checkout_id for payment in first.payments] == ["co-1"]
    assert [(tenant, rows, after) for tenant, _, rows, after in reader.asked] == [(TENANT, 2, ""), (TENANT, 2, "7:abc")]
    assert (reader.asked[0][1].status, reader.asked[0][1].created_from_ms) == ("DONE", 1_500)


async def test_history_is_told_in_order() -> None:
    """GetHistory: what support and finance read."""
    rows = [
        HistoryRow(1, 1_000, "CheckoutSubmitted", "", "", "{}"),
        HistoryRow(2, 2_000, "OrderCharged", "po-0", "SUCCESS", '{"x":1}'),
    ]
    async with serving(_servicer(reader=FakePaymentReader(FINAL, history=rows))) as (channel, _):
        asked = pb.GetHistoryRequest(checkout_id="co-1")
        events = (await PaymentServiceStub(channel).GetHistory(asked, metadata=ADMIN)).events

    assert [(event.version, event.type, event.status) for event in events] == [
        (1, "CheckoutSubmitted", pb.ORDER_STATUS_UNSPECIFIED),
        (2, "OrderCharged", pb.ORDER_STATUS_SUCCESS),
    ]


async def test_watch_tells_every_change_once_and_ends_when_nothing_more_can_show() -> None:
    """WatchPayment: at once, after every change, until final (wallet and ledger included)."""
    executing = with_status(checkout(), OrderStatus.EXECUTING)
    charged = with_status(executing, OrderStatus.SUCCESS)
    reader = FakePaymentReader(checkout(), executing, executing, charged, FINAL)
    naps = Naps()
    async with serving(_servicer(reader=reader, naps=naps)) as (channel, _):
        call = PaymentServiceStub(channel).WatchPayment(pb.WatchPaymentRequest(checkout_id="co-1"), metadata=SERVICE)
        told = [response.payment async for response in call]

    assert [(payment.payment_orders[0].status, payment.is_payment_done) for payment in told] == [
        (pb.ORDER_STATUS_NOT_STARTED, False),
        (pb.ORDER_STATUS_EXECUTING, False),
        (pb.ORDER_STATUS_SUCCESS, False),
        (pb.ORDER_STATUS_SUCCESS, True),
    ]
    assert naps.seconds == [0.25] * 4


async def test_watch_of_an_unknown_checkout_is_not_found() -> None:
    """A stream is refused like any other call."""
    async with serving(_servicer()) as (channel, _):
        call = PaymentServiceStub(channel).WatchPayment(pb.WatchPaymentRequest(checkout_id="no"), metadata=SERVICE)
        error = await _refused(call.read())

    assert (error.code(), reason(error)) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ID")


# ---- on-call -------------------------------------------------------------------------------------------------------


def _operator(shards: FakeShards | None = None, reader: FakePaymentReader | None = None) -> OperatorServicer:
    reader = reader or FakePaymentReader(checkout(), todos=[dead_todo()])
    return OperatorServicer(shards=shards or FakeShards(), reader=reader, settings=SETTINGS)


async def test_todos_are_listed_without_and_shown_with_their_request() -> None:
    """GetTodo: the exact request it would send."""
    async with serving(_operator()) as (channel, _):
        stub = OperatorServiceStub(channel)
        listed = (await stub.ListTodos(pb.ListTodosRequest(state=pb.TODO_STATE_DEAD), metadata=ADMIN)).todos
        asked = pb.GetTodoRequest(checkout_id="co-1", todo_id="confirm/1/po-0")
        shown = (await stub.GetTodo(asked, metadata=ADMIN)).todo

    assert [(todo.todo_id, todo.state, todo.tries, todo.request_json) for todo in listed] == [
        ("confirm/1/po-0", pb.TODO_STATE_DEAD, 20, "")
    ]
    assert (shown.request_json, shown.reason) == ('{"object_id":"pi_1"}', "NOT_SENT")


async def test_replay_is_a_command_with_the_operators_name_and_key() -> None:
    """failures.md O1: operator acts are commands with ids."""
    shards = FakeShards(Applied(is_replay=False))
    asked = pb.ReplayTodoRequest(checkout_id="co-1", todo_id="confirm/1/po-0", idempotency_key="act-1")
    async with serving(_operator(shards)) as (channel, _):
        await OperatorServiceStub(channel).ReplayTodo(asked, metadata=ADMIN)

    replay = ReplayTodo("confirm/1/po-0", "act-1", "ada")  # type: ignore[arg-type]  # a key is a string
    assert shards.submitted == [CheckoutCommand(EntityKey(TENANT, "co-1"), replay)]


async def test_replay_of_what_is_not_there_reaches_no_shard() -> None:
    """Another tenant's to-do answers as not found."""
    shards = FakeShards()
    asked = pb.ReplayTodoRequest(checkout_id="co-1", todo_id="confirm/1/po-0", idempotency_key="act-1")
    async with serving(_operator(shards)) as (channel, _):
        foreign = bearer(Role.ADMIN, Tenant("other"))
        error = await _refused(OperatorServiceStub(channel).ReplayTodo(asked, metadata=foreign))

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert shards.submitted == []


async def test_in_flight_orders_are_older_than_the_alert_limit_unless_asked_otherwise() -> None:
    """ListInFlight: 0 = the server's own limit."""
    reader = FakePaymentReader(checkout())
    async with serving(_operator(reader=reader)) as (channel, _):
        stub = OperatorServiceStub(channel)
        orders = (await stub.ListInFlight(pb.ListInFlightRequest(), metadata=ADMIN)).payment_orders
        await stub.ListInFlight(pb.ListInFlightRequest(older_than_ms=5), metadata=ADMIN)

    assert [order.payment_order_id for order in orders] == ["po-0", "po-1"]
    assert [asked[1] for asked in reader.asked] == [SETTINGS.in_flight_alert_ms, 5]


def test_todo_states_of_the_contract_are_all_known() -> None:
    """The filter is total."""
    assert len(pb.TodoState.values()) == len(TodoState) + 1
