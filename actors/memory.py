"""Entities in memory: a cache of what is committed, and nothing else.

An entity that nobody used for a while leaves (passivation); the next command loads it again. A doubtful end of a commit
empties it at once. Source: design section 3.

Invariant: what is here is the committed state, or it is not here.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import takewhile
from typing import Generic, TypeVar

from zerosum.domain.identity import EntityKey

S = TypeVar("S")


class Memory(Generic[S]):
    """Least recently used first. Instants are monotonic milliseconds, handed in."""

    def __init__(self) -> None:
        self._states: OrderedDict[EntityKey, tuple[S, int]] = OrderedDict()
        self._now_ms = 0

    def __len__(self) -> int:
        return len(self._states)

    def tick(self, now_ms: int) -> None:
        """Tells the time that `get` and `put` stamp entities with."""
        self._now_ms = now_ms

    def get(self, key: EntityKey) -> S | None:
        """The committed state, if it is in memory. Counts as use."""
        found = self._states.get(key)
        if found is None:
            return None
        self._states[key] = (found[0], self._now_ms)
        self._states.move_to_end(key)
        return found[0]

    def peek(self, key: EntityKey) -> S | None:
        """The same without counting as use."""
        found = self._states.get(key)
        return found[0] if found else None

    def put(self, key: EntityKey, state: S) -> None:
        """Remembers what is committed."""
        self._states[key] = (state, self._now_ms)
        self._states.move_to_end(key)

    def forget(self, keys: Iterable[EntityKey]) -> None:
        """Drops entities whose committed state is in doubt."""
        for key in keys:
            self._states.pop(key, None)

    def passivate(self, idle_ms: int, keep: Iterable[EntityKey] = ()) -> int:
        """Drops what was not used for `idle_ms`, but for `keep` (those with commands waiting); how many left."""
        until_ms = self._now_ms - idle_ms
        idle = [key for key, _ in takewhile(lambda held: held[1][1] <= until_ms, self._states.items())]
        gone = set(idle).difference(keep)
        for key in gone:
            del self._states[key]
        return len(gone)
