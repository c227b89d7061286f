"""The pump: runs timers when they are due and posts announcements to the webhook's address.

`_POSTS_MAX` posts at most are under way, each on a kept connection of its own; what is due meanwhile waits in
the outbox. The invariant: nothing is announced before the book holds it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from simulator.psp.book import BookBroken, FileBook
from simulator.psp.engine import Engine
from simulator.psp.webhooks import Delivery, signature

# Sixteen posts of 50 ms are 320 a second, six times the demo's checkouts.
_POSTS_MAX: Final = 16
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
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at_ms = 0
        self._posts: set[asyncio.Task[None]] = set()
        self._idle: list[_Connection] = []
        self.under_way = 0

    def notice(self) -> None:
        """Do what is due now, and set the alarm for what will be."""
        now_ms = self._now_ms()
        try:
            self._engine.tick(now_ms)
        except BookBroken:
            return  # the server stops on its own: the book has told it
        if self._url and (due := list(self._engine.outbox.due(now_ms, _POSTS_MAX - self.under_way))):
            self.under_way += len(due)
            self._book.when_durable(partial(self._start, self._url, due))
        self._set_alarm(now_ms)

    async def run(self) -> None:
        """Work until cancelled; posts under way are then cut off and tried again after the next start."""
        self.notice()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            for post in self._posts:
                post.cancel()
            await asyncio.gather(*self._posts, return_exceptions=True)
            for connection in self._idle:
                connection.close()

    def _set_alarm(self, now_ms: int) -> None:
        """A full house is woken by the post that comes back; an alarm that rings too early does no harm."""
        due_ms = self._engine.next_due_ms()
        at_ms = now_ms + _PAUSE_MS_MAX
        if due_ms is not None and self.under_way < _POSTS_MAX:
            at_ms = max(now_ms, min(due_ms, at_ms))
        if self._alarm is not None:
            if now_ms < self._rings_at_ms <= at_ms:
                return
            self._alarm.cancel()
        self._rings_at_ms = at_ms
        self._alarm = asyncio.get_running_loop().call_later((at_ms - now_ms) / 1_000, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.notice()

    def _start(self, url: str, due: list[Delivery], is_durable: bool) -> None:
        if not is_durable:
            return
        for delivery in due:
            connection = self._idle.pop() if self._idle else _Connection(url)
            post = asyncio.get_running_loop().create_task(self._post(connection, delivery))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)

    async def _post(self, connection: _Connection, delivery: Delivery) -> None:
        try:
            status = await self._status(connection, delivery)
        except asyncio.CancelledError:
            connection.close()
            raise
        self._idle.append(connection)
        self.under_way -= 1
        with suppress(BookBroken):  # the server stops on its own
            self._book.append_lazily(self._engine.outbox.settle(delivery, status, self._now_ms()))
            self.notice()

    async def _status(self, connection: _Connection, delivery: Delivery) -> int:
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
