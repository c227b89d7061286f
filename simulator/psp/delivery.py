"""The pump: runs timers when they are due and posts announcements to the webhook's address.

`_POSTERS` posts at most are under way, each on a connection of its own that is kept; what is due meanwhile waits in
the outbox. The invariant: nothing is announced before the book holds it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from simulator.psp.book import BookBroken, FileBook
from simulator.psp.engine import Engine
from simulator.psp.webhooks import Delivery, signature

# Sixteen posts of 50 ms are 320 a second, six times the demo's checkouts.
_POSTERS: Final = 16
_TIMEOUT_S: Final = 10.0
# Looks again at least this often, for timers that were set without a `notice`.
_PAUSE_MS_MAX: Final = 250
_NO_ANSWER: Final = 0
_HEAD_BYTES_MAX: Final = 64 * 1024
_RECEIVE_BYTES: Final = 4 * 1024


class Pump:
    """Drives the engine's timers and announcements until it is stopped. Without a `url` nothing is announced."""

    def __init__(
        self, engine: Engine, book: FileBook, *, url: str | None, secret: str, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._book = book
        self._url = url
        self._secret = secret
        self._now_ms = now_ms
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._sleeps_until_ms = 0
        self._due: asyncio.Queue[Delivery] = asyncio.Queue()
        self.under_way = 0

    def notice(self) -> None:
        """Look again when something is due before the pump meant to wake."""
        due_ms = self._engine.next_due_ms()
        if due_ms is not None and due_ms < self._sleeps_until_ms:
            self._set_alarm()

    async def run(self) -> None:
        """Work until cancelled; posts under way are then cut off and tried again after the next start."""
        posters = [asyncio.create_task(self._post_all(self._url)) for _ in range(_POSTERS) if self._url]
        try:
            while True:
                await self._turn()
                self._set_alarm()
                await self._wake.wait()
                self._wake.clear()
        except BookBroken:
            return  # the server stops on its own: the book has told it
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            for poster in posters:
                poster.cancel()
            await asyncio.gather(*posters, return_exceptions=True)

    async def _turn(self) -> None:
        now_ms = self._now_ms()
        self._engine.tick(now_ms)
        if self._url and (due := list(self._engine.outbox.due(now_ms, _POSTERS - self.under_way))):
            self.under_way += len(due)
            await self._book.durable()
            for delivery in due:
                self._due.put_nowait(delivery)

    def _set_alarm(self) -> None:
        """Wake when something is due; a full house is woken by the post that comes back."""
        if self._alarm is not None:
            self._alarm.cancel()
        now_ms, due_ms = self._now_ms(), self._engine.next_due_ms()
        pause_ms = _PAUSE_MS_MAX
        is_full = self.under_way >= _POSTERS
        if due_ms is not None and not is_full:
            pause_ms = min(max(0, due_ms - now_ms), _PAUSE_MS_MAX)
        self._sleeps_until_ms = 0 if is_full else now_ms + pause_ms
        self._alarm = asyncio.get_running_loop().call_later(pause_ms / 1_000, self._wake.set)

    async def _post_all(self, url: str) -> None:
        connection = _Connection(url)
        try:
            while True:
                delivery = await self._due.get()
                status = await self._post(connection, delivery)
                self._book.append_lazily(self._engine.outbox.settle(delivery, status, self._now_ms()))
                was_full = self.under_way >= _POSTERS
                self.under_way -= 1
                if was_full:
                    self._wake.set()
                self.notice()
        finally:
            connection.close()

    async def _post(self, connection: _Connection, delivery: Delivery) -> int:
        if self._engine.plan.is_webhook_dropped(f"{delivery.event} {delivery.copy}"):
            return _NO_ANSWER
        body = self._engine.outbox.body(delivery)
        # The receiver checks the real time, whatever the simulator's own clock was turned to.
        signed = signature(body, secret=self._secret, signed_at_s=int(time.time()))
        return await connection.post(body, f"Stripe-Signature: {signed}")


class _Connection:
    """One kept connection to the receiver, one post at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"the webhook's address must be http://..: {url}")
        self._host, self._port = parts.hostname, parts.port or 80
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: Stripe/1.0 (simulator)\r\n"
            "Accept: */*\r\nContent-Type: application/json; charset=utf-8\r\n"
        )
        self._wire: _Wire | None = None

    async def post(self, body: bytes, header: str) -> int:
        """Return the status of the answer, `_NO_ANSWER` when none came. A stale kept connection is opened anew."""
        request = f"{self._head}{header}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        was_kept = self._wire is not None
        try:
            try:
                return await self._exchange(request)
            except ConnectionError:
                self.close()
                return await self._exchange(request) if was_kept else _NO_ANSWER
        except (OSError, ValueError):  # a TimeoutError is an OSError
            self.close()
            return _NO_ANSWER

    async def _exchange(self, request: bytes) -> int:
        loop = asyncio.get_running_loop()
        if self._wire is None:
            async with asyncio.timeout(_TIMEOUT_S):
                _, self._wire = await loop.create_connection(_Wire, self._host, self._port)
        wire = self._wire
        timeout = loop.call_later(_TIMEOUT_S, wire.fail, TimeoutError("no answer to a webhook in time"))
        try:
            status = await wire.send(request)
        finally:
            timeout.cancel()
        if not wire.is_kept:
            self.close()
        return status

    def close(self) -> None:
        """Let the connection go; the next post opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


class _Wire(asyncio.BufferedProtocol):
    """One TCP connection: a request out, the status of its answer in. `is_kept` is False once it may not be used again."""

    def __init__(self) -> None:
        self.is_kept = True
        self._answer: asyncio.Future[int] | None = None
        self._space = memoryview(bytearray(_RECEIVE_BYTES))
        self._buffer = b""
        self._transport: asyncio.Transport

    async def send(self, request: bytes) -> int:
        """Return the status. Raises OSError or ValueError."""
        if not self.is_kept:
            raise ConnectionResetError("the receiver has closed the connection")
        self._buffer = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """The same space each time, as the server's connections have it."""
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes; the post has its answer once all of it is there."""
        self._buffer += bytes(self._space[:nbytes])
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                self.fail(ValueError("the answer to a webhook has no end of its head"))
            return
        head = self._buffer[:end].decode("latin-1").lower()
        try:
            status = int(head.split(" ", 2)[1])
            _, found, rest = head.partition("\r\ncontent-length:")
            length = int(rest.split("\r\n", 1)[0]) if found else 0
        except (ValueError, IndexError):
            self.fail(ValueError("the answer to a webhook is not HTTP"))
            return
        if (found or status == HTTPStatus.NO_CONTENT) and "\r\nconnection: close" not in head:
            if len(self._buffer) - end - 4 < length:
                return
        else:
            self.is_kept = False  # perhaps a body of unknown length: the status is all that counts
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """The receiver is gone: a post under way has no answer."""
        self.is_kept = False
        self.fail(ConnectionResetError("the receiver closed the connection"))

    def fail(self, trouble: Exception) -> None:
        """End the post under way, if any."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(trouble)

    def close(self) -> None:
        """Close at once."""
        self._transport.abort()
