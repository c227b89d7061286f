"""As much of HTTP/1.1 as calling a PSP needs, on asyncio: kept connections, TLS, a deadline. Nothing here knows any PSP.

Our own because of its cost and its control: a call takes 45 µs of CPU where aiohttp's session takes 140 to 180, and 140 to
170 once it is tuned (same request and answer, alternated three times); and it is plain where the first byte leaves.

Invariant: `NotSent` is raised only before the first byte of a request could have left; from there on a call ends as a whole
answer or as `OutcomeUnknown`. Nothing is sent twice, and no redirect is followed.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple, cast, final
from urllib.parse import urlsplit

from zerosum.errors import Bug, NotSent, OutcomeUnknown

ANSWER_BYTES_MAX: Final = 1_000_000
"""A PSP's objects are a few KB and a page of 100 refunds 60 KB; more is not read into memory."""

KEEPALIVE_S: Final = 30
"""A connection idle for longer is not used again: the other side's end of it (Stripe: 60 s) is met by no request."""

_RECEIVE_BYTES: Final = 16 * 1024
"""Holds nearly every answer whole. asyncio's own buffer of 256 KB is mapped and unmapped for every segment."""

_OK, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304


class Answer(NamedTuple):
    """A whole answer. Names of headers are in lower case; of one that comes twice the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


@final
class Client:
    """One origin's connections, for one event loop; as many as calls are in flight, which whoever calls must bound.

    `origin`: scheme, host and port. `timeout_ms` bounds a whole call, connecting included, and `connect_ms` that part of it.
    `cafile`: the authorities to trust, None for the system's.
    """

    def __init__(self, origin: str, *, timeout_ms: int, connect_ms: int, cafile: str | None = None) -> None:
        self._origin = urlsplit(origin)
        self._host = self._origin.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context(cafile=cafile) if self._origin.scheme == "https" else None
        self._timeout_s, self._connect_s = timeout_ms / 1_000, connect_ms / 1_000
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []

    async def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """One request, sent once. Raises NotSent, or OutcomeUnknown: the other side may have executed it."""
        request = self._request(method, target, headers, body)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout_s
        connection = self._kept(loop.time()) or await self._connect()
        try:
            answer = await connection.exchange(request, until, loop)
        except (OSError, ValueError) as trouble:  # a TimeoutError and what TLS raises are OSErrors
            raise OutcomeUnknown(f"{self._host} did not answer: {type(trouble).__name__}") from trouble
        if connection.is_free:
            connection.idle_since = loop.time()
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Closes all connections: a call under way ends as OutcomeUnknown."""
        for connection in self._open:
            connection.close()
        self._idle.clear()

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if not target.startswith("/") or not all(map(str.isprintable, (target, *lines))):
            raise Bug("a request whose head would not be one")  # a line's end in it would begin another header
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join((f"{method.upper()} {target} HTTP/1.1", f"Host: {self._host}", *lines, "\r\n"))
        return head.encode() + (body or b"")

    def _kept(self, now_s: float) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_free and now_s - connection.idle_since < KEEPALIVE_S:
                return connection
            connection.close()
        return None

    async def _connect(self) -> "_Connection":
        ports = {"http": 80, "https": 443}
        if self._origin.scheme not in ports:
            raise NotSent(f"{self._host} cannot be reached: no such scheme")
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._open),
                    self._origin.hostname or "",
                    self._origin.port or ports[self._origin.scheme],
                    ssl=self._tls,
                )
        except (OSError, ValueError) as trouble:  # refused, unreachable, no such name, no handshake, none in time
            raise NotSent(f"{self._host} cannot be reached: {type(trouble).__name__}") from trouble
        return connection


