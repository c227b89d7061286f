"""The HTTP edge: the specification's bodies, problems with field paths, webhooks, bounds. Nothing is stored or echoed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from actors.answer import InFlight
from servers.edge import edge_app
from servers.edge_webhook import BYTES_MAX
from servers.metric import Metrics
from servers.problem import HTTP_STATUS
from servers.reply import payment_of
from servers.status import Problem, of_answer
from tests.unit.edge_client import FakeCall, FakePayments, Response, request, rpc_error
from tests.unit.server_fakes import CARD, MemoryLog, checkout, with_status
from zerosum.domain.order import OrderStatus
from zerosum.domain.refusal import Reason, Refusal
from zerosum.limits import WEBHOOK_BODY_MAX
from zerosum.readers import view_of
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.common_pb2 import ItemDone, ItemRefusal, ItemResult, ItemRetry

PAYMENT = payment_of(view_of(with_status(checkout(), OrderStatus.SUCCESS, is_booked=True)))
CREATED = pb.CreatePaymentResponse(payment=PAYMENT)
AUTH = ("Authorization", "Bearer caller-token")
JSON = ("Content-Type", "application/json")


def _body(**changed: Any) -> dict[str, Any]:
    order = {"seller_account": "seller-0", "amount": "12.50", "currency": "USD", "payment_order_id": "po-0"}
    return {
        "buyer_info": {"buyer_account": "buyer-1"},
        "checkout_id": "co-1",
        "credit_card_info": {"token": "pm_card_visa"},
        "payment_orders": [order, order | {"payment_order_id": "po-1"}],
    } | changed


def _app(*script: FakeCall, in_flight_max: int = 10, log: MemoryLog | None = None) -> tuple[Any, FakePayments]:
    payments = FakePayments(*script)
    settings = Settings(data_dir=Path("not-used"), admission_max=in_flight_max)
    app = edge_app(
        payments=payments, edge_token=lambda: "edge-token", settings=settings, metrics=Metrics(), log=log or MemoryLog(),
        webhook_gather_ms=20,
    )  # fmt: skip
    return app, payments


async def _submit(app: Any, body: Any, *headers: tuple[str, str]) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await request(app, "POST", "/v1/payments", raw, (AUTH, JSON, *headers))


async def test_checkout_goes_in_as_the_specification_names_it() -> None:
    """specification "API": POST /v1/payments, the key in Idempotency-Key, the caller's own token."""
    app, payments = _app(FakeCall(CREATED))
    response = await _submit(app, _body(), ("Idempotency-Key", "cart-7"), ("X-Request-Id", "req-1"))
    ((method, message, metadata, timeout),) = payments.asked

    assert response.status == 200
    assert (method, message.idempotency_key, message.checkout_id) == ("CreatePayment", "cart-7", "co-1")
    assert message.payment_method.token == "pm_card_visa"
    assert [order.amount for order in message.payment_orders] == ["12.50", "12.50"]
    assert metadata == {"authorization": "Bearer caller-token", "x-request-id": "req-1"}
    assert timeout > 10
    assert response.headers["x-request-id"] == "req-1"


async def test_reply_tells_the_checkout_and_every_order() -> None:
    """Statuses by the specification's names, amounts as strings."""
    app, _ = _app(FakeCall(CREATED))
    told = (await _submit(app, _body())).json()

    assert (told["checkout_id"], told["status"], told["is_payment_done"]) == ("co-1", "DONE", True)
    assert told["payment_orders"][0] == {
        "payment_order_id": "po-0", "checkout_id": "co-1", "seller_account": "seller-0", "amount": "12.50",
        "currency": "USD", "status": "SUCCESS", "reason": "", "wallet_updated": True, "ledger_updated": True,
        "psp_reference": "pi_1",
    }  # fmt: skip


async def test_replay_is_the_same_bytes_and_says_so() -> None:
    """Design section 4: the same bytes for ever."""
    app, _ = _app(FakeCall(CREATED), FakeCall(CREATED, (("idempotent-replayed", "true"),)))
    first, again = await _submit(app, _body()), await _submit(app, _body())

    assert first.body == again.body
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")


async def test_same_key_in_flight_is_429_with_retry_after() -> None:
    """Design section 4: 429 + Retry-After at the edge, in whole seconds, never less than asked."""
    app, _ = _app(FakeCall(rpc_error(of_answer(InFlight(1_200)))))
    response = await _submit(app, _body())

    assert (response.status, response.headers["retry-after"]) == (429, "2")
    assert (response.json()["reason"], response.json()["same_key_required"]) == ("IN_FLIGHT", True)


