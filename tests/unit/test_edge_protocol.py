"""The bound on a request's head. Method: one connection of the edge's protocol on a transport that keeps what it is told."""

import asyncio
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from servers.edge_protocol import HEAD_BYTES_MAX, BoundedHttp


class Wire(asyncio.Transport):
    """Keeps what is written and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """The next part is there already."""

    def resume_reading(self) -> None:
        """Likewise."""


async def _served(parts: Iterator[bytes]) -> tuple[Wire, list[str]]:
    """What goes back over a connection on which these parts come, and the paths that reached the application."""
    paths: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(application, log_config=None)
    wire = Wire()
    protocol = BoundedHttp(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(wire)
    for part in parts:
        if not wire.is_closed:
            protocol.data_received(part)
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire, paths


async def test_request_with_a_head_of_common_size_is_served() -> None:
    """Each request of a connection has the whole limit."""
    request = b"GET /a HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 40_000 + b"\r\n\r\n"
    wire, paths = await _served(iter([request[:30_000], request[30_000:], request]))

    assert paths[0] == "/a"
    assert wire.written.startswith(b"HTTP/1.1 204")


async def test_head_without_an_end_is_refused_and_the_connection_closed() -> None:
    """failures.md security point 4: everything that comes in has a limit."""
    wire, paths = await _served(iter([b"GET /a HTTP/1.1\r\nx: ", *[b"a" * 4_096] * 100]))

    assert (wire.is_closed, paths) == (True, [])
    assert wire.written.startswith(b"HTTP/1.1 400")


async def test_body_does_not_count() -> None:
    """Bodies have limits of their own."""
    head = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (2 * HEAD_BYTES_MAX)
    wire, paths = await _served(iter([head, *[b"b" * 4_096] * (2 * HEAD_BYTES_MAX // 4_096)]))

    assert paths == ["/a"]
    assert wire.written.startswith(b"HTTP/1.1 204")
