"""HTTP/1.1 as answers come in: in any pieces, framed in every way there is, and what is no answer at all."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.errors import Bug
from zerosum.psp.http import ANSWER_BYTES_MAX, Answer, Client, Incoming

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRequest-Id: req_1\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\n\r\n"
TRAILER = CHUNKS[:-2] + b"Request-Id: req_1\r\n\r\n"
ON_THE_WAY = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH


@pytest.mark.parametrize("sent", [LENGTH, CHUNKS, TRAILER, ON_THE_WAY])
@given(cuts=st.lists(st.integers(0, 150), max_size=8))
def test_an_answer_is_whole_with_its_last_byte_however_it_is_cut(sent: bytes, cuts: list[int]) -> None:
    """Never before, and the connection may then be used again."""
    incoming = Incoming()
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    answers = [incoming.feed(sent[start:end]) for start, end in pairwise(edges)]

    assert [answer for answer in answers[:-1] if answer] == []
    assert answers[-1] is not None
    assert (answers[-1].status, answers[-1].body) == (200, b"hello")
    assert incoming.is_followed


@pytest.mark.parametrize(
    "sent",
    [
        LENGTH + b"HTTP/1.1 200 OK\r\n",
        LENGTH.replace(b"Request-Id: req_1", b"Connection: Close"),
        LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_with_more_in_it_or_said_to_end_is_not_used_again(sent: bytes) -> None:
    """What comes after an answer is nobody's: it must not be taken for the next one."""
    incoming = Incoming()

    assert incoming.feed(sent) is not None
    assert not incoming.is_followed


def test_without_a_length_the_end_of_the_connection_ends_the_answer() -> None:
    """HTTP/1.0's way."""
    incoming = Incoming()
    assert incoming.feed(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhel") is None
    assert incoming.feed(b"lo") is None

    assert incoming.end() == Answer(200, {"server": "x"}, b"hello")
    assert not incoming.is_followed


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", LENGTH[:-1], CHUNKS[:-4]])
def test_an_answer_cut_short_is_none(sent: bytes) -> None:
    """Its length or its last chunk is missing: nothing of it may be believed."""
    incoming = Incoming()

    assert (incoming.feed(sent), incoming.end()) == (None, None)


def test_an_answer_without_a_body_needs_no_length() -> None:
    """204."""
    assert Incoming().feed(b"HTTP/1.1 204 No Content\r\n\r\n") == Answer(204, {}, b"")


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 fine\r\n\r\n",
        LENGTH.replace(b"5", b"-5"),
        LENGTH.replace(b"5", b"5, 5"),
        LENGTH.replace(b"Content-Length: 5", b"Transfer-Encoding: gzip, chunked"),
        CHUNKS.replace(b"2\r\nhe", b"-2\r\nhe"),
        CHUNKS.replace(b"2\r\nhe", b"two\r\nhe"),
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * ANSWER_BYTES_MAX,
    ],
)
def test_what_is_not_http_is_a_value_error(sent: bytes) -> None:
    """And what is too long to be an answer."""
    with pytest.raises(ValueError):  # noqa: PT011 - each has a sentence of its own
        Incoming().feed(sent)


@given(st.binary(), st.sampled_from([b"", LENGTH[:-5], CHUNKS[:48], b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_are_an_answer_none_yet_or_a_value_error(noise: bytes, before: bytes) -> None:
    """Total: nothing else is raised, so nothing passes for another trouble."""
    incoming = Incoming()
    try:
        incoming.feed(before + noise)
        incoming.feed(noise)
        incoming.end()
    except ValueError:
        return


@pytest.mark.parametrize("target", ["//elsewhere\r\nX: y", "@elsewhere", "2/v1/x"])
async def test_a_request_that_would_go_elsewhere_or_say_more_is_a_bug(target: str) -> None:
    """The origin's key goes to no other host, and no value begins a header of its own."""
    client = Client("http://127.0.0.1:1", timeout_ms=100, connect_ms=100)
    with pytest.raises(Bug):
        await client.request("get", target, {})
    with pytest.raises(Bug):
        await client.request("get", "/v1", {"Idempotency-Key": "a\r\nX: y"})
