"""The wire under the Stripe SDK, against a server that does one wrong thing: what was provably not sent, and what may have
been executed. Source: design section 4, failures.md row S1."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.unit.stripe_objects import intent, request
from zerosum.domain.message import ObjectStatus
from zerosum.domain.request import PspVerb
from zerosum.errors import NotSent, OutcomeUnknown, PspTrouble, StoredFailure
from zerosum.psp.stripe.adapter import StripeAdapter
from zerosum.psp.trouble import TurnedAway, Unsettled

CONFIRM = request(PspVerb.CONFIRM)
CHARGED = json.dumps(intent("succeeded")).encode()
API_ERROR = b'{"error": {"type": "api_error"}}'


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Wire:
    """A server that sends the same bytes to every request, then keeps the connection or ends it as told."""

    sends: bytes
    then: str = "keep"
    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0"
                )
                body = await reader.readexactly(int(length.split(b":")[1]))
                self.requests.append(head + body)
                writer.write(self.sends)
                await writer.drain()
                if self.then == "close":
                    return
                if self.then == "reset":
                    # SO_LINGER of zero: the connection ends with RST, not with FIN.
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def wired(wire: Wire, timeout_ms: int = 20_000) -> AsyncIterator[StripeAdapter]:
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    adapter = StripeAdapter("sk_test_x", url=wire.url, timeout_ms=timeout_ms)
    try:
        yield adapter
    finally:
        await adapter.close()
        server.close()


async def outcome(wire: Wire, timeout_ms: int = 20_000) -> PspTrouble:
    """What a confirm raises over this wire; it was sent once."""
    async with wired(wire, timeout_ms) as adapter:
        with pytest.raises(PspTrouble) as caught:
            await adapter.call(CONFIRM)
    assert len(wire.requests) == 1
    return caught.value


@pytest.mark.parametrize(
    ("wire", "trouble"),
    [
        (Wire(b"", "close"), OutcomeUnknown),
        (Wire(b"", "reset"), OutcomeUnknown),
        (Wire(answer("200 OK", CHARGED)[:-20], "close"), OutcomeUnknown),
        (Wire(answer("200 OK", CHARGED)[:-20], "reset"), OutcomeUnknown),
        (Wire(b"SSH-2.0-OpenSSH\r\n", "close"), OutcomeUnknown),
        (Wire(answer("200 OK", b" " * 1_100_000)), OutcomeUnknown),
        (Wire(answer("502 Bad Gateway", b"<html>")), OutcomeUnknown),
        (Wire(answer("500 Oops", API_ERROR)), OutcomeUnknown),
        (Wire(answer("500 Oops", API_ERROR, "Idempotent-Replayed: true")), StoredFailure),
        (Wire(answer("404 Not Found", b"<html>")), Unsettled),
        (Wire(answer("402 Payment Required", b'{"error": "no"}')), Unsettled),
        (Wire(answer("307 Temporary Redirect", b"", "Location: /v1/elsewhere")), Unsettled),
        (Wire(answer("429 Too Many", b"<html>", "Retry-After: 3")), TurnedAway),
        (Wire(answer("401 Unauthorized", b"<html>")), TurnedAway),
    ],
)
async def test_what_goes_wrong_on_the_wire_says_what_may_have_happened(wire: Wire, trouble: type[PspTrouble]) -> None:
    """Sent once whatever happens: no redirect is followed, nothing is retried below us."""
    assert type(await outcome(wire)) is trouble


async def test_a_retry_after_of_a_gateways_page_is_obeyed() -> None:
    """Its page is no JSON of Stripe's; its headers count all the same."""
    assert (await outcome(Wire(answer("503 Away", b"<html>", "Retry-After: 3")))).retry_after_ms == 3_000


async def test_no_answer_in_time_is_unknown() -> None:
    """The request had left."""
    assert type(await outcome(Wire(b""), timeout_ms=200)) is OutcomeUnknown


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://zerosum.invalid", "https://127.0.0.1:1", "ftp://x"])
async def test_without_a_connection_nothing_was_sent(url: str) -> None:
    """Refused, no such name, no such scheme."""
    adapter = StripeAdapter("sk_test_x", url=url, timeout_ms=5_000)
    with pytest.raises(NotSent):
        await adapter.call(CONFIRM)
    await adapter.close()


async def test_a_server_that_cannot_speak_tls_was_not_sent_to() -> None:
    """The handshake fails before the first byte of the request."""
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    adapter = StripeAdapter("sk_test_x", url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(NotSent):
        await adapter.call(CONFIRM)
    await adapter.close()
    server.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first bytes with what is no TLS."""
    await reader.read(1)
    writer.write(b"no tls here")
    writer.close()


async def test_one_connection_is_kept_for_all_calls() -> None:
    """And a Stripe-Notice, of which the SDK makes a warning, is no trouble after the money moved."""
    wire = Wire(answer("200 OK", CHARGED, "Stripe-Notice: please upgrade"))
    async with wired(wire) as adapter:
        for _ in range(5):
            assert (await adapter.call(CONFIRM)).status is ObjectStatus.CHARGED

    assert (wire.connections, len(wire.requests)) == (1, 5)


async def test_the_request_carries_our_key_and_no_telemetry() -> None:
    """Our idempotency key, the API version the adapter was written for, and nothing about this machine."""
    wire = Wire(answer("200 OK", CHARGED))
    async with wired(wire) as adapter:
        await adapter.call(CONFIRM)
        await adapter.call(CONFIRM)
    last = wire.requests[-1].decode()

    assert "Idempotency-Key: confirm-1-abc" in last
    assert "Stripe-Version: 2026-10-28" in last
    assert "Telemetry" not in last
