"""Outcomes: fixed replies on their way to whoever waits, broadcast by position.

A server keeps one call outstanding that brings everything published after the position it has seen. A position it does
not know, another epoch or a server that was away too long gets `is_reset`: it asks the database for all its waiters.
Waiters are never state: a server that dies leaves nothing to clean up. Source: design section 3.

Invariant: an outcome is only a messenger; the reply itself is committed before it is published here.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from zerosum.domain.identity import EntityKey

KEPT_MAX = 10_000
"""Outcomes kept for servers that were away: 10,000 x ~0.5 KB = 5 MB; 30 s at 300/s."""


@dataclass(frozen=True, slots=True)
class News:
    """What became final. `position`: to ask on from. `is_reset`: something may be missing; ask the database."""

    epoch: int
    position: int
    replies: Sequence[tuple[EntityKey, bytes]]
    is_reset: bool


class Outcomes:
    """The board of one copy of a shard."""

    def __init__(self) -> None:
        self._epoch = 0
        self._next = 0
        self._kept: deque[tuple[int, EntityKey, bytes]] = deque(maxlen=KEPT_MAX)
        self._changed = asyncio.Event()
        self._is_ended = False

    def begin(self, epoch: int) -> None:
        """A new copy begins with an empty board."""
        self._epoch = epoch

    def publish(self, entity: EntityKey, reply: bytes) -> None:
        """Puts a committed reply on the board. The same one twice is harmless."""
        self._kept.append((self._next, entity, reply))
        self._next += 1
        self._changed.set()

    def end(self) -> None:
        """Wakes everyone up: this copy brings no more news."""
        self._is_ended = True
        self._changed.set()

    async def after(self, epoch: int, position: int, wait_s: float) -> News:
        """Everything since `position`, or an empty answer after `wait_s` seconds without news."""
        is_reset = epoch != self._epoch or position > self._next or (self._oldest() > position)
        if is_reset:
            return News(self._epoch, self._next, (), is_reset=True)
        if position == self._next and not self._is_ended:
            self._changed.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                return News(self._epoch, self._next, (), is_reset=False)
        return News(self._epoch, self._next, self._since(position), is_reset=False)

    def _since(self, position: int) -> list[tuple[EntityKey, bytes]]:
        """From the newest backwards: what is asked for is at the end of a long board."""
        found = takewhile(lambda kept: kept[0] >= position, reversed(self._kept))
        return [(entity, reply) for _, entity, reply in found][::-1]

    def _oldest(self) -> int:
        return self._kept[0][0] if self._kept else self._next
