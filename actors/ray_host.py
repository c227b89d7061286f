"""The Ray side of a shard: an actor process that hosts one, and nothing more.

Ray is disposable here. `max_restarts=-1` brings a dead shard's process back; `max_task_retries=0` because retries are
ours. That an actor is alone is never trusted: a copy that starts raises the epoch of its slots, and a copy that finds
itself fenced ends its process, as one does whose shard failed. Source: design section 3, "Uniqueness of an actor is never
trusted".

Invariant: no state lives here; killing this process at any point loses nothing.
"""

import asyncio
import importlib
import os
from collections.abc import Sequence
from typing import Any

import ray
import structlog

from actors.answer import Answer
from actors.host import Hosted, HostFactory
from actors.outcome import News
from actors.packing import pack, unpack
from zerosum.errors import Unavailable

_log = structlog.get_logger()

LAST_WORDS_S = 1.0
"""A copy whose shard has ended lives this long to tell its callers, then ends."""


class ShardActor:
    """Hosts one shard, or the reconciler, from `factory` (a function of `servers.wiring`); starts with the first call."""

    def __init__(self, factory: str, settings: Any, slots: Sequence[int]) -> None:
        self._factory = factory
        self._settings = settings
        self._slots = tuple(slots)
        self._starting: asyncio.Task[Hosted] | None = None
        self._calls = 0

    async def submit(self, packed: bytes) -> bytes:
        """See `ShardLink.submit`."""
        self._calls += 1
        commands, is_inner = unpack(packed)
        return pack(await (await self._host()).submit(commands, is_inner))

    async def outcomes(self, packed: bytes) -> bytes:
        """See `ShardLink.outcomes`."""
        self._calls += 1
        return pack(await (await self._host()).outcomes(*unpack(packed)))

    async def figures(self) -> dict[str, int]:
        """Counters of this copy, the calls through Ray and what it sends to the database among them, with its process id."""
        host = await self._host()
        counted = (host.shard.figures, *host.counters)
        counts = {name: getattr(each, name) for each in counted for name in each.__slots__}
        return {"pid": os.getpid(), "calls": self._calls, **counts}

    async def _host(self) -> Hosted:
        """The shard, started. A start that failed, whatever it met, is tried again by the next call: the database may be
        back, the disk may have room."""
        if self._starting is None or _has_failed(self._starting):
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> Hosted:
        module, _, name = self._factory.partition(":")
        factory: HostFactory = getattr(importlib.import_module(module), name)
        host = await factory(self._settings, self._slots)
        self._watcher = asyncio.create_task(self._end_with_its_shard(host))
        return host

    async def _end_with_its_shard(self, host: Hosted) -> None:
        shard = host.shard
        await shard.ended.wait()
        _log.warning(
            "the shard's process ends with its shard", reason=shard.end_reason, slots=list(self._slots), pid=os.getpid()
        )
        await asyncio.sleep(LAST_WORDS_S)
        os._exit(0)


def _has_failed(starting: "asyncio.Task[Hosted]") -> bool:
    return starting.done() and (starting.cancelled() or starting.exception() is not None)


class RayLink:
    """A shard behind Ray, found by name. A dead or unreachable actor is Unavailable: its outcome is unknown."""

    def __init__(self, name: str, namespace: str, factory: str, settings: Any, slots: Sequence[int]) -> None:
        self._options = {"name": name, "namespace": namespace, "lifetime": "detached", "get_if_exists": True}
        self._arguments = (factory, settings, tuple(slots))
        self._actor: Any = None

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        """See `ShardLink.submit`."""
        answers: Sequence[Answer] = unpack(await self._call("submit", pack((commands, is_inner))))
        return answers

    async def outcomes(self, epoch: int, position: int) -> News:
        """See `ShardLink.outcomes`."""
        news: News = unpack(await self._call("outcomes", pack((epoch, position))))
        return news

    async def figures(self) -> dict[str, int]:
        """Counters of the shard's present copy."""
        counts: dict[str, int] = await self._call("figures")
        return counts

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            if self._actor is None:
                self._actor = await asyncio.to_thread(self._find)
            return await getattr(self._actor, method).remote(*arguments)
        except ray.exceptions.RayTaskError as failure:
            cause = failure.cause
            raise Unavailable(f"the shard could not serve: {cause!r}") from failure
        except ray.exceptions.ActorDiedError as failure:
            self._actor = None
            raise Unavailable(f"the shard's process has died: {failure}") from failure
        except (ray.exceptions.RayError, ValueError) as failure:
            raise Unavailable(f"the shard cannot be reached: {failure}") from failure

    def _find(self) -> Any:
        """The actor of that name, created where there is none. No CPU is reserved: shards are waiters."""
        actor: Any = ray.remote(ShardActor)
        limits = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0, "max_concurrency": 1_000}
        limits["enable_task_events"] = False  # Ray's head keeps 100,000 of them: 19 MB a minute at 50 checkouts/s
        return actor.options(**self._options, **limits).remote(*self._arguments)
