"""What a shard answers to a command, and how the doors ask: plain data that crosses processes.

Invariant: an answer is given only after the commit that makes it true, refusals included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zerosum.domain.identity import EntityKey
from zerosum.domain.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Accepted:
    """Committed; its reply is not fixed yet and comes as an outcome of the entity."""


@dataclass(frozen=True, slots=True)
class Replied:
    """The fixed reply, protobuf bytes, the same for ever. `is_replay`: an earlier command had brought it about."""

    reply: bytes
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """Recorded and final, without a reply of its own (a transfer, a journal, a webhook, a result).

    `is_news`: something followed from it; False where it told nothing that was not known.
    """

    is_replay: bool
    is_news: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was executed. `is_replay`: it had been refused before under the same key."""

    refusal: Refusal
    is_replay: bool


@dataclass(frozen=True, slots=True)
class InFlight:
    """The same key is accepted and not answered: ask again with it after `retry_after_ms`."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Busy:
    """A mailbox is full: nothing was recorded."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Trouble. `kind` is the name of the class of `errors.py`: ConflictBudget, Superseded, Unavailable, CommitAmbiguous
    or Bug. It may have been recorded: ask again with the same key."""

    kind: str
    message: str


Answer = Accepted | Replied | Applied | Refused | InFlight | Busy | Failed


class Shards(Protocol):
    """The doors' way to the shards of one service; over Ray in production, in one process in tests."""

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        """Submits commands, each to the shard of its entity; one answer each, in order. Never raises for one of them."""
        ...

    async def outcome(self, entity: EntityKey, timeout_ms: int) -> bytes | None:
        """Waits for the fixed reply of a checkout that was accepted. None: not fixed within the time."""
        ...
