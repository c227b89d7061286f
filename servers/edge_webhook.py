"""Webhooks at the edge: those that come within a moment go to the payment service in one call, each answered on its own.

Nobody waits for a webhook but the PSP, for seconds, while a call and a shard's turn cost the same whatever they carry
(docs/adr/0007). Plain ASGI: every paid order brings one, and the framework's way to a route costs more than all there is here.

Invariant: a PSP gets 2xx only after the payment service said `done` of this very webhook, which is after it is durable.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import grpc
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from servers.edge_guard import send_json
from servers.problem import HttpProblem, of_http, of_refused
from zerosum.limits import WEBHOOK_GATHER_MS
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.common_pb2 import ItemResult

TIMEOUT_S = 5.0
"""A batch is one call to the shards and one commit of each; the database's own statement timeout is 5 s."""
SIGNED_HEADERS = (b"stripe-signature", b"content-type")
"""What of a webhook's headers is forwarded: what PSPs sign with, and nothing else."""
ITEMS_MAX = 256
BYTES_MAX = 2 * 1024 * 1024
"""A batch that holds so much goes at once: with one webhook more, 256 KB and its headers, it stays below the server's 3 MB."""

_PATH = re.compile(r"/v1/webhooks/([a-z0-9_]{1,32})", re.ASCII)
_NOT_RECORDED = HttpProblem(503, "not recorded; send it again", "NOT_RECORDED", retry_after_s=1)

DESCRIBED = {
    "post": {
        "summary": "For PSPs",
        "description": "A PSP's event, its bytes untouched. 2xx: durably recorded. 400: not acceptable. 503: send it again.",
        "parameters": [
            {"name": "psp", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z0-9_]{1,32}$"}}
        ],
        "responses": {
            str(status): {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}} if shape else {},
            }
            for status, text, shape in (
                (200, "Durably recorded, now or before.", ""),
                (400, "Not acceptable; nothing is recorded.", "ProblemShown"),
                (503, "Not recorded: send it again.", "ProblemShown"),
            )
        },
    }
}  # fmt: skip
"""The path as the OpenAPI page shows it."""


class Webhooks:
    """The ASGI application below /v1/webhooks/. `payments`: a PaymentServiceStub, or what looks like one."""

    path = "/v1/webhooks/{psp}"
    """What the guard's line and metric call it."""

    def __init__(self, *, payments: Any, edge_token: Callable[[], str], gather_ms: int = WEBHOOK_GATHER_MS) -> None:
        self._payments = payments
        self._edge_token = edge_token
        self._gather_s = gather_ms / 1_000
        self._gathering: list[tuple[pb.ReceiveWebhookRequest, asyncio.Future[ItemResult | None]]] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        scope["route"] = self
        told = await self._answer(scope, receive)
        if isinstance(told, HttpProblem):
            await send_json(send, told.status, told.body(scope["state"]["request_id"]), told.headers())
        elif told is not None:
            await send_json(send, HTTPStatus.OK, {"duplicate": told})

    async def _answer(self, scope: Scope, receive: Receive) -> bool | HttpProblem | None:
        """Whether it had been recorded before; what the PSP is told instead; None: it is gone."""
        matched = _PATH.fullmatch(scope["path"])
        if matched is None:
            return of_http(HTTPStatus.NOT_FOUND)
        if scope["method"] != "POST":
            return of_http(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            body = await _body(receive)
        except HTTPException as error:
            return of_http(error.status_code)
        if body is None:
            return None
        result = await self._put(pb.ReceiveWebhookRequest(psp=matched[1], body=body, headers=_signed(scope)))
        if result is not None and result.HasField("refused"):
            return of_refused(result.refused)
        if result is not None and result.HasField("done"):
            return result.done.replayed
        return _NOT_RECORDED

    # ---- gathering ---------------------------------------------------------------------------------------------------

    async def _put(self, webhook: pb.ReceiveWebhookRequest) -> ItemResult | None:
        """Goes with the next call, in a moment or when it is full; its result, None where nothing is known."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[ItemResult | None] = loop.create_future()
        self._gathering.append((webhook, told))
        self._bytes += webhook.ByteSize()
        if len(self._gathering) >= ITEMS_MAX or self._bytes >= BYTES_MAX:
            self._send()
        elif self._timer is None:
            self._timer = loop.call_later(self._gather_s, self._send)
        return await told

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        batch, self._gathering, self._bytes, self._timer = self._gathering, [], 0, None
        call = asyncio.create_task(self._call(batch))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(
        self, batch: Sequence[tuple[pb.ReceiveWebhookRequest, "asyncio.Future[ItemResult | None]"]]
    ) -> None:
        results: Sequence[ItemResult | None] = [None] * len(batch)
        try:
            request = pb.ReceiveWebhooksRequest(webhooks=[webhook for webhook, _ in batch])
            metadata = (("authorization", f"Bearer {self._edge_token()}"),)
            response = await self._payments.ReceiveWebhooks(request, timeout=TIMEOUT_S, metadata=metadata)
            if len(response.results) == len(batch):
                results = response.results
        except grpc.aio.AioRpcError:
            pass  # it says nothing about any of them
        finally:
            for (_, told), result in zip(batch, results, strict=True):
                if not told.done():  # its PSP may have gone
                    told.set_result(result)


def _signed(scope: Scope) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in SIGNED_HEADERS}


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the caller left before its end."""
    parts: list[bytes] = []
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
