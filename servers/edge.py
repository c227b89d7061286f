"""The HTTP edge: the specification's two calls and the PSPs' webhooks, forwarded to the payment service over gRPC.

It stores nothing and decides nothing. The caller's bearer token goes along as it is; webhooks go under the edge's own.

Invariant: a PSP gets 2xx only after the payment service said OK, which is after the record is durable.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import grpc
import uvicorn
from fastapi import FastAPI, Header, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import start_http_server
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from servers.collector import settle
from servers.edge_guard import WEBHOOKS, Guard
from servers.edge_protocol import BoundedHttp
from servers.edge_shape import (
    CheckoutBody,
    OrderShown,
    PaymentShown,
    ProblemShown,
    create_request,
    order_shown,
    payment_shown,
)
from servers.edge_webhook import DESCRIBED, Webhooks
from servers.keys import token_provider
from servers.log import configure_logs, logger_of
from servers.metric import Metrics
from servers.problem import HttpProblem, of_http, of_rpc, of_validation
from servers.request_id import REQUEST_ID
from zerosum.limits import BODY_WITHIN_MS, WAITER_SILENCE_MS, WEBHOOK_GATHER_MS
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub

READ_TIMEOUT_S = 5.0
"""A read is one indexed query; the database's own statement timeout is 5 s."""
DRAIN_S = 10

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemShown, "description": text}
    for status, text in (
        (400, "A field is malformed; nothing is recorded."),
        (401, "No valid bearer token."),
        (409, "The key or an id was used for another request; nothing is executed."),
        (429, "The same key is in flight, or too much waits: Retry-After, same key."),
        (503, "Money may have moved: call again with the same key only."),
    )
}
_READ_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _PROBLEMS[400],
    401: _PROBLEMS[401],
    404: {"model": ProblemShown, "description": "No such order in this tenant."},
    429: _PROBLEMS[429],
    503: _PROBLEMS[503],
}


def edge_app(
    *,
    payments: Any,
    edge_token: Callable[[], str],
    settings: Settings,
    metrics: Metrics,
    log: Any,
    webhook_gather_ms: int = WEBHOOK_GATHER_MS,
    body_within_ms: int = BODY_WITHIN_MS,
) -> ASGIApp:
    """The application. `payments`: a PaymentServiceStub over a grpc.aio channel, or what looks like one.

    Webhooks are bounded on their own: neither they nor the callers can fill the edge for the others. Of callers it holds
    twice what the payment server works on: one tenant that has all of that must not keep another from being seen there.
    """
    guard = partial(Guard, metrics=metrics, log=log, body_within_ms=body_within_ms)
    app = _api(payments, settings)
    app.add_middleware(guard, in_flight_max=2 * settings.admission_max)
    door = Webhooks(payments=payments, edge_token=edge_token, gather_ms=webhook_gather_ms)
    webhooks = guard(door, in_flight_max=settings.admission_max)

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        is_webhook = scope["type"] == "http" and scope["path"].startswith(WEBHOOKS)
        await (webhooks if is_webhook else app)(scope, receive, send)

    return edge


