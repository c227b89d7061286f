"""The pump: runs timers when they are due and posts announcements to the webhook's address.

At most `_DELIVERIES_MAX` posts are under way; what is due meanwhile waits in the outbox. The invariant: nothing is
announced before the book holds it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from simulator.psp.book import BookBroken, FileBook
from simulator.psp.engine import Engine
from simulator.psp.webhooks import Delivery, signature

# Sixteen posts of 50 ms are 320 a second, six times the demo's checkouts.
_DELIVERIES_MAX: Final = 16
_TIMEOUT_S: Final = 10.0
# Looks again at least this often, for timers that were set without a wake-up.
_PAUSE_MS_MAX: Final = 250


class Pump:
    """Drives the engine's timers and announcements until it is stopped."""

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
        self._posts: set[asyncio.Task[None]] = set()

    def notice(self) -> None:
        """Look again if something is due before the pump meant to wake."""
        due_ms = self._engine.next_due_ms()
        if due_ms is not None and due_ms < self._sleeps_until_ms:
            self._wake.set()

    @property
    def under_way(self) -> int:
        """How many posts are under way."""
        return len(self._posts)

    async def run(self) -> None:
        """Work until cancelled; posts under way are then cut off and tried again after the next start."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=_DELIVERIES_MAX)
        try:
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                while True:
                    await self._turn(session)
        except BookBroken:
            return  # the server stops on its own: the book has told it
        finally:
            for post in self._posts:
                post.cancel()
            await asyncio.gather(*self._posts, return_exceptions=True)

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        self._wake.clear()
        now_ms = self._now_ms()
        self._engine.tick(now_ms)
        free = _DELIVERIES_MAX - len(self._posts)
        due = list(self._engine.outbox.due(now_ms, free)) if self._url else []
        if due:
            await self._book.durable()
        for delivery in due:
            post = asyncio.create_task(self._post(session, delivery))
            self._posts.add(post)
            post.add_done_callback(self._done)
        await self._sleep()

    async def _sleep(self) -> None:
        """Sleep until something is due, `notice` finds something earlier, or a post comes back."""
        now_ms, due_ms = self._now_ms(), self._engine.next_due_ms()
        pause_ms = _PAUSE_MS_MAX
        if len(self._posts) >= _DELIVERIES_MAX:
            self._sleeps_until_ms = 0  # no room: only a post that comes back is worth waking for
        else:
            if due_ms is not None:
                pause_ms = min(max(0, due_ms - now_ms), _PAUSE_MS_MAX)
            self._sleeps_until_ms = now_ms + pause_ms
        try:
            await asyncio.wait_for(self._wake.wait(), pause_ms / 1_000)
        except TimeoutError:
            return

    def _done(self, post: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        self._wake.set()

    async def _post(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        assert self._url is not None
        outbox = self._engine.outbox
        if self._engine.plan.is_webhook_dropped(f"{delivery.event} {delivery.copy}"):
            status = 0
        else:
            body = outbox.body(delivery)
            # The receiver checks the real time, whatever the simulator's own clock was turned to.
            signed = signature(body, secret=self._secret, signed_at_s=int(time.time()))
            headers = {"Stripe-Signature": signed, "Content-Type": "application/json; charset=utf-8"}
            try:
                async with session.post(self._url, data=body, headers=headers) as response:
                    await response.read()
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
        self._book.append_lazily(outbox.settle(delivery, status, self._now_ms()))
