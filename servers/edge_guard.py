"""What stands around every HTTP request of the edge: a request id, the body's size and time, a bound on what is under way, a
log line.

Invariant: no request is larger, slower to come in or more numerous than its bound, and none ends without a line and a
request id.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from os import urandom
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servers.metric import Metrics
from servers.problem import FULL, HttpProblem
from servers.request_id import REQUEST_ID, is_fit
from zerosum.limits import BODY_WITHIN_MS, WEBHOOK_BODY_MAX

BODY_BYTES_MAX = 64 * 1024
"""A checkout of 30 orders is about 8 KB of JSON."""
WEBHOOKS = "/v1/webhooks/"
_UNBOUNDED = frozenset({"/healthz"})
_TOO_LATE = 408
_TOO_LARGE = 413
_SAFE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_CLOSING = ((b"connection", b"close"),)


class Guard:
    """ASGI middleware, outermost of the edge's own. `body_within_ms`: how long a body may take, from the end of its head."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        in_flight_max: int,
        metrics: Metrics,
        log: Any,
        body_within_ms: int = BODY_WITHIN_MS,
        clock: Callable[[], float] = time.perf_counter,
        new_id: Callable[[], str] = lambda: urandom(16).hex(),
    ) -> None:
        self._app = app
        self._in_flight_max = in_flight_max
        self._metrics = metrics
        self._log = log
        self._body_within_s = body_within_ms / 1_000
        self._clock = clock
        self._new_id = new_id
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._new_id, self._body_within_s)
        started = self._clock()
        is_bounded = scope["path"] not in _UNBOUNDED
        try:
            if is_bounded and self._in_flight >= self._in_flight_max:
                await exchange.refuse(FULL)
                return
            self._in_flight += is_bounded
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                self._in_flight -= is_bounded
        except Exception as error:  # noqa: BLE001 - a server's outermost edge
            await self._broken(exchange, error)
        finally:
            self._ended(scope, exchange, started)

    async def _broken(self, exchange: "_Exchange", error: Exception) -> None:
        incident_id = exchange.request_id
        self._log.error("invariant_broken", incident_id=incident_id, exc_info=error)
        if exchange.status == 0:
            problem = HttpProblem(
                500, f"incident {incident_id}", "INTERNAL", same_key_required=True, incident_id=incident_id
            )
            await exchange.refuse(problem)

    def _ended(self, scope: Scope, exchange: "_Exchange", started: float) -> None:
        seconds = self._clock() - started
        route = getattr(scope.get("route"), "path", "(none)")
        method = f"{scope['method']} {route}" if route != "(none)" else route
        self._metrics.call(method, str(exchange.status), seconds)
        self._log.info(
            "request_ended", method=method, code=exchange.status, ms=round(seconds * 1_000, 3),
            request_id=exchange.request_id,
        )  # fmt: skip


class _Exchange:
    """One request and its response: counts and times the body that comes in, adds headers to what goes out."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, new_id: Callable[[], str], body_within_s: float
    ) -> None:
        self._receive = receive
        self._send = send
        self._body_max = WEBHOOK_BODY_MAX if scope["path"].startswith(WEBHOOKS) else BODY_BYTES_MAX
        self._body_bytes = 0
        self._body_until_s = asyncio.get_running_loop().time() + body_within_s
        self._is_whole = False
        self._is_late = False
        self.status = 0
        asked = [value for name, value in scope["headers"] if name == REQUEST_ID.encode()]
        given = asked[0].decode("latin-1") if len(asked) == 1 else ""
        self.request_id = given if is_fit(given) else new_id()
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def receive(self) -> Message:
        """The next part of the body, as long as all of it stays below its limits; behind it, that the caller left."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._body_until_s):
                message = await self._receive()
        except TimeoutError:
            self._is_late = True
            raise HTTPException(_TOO_LATE) from None
        self._is_whole = not message.get("more_body", False)
        self._body_bytes += len(message.get("body", b""))
        if self._body_bytes > self._body_max:
            raise HTTPException(_TOO_LARGE)
        return message

    async def send(self, message: Message) -> None:
        """Adds the request id and the headers every response has; a connection whose body came too late is closed."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = ((REQUEST_ID.encode(), self.request_id.encode()), *_SAFE_HEADERS)
            closing = _CLOSING if self._is_late else ()
            message = {**message, "headers": [*message.get("headers", ()), *extra, *closing]}
        await self._send(message)

    async def refuse(self, problem: HttpProblem) -> None:
        """Answers without the application."""
        await send_json(self.send, problem.status, problem.body(self.request_id), problem.headers())


async def send_json(send: Send, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
    """Sends a whole response; above 299 it is a problem."""
    kind = "application/json" if status < HTTPStatus.MULTIPLE_CHOICES else "application/problem+json"
    raw = json.dumps(body, separators=(",", ":")).encode()
    told = {"content-type": kind, "content-length": str(len(raw)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        }
    )
    await send({"type": "http.response.body", "body": raw})