def _api(payments: Any, settings: Settings) -> FastAPI:
    """The callers' two calls, and the page that describes them."""
    app = FastAPI(
        title="Zerosum", version="1", summary="Pay-in for marketplaces: charged exactly once.", docs_url=None,
        redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    app.openapi_version = "3.0.3"  # the bundled page reads 3.0 only; nothing here needs 3.1
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(grpc.aio.AioRpcError)(_rpc_error)
    submit_timeout_s = (settings.answer_after_ms + 3 * WAITER_SILENCE_MS) / 1_000

    @app.post("/v1/payments", response_model=PaymentShown, responses=_PROBLEMS, summary="Pay a checkout")
    async def submit(
        request: Request, body: CheckoutBody, idempotency_key: Annotated[str, Header(max_length=64)] = ""
    ) -> JSONResponse:
        """Submits a checkout, once under its key (default: checkout_id). A repeated key brings the first reply again."""
        call = payments.CreatePayment(
            create_request(body, idempotency_key), timeout=submit_timeout_s, metadata=_metadata(request)
        )
        response = await call
        trailers = dict(await call.trailing_metadata() or ())
        is_replayed = trailers.get("idempotent-replayed") == "true"
        headers = {"idempotent-replayed": "true"} if is_replayed else None
        return JSONResponse(payment_shown(response.payment), headers=headers)

    @app.get(
        "/v1/payments/{payment_order_id}", response_model=OrderShown, responses=_READ_PROBLEMS, summary="One order"
    )
    async def order(request: Request, payment_order_id: Annotated[str, Path(max_length=64)]) -> JSONResponse:
        """The present state of one payment order, from the database."""
        asked = pb.GetPaymentOrderRequest(payment_order_id=payment_order_id)
        response = await payments.GetPaymentOrder(asked, timeout=READ_TIMEOUT_S, metadata=_metadata(request))
        return JSONResponse(order_shown(response.payment_order))

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        """The process is up."""
        return JSONResponse({"status": "ok"})

    _add_docs(app)
    return app


def _add_docs(app: FastAPI) -> None:
    """The OpenAPI page, from files of our own environment: no CDN, so that it works offline."""
    app.mount("/docs/static", StaticFiles(directory=swagger_ui_path), name="docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Zerosum API",
            swagger_js_url="/docs/static/swagger-ui-bundle.js",
            swagger_css_url="/docs/static/swagger-ui.css",
            swagger_favicon_url="/docs/static/favicon-16x16.png",
        )

    app.openapi()["paths"][Webhooks.path] = DESCRIBED  # the framework keeps what it once made


def _metadata(request: Request) -> tuple[tuple[str, str], ...]:
    """The caller's own credentials and the request's id."""
    known = ((REQUEST_ID, request.state.request_id),)
    authorization = request.headers.getlist("authorization")
    if len(authorization) == 1 and authorization[0].isascii() and authorization[0].isprintable():
        return (("authorization", authorization[0]), *known)
    return known


def _told(request: Request, problem: HttpProblem) -> JSONResponse:
    return JSONResponse(
        problem.body(request.state.request_id),
        status_code=problem.status,
        headers=problem.headers(),
        media_type="application/problem+json",
    )


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _told(request, of_validation(error.errors()))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _told(request, of_http(error.status_code))


async def _rpc_error(request: Request, error: Exception) -> JSONResponse:
    return _told(request, of_rpc(error))


# ---- the process ---------------------------------------------------------------------------------------------------

CHANNEL_OPTIONS = (
    ("grpc.enable_retries", 0),  # retries are the caller's, with its key
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, log: Any) -> None:
        super().__init__(config)
        self._log = log

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and a line."""
        await super().startup(sockets)
        settle()
        self._log.info("serving", address=f"{self.config.host}:{self.config.port}")


async def serve_edge(settings: Settings) -> None:
    """Serves the edge until a signal comes, then finishes what has begun. Raises Misconfigured without its token."""
    configure_logs("edge", settings.log_level)
    log, metrics = logger_of("edge"), Metrics()
    edge_token = token_provider(settings.data_dir, "edge")
    edge_token()
    async with grpc.aio.insecure_channel(settings.payment_address, options=CHANNEL_OPTIONS) as channel:
        payments = PaymentServiceStub(channel)
        app = edge_app(payments=payments, edge_token=edge_token, settings=settings, metrics=metrics, log=log)
        config = uvicorn.Config(
            app, http=BoundedHttp, host=settings.bind_host, port=settings.edge_port, log_config=None, access_log=False,
            server_header=False, proxy_headers=False, timeout_graceful_shutdown=DRAIN_S, backlog=settings.admission_max,
        )  # fmt: skip
        metrics_port = settings.edge_port + settings.metrics_port_offset
        server, thread = start_http_server(metrics_port, addr=settings.bind_host, registry=metrics.registry)
        try:
            await _Server(config, log).serve()
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join()
