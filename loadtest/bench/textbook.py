"""The textbook beside us, for what compares us with it: its servers, its own PSP simulator, its database on our server.

What it is given: a server process for each core of the machine, each with 16 connections and as many threads; a database
of its own on our PostgreSQL, with room on its pages and without sequential scans, which would conflict; wallets for
all sellers; a PSP that answers at once and sends no webhooks; no tokens to verify. Callers are spread over its processes and
have as many channels as ours have. Ours idles while it is measured: its shards take some 70 ms of CPU a second.

Invariant: what it acknowledged is looked for as ours is, in the database itself, after that was killed.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from loadtest.bench.finding import Finding
from loadtest.bench.kept import Kept, compare, kill_and_compare
from loadtest.bench.plan import SELLERS
from loadtest.bench.system import PSP_AT_ONCE, admin_url
from loadtest.listening import Listening, listening
from loadtest.naive import step
from loadtest.naive.database import NaiveDatabase
from loadtest.naive_process import naive_processes
from loadtest.own_database import at_database
from loadtest.probe import NAIVE
from loadtest.shape import HOT_SELLER, ONE_CURRENCY
from servers.keys import read_key
from servers.supervisor import System

DATABASE: Final = "naive"
PROCESSES: Final = frozenset({NAIVE, "database"})
"""Whose CPU is the textbook's. The database's is ours too, a little, which idles meanwhile."""

GIVEN: Final = "naive has a server process for each core, on the same database server; ours idles while it is measured"
"""For the notes of a finding."""


@dataclass(frozen=True, slots=True)
class Textbook:
    """A running one, a server process at each address. `database_url`: its database, as its owner sees it."""

    addresses: tuple[str, ...]
    database_url: str

    def kept(self, acknowledged: Mapping[str, bool]) -> Kept:
        """What of it is stored as it was told. By checkout id: whether it was told final. Blocking."""
        return compare(acknowledged, self._stored())

    def _stored(self) -> dict[str, bool]:
        """Whether each checkout is done, or has no order that is paid or under way."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute(
                "SELECT checkout_id, is_payment_done OR bool_and(status = 'FAILED') FROM payment_event "
                "JOIN payment_order USING (checkout_id) GROUP BY checkout_id, is_payment_done"
            )
            return {checkout_id: bool(is_final) for checkout_id, is_final in found}


@dataclass(frozen=True, slots=True)
class Killed:
    """What is stored of ours and of the textbook's, after the database of both was killed in the midst of a load on ours."""

    ours: Kept
    theirs: Kept

    def told_in(self, finding: Finding) -> Finding:
        """The finding, and what became of everything that was acknowledged."""
        beside = f"{self.theirs.acknowledged:,} of naive's, which was at rest by then, looked for too"
        return replace(
            finding, losses=(*self.ours.losses, *(f"naive: {loss}" for loss in self.theirs.losses)),
            doubts=self.ours.doubts, notes=(*finding.notes, self.ours.note, beside),
        )  # fmt: skip


async def kill_both(system: System, textbook: Textbook, journals: Iterable[Path], theirs: Mapping[str, bool]) -> Killed:
    """Kills the database of both. `journals`: of ours; `theirs`: see `Textbook.kept`. Raises Unavailable."""
    ours = await kill_and_compare(system, journals)
    return Killed(ours, await asyncio.to_thread(textbook.kept, theirs))


@asynccontextmanager
async def textbook_beside(system: System) -> AsyncIterator[Textbook]:
    """The textbook's servers with a wallet for every seller, and its simulator, for the block. Raises Unavailable."""
    folder, admin = system.settings.data_dir, admin_url(system)
    api_key, database_url = read_key(folder, "psp_api_key"), at_database(admin, DATABASE)
    async with AsyncExitStack() as stack:
        psp = await asyncio.to_thread(stack.enter_context, _simulator(folder / "psp-of-naive", api_key))
        started = naive_processes(
            len(os.sched_getaffinity(0)), admin_url=admin, psp_url=psp.address, api_key=api_key, database=DATABASE
        )
        processes = await asyncio.to_thread(stack.enter_context, started)
        database = NaiveDatabase(database_url)
        owners = [HOT_SELLER, *(f"seller-{number:04d}" for number in range(1, SELLERS + 1))]
        await database.transact(partial(step.open_wallets, owners=owners, currency=ONE_CURRENCY[0][0]))
        database.close()
        yield Textbook(tuple(process.address for process in processes), database_url)


def _simulator(folder: Path, api_key: str) -> AbstractContextManager[Listening]:
    command = [
        sys.executable, "-m", "simulator.psp", "--data", str(folder), "--port", "0", "--seed", "1", *PSP_AT_ONCE,
    ]  # fmt: skip
    environment = {**os.environ, "PSP_API_KEY": api_key, "PYTHONPATH": os.pathsep.join(sys.path)}
    return listening("the PSP simulator", command, environment)
