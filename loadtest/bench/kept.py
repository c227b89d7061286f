"""What was acknowledged must be stored, whatever happens to the database: it is killed, it recovers, every row is looked for.

The generator's journal has a line for each acknowledged checkout: its id, and `final` or `open` as it was told. A figure of a
run in which one of them is missing does not count. Source: speed.md "The bench", rules.

Invariant: what is looked at is the database itself after its recovery, through the auditor's role; the system is not asked.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from loadtest.bench.system import auditor_url
from loadtest.outcome import FINAL_STATUSES
from loadtest.probe import family
from servers.keys import DEMO_TENANT
from servers.supervisor import System
from zerosum.errors import Unavailable

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
    """`acknowledged`: how many. `missing`: of which nothing is stored. `undone`: told final, and stored otherwise."""

    acknowledged: int
    missing: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()

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


async def kill_and_compare(system: System, journals: Iterable[Path]) -> Kept:
    """SIGKILL to the database's every process, its recovery by the supervisor, and the comparison. Raises Unavailable."""
    before = system.database_pid()
    if before is None:
        raise Unavailable("the database is not ours to kill")
    for pid in family(before):  # the postmaster first: it would else end the others in its own, gentler way
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    acknowledged = read_acknowledged(journals)
    try:
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            while True:
                with contextlib.suppress(psycopg.OperationalError):
                    if system.database_pid() != before:
                        stored = await asyncio.to_thread(stored_final, auditor_url(system), list(acknowledged))
                        return compare(acknowledged, stored)
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError as gone:
        raise Unavailable(f"the database did not recover within {RECOVERY_LIMIT_S:.0f} s") from gone


def stored_final(url: str, checkout_ids: Sequence[str]) -> dict[str, bool]:
    """Of each that is stored: whether its reply is fixed and every order of it has come to its end. Blocking."""
    with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5) as connection:
        rows = connection.execute(_STORED, [sorted(FINAL_STATUSES), DEMO_TENANT, list(checkout_ids)])
        return {str(checkout_id): bool(is_final) for checkout_id, is_final in rows}