async def test_refused_fields_are_named_as_the_body_names_them() -> None:
    """Problem+json with the paths of the HTTP body, not of the contract behind it."""
    refusals = (
        Refusal(Reason.AMOUNT_TOO_PRECISE, "payment_orders[1].amount", "the currency has 2 decimals"),
        Refusal(Reason.CARD_NUMBER, "payment_method.token", "a card number is never taken"),
    )
    app, _ = _app(FakeCall(rpc_error(Problem(Reason.AMOUNT_TOO_PRECISE, refusals))))
    response = await _submit(app, _body())

    assert (response.status, response.headers["content-type"]) == (400, "application/problem+json")
    assert [(error["field"], error["reason"]) for error in response.json()["errors"]] == [
        ("payment_orders[1].amount", "AMOUNT_TOO_PRECISE"), ("credit_card_info.token", "CARD_NUMBER")
    ]  # fmt: skip


async def test_reused_key_is_a_conflict() -> None:
    """failures.md C2 over HTTP."""
    app, _ = _app(
        FakeCall(rpc_error(Problem(Reason.KEY_REUSED, (Refusal(Reason.KEY_REUSED, "idempotency_key", "no"),))))
    )
    response = await _submit(app, _body())

    assert (response.status, response.json()["reason"]) == (409, "KEY_REUSED")


async def test_service_that_is_away_is_503_and_asks_for_the_same_key() -> None:
    """Without details of ours the text is the transport's: it stays inside."""
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "10.0.0.7:7401")
    app, _ = _app(FakeCall(error))
    response = await _submit(app, _body())

    assert (response.status, response.headers["retry-after"], response.json()["same_key_required"]) == (503, "1", True)
    assert b"10.0.0.7" not in response.body


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_whatever_breaks_in_between_asks_for_the_same_key(code: grpc.StatusCode) -> None:
    """Design section 8: the transport breaks after the work as well as before it; only our own word makes a new key safe."""
    broken = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "Received RST_STREAM")
    app, _ = _app(FakeCall(broken))
    response = await _submit(app, _body())

    assert response.json()["same_key_required"]


async def test_a_refusal_of_ours_leaves_the_key_free() -> None:
    """Nothing was executed, and the caller may ask for something else under a new key."""
    refusals = (Refusal(Reason.AMOUNT_TOO_PRECISE, "payment_orders[0].amount", "the currency has 2 decimals"),)
    app, _ = _app(FakeCall(rpc_error(Problem(Reason.AMOUNT_TOO_PRECISE, refusals))))
    response = await _submit(app, _body())

    assert not response.json()["same_key_required"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (_body(credit_card_info={"number": CARD}), "credit_card_info.token"),
        (_body(credit_card_info={"token": "pm_1", CARD: "x"}), "credit_card_info"),
        (_body(payment_orders=[]), "payment_orders"),
        (_body(payment_orders=[{"amount": 12.5}]), "payment_orders[0].amount"),
        (_body(checkout_id=CARD), "checkout_id"),
        (_body(buyer_info=[CARD]), "buyer_info"),
        (b"{", ""),
        (f'{{"{CARD}'.encode(), ""),
        (b"[" * 20_000, ""),
        (b"\xff\xfe", ""),
    ],
)
async def test_body_of_another_shape_is_refused_without_echo(body: Any, field: str) -> None:
    """failures.md security points 5 and 6: allow-listed fields, nothing echoed, no depth breaks it."""
    app, payments = _app()
    response = await _submit(app, body)

    assert response.status == 400
    assert field in [error["field"] for error in response.json().get("errors", [{"field": ""}])]
    assert CARD.encode() not in response.body
    assert payments.asked == []


@pytest.mark.parametrize("parts", [1, 7])
async def test_body_beyond_its_bound_is_refused(parts: int) -> None:
    """failures.md security point 4 and 5: bounded however it is cut."""
    app, payments = _app()
    large = json.dumps(_body(checkout_id="x" * 70_000)).encode()
    response = await request(app, "POST", "/v1/payments", large, (AUTH, JSON), parts=parts)

    assert (response.status, payments.asked) == (413, [])


