"""A TCP proxy before the database that cuts connections: now, or at their next COMMIT of a write, before or after it.

    now       both sides are reset
    before    the server never sees COMMIT, and rolls back
    after     the server commits; its answer is lost

Connections are named by the client's port, which tells whose they are (`process.ports_to`).
Invariant: bytes are forwarded unchanged and in order until the cut, and none after it.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from loadtest.chaos.frontend import Frontend

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536


class Cut(StrEnum):
    """Where a connection ends, seen from its COMMIT."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class Order:
    """A cut that waits for a COMMIT. `carried_out`: it has come, on the connection of that client port."""

    client_ports: frozenset[int]
    cut: Cut
    carried_out: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class _Link:
    """One connection: from the client, and on to the server."""

    client_reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server: asyncio.StreamWriter

    def reset(self) -> None:
        """Ends both sides at once; what was not sent yet is lost."""
        self.client.transport.abort()
        self.server.transport.abort()


class DatabaseProxy:
    """Listens on a port of its own and forwards to the database's."""

    def __init__(self, database_port: int) -> None:
        self._database_port = database_port
        self._links: dict[int, _Link] = {}
        self._order: Order | None = None
        self._listener: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listens from now on."""
        self._listener = await asyncio.start_server(self._accept, _HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections."""
        if self._listener is not None:
            self._listener.close()
        self.cut_now(None)
        await asyncio.gather(*self._running, return_exceptions=True)

    def cut_now(self, client_ports: Collection[int] | None) -> int:
        """Resets the connections of these clients, all where None; how many there were."""
        hit = [link for port, link in self._links.items() if client_ports is None or port in client_ports]
        for link in hit:
            link.reset()
        return len(hit)

    def cut_at_commit(self, client_ports: Collection[int], cut: Cut) -> Order:
        """The next COMMIT of a write from one of these clients ends its connection. One order at a time."""
        self._order = Order(frozenset(client_ports), cut)
        return self._order

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        client_port = writer.get_extra_info("peername")[1]
        try:
            server_reader, server_writer = await asyncio.open_connection(_HOST, self._database_port)
        except OSError:
            writer.transport.abort()  # the database is away: so is whoever stands before it
            return
        link = self._links[client_port] = _Link(reader, writer, server_reader, server_writer)
        try:
            await asyncio.gather(self._requests(client_port, link), _answers(link))
        finally:
            link.reset()
            del self._links[client_port]

    async def _requests(self, client_port: int, link: _Link) -> None:
        """Until the client ends, which the server then sees, too."""
        frontend = Frontend()
        try:
            while data := await link.client_reader.read(_CHUNK_BYTES):
                is_open = self._forward(client_port, link, frontend, data)
                if not is_open:
                    link.client.transport.abort()
                    await link.server.drain()
                    break
                await link.server.drain()
            link.server.write_eof()
        except OSError:
            link.server.transport.abort()

    def _forward(self, client_port: int, link: _Link, frontend: Frontend, data: bytes) -> bool:
        """Hands messages on; False: the connection is to end here."""
        order: Order | None = None
        for message in frontend.feed(data):
            if message.is_commit and self._order is not None and client_port in self._order.client_ports:
                order, self._order = self._order, None
            if order is not None and order.cut is Cut.BEFORE:
                break
            link.server.write(message.data)
            if order is not None and message.is_sync:
                break
        if order is not None and not order.carried_out.done():
            order.carried_out.set_result(client_port)
        return order is None


async def _answers(link: _Link) -> None:
    """Until the server ends, however it does: a client that was never told would wait for ever."""
    try:
        while data := await link.server_reader.read(_CHUNK_BYTES):
            if not link.client.is_closing():
                link.client.write(data)
                await link.client.drain()
    except OSError:
        link.server.transport.abort()
    finally:
        link.client.close()
