"""The process around the engine: listens, waits, holds, makes the book durable, answers, stops cleanly.

The invariant: an answer of the API leaves only after the book is on the disk. When the disk fails, the connection is
closed without an answer and the process stops with status 1.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from simulator.psp.book import BookBroken, FileBook
from simulator.psp.call import Call, Plan, Ticket
from simulator.psp.delivery import Pump
from simulator.psp.engine import Engine
from simulator.psp.http import HttpConnection, HttpRequest, HttpResponse, Reply

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
        self.pump = Pump(engine, book, url=webhook_url, secret=webhook_secret, now_ms=self.now_ms)
        self._held: dict[str, list[Callable[[], None]]] = {}
        self._admin_calls: set[asyncio.Task[None]] = set()
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

    @property
    def held(self) -> dict[str, int]:
        """How many answers to each operation are withheld."""
        return {operation: len(answers) for operation, answers in self._held.items()}

    def hold(self, operation: str) -> None:
        """Withhold the answers to an operation from now on; it executes all the same."""
        self._held.setdefault(operation, [])

    def release(self, operation: str | None) -> None:
        """Let the withheld answers of one operation go, or of all."""
        for name in [operation] if operation is not None else list(self._held):
            for answer in self._held.pop(name, ()):
                answer()

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
        ends = [connection.closed for connection in self._connections]
        for connection in list(self._connections):
            connection.close_when_idle()
        if ends:
            await asyncio.wait(ends, timeout=_DRAIN_S)

    def _handle(self, request: HttpRequest, reply: Reply) -> None:
        if request.path.startswith("/_admin/"):
            task = asyncio.get_running_loop().create_task(self._administer(request, reply))
            self._admin_calls.add(task)
            task.add_done_callback(self._admin_calls.discard)
        else:
            self._call(request, reply)

    async def _administer(self, request: HttpRequest, reply: Reply) -> None:
        try:
            reply(await self._admin.handle(request))
        except BookBroken:
            self._break(reply)

    def _call(self, request: HttpRequest, reply: Reply) -> None:
        """From here on each step calls the next: `_finish` after the way there, `_answer` once the book is on the disk,
        `_send` after the way back.
        """
        call = Call(
            method=request.method,
            path=request.path,
            query=request.query,
            body=request.body.decode("utf-8", "replace"),
            authorization=request.headers.get("authorization", ""),
            key=request.headers.get("idempotency-key"),
        )
        try:
            begun = self.engine.begin(call, self.now_ms())
        except BookBroken:
            self._break(reply)
            return
        if isinstance(begun, Plan):
            self.book.when_durable(partial(self._answer, begun, reply))
        else:
            self.in_flight[begun.where.operation] += 1
            self._later(begun.wait_ms, partial(self._finish, begun, reply))

    def _finish(self, ticket: Ticket, reply: Reply) -> None:
        def answered(response: HttpResponse | None) -> None:
            self.in_flight[ticket.where.operation] -= 1
            reply(response)

        try:
            plan = self.engine.finish(ticket, self.now_ms())
        except BookBroken:
            self._break(answered)
            return
        self.pump.notice()
        self.book.when_durable(partial(self._answer, plan, answered))

    def _answer(self, plan: Plan, reply: Reply, is_durable: bool) -> None:
        if is_durable:
            self._later(plan.delay_ms, partial(self._send, plan, reply))
        else:
            self._break(reply)

    def _send(self, plan: Plan, reply: Reply) -> None:
        answer = plan.answer
        response = HttpResponse(answer.status, answer.body, answer.headers) if answer else None
        if (held := self._held.get(plan.operation)) is not None:
            held.append(partial(reply, response))
        else:
            reply(response)

    def _break(self, reply: Reply) -> None:
        self.stop(status=1)
        reply(None)

    def _later(self, pause_ms: int, then: Callable[[], None]) -> None:
        if pause_ms:
            asyncio.get_running_loop().call_later(pause_ms / 1_000, then)
        else:
            then()
