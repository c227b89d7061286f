"""No secret and no card number leaves by a log line, ours or a library's."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from servers.log import configure_logs, log_to, logger_of, redacted
from servers.request_id import request_id_of
from tests.unit.server_fakes import CARD, token

SECRETS = {
    "jwt": token(),
    "header": f"Bearer {token()}",
    "opaque bearer": "Bearer abcdef0123456789",
    "api key": "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
    "webhook secret": "whsec_5f8a9b7c6d5e4f3a",
    "payment token": "pm_1MqLiJLkdIwHu7ix",
    "card": CARD,
    "card in digits": "5555555555554444",
    "signature": "v1=" + "5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
    "database password": "hunter2",
}
TEXTS = SECRETS | {"database password": "postgresql://payment:hunter2@127.0.0.1:5432/zerosum"}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Logs of this process, and its own logging put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    configure_logs("payment", "INFO", out)
    yield out
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_line_that_cannot_be_written_ends_nobody(stream: io.StringIO) -> None:
    """On a full disk the supervisor goes on with its children, and a server with its calls; ours and a library's lines."""
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - to close it is to write what it holds, and fails
    configure_logs("supervisor", "INFO", full)

    logger_of("supervisor").warning("child ended", detail="x" * 100_000)
    logging.getLogger("a.library").error("trouble")

    with pytest.raises(OSError, match="No space left"):
        full.close()
    assert stream.getvalue() == ""


def test_a_processs_lines_go_to_the_end_of_a_file_as_redacted_json(stream: io.StringIO, tmp_path: Path) -> None:
    """The supervisor's beside those of its children: nothing is lost that stood there, nothing is shown to a terminal."""
    path = tmp_path / "logs" / "supervisor.log"
    path.parent.mkdir()
    path.write_text("{}\n", encoding="utf-8")

    with log_to(path, "supervisor", "INFO"):
        logger_of("supervisor").warning("child ended", reason=TEXTS["database password"])

    first, last = path.read_text(encoding="utf-8").splitlines()
    assert first == "{}"
    assert json.loads(last)["reason"] == "postgresql://[redacted]@127.0.0.1:5432/zerosum"
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_planted_secret_is_in_no_line(name: str, stream: io.StringIO) -> None:
    """failures.md security point 11: in a message, a field, a nested field, a name, an exception and a library's line."""
    secret, text = SECRETS[name], TEXTS[name]
    log = logger_of("payment")
    log.info(f"event {text} happened", detail=text, nested={"inner": [text, {text: 1}]}, error=ValueError(text))
    try:
        raise ValueError(f"bad {text}")
    except ValueError as error:
        log.error("broken", exc_info=error)
        logging.getLogger("library").exception("failed with %s", text)

    assert len(stream.getvalue().splitlines()) == 3
    assert secret not in stream.getvalue()


@pytest.mark.parametrize("name", ["authorization", "Idempotency-Token", "psp_api_key", "password", "credit_card_info"])
def test_field_named_like_a_secret_is_hidden_whatever_it_holds(name: str, stream: io.StringIO) -> None:
    """The name alone is enough."""
    logger_of("payment").info("called", **{name: "plain"}, nested={name: "plain"})

    assert "plain" not in stream.getvalue()


def test_line_is_one_json_object_with_what_on_call_needs(stream: io.StringIO) -> None:
    """Structured: every line parses, ids and reasons stay readable."""
    logger_of("payment").info("call_ended", reason="CARD_DECLINED", checkout_id="co-1", ms=1.5, at_ms=1_700_000_000_123)
    line = json.loads(stream.getvalue())

    assert line.pop("timestamp")
    assert line == {
        "event": "call_ended", "level": "info", "service": "payment", "reason": "CARD_DECLINED",
        "checkout_id": "co-1", "ms": 1.5, "at_ms": 1_700_000_000_123,
    }  # fmt: skip


def test_clean_text_stays_as_it_is() -> None:
    """Ids, keys and instants of ours are no card numbers: a log without them is of no use."""
    clean = [
        "co-1",
        "confirm-1-3f786850e387550fdab836ed7e6dc881de23001b",
        "card_declined",
        1_700_000_000_123,
        None,
        True,
    ]

    assert redacted(clean) == clean


@pytest.mark.parametrize("bad", ["a b", "x" * 65, "", "\n", CARD.replace(" ", "-"), "4242424242424242"])
def test_request_id_that_is_not_fit_to_print_is_not_taken_over(bad: str) -> None:
    """A caller's id goes into every line: it is checked like any other text."""
    assert request_id_of((("x-request-id", bad),)) == ""


def test_request_id_of_the_caller_is_taken_over() -> None:
    """It ties the edge's line to the service's."""
    assert request_id_of((("other", "x"), ("x-request-id", "req-1"))) == "req-1"