async def test_request_beyond_the_bound_in_flight_is_429() -> None:
    """One channel set, bounded by twice what the server works on: the rest is told to come back; /healthz still answers."""
    never, begun = asyncio.Event(), asyncio.Semaphore(0)

    class Held(FakePayments):
        def __getattr__(self, name: str) -> Any:
            async def call(*_: Any, **__: Any) -> Any:
                begun.release()
                await never.wait()

            return call

    app = edge_app(
        payments=Held(), edge_token=lambda: "t", settings=Settings(data_dir=Path("x"), admission_max=1),
        metrics=Metrics(), log=MemoryLog(),
    )  # fmt: skip
    held = [asyncio.ensure_future(request(app, "GET", "/v1/payments/po-0", headers=(AUTH,))) for _ in range(2)]
    for _ in held:
        await begun.acquire()
    refused = await request(app, "GET", "/v1/payments/po-0", headers=(AUTH,))
    healthy = await request(app, "GET", "/healthz")
    for call in held:
        call.cancel()
    await asyncio.gather(*held, return_exceptions=True)

    assert refused.headers["retry-after"] == "1"
    assert healthy.status == 200


async def test_order_is_told_by_its_id() -> None:
    """specification "API": GET /v1/payments/{payment_order_id}."""
    app, payments = _app(FakeCall(pb.GetPaymentOrderResponse(payment_order=PAYMENT.payment_orders[0])))
    response = await request(app, "GET", "/v1/payments/po-0", headers=(AUTH,))

    assert (response.status, response.json()["status"]) == (200, "SUCCESS")
    assert payments.asked[0][1] == pb.GetPaymentOrderRequest(payment_order_id="po-0")


async def test_order_of_another_tenant_is_404() -> None:
    """Foreign ids answer as unknown ones."""
    app, _ = _app(
        FakeCall(rpc_error(Problem(Reason.UNKNOWN_ID, (Refusal(Reason.UNKNOWN_ID, "payment_order_id", "no"),))))
    )
    response = await request(app, "GET", "/v1/payments/po-0", headers=(AUTH,))

    assert (response.status, response.json()["reason"]) == (404, "UNKNOWN_ID")


@pytest.mark.parametrize("headers", [(), (AUTH, AUTH)])
async def test_credentials_are_forwarded_only_where_there_is_exactly_one(headers: tuple[tuple[str, str], ...]) -> None:
    """The service decides; which of two was meant nobody knows."""
    app, payments = _app(FakeCall(rpc_error(Problem("UNAUTHENTICATED"))))
    response = await request(app, "GET", "/v1/payments/po-0", headers=headers)

    assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
    assert "authorization" not in payments.asked[0][2]


# ---- webhooks ------------------------------------------------------------------------------------------------------

SIGNED = (("Stripe-Signature", "t=1,v1=ab"), JSON, ("Cookie", "x"), ("User-Agent", CARD))


def _became(*results: ItemResult) -> FakeCall:
    return FakeCall(pb.ReceiveWebhooksResponse(results=results))


async def test_webhook_goes_on_untouched_under_the_edges_own_token() -> None:
    """Design section 8: raw bytes and the signed headers, nothing else."""
    body = b'{ "id":"evt_1",\r\n"x": 1.0 }'
    app, payments = _app(_became(ItemResult(done=ItemDone(replayed=True))))
    response = await request(app, "POST", "/v1/webhooks/stripe", body, SIGNED)
    method, message, metadata, _ = payments.asked[0]
    (webhook,) = message.webhooks

    assert (response.status, response.json()) == (200, {"duplicate": True})
    assert (method, webhook.psp, webhook.body) == ("ReceiveWebhooks", "stripe", body)
    assert dict(webhook.headers) == {"stripe-signature": "t=1,v1=ab", "content-type": "application/json"}
    assert metadata == {"authorization": "Bearer edge-token"}


async def test_webhooks_that_come_together_go_in_one_call_and_are_answered_each_on_its_own() -> None:
    """docs/adr/0007; failures.md P29: 2xx for what is durable, and for nothing else."""
    done, again = ItemResult(done=ItemDone()), ItemResult(retry=ItemRetry(retry_after_ms=500))
    no = ItemResult(refused=ItemRefusal(reason="WEBHOOK_NOT_VERIFIED", message="SIGNATURE_WRONG"))
    app, payments = _app(_became(done, no, again))
    responses = await asyncio.gather(
        *(request(app, "POST", "/v1/webhooks/stripe", b"{%d}" % at, SIGNED) for at in range(3))
    )

    assert [response.status for response in responses] == [200, 400, 503]
    assert [one.body for one in payments.asked[0][1].webhooks] == [b"{0}", b"{1}", b"{2}"]


