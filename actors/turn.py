"""One turn: one command taken by one entity. Here is why nothing happens twice.

A shard decides a batch of turns in memory, commits all of it in one transaction, and only then answers and lets effects
run. A command that is known is answered from what is stored; what is decided again finds its own rows and comes to the
same end. Within a batch each turn sees what the turns before it decided (`Known`), as if they were committed already:
either they are, together with it, or none is. Source: design section 3.

Invariant: `Binding.take` is a function of (state, command, known, now): no IO, no chance, no clock of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from actors.answer import Answer
from zerosum.domain.identity import CommandKey, EntityKey
from zerosum.ports import Loaded, StoredCommand, TurnRecord, Wanted

S = TypeVar("S")
C = TypeVar("C")


class Versioned(Protocol):
    """The state of an entity: `version` rises by one with every event of its own."""

    @property
    def version(self) -> int: ...


@dataclass(slots=True)
class Known:
    """What is stored of a batch's commands, claims and webhooks, and what the turns before this one add to it."""

    commands: dict[CommandKey, StoredCommand] = field(default_factory=dict)
    claims: dict[EntityKey, EntityKey] = field(default_factory=dict)
    deliveries: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: Loaded[Any]) -> "Known":
        """A fresh overlay over what was loaded."""
        return cls(dict(loaded.commands), dict(loaded.claims), dict(loaded.deliveries))


@dataclass(frozen=True, slots=True)
class Turn(Generic[S]):
    """What one command leads to. `after`: the entity's new state, None where it does not exist and stays so.

    `record`: what to commit, None where nothing is written. `runs`: to-dos whose effects start after the commit.
    """

    after: S | None
    record: TurnRecord | None
    answer: Answer
    runs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """An effect to be carried out now: for whom, in the name of which to-do and which of its runs."""

    entity: EntityKey
    todo_id: str
    tries: int
    effect: Any


class Binding(Protocol[S, C]):
    """How one kind of entity takes its turns; three plain implementations, one a service."""

    def entity(self, command: C) -> EntityKey:
        """Who takes the turn."""
        ...

    def wants(self, command: C) -> Wanted:
        """What must be known beside the entity itself.

        An entity named here is read anew though it is in memory: its answer may be given without a write, so without
        the fence, and a stale copy must not give it from what it remembers.
        """
        ...

    def weight_bytes(self, command: C) -> int:
        """About how much its rows weigh in a commit."""
        ...

    def take(self, state: S | None, command: C, known: Known, now_ms: int) -> Turn[S]:
        """Decides the turn, and adds to `known` what it will have stored. Raises Bug: the entity is quarantined."""
        ...

    def run_of(self, state: S, todo_id: str, now_ms: int) -> Run | None:
        """The effect of an open to-do; None where it has none or is open no more."""
        ...

    def timers(self, state: S) -> Mapping[str, int]:
        """Open to-dos and when each is due, by the database's clock."""
        ...

    def claim(self, entity: EntityKey, todo_id: str) -> C:
        """The command that claims a due to-do."""
        ...

    def outcome(self, state: S) -> bytes | None:
        """The fixed reply, for those who wait for it."""
        ...
