"""An HTTP client that calls an ASGI application directly, and a payment service of fakes: no network.

Every call answers what it is told to and keeps what it was asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import status_pb2

from servers.status import Problem, to_status

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def request(
    app: Any, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = (), parts: int = 1
) -> Response:
    """Sends one request; the body comes in `parts` chunks."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": raw,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    size = max(1, -(-len(body) // parts))
    chunks = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        if not chunks:
            return {"type": "http.disconnect"}
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def rpc_error(problem: Problem, incident_id: str = "") -> grpc.aio.AioRpcError:
    """The error a client of the payment service sees for a problem."""
    status: status_pb2.Status = to_status(problem, incident_id)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(problem.row.code, grpc.aio.Metadata(), trailers, details=status.message)


class FakeCall:
    """A unary call that has ended."""

    def __init__(self, result: Any, trailers: Sequence[tuple[str, str]] = ()) -> None:
        self._result = result
        self._trailers = trailers

    def __await__(self) -> Any:
        """The response, or the error."""
        if isinstance(self._result, Exception):
            raise self._result
        return self._result
        yield  # makes this a generator, which __await__ must be

    async def trailing_metadata(self) -> Sequence[tuple[str, str]]:
        """The trailers."""
        return self._trailers


class FakePayments:
    """Looks like a PaymentServiceStub; every method answers the next of the script."""

    def __init__(self, *script: FakeCall) -> None:
        self._script = list(script)
        self.asked: list[tuple[str, Any, dict[str, str], float]] = []

    def __getattr__(self, name: str) -> Any:
        def call(message: Any, *, timeout: float, metadata: Sequence[tuple[str, str]]) -> FakeCall:
            self.asked.append((name, message, dict(metadata), timeout))
            return self._script.pop(0)

        return call
