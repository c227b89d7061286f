"""What was acknowledged must be stored, whatever happens to the database: it is killed in the midst of a load and looked into.

The last act of every run: some seconds of load, and SIGKILL to every process of the database while it is under way, when much
of what was acknowledged is only just written. What the run acknowledged until then must be there as soon as the database can be
read again, before anybody had time to do it once more; what it acknowledges afterwards must be there at the end. Calls that
fail meanwhile were never acknowledged. A figure of a run in which something is missing does not count.

The generator's journal has a line for each acknowledged checkout: its id, and `final` or `open` as it was told. Source:
speed.md "The bench", rules.

Invariant: what is looked at is the database itself after its recovery, through the auditor's role; the system is not asked.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from loadtest.bench.load import run_load
from loadtest.bench.plan import LoadPlan
from loadtest.bench.system import auditor_url, load_plan
from loadtest.outcome import FINAL_STATUSES
from loadtest.probe import family
from servers.keys import DEMO_TENANT
from servers.supervisor import System
from zerosum.errors import Unavailable

LOAD_S: Final = 6.0
KILL_AFTER_S: Final = 3.0
"""Into the load: it is steady by then, and as long again is left for what comes after the kill."""

TPS: Final = 50.0
TPS_MIN: Final = 10.0
"""Of a load that is sure to have had something acknowledged in its last second."""

FRESH_S: Final = 1.0
"""PostgreSQL that does not wait for its disk has up to 0.6 s of commits in memory alone: three rounds of its WAL writer."""

RECOVERY_LIMIT_S: Final = 120.0
ASK_EVERY_S: Final = 0.1
_NAMED_MAX: Final = 3

_STORED: Final = """
SELECT e.checkout_id, length(e.reply) > 0 AND bool_and(o.payment_order_status = ANY(%s))
FROM payment.payment_events e JOIN payment.payment_orders o USING (slot, tenant, checkout_id)
WHERE e.tenant = %s AND e.checkout_id = ANY(%s)
GROUP BY e.checkout_id, e.reply
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """`acknowledged`: how many. `missing`: of which nothing is stored. `undone`: told final, and stored otherwise.

    `fresh`: how many were acknowledged in the second before the kill; only they can tell a database that keeps its word.
    """

    acknowledged: int
    missing: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    fresh: int = 0

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the comparison shows nothing; none: it does."""
        return () if self.fresh else ("nothing was acknowledged in the second before the database was killed",)

    @property
    def note(self) -> str:
        """What was done, in words."""
        return (
            f"{self.acknowledged:,} acknowledged checkouts looked for after the database was killed in the midst of a load, "
            f"{self.fresh} of them acknowledged in the second before"
        )

    @property
    def losses(self) -> tuple[str, ...]:
        """What is not stored as it was told, in words; none: all of it is."""
        wrong = (
            ("acknowledged and not stored", self.missing),
            ("told final and stored otherwise", self.undone),
        )
        return tuple(
            f"{len(ids)} of {self.acknowledged} checkouts were {what}: {', '.join(ids[:_NAMED_MAX])}"
            for what, ids in wrong
            if ids
        )


def read_acknowledged(journals: Iterable[Path]) -> dict[str, bool]:
    """Checkout id -> whether it was told final, of all files together."""
    lines = (line.split() for journal in journals for line in journal.read_text(encoding="ascii").splitlines())
    return {checkout_id: told == "final" for checkout_id, told in lines}


def compare(acknowledged: Mapping[str, bool], stored: Mapping[str, bool]) -> Kept:
    """Both by checkout id; the values say whether it is final."""
    missing = tuple(each for each in acknowledged if each not in stored)
    undone = tuple(each for each, is_final in acknowledged.items() if is_final and stored.get(each) is False)
    return Kept(len(acknowledged), missing, undone)


async def kill_and_compare(
    system: System, journals: Iterable[Path], *, tps: float = TPS, orders: int = 1, hot_share: float = 0.0
) -> Kept:
    """Loads the system, kills its database in the midst of it, and compares all that the journals and the load tell.

    `tps`: of the load, at least 10; a rate that the system holds. Returns when the load has ended. Raises Unavailable.
    """
    folder = tempfile.mkdtemp(prefix="last-load-", dir=system.settings.data_dir)
    plan = load_plan(
        system, Path(folder), tps=max(tps, TPS_MIN), seconds=LOAD_S, warm_up_s=0.0, orders=orders, hot_share=hot_share
    )

    async def look(ids: Sequence[str]) -> Mapping[str, bool]:
        return await asyncio.to_thread(stored_final, auditor_url(system), ids)

    return await compare_under_load(plan, journals, kill=partial(kill_database, system), look=look)


Look = Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]]
"""Of each checkout id that is stored: whether it is final."""


async def compare_under_load(
    plan: LoadPlan, journals: Iterable[Path], *, kill: Callable[[], Awaitable[None]], look: Look
) -> Kept:
    """The load of a plan without a warm-up, `kill` in its midst, and the comparison. `kill` returns when one can look again.

    Raises Unavailable.
    """
    old, ids = read_acknowledged(journals), [basket.checkout_id for basket in plan.baskets()]
    killed_s, after_kill = 0.0, dict[str, bool]()

    async def strike() -> None:
        nonlocal killed_s
        await asyncio.sleep(KILL_AFTER_S)
        killed_s = time.perf_counter()
        await kill()
        after_kill.update(await look([*old, *ids]))

    load = await run_load(plan, on_counting=strike)
    told = read_acknowledged([plan.journal])
    ended_s = {ids[call.number]: load.ended_s(call) for call in load.calls}
    before = {each: is_final for each, is_final in told.items() if ended_s[each] < killed_s}
    since = {each: is_final for each, is_final in told.items() if each not in before}
    first, last = compare({**old, **before}, after_kill), compare(since, await look(list(since)))
    fresh = sum(killed_s - FRESH_S <= ended_s[each] for each in before)
    return Kept(first.acknowledged + last.acknowledged, first.missing + last.missing, first.undone + last.undone, fresh)


async def kill_database(system: System) -> None:
    """SIGKILL to the database's every process, and its recovery by the supervisor. Returns when it can be read.

    Raises Unavailable: it is not ours to kill, or does not come back.
    """
    before, url = system.database_pid(), auditor_url(system).replace("+psycopg", "")
    if before is None:
        raise Unavailable("the database is not ours to kill")
    for pid in family(before):  # the postmaster first: it would else end the others in its own, gentler way
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            while system.database_pid() == before or not await asyncio.to_thread(_is_readable, url):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError as gone:
        raise Unavailable(f"the database did not recover within {RECOVERY_LIMIT_S:.0f} s") from gone


def _is_readable(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
        return True
    return False


def stored_final(url: str, checkout_ids: Sequence[str]) -> dict[str, bool]:
    """Of each that is stored: whether its reply is fixed and every order of it has come to its end. Blocking."""
    with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5) as connection:
        rows = connection.execute(_STORED, [sorted(FINAL_STATUSES), DEMO_TENANT, list(checkout_ids)])
        return {str(checkout_id): bool(is_final) for checkout_id, is_final in rows}
