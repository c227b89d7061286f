"""How the SDK reaches Stripe: one aiohttp session with keep-alive, and what became of a request that got no answer.

The SDK's own client is kept, but for three things it leaves open: trouble while the body is read, answers that are not
Stripe's (a gateway's HTML page), and redirects, which would send a POST twice.

Invariant: `NotSent` is raised only before the first byte of the request could have left.
"""

import json
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

import aiohttp
import stripe

from zerosum.errors import NotSent, OutcomeUnknown

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy  # aiohttp's own type of headers

ANSWER_BYTES_MAX = 1_000_000
"""Stripe's objects are a few KB and a page of 100 refunds 60 KB; more is not read into memory."""

KEEPALIVE_S = 30
"""An idle connection is closed by us before Stripe's side does it (60 s), so that fewer requests meet a closing one."""

NOT_SENT = (
    aiohttp.ClientConnectorError,  # refused, unreachable, DNS, certificate, TLS handshake
    aiohttp.ConnectionTimeoutError,  # no connection, and none free in the pool, within the time to connect
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
"""Raised by aiohttp only while it makes a connection."""


class Transport(stripe.AIOHTTPClient):
    """The SDK's HTTP client over one session, made in the event loop of the first call and good for that loop only.

    `timeout_ms` bounds a whole call, connecting included; `connect_ms` is the part of it that may pass unconnected.
    """

    def __init__(self, *, timeout_ms: int, connect_ms: int, connections_max: int) -> None:
        self._limits = aiohttp.ClientTimeout(total=timeout_ms / 1_000, connect=connect_ms / 1_000)
        self._connections_max = connections_max
        self._opened: aiohttp.ClientSession | None = None
        super().__init__(timeout=self._limits)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: object = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request, sent once. Raises NotSent, or OutcomeUnknown: money may have moved if it was a POST."""
        try:
            async with self._open().request(
                method, url, headers=headers, data=post_data, timeout=self._limits, allow_redirects=False
            ) as response:
                body = await _read(response.content)
                return as_stripe_says_it(body, response.status), response.status, _quiet(response.headers)
        except NOT_SENT as trouble:
            raise NotSent(f"stripe cannot be reached: {type(trouble).__name__}") from trouble
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            raise OutcomeUnknown(f"stripe did not answer: {type(trouble).__name__}") from trouble

    async def close_async(self) -> None:
        """Closes the session and its connections."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def _open(self) -> aiohttp.ClientSession:
        if self._opened is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections_max,
                keepalive_timeout=KEEPALIVE_S,
                ssl=ssl.create_default_context(cafile=stripe.ca_bundle_path),
            )
            self._opened = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._opened


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = await content.readany()
    while not content.at_eof():
        if len(body) > ANSWER_BYTES_MAX:
            raise OutcomeUnknown("stripe's answer is longer than any of its objects")
        body += await content.readany()
    return body


def as_stripe_says_it(body: bytes, status: int) -> bytes:
    """An error that is not Stripe's JSON gets its shape: else the SDK forgets status and headers, or stumbles.

    The type `unreadable` is none of Stripe's, so that nothing is taken for a refusal that Stripe did not speak.
    """
    if status < 300:  # noqa: PLR2004 - HTTP's own number
        return body
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        return body
    return b'{"error": {"type": "unreadable", "message": "not an answer of Stripe\'s API"}}'


def _quiet(headers: "CIMultiDictProxy[str]") -> Mapping[str, str]:
    """Without Stripe-Notice: the SDK makes a Python warning of it, which may be an error, after the money moved."""
    if "Stripe-Notice" not in headers:
        return headers
    kept = headers.copy()
    kept.popall("Stripe-Notice")
    return kept
