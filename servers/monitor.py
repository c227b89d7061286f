"""What a server watches while it serves: its shards' figures, Ray itself, orders in flight for too long, and dead letters.

Invariant: a watch changes nothing; the worst it does is to end a server that has lost Ray for good, so that the supervisor
starts it anew.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from servers.log import logger_of
from servers.metric import Metrics
from zerosum.errors import Retryable, Unavailable
from zerosum.readers import PaymentReader

Watch = Coroutine[Any, Any, None]
_log = logger_of("monitor")

EVERY_S = 1.0
LOST_AFTER = 3
"""Ray counts as lost when its head did not take a connection three times in a row, a second apart."""
SILENT_S = 30.0
"""It counts as lost too when no shard told its figures for so long: a new head at the old address is another cluster, which
this process cannot join any more. Shards start within 15 s, also on a busy machine."""

IN_FLIGHT_EVERY_S = 5.0

DEAD_LETTERS_EVERY_S = 15.0
"""Four looks a minute; people answer in hours."""


class FiguredLink(Protocol):
    """A shard that tells its counters."""

    async def figures(self) -> dict[str, int]:
        """Counters by name, and the process id."""
        ...


async def watch_shards(links: Sequence[FiguredLink], metrics: Metrics, ray_address: str, stop: asyncio.Event) -> None:
    """Exports the shards' figures; ends the server when Ray is lost whole: it joins the next head when it starts."""
    misses, clock = 0, asyncio.get_running_loop().time
    heard_at_s = clock()
    while not stop.is_set():
        misses = 0 if await _answers(ray_address) else misses + 1
        if misses >= LOST_AFTER or clock() - heard_at_s > SILENT_S:
            _log.error("ray is lost: this server ends and comes back with it", address=ray_address)
            stop.set()
        for number, link in enumerate(links):
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    metrics.shard(number, await link.figures())
                    heard_at_s = clock()
        await asyncio.sleep(EVERY_S)


async def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(EVERY_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def watch_in_flight(
    reader: PaymentReader,
    older_than_ms: int,
    metrics: Metrics,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Looks for ever. Raises an alert (log line, metric) while orders are older than the limit and not final: a line whenever
    their number changes, back to 0 too. A database that is away leaves both as they are. The list is ListInFlight."""
    alerted = 0
    while True:
        await sleep(IN_FLIGHT_EVERY_S)
        try:
            overdue = await reader.count_in_flight(older_than_ms)
        except Retryable:
            continue
        metrics.overdue(overdue)
        if overdue != alerted:
            _log.warning("orders in flight for too long", orders=overdue, older_than_ms=older_than_ms)
        alerted = overdue


async def watch_dead_letters(
    reader: PaymentReader,
    metrics: Metrics,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Looks for ever. Raises an alert (log line, metric) while there are dead letters, whatever became of their orders: a line
    whenever the number of a kind changes, back to 0 too. A database that is away leaves both as they are. See ListTodos."""
    alerted: dict[str, int] = {}
    while True:
        await sleep(DEAD_LETTERS_EVERY_S)
        try:
            found = await reader.dead_letters()
        except Retryable:
            continue
        metrics.dead_letters(found)
        by_kind = {each.kind.value: each.todos for each in found}
        if by_kind != alerted:
            oldest_ms = max((each.oldest_ms for each in found), default=0)
            _log.warning(
                "dead letters wait for people", dead_letters=sum(by_kind.values()), by_kind=by_kind, oldest_ms=oldest_ms
            )
        alerted = by_kind
