"""A TCP proxy before the database that cuts a connection at its next COMMIT, before or after the server has carried it out."""

import asyncio
import re
from enum import Enum

PREPARED_COMMIT = re.compile(rb"P.{4}([^\0]+)\0COMMIT\0", re.DOTALL)
"""The message that prepares COMMIT, and the name it gives it; from then on a message that binds this name is a COMMIT."""


class Cut(Enum):
    """Where the connection ends."""

    BEFORE = "the server never sees COMMIT"
    AFTER = "the server has committed, and its answer is lost"
    SILENT = "the server has committed, and its answer never comes: the connection stays open"


class CutProxy:
    """Forwards bytes. `cut_next` ends the connection that next sends COMMIT; later connections are untouched."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._cut: Cut | None = None
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._silent: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "CutProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut_next(self, cut: Cut) -> None:
        """The next COMMIT ends its connection."""
        self._cut = cut

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._requests(reader, server_writer, server_reader, writer), self._answers(server_reader, writer)
            )
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            server_writer.close()
            self._running.discard(task)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        commit: re.Pattern[bytes] | None = None
        while data := await reader.read(65_536):
            if found := PREPARED_COMMIT.search(data):
                commit = re.compile(rb"B.{4}\0" + re.escape(found[1]) + rb"\0", re.DOTALL)
            if self._cut is not None and commit is not None and commit.search(data):
                cut, self._cut = self._cut, None
                if cut is Cut.SILENT:
                    self._silent.add(writer)
                    server_writer.write(data)
                    continue
                writer.close()  # whatever the server answers from here on is lost
                if cut is Cut.AFTER:
                    server_writer.write(data)
                    server_writer.write_eof()
                    await server_writer.drain()
                else:
                    server_writer.close()
                return
            server_writer.write(data)
            await server_writer.drain()
        server_writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not writer.is_closing() and writer not in self._silent:
                writer.write(data)
                await writer.drain()
        writer.close()
