"""The process around the engine: listens, waits, holds, makes the book durable, answers, stops cleanly.

The invariant: an answer of the API leaves only after the book is on the disk. When the disk fails, the connection is
closed without an answer and the process stops with status 1.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

from simulator.psp.book import BookBroken, FileBook
from simulator.psp.call import Call, Plan
from simulator.psp.delivery import Pump
from simulator.psp.engine import Engine
from simulator.psp.http import HttpConnection, HttpRequest, HttpResponse

# A stop waits this long for answers under way; then they are cut off, as by a kill.
_DRAIN_S = 5.0


class Server:
    """One listening simulator."""

    def __init__(
        self,
        engine: Engine,
        book: FileBook,
        *,
        folder: Path,
        admin_token: str,
        webhook_url: str | None,
        webhook_secret: str,
    ) -> None:
        # Imported here: admin's routes are functions over this class.
        from simulator.psp.admin import Admin

        self.engine = engine
        self.book = book
        self.folder = folder
        self.in_flight: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.pump = Pump(engine, book, url=webhook_url, secret=webhook_secret, now_ms=self.now_ms)
        self._holds: dict[str, asyncio.Event] = {}
        self._admin = Admin(self, token=admin_token)
        self._connections: set[HttpConnection] = set()
        self._stopped = asyncio.Event()
        self._status = 0

    def now_ms(self) -> int:
        """Return the time as the PSP sees it: the machine's, plus what the clock was turned forward."""
        return time.time_ns() // 1_000_000 + self.engine.clock_offset_ms

    def stop(self, status: int = 0) -> None:
        """Ask `serve` to come to an end with this exit status."""
        self._status = max(self._status, status)
        self._stopped.set()

    def hold(self, operation: str) -> None:
        """Withhold the answers to an operation from now on; it executes all the same."""
        self._holds.setdefault(operation, asyncio.Event())

    def release(self, operation: str | None) -> None:
        """Let the withheld answers of one operation go, or of all."""
        for name in [operation] if operation is not None else list(self._holds):
            if (hold := self._holds.pop(name, None)) is not None:
                hold.set()

    async def serve(self, host: str, port: int) -> int:
        """Listen until `stop`; return the exit status. Prints one line when listening."""
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: HttpConnection(self._handle, self._connections), host, port)
        pump = asyncio.create_task(self.pump.run())
        bound = listening.sockets[0].getsockname()[1]
        sys.stdout.write(f"psp simulator listening on http://{host}:{bound} book={self.folder}\n")
        sys.stdout.flush()
        await self._stopped.wait()
        listening.close()
        self.release(None)
        await self._drain()
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        self.book.close()
        return self._status

    async def _drain(self) -> None:
        for connection in list(self._connections):
            connection.close_when_idle()
        busy = [each.task for each in self._connections if each.task is not None]
        if busy:
            await asyncio.wait(busy, timeout=_DRAIN_S)

    async def _handle(self, request: HttpRequest) -> HttpResponse | None:
        try:
            if request.path.startswith("/_admin/"):
                return await self._admin.handle(request)
            return await self._call(request)
        except BookBroken:
            self.stop(status=1)
            return None

    async def _call(self, request: HttpRequest) -> HttpResponse | None:
        call = Call(
            method=request.method,
            path=request.path,
            query=request.query,
            body=request.body.decode("utf-8", "replace"),
            authorization=request.headers.get("authorization", ""),
            key=request.headers.get("idempotency-key"),
        )
        begun = self.engine.begin(call, self.now_ms())
        if isinstance(begun, Plan):
            return await self._answer(begun)
        operation = begun.where.operation
        self.in_flight[operation] += 1
        try:
            if begun.wait_ms:
                await asyncio.sleep(begun.wait_ms / 1_000)
            plan = self.engine.finish(begun, self.now_ms())
            self.pump.notice()
            return await self._answer(plan)
        finally:
            self.in_flight[operation] -= 1

    async def _answer(self, plan: Plan) -> HttpResponse | None:
        await self.book.durable()
        if plan.delay_ms:
            await asyncio.sleep(plan.delay_ms / 1_000)
        if (hold := self._holds.get(plan.operation)) is not None:
            self.held[plan.operation] += 1
            try:
                await hold.wait()
            finally:
                self.held[plan.operation] -= 1
        if plan.answer is None:
            return None
        return HttpResponse(plan.answer.status, plan.answer.body, plan.answer.headers)
