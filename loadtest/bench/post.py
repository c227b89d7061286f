"""`zerosum bench post`: postings a second, ours and peers', in one process each on one PostgreSQL, durable when counted.

    hot, spread     all to one seller, or over 10,000; zipf: over 10,000, the n-th gets 1/n of what the first gets
    in flight       so many callers at once, each of whom calls again when it has its answer
    a call          postings in one call; a peer without such a call posts them one after the other
    balance         of a seller whose account has a million entries, which are written by SQL beside; read by one reader

Each peer stands in pairs with ours, A B A B; ratios are of neighbours. CPU is of both sides: this process, callers included,
and the database. Last, the database is killed (SIGKILL) under load and started again, and everything that was ever
acknowledged must be there: else no figure counts. Source: speed.md "The bench".

Invariant: everything acknowledged in any run, of ours and of peers', is looked for after the kill.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from rich.console import Console

from loadtest.bench.card import Card, take_card
from loadtest.bench.finding import console_for
from loadtest.bench.page import draw_and_tell
from loadtest.bench.post_finding import Balances, Result, finding_of
from loadtest.bench.post_load import CRASH, CRASH_AFTER_S, Case, Figure, Lane, Load, Pair, Reading, in_turn, measured
from loadtest.bench.system import folder_of
from loadtest.own_database import at_database, own_server
from loadtest.peers.peer import Ledger, NotInstalled
from loadtest.peers.table import OURS, PEERS, Peers
from loadtest.probe import family
from loadtest.sample import percentiles
from servers.collector import settle
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres

SELLERS: Final = 10_000
END_LIMIT_S: Final = 10.0

SECONDS: Final = 0.7
"""Of each run: 11 cases of three warm-ups and, with two peers, twenty runs are three minutes; speed.md's 10 s were 40.
In a crowd at one seller the textbook's callers take up to 10 s to give up, which is two minutes more; opening, the million
entries of three ledgers, cards and the kill are two."""

BALANCE_ENTRIES: Final = 1_000_000
"""Ten million, as speed.md has it, take ten times as long to fill: asked for by `--balance-entries`."""

READ_SELLER: Final = "seller-read"
"""Whose balance is read. Nobody posts to it after its opening."""

CASES: Final = (
    *(Case(sellers, in_flight, 1) for in_flight in (1, 16, 64, 256) for sellers in ("spread", "hot")),
    Case("zipf", 64, 1),
    *(Case(sellers, 4, 100) for sellers in ("spread", "hot")),
)
"""100 a call from 4 callers is 400 at once: a mailbox of one seller holds 1,000."""


# ---- the whole run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPlan:
    """What is compared, how often, how long each run. `balance_entries`: of the seller whose balance is read; 0 = none is."""

    against: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = SECONDS
    balance_entries: int = BALANCE_ENTRIES
    cases: tuple[Case, ...] = CASES
    sellers: int = SELLERS
    has_cards: bool = True


def bench_post(
    settings: Settings, plan: PostPlan, *, command: str, json_file: Path | None, peers: Peers = PEERS
) -> int:
    """On a database of its own, which is removed; its page goes below the data folder. 0 when nothing acknowledged was lost.

    Raises Misconfigured: no such peer.
    """
    check_known(plan.against, peers)
    console = console_for(json_file)
    with own_server() as (server, folder):
        result = asyncio.run(_Comparison(server, folder, plan, console, peers).run())
    return draw_and_tell(finding_of(result, command), folder_of(settings, "post"), console, json_file)


def check_known(against: Sequence[str], peers: Peers = PEERS) -> None:
    """Raises Misconfigured where one of them is no peer."""
    known = peers.keys() - {OURS}
    if unknown := sorted(set(against) - known):
        raise Misconfigured(f"no such peer: {', '.join(unknown)}; there are {', '.join(sorted(known))}")


class _Comparison:
    """One run of the bench on a server that is up."""

    def __init__(self, server: EmbeddedPostgres, folder: Path, plan: PostPlan, console: Console, peers: Peers) -> None:
        self._server = server
        self._folder = folder
        self._plan = plan
        self._console = console
        self._peers = peers
        self._sellers = [f"seller-{number:05}" for number in range(plan.sellers)]
        self._load = Load(self._sellers, seed=1)
        self._ledgers: dict[str, Ledger] = {}

    async def run(self) -> Result:
        """Cards, accounts, pairs, balances, the kill."""
        lanes, missing = self._lanes()
        self._say(f"opening {self._plan.sellers} accounts at {', '.join(lane.name for lane in lanes)}")
        for lane in lanes:
            await lane.peer.open([*self._sellers, READ_SELLER])
        settle()
        before = self._card()
        pairs = [pair for case in self._plan.cases async for pair in self._pairs(case, lanes)]
        balances = await self._balances(lanes) if self._plan.balance_entries else None
        after = self._card()
        remarks = {lane.name: lane.peer.remark() for lane in lanes}
        self._say("killing the database under load")
        lost = await kill_under_load(self._server, lanes, self._load)
        for lane in lanes:
            await lane.peer.close()
        cards = (before, after) if before is not None and after is not None else None
        return Result(pairs, lanes, lost, missing, remarks, cards, balances)

    def _lanes(self) -> tuple[list[Lane], list[str]]:
        lanes, missing = [], []
        for name in (OURS, *self._plan.against):
            try:
                self._ledgers[name] = self._peers[name](self._server.urls())
                lanes.append(Lane(name, self._ledgers[name]))
            except NotInstalled as away:
                self._say(str(away))
                missing.append(name)
        return lanes, missing

    async def _pairs(self, case: Case, lanes: Sequence[Lane]) -> AsyncIterator[Pair]:
        self._say(str(case))
        async for pair in self._load.pairs(lanes, case, rounds=self._plan.rounds, seconds=self._plan.seconds):
            yield pair

    async def _balances(self, lanes: Sequence[Lane]) -> Balances:
        """One reader, everybody in turn, as postings are; each read is timed."""
        wanted = self._plan.balance_entries
        self._say(f"filling one account at each with {wanted:,} entries")
        entries = {name: await ledger.fill(READ_SELLER, wanted) for name, ledger in self._ledgers.items()}
        await asyncio.to_thread(self._write_out)
        self._say("reading balances")
        took_ms: dict[str, list[float]] = {lane.name: [] for lane in lanes}
        for lane in lanes:
            await self._ledgers[lane.name].balance(READ_SELLER)  # the first one brings the rows into memory

        async def run(lane: Lane) -> Figure:
            return await measured(
                lane, lambda end_s: self._read(lane.name, took_ms[lane.name], end_s), self._plan.seconds
            )

        pairs = [pair async for pair in in_turn(lanes, Reading(wanted), run, rounds=self._plan.rounds)]
        return Balances(pairs, entries, {name: percentiles(each) for name, each in took_ms.items()})

    def _write_out(self) -> None:
        """What was filled in goes to the disk now, and not beside the reads; nor has the kill's recovery to bring it again."""
        with psycopg.connect(at_database(self._server.urls()["admin"], "postgres"), autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    async def _read(self, name: str, took_ms: list[float], end_s: float) -> int:
        count = 0
        while (began_s := time.monotonic()) < end_s:
            await self._ledgers[name].balance(READ_SELLER)
            took_ms.append((time.monotonic() - began_s) * 1e3)
            count += 1
        return count

    def _card(self) -> Card | None:
        if not self._plan.has_cards:
            return None
        self._say("taking the machine's card")
        return take_card(self._server.urls()["admin"], self._folder)

    def _say(self, what: str) -> None:
        self._console.print(what, style="dim", highlight=False)


async def kill_under_load(server: EmbeddedPostgres, lanes: Sequence[Lane], load: Load) -> dict[str, int]:
    """Kills the database while everybody posts, starts it again, and counts what of the acknowledged it has lost, by lane.

    Raises Unavailable where it does not come back.
    """
    running = [asyncio.create_task(load.run(lane, CRASH, 2 * CRASH_AFTER_S)) for lane in lanes]
    await asyncio.sleep(CRASH_AFTER_S)
    for pid in family(server.pid):
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(server.wait, END_LIMIT_S)
    await asyncio.to_thread(server.start)
    await asyncio.gather(*running, return_exceptions=True)  # most are told that the database is away
    return {lane.name: len(set(lane.acknowledged) - await lane.peer.stored()) for lane in lanes}
