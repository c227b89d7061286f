"""What a client of PostgreSQL sends, message by message: enough to know where the COMMIT of a write begins and ends.

Pure. Source: PostgreSQL documentation, "Frontend/Backend Protocol", message formats.
Invariant: what comes out, joined, is what went in; a message is never torn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_LENGTH_BYTES: Final = 4
_PROTOCOL_3: Final = 3
"""Major version in a startup message. Anything else without a type (SSLRequest, CancelRequest) comes before or instead."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message with its bytes. `is_commit`: it runs the COMMIT of a transaction that may write. `is_sync`: Sync."""

    data: bytes
    is_commit: bool = False
    is_sync: bool = False


class Frontend:
    """Follows what one connection's client sends."""

    def __init__(self) -> None:
        self._rest = b""
        self._has_started = False
        self._statements: dict[bytes, bytes] = {}
        self._is_writing = False

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now."""
        self._rest += data
        while (length := self._whole()) is not None:
            message, self._rest = self._rest[:length], self._rest[length:]
            yield self._read(message)

    def _whole(self) -> int | None:
        """The length of the first message, once all of it is there."""
        at = 1 if self._has_started else 0
        if len(self._rest) < at + _LENGTH_BYTES:
            return None
        length = at + int.from_bytes(self._rest[at : at + _LENGTH_BYTES], "big")
        return length if len(self._rest) >= length else None

    def _read(self, message: bytes) -> Message:
        if not self._has_started:
            major = int.from_bytes(message[_LENGTH_BYTES : _LENGTH_BYTES + 2], "big")
            self._has_started = major == _PROTOCOL_3
            return Message(message)
        kind, body = message[:1], message[1 + _LENGTH_BYTES :]
        if kind == b"P":  # Parse: the statement's name, its text
            name, text, *_ = body.split(b"\0", 2)
            self._statements[name] = text
        if kind == b"B":  # Bind: the portal's name, the statement's
            return Message(message, is_commit=self._runs(self._statements.get(body.split(b"\0", 2)[1], b"")))
        return Message(message, is_sync=kind == b"S")

    def _runs(self, statement: bytes) -> bool:
        """Notes what is run; True for a write's COMMIT."""
        if statement.startswith(b"BEGIN"):
            self._is_writing = b"READ ONLY" not in statement
        return statement == b"COMMIT" and self._is_writing
