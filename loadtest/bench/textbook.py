"""The textbook beside us, for what compares us with it: its servers, its own PSP simulator, its database on our server.

What it is given: a server process for each core of the machine, each with 16 connections and as many threads; a database
of its own on our PostgreSQL, with room on its pages and without sequential scans, which would conflict; wallets for
all sellers; a PSP that answers at once and sends no webhooks; no tokens to verify. Callers are spread over its processes and
have as many channels as ours have. Ours idles while it is measured: its shards take some 70 ms of CPU a second.

Invariant: what it acknowledged is looked for as ours is, in the database itself, after that was killed.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from loadtest.bench.kept import compare
from loadtest.bench.plan import SELLERS
from loadtest.bench.system import PSP_AT_ONCE
from loadtest.naive import step
from loadtest.naive.database import NaiveDatabase
from loadtest.naive_process import naive_processes
from loadtest.own_database import at_database
from loadtest.probe import NAIVE
from loadtest.shape import HOT_SELLER, ONE_CURRENCY
from servers.keys import read_key
from servers.supervisor import System
from zerosum.errors import Unavailable
from zerosum.store.embedded import EmbeddedPostgres

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

    def losses(self, acknowledged: Mapping[str, bool]) -> tuple[str, ...]:
        """What is not stored as it was told, in words. By checkout id: whether it was told final. Blocking."""
        return tuple(f"naive: {loss}" for loss in compare(acknowledged, self._stored()).losses)

    def _stored(self) -> dict[str, bool]:
        """Whether each checkout is done, or has no order that is paid or under way."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute(
                "SELECT checkout_id, is_payment_done OR bool_and(status = 'FAILED') FROM payment_event "
                "JOIN payment_order USING (checkout_id) GROUP BY checkout_id, is_payment_done"
            )
            return {checkout_id: bool(is_final) for checkout_id, is_final in found}


@asynccontextmanager
async def textbook_beside(system: System) -> AsyncIterator[Textbook]:
    """The textbook's servers with a wallet for every seller, and its simulator, for the block. Raises Unavailable."""
    folder, admin_url = system.settings.data_dir, _admin_url(system)
    api_key, database_url = read_key(folder, "psp_api_key"), at_database(admin_url, DATABASE)
    async with AsyncExitStack() as stack:
        psp_url = await asyncio.to_thread(stack.enter_context, _simulator(folder / "psp-of-naive", api_key))
        started = naive_processes(
            len(os.sched_getaffinity(0)), admin_url=admin_url, psp_url=psp_url, api_key=api_key, database=DATABASE
        )
        processes = await asyncio.to_thread(stack.enter_context, started)
        database = NaiveDatabase(database_url)
        owners = [HOT_SELLER, *(f"seller-{number:04d}" for number in range(1, SELLERS + 1))]
        await database.transact(partial(step.open_wallets, owners=owners, currency=ONE_CURRENCY[0][0]))
        database.close()
        yield Textbook(tuple(process.address for process in processes), database_url)


@contextmanager
def _simulator(folder: Path, api_key: str) -> Iterator[str]:
    command = [
        sys.executable, "-m", "simulator.psp", "--data", str(folder), "--port", "0", "--seed", "1", *PSP_AT_ONCE,
    ]  # fmt: skip
    environment = {**os.environ, "PSP_API_KEY": api_key, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None  # asked for
            line = process.stdout.readline()
            if "listening on" not in line:
                raise Unavailable(f"the PSP simulator did not start: {line!r}")
            yield line.partition("listening on ")[2].split()[0]
        finally:
            process.terminate()


def _admin_url(system: System) -> str:
    return system.settings.database_url or EmbeddedPostgres(system.settings.data_dir / "postgres").urls()["admin"]
