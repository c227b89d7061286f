"""Logs: one JSON object a line, ours and those of the libraries, and nothing secret in any of them.

Redaction looks at the names of fields and at every text, tracebacks included: bearer tokens, JWTs, the PSP's keys and
secrets, passwords in URLs, payment tokens, card numbers. Source: failures.md security point 11, I20.

Invariant: `render` is the last step before a line is written, and nobody ends because a line cannot be.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from zerosum.domain.card import holds_card_number

HIDDEN = "[redacted]"

_SECRET_NAMES = re.compile(
    r"authorization|cookie|password|passwd|secret|token|api_?key|private|signature|credit_?card|card_?number|cvv|cvc",
    re.IGNORECASE,
)
_SECRET_TEXTS = re.compile(
    r"""
      eyJ[\w-]{5,}\.[\w-]+\.[\w-]*                 # a JWT
    | \bBearer\s+[\w.~+/=-]+                       # an authorization header
    | \b(?:sk|rk|pk)_(?:live|test)_\w+             # the PSP's API keys
    | \bwhsec_\w+                                  # webhook secrets
    | \b(?:pm|tok)_\w{4,}                         # payment tokens
    | \b(?:src|card|seti|cs)_(?=\w*\d)\w{10,}     # the PSP's older tokens and client secrets
    | \bv[01]=[0-9a-f]{32,}                        # webhook signatures
    | (?<=://)[^\s/@:]+:[^\s/@]+(?=@)              # user and password in a URL
    | -----BEGIN[^-]*PRIVATE\ KEY-----[\s\S]*?(?:-----END[^-]*-----|$)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DIGIT_RUN = re.compile(r"\d(?:[^0-9A-Za-z]{0,3}\d){11,}")
"""A closer look is taken at runs of digits of any script; the card's own rule decides."""


_MARKS = ("eyj", "bearer", "sk_", "rk_", "pk_", "whsec_", "pm_", "tok_", "src_", "card_", "seti_", "cs_", "v0=", "v1=", "://",
          "private", "\\")  # fmt: skip
"""What a line must hold, in lower case, before any secret text can be in it; a backslash may hide how it goes on."""
_PLAIN = (str, int, float, bool, type(None))


def render(_logger: object, _method: str, line: MutableMapping[str, Any]) -> str:
    """The line as redacted JSON: the last structlog processor. Most lines hold nothing that needs a closer look."""
    if all(isinstance(value, _PLAIN) for value in line.values()) and not any(map(_is_secret_name, line)):
        text = _json(line)
        lowered = text.lower()
        if not any(mark in lowered for mark in _MARKS) and not holds_card_number(text):
            return text
    return _json(redact(line))


def redact(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line without anything secret."""
    return {name: HIDDEN if _is_secret_name(name) else redacted(value) for name, value in line.items()}


@lru_cache(maxsize=1_024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def redacted(value: Any) -> Any:
    """The value with every secret text in it hidden, at any depth."""
    if isinstance(value, str):
        return redacted_text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return redacted_text(str(value)) if isinstance(value, int) and holds_card_number(str(value)) else value
    if isinstance(value, Mapping):
        return {
            redacted_text(str(name)): HIDDEN if _is_secret_name(str(name)) else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(inner) for inner in value]
    return redacted_text(str(value))


def redacted_text(text: str) -> str:
    """The text with its secrets hidden."""
    text = _SECRET_TEXTS.sub(HIDDEN, text)
    if not holds_card_number(text):
        return text
    narrowed = _DIGIT_RUN.sub(lambda run: HIDDEN if holds_card_number(run[0]) else run[0], text)
    return HIDDEN if holds_card_number(narrowed) else narrowed


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def configure_logs(service: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends every log line of this process to `stream` (standard error) as redacted JSON.

    What cannot be written, on a full disk for one, is lost: whoever logs goes on.
    """
    out = cast(TextIO, _Unfailing(stream or sys.stderr))
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.reset_defaults()
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _named(service),
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def log_to(path: Path, service: str, level: str) -> TextIO:
    """Sends every log line of this process to the end of that file, whose folder is made. Raises OSError where it cannot be.

    Returns the open file: for whoever wants it closed before the process ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("a", buffering=1, encoding="utf-8")
    configure_logs(service, level, stream)
    return stream


class _Unfailing:
    """A stream that swallows what it cannot write: a supervisor that ends over a line leaves its children to themselves."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _named(service: str) -> Any:
    def add(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["service"] = service
        return line

    return add


def logger_of(service: str) -> Any:
    """The logger of a server: `.info("event_in_past_tense", name=value)`."""
    return structlog.get_logger(service=service)
