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
        self._sleeps_until_ms = 0
        self._due: asyncio.Queue[Delivery] = asyncio.Queue()
        self.under_way = 0

    def notice(self) -> None:
        """Look again if something is due before the pump meant to wake."""
        due_ms = self._engine.next_due_ms()
        if due_ms is not None and due_ms < self._sleeps_until_ms:
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; posts under way are then cut off and tried again after the next start."""
        posters = [asyncio.create_task(self._post_all(self._url)) for _ in range(_POSTERS) if self._url]
        try:
            while True:
                await self._turn()
        except BookBroken:
            return  # the server stops on its own: the book has told it
        finally:
            for poster in posters:
                poster.cancel()
            await asyncio.gather(*posters, return_exceptions=True)

    async def _turn(self) -> None:
        self._wake.clear()
        now_ms = self._now_ms()
        self._engine.tick(now_ms)
        if self._url and (due := list(self._engine.outbox.due(now_ms, _POSTERS - self.under_way))):
            self.under_way += len(due)
            await self._book.durable()
            for delivery in due:
                self._due.put_nowait(delivery)
        await self._sleep()

    async def _sleep(self) -> None:
        """Sleep until something is due, `notice` finds something earlier, or a full house has room again."""
        now_ms, due_ms = self._now_ms(), self._engine.next_due_ms()
        pause_ms = _PAUSE_MS_MAX
        if self.under_way >= _POSTERS:
            self._sleeps_until_ms = 0  # no room: only a post that comes back is worth waking for
        else:
            if due_ms is not None:
                pause_ms = min(max(0, due_ms - now_ms), _PAUSE_MS_MAX)
            self._sleeps_until_ms = now_ms + pause_ms
        try:
            await asyncio.wait_for(self._wake.wait(), pause_ms / 1_000)
        except TimeoutError:
            return

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
    """One kept connection to the receiver: all that a webhook needs, and cheaper than a client library."""

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
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes, header: str) -> int:
        """Return the status of the answer, `_NO_ANSWER` when none came. A stale kept connection is opened anew."""
        request = f"{self._head}{header}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                was_kept = self._streams is not None
                try:
                    return await self._exchange(request)
                except (OSError, EOFError):
                    self.close()
                    return await self._exchange(request) if was_kept else _NO_ANSWER
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):  # a TimeoutError is an OSError
            self.close()
            return _NO_ANSWER

    async def _exchange(self, request: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        _, found, rest = head.partition("\r\ncontent-length:")
        if found and "\r\nconnection: close" not in head:
            await reader.readexactly(int(rest.split("\r\n", 1)[0]))
        elif status != HTTPStatus.NO_CONTENT:
            self.close()  # a body of unknown length: the status is all that counts
        return status

    def close(self) -> None:
        """Let the connection go; the next post opens another."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
