"""A shard with everything it needs around it, as one process hosts it: what the factory of the wiring returns.

Invariant: whoever closes a host closes all of it; nothing is shared between two hosts of one process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.answer import Answer
from actors.outcome import News
from actors.shard import Shard

NEWS_WAIT_S = 5.0
"""How long a call for outcomes stays outstanding without news."""


@dataclass(slots=True)
class Host:
    """A started shard. `close` stops it and closes what was opened for it. Is a `ShardLink` of its own process.

    `counters`: what counts beside the shard, such as its way to the database.
    """

    shard: Shard[Any, Any]
    close: Callable[[], Awaitable[None]]
    counters: Sequence[Any] = ()

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        """Takes commands into one of the two lanes; answers after the commit."""
        return await (self.shard.deliver(commands) if is_inner else self.shard.submit(commands))

    async def outcomes(self, epoch: int, position: int) -> News:
        """What became final after the position."""
        return await self.shard.outcomes.after(epoch, position, NEWS_WAIT_S)


class Counted(Protocol):
    """What stands within a host: counters by name (a dataclass with slots), the word that this copy must end, and why."""

    @property
    def figures(self) -> Any: ...
    @property
    def ended(self) -> asyncio.Event: ...
    @property
    def end_reason(self) -> str: ...


class Hosted(Protocol):
    """What an actor's process hosts: a shard with all around it, or the reconciler; `counters` as of `Host`."""

    @property
    def shard(self) -> Counted: ...
    @property
    def counters(self) -> Sequence[Any]: ...
    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Any]:
        """See `Host.submit`."""
        ...

    async def outcomes(self, epoch: int, position: int) -> News:
        """See `Host.outcomes`."""
        ...


HostFactory = Callable[[Any, Sequence[int]], Awaitable[Hosted]]
"""(settings, slots) -> a started host. Named by a dotted path, so that a shard's process can find it."""