async def test_webhooks_that_fill_a_call_do_not_wait_for_it() -> None:
    """The server takes 3 MB: a batch goes when it holds two."""
    count = BYTES_MAX // WEBHOOK_BODY_MAX + 1
    done = [ItemResult(done=ItemDone())] * count
    app, payments = _app(_became(*done[:-1]), _became(*done[-1:]))
    body = b"x" * WEBHOOK_BODY_MAX
    responses = await asyncio.gather(*(request(app, "POST", "/v1/webhooks/stripe", body, SIGNED) for _ in range(count)))

    assert {response.status for response in responses} == {200}
    assert [len(asked[1].webhooks) for asked in payments.asked] == [count - 1, 1]


@pytest.mark.parametrize(
    "problem", ["UNAVAILABLE", "BUSY", "INTERNAL", "PERMISSION_DENIED", "UNAUTHENTICATED", "MALFORMED"]
)
async def test_webhook_that_was_not_recorded_is_503(problem: str) -> None:
    """failures.md P29: the PSP sends it again, whatever was wrong with us; an error of the call says nothing of any item."""
    app, _ = _app(FakeCall(rpc_error(Problem(problem))))
    response = await request(app, "POST", "/v1/webhooks/stripe", b"{}", SIGNED)

    assert (response.status, response.json()["reason"]) == (503, "NOT_RECORDED")


async def test_results_that_do_not_fit_their_webhooks_are_503() -> None:
    """What cannot be matched is not known to be recorded."""
    app, _ = _app(_became())
    response = await request(app, "POST", "/v1/webhooks/stripe", b"{}", SIGNED)

    assert response.status == 503


async def test_webhook_that_does_not_verify_is_400() -> None:
    """failures.md S7."""
    app, _ = _app(_became(ItemResult(refused=ItemRefusal(reason="WEBHOOK_NOT_VERIFIED", message="SIGNATURE_WRONG"))))
    response = await request(app, "POST", "/v1/webhooks/stripe", b"{}", SIGNED)

    assert (response.status, response.json()["reason"]) == (400, "WEBHOOK_NOT_VERIFIED")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "stripe", 405), ("POST", "Stripe!", 404), ("POST", "", 404)]
)
async def test_webhook_of_another_method_or_of_no_psp_goes_nowhere(method: str, path: str, status: int) -> None:
    """Only what can be a PSP's name is handed on."""
    app, payments = _app()
    response = await request(app, method, f"/v1/webhooks/{path}", b"{}", SIGNED)

    assert (response.status, payments.asked) == (status, [])


async def test_webhook_of_a_megabyte_is_refused_before_it_is_forwarded() -> None:
    """failures.md security point 4: 1 MB body."""
    app, payments = _app()
    response = await request(app, "POST", "/v1/webhooks/stripe", b"x" * (WEBHOOK_BODY_MAX + 1), SIGNED, parts=3)

    assert (response.status, payments.asked) == (413, [])


# ---- the page and the lines ----------------------------------------------------------------------------------------


async def test_api_page_works_without_the_network() -> None:
    """No CDN: every file of the page comes from here."""
    app, _ = _app()
    page = await request(app, "GET", "/docs")
    script = await request(app, "GET", "/docs/static/swagger-ui-bundle.js")
    described = (await request(app, "GET", "/openapi.json")).json()

    assert page.status == script.status == 200
    assert b"http://" not in page.body
    assert b"https://" not in page.body
    assert described["openapi"].startswith("3.0")
    assert set(described["paths"]) == {"/v1/payments", "/v1/payments/{payment_order_id}", "/v1/webhooks/{psp}"}


async def test_every_request_leaves_one_line_without_its_content() -> None:
    """The route's template, never the path itself: ids stay out of the lines."""
    log = MemoryLog()
    app, _ = _app(FakeCall(pb.GetPaymentOrderResponse(payment_order=PAYMENT.payment_orders[0])), log=log)
    await request(app, "GET", "/v1/payments/po-0", headers=(AUTH,))
    await request(app, "GET", f"/v1/{CARD}")

    assert [(line["method"], line["code"]) for line in log.lines] == [
        ("GET /v1/payments/{payment_order_id}", 200), ("(none)", 404)
    ]  # fmt: skip


async def test_broken_edge_tells_an_incident_id_only() -> None:
    """A server's outermost edge."""
    log = MemoryLog()
    app, _ = _app(FakeCall(KeyError("jo@example.com")), log=log)
    response = await request(app, "GET", "/v1/payments/po-0", headers=(AUTH, ("X-Request-Id", "req-9")))

    assert (response.status, response.json()["incident_id"]) == (500, "req-9")
    assert b"jo@example.com" not in response.body
    assert log.lines[0]["incident_id"] == "req-9"


def test_every_grpc_code_has_an_http_status() -> None:
    """Total over the codes."""
    assert set(HTTP_STATUS) == {code.name for code in grpc.StatusCode} - {"OK"}