@final
class _Connection(asyncio.BufferedProtocol):
    """One connection, one exchange at a time."""

    def __init__(self, open_connections: "set[_Connection]") -> None:
        self.idle_since = 0.0
        self._open_connections = open_connections
        self._space = memoryview(bytearray(_RECEIVE_BYTES))
        self._is_clean = True  # all that was asked is answered, and nothing came beside it
        self._incoming = Incoming()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport

    @property
    def is_free(self) -> bool:
        """Whether it may carry a request: the other side has neither closed it nor left anything unsaid."""
        return self._is_clean and not self._transport.is_closing()

    async def exchange(self, request: bytes, until_s: float, loop: asyncio.AbstractEventLoop) -> Answer:
        """Raises OSError or ValueError: no answer, or none that could be read, by `until_s` of the loop's clock."""
        self._is_clean = False
        self._incoming, self._answer = Incoming(), loop.create_future()
        timer = loop.call_at(until_s, self._fail, TimeoutError("no answer in time"))
        try:
            self._transport.write(request)
            return await self._answer
        finally:
            timer.cancel()
            if not self._is_clean:
                self.close()

    def close(self) -> None:
        """Ends it at once: whatever else comes is nobody's answer."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop, asyncio's or uvloop's, has set TCP_NODELAY. uvloop's transports are asyncio's in deed, not in class."""
        self._transport = cast(asyncio.Transport, transport)
        self._open_connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The same space each time: what came is taken out of it at once."""
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        """The answer is whole, or not yet, or none of HTTP's."""
        if self._answer is None or self._answer.done():
            self._is_clean = False  # nobody asked for this
            self.close()
            return
        try:
            answer = self._incoming.feed(self._space[:nbytes])
        except ValueError as trouble:
            self._fail(trouble)
            return
        if answer is not None:
            self._is_clean = self._incoming.is_followed
            self._answer.set_result(answer)

    def eof_received(self) -> None:
        """An answer without a length ends here."""
        answer = self._incoming.end()
        if answer is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request under way has no answer."""
        self._open_connections.discard(self)
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection ended"))

    def _fail(self, trouble: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(trouble)


class _Head(NamedTuple):
    """The head of an answer. `length` is None where the body has chunks, or ends with the connection."""

    status: int
    headers: dict[str, str]
    length: int | None
    is_chunked: bool
    is_followed: bool


@final
class Incoming:
    """One answer as it comes in, in any pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._body = bytearray()
        self._head: _Head | None = None

    @property
    def is_followed(self) -> bool:
        """Once it is whole: whether the connection may be used again. Bytes beyond it are nobody's answer."""
        return self._head is not None and self._head.is_followed and not self._rest

    def feed(self, data: bytes | memoryview) -> Answer | None:
        """Takes bytes; the answer once it is whole. Raises ValueError for what is not HTTP, or is too long."""
        self._rest += data
        if len(self._rest) + len(self._body) > ANSWER_BYTES_MAX:
            raise ValueError("an answer longer than any that is read")
        while self._head is None:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return None
            self._rest = rest
            parsed = _parse(head)
            if parsed.status >= _OK:  # below: a word on the way, the answer is yet to come
                self._head = parsed
        return self._take(self._head)

    def end(self) -> Answer | None:
        """The connection has ended: the answer, where nothing but that ends it."""
        head = self._head
        if head is None or head.length is not None or head.is_chunked:
            return None
        return Answer(head.status, head.headers, bytes(self._rest))

    def _take(self, head: _Head) -> Answer | None:
        if head.is_chunked:
            return Answer(head.status, head.headers, bytes(self._body)) if self._take_chunks() else None
        if head.length is None or len(self._rest) < head.length:
            return None
        body = bytes(self._rest[: head.length])
        del self._rest[: head.length]
        return Answer(head.status, head.headers, body)

    def _take_chunks(self) -> bool:
        """Moves the whole chunks over to the body; True after the last."""
        while (line := self._rest.find(b"\r\n")) >= 0:
            size = int(self._rest[:line].partition(b";")[0], 16)
            if size < 0:
                raise ValueError("a chunk of no length")
            if size == 0:
                end = self._rest.find(b"\r\n\r\n", line)  # a trailer may stand between
                if end >= 0:
                    del self._rest[: end + 4]
                return end >= 0
            start, end = line + 2, line + 2 + size
            if len(self._rest) < end + 2:
                return False
            self._body += self._rest[start:end]
            del self._rest[: end + 2]
        return False


def _parse(head: bytearray) -> _Head:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in [line.partition(":") for line in lines]}
    coding, length = headers.get("transfer-encoding", "").lower(), headers.get("content-length")
    if version not in ("HTTP/1.1", "HTTP/1.0") or coding not in ("", "chunked"):
        raise ValueError("an answer that is not HTTP/1")
    if length is not None and not length.isdecimal():
        raise ValueError("an answer of no length")
    code = int(status)
    return _Head(
        status=code,
        headers=headers,
        length=0 if code in (_NO_CONTENT, _NOT_MODIFIED) else None if coding or length is None else int(length),
        is_chunked=coding == "chunked",
        is_followed=version == "HTTP/1.1" and headers.get("connection", "").lower() != "close",
    )
