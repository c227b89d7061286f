"""Bodies that do not come, over real sockets: nobody holds the edge's places for longer than a body may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from servers.edge import edge_app
from servers.edge_protocol import BoundedHttp
from servers.metric import Metrics
from tests.unit.edge_client import FakePayments
from tests.unit.server_fakes import MemoryLog
from zerosum.settings import Settings

WITHIN_MS = 50
PATHS = ("/v1/webhooks/stripe", "/v1/payments")


@asynccontextmanager
async def _edge() -> AsyncIterator[int]:
    """The port of an edge that works on one webhook and on two calls at once."""
    app = edge_app(
        payments=FakePayments(), edge_token=lambda: "t", settings=Settings(data_dir=Path("not-used"), admission_max=1),
        metrics=Metrics(), log=MemoryLog(), body_within_ms=WITHIN_MS,
    )  # fmt: skip
    config, state = uvicorn.Config(app, log_config=None), ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: BoundedHttp(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _told(port: int, path: str, body: bytes) -> bytes:
    """All that comes back until the edge closes the connection, to a head that promises ten bytes and these that follow."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("body", [b"", b"{"], ids=["nothing", "one byte"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_does_not_come_in_time_is_refused_and_its_connection_closed(path: str, body: bytes) -> None:
    """failures.md security point 5, slow streams: 408, and whoever comes next finds the place free.

    Method: more slow ones, one after the other, than there are places: each waits for the edge to close.
    """
    async with asyncio.timeout(30), _edge() as port:
        told = [await _told(port, path, body) for _ in range(4)]

    assert [one.split(b"\r\n", 1)[0] for one in told] == [b"HTTP/1.1 408 Request Timeout"] * 4
    assert all(b"connection: close" in one for one in told)
