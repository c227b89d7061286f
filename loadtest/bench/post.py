"""`zerosum bench post`: postings a second, ours and peers', in one process each on one PostgreSQL, durable when counted.

    hot, spread     all to one seller, or over 10,000
    in flight       so many callers at once, each of whom calls again when it has its answer
    a call          postings in one call; a peer without such a call posts them one after the other

Each peer stands in pairs with ours, A B A B; ratios are of neighbours. CPU is of both sides: this process, callers included,
and the database. Last, the database is killed (SIGKILL) under load and started again, and everything that was ever
acknowledged must be there: else no figure counts. Source: speed.md "The bench".

Invariant: a posting is counted when `Peer.post` has returned for it, and only then.
"""

import asyncio
import hashlib
import os
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtest.bench import machine
from loadtest.bench.card import Card, take_card
from loadtest.bench.finding import PAIRS_MIN, Cell, Finding, console_for, few_pairs, ratios, spread_of
from loadtest.bench.page import draw_and_tell
from loadtest.bench.system import folder_of
from loadtest.own_database import own_server
from loadtest.peers.peer import NotInstalled, Peer, Posting
from loadtest.peers.table import OURS, PEERS, Peers
from loadtest.probe import cpu_ms_by_process, family
from servers.collector import settle
from zerosum.errors import Misconfigured, SerializationConflict
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres

SELLERS: Final = 10_000
WARM_UP_S: Final = 1.0
CRASH_AFTER_S: Final = 0.5
CRASH_IN_FLIGHT: Final = 64
END_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """One way to post."""

    sellers: str
    in_flight: int
    a_call: int

    def __str__(self) -> str:
        return f"{self.sellers}, {self.in_flight} in flight, {self.a_call} a call"


CASES: Final = tuple(
    Case(sellers, in_flight, a_call)
    for a_call, levels in ((1, (1, 16, 64, 256)), (100, (4,)))
    for in_flight in levels
    for sellers in ("spread", "hot")
)
"""100 a call from 4 callers is 400 at once: a mailbox of one seller holds 1,000."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One run of one peer. CPU in microseconds a posting."""

    per_s: float
    process_us: float
    database_us: float

    @property
    def cpu_us(self) -> float:
        """Both sides."""
        return self.process_us + self.database_us


@dataclass(frozen=True, slots=True)
class Pair:
    """Neighbouring runs of ours and of a peer; ours alone where nobody stands beside (`peer` "")."""

    case: Case
    peer: str
    ours: Figure
    theirs: Figure | None


@dataclass(slots=True)
class Lane:
    """A peer on its way through the bench: what it has acknowledged, and how many calls it gave up."""

    name: str
    peer: Peer
    acknowledged: list[str] = field(default_factory=list)
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """All pairs; by peer how many postings it acknowledged, how many of those a killed database had lost, how many calls it
    gave up, and what it has to say itself."""

    pairs: Sequence[Pair]
    acknowledged: Mapping[str, int]
    lost: Mapping[str, int]
    not_installed: Sequence[str]
    given_up: Mapping[str, int]
    remarks: Mapping[str, str] = field(default_factory=dict)
    cards: tuple[Card, Card] | None = None


class Load:
    """Callers: an endless, seeded sequence of postings, and runs of them. Ids of another seed are others."""

    def __init__(self, sellers: Sequence[str], seed: int) -> None:
        self._sellers = sellers
        self._chance = random.Random(seed)
        self._seed = seed
        self._number = 0

    async def run(self, lane: Lane, case: Case, seconds: float) -> Figure:
        """Closed loop for so long. Raises what the peer raises; what was acknowledged before stays noted."""
        before = len(lane.acknowledged)
        database_ms = _database_ms()  # looks at every process: before the clock starts
        began_s, process_s = time.monotonic(), time.process_time()
        end_s = began_s + seconds
        await asyncio.gather(*(self._caller(lane, case, end_s) for _ in range(case.in_flight)))
        elapsed_s = time.monotonic() - began_s
        count = max(len(lane.acknowledged) - before, 1)
        return Figure(
            count / elapsed_s, (time.process_time() - process_s) * 1e6 / count,
            (_database_ms() - database_ms) * 1e3 / count,
        )  # fmt: skip

    async def _caller(self, lane: Lane, case: Case, end_s: float) -> None:
        while time.monotonic() < end_s:
            postings = [self._posting(case.sellers) for _ in range(case.a_call)]
            try:
                await lane.peer.post(postings)
            except SerializationConflict:
                lane.given_up += 1
                continue
            lane.acknowledged += [posting.posting_id for posting in postings]

    def _posting(self, sellers: str) -> Posting:
        """Its id is spread as ours are, which are hashes: neighbours in time are none in an index."""
        self._number += 1
        posting_id = f"post-{self._seed}-{hashlib.sha256(str(self._number).encode()).hexdigest()[:40]}"
        seller = self._sellers[0] if sellers == "hot" else self._chance.choice(self._sellers)
        return Posting(posting_id, seller, self._chance.randint(100, 25_000))


def _database_ms() -> float:
    return cpu_ms_by_process().get("database", 0.0)


# ---- the whole run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPlan:
    """What is compared, how often, how long each run."""

    against: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = 2.0
    cases: tuple[Case, ...] = CASES
    sellers: int = SELLERS
    has_cards: bool = True


def bench_post(
    settings: Settings, plan: PostPlan, *, command: str, json_file: Path | None, peers: Peers = PEERS
) -> int:
    """On a database of its own, which is removed; its page goes below the data folder. 0 when nothing acknowledged was lost.

    Raises Misconfigured: no such peer.
    """
    known = peers.keys() - {OURS}
    if unknown := sorted(set(plan.against) - known):
        raise Misconfigured(f"no such peer: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    console = console_for(json_file)
    with own_server() as (server, folder):
        result = asyncio.run(_Comparison(server, folder, plan, console, peers).run())
    return draw_and_tell(finding_of(result, command), folder_of(settings, "post"), console, json_file)


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

    async def run(self) -> Result:
        """Cards, accounts, pairs, the kill."""
        lanes, missing = self._lanes()
        self._say(f"opening {self._plan.sellers} accounts at {', '.join(lane.name for lane in lanes)}")
        for lane in lanes:
            await lane.peer.open(self._sellers)
        settle()
        before = self._card()
        pairs = [pair for case in self._plan.cases async for pair in self._pairs(case, lanes)]
        after = self._card()
        remarks = {lane.name: lane.peer.remark() for lane in lanes}
        self._say("killing the database under load")
        lost = await kill_under_load(self._server, lanes, self._load)
        for lane in lanes:
            await lane.peer.close()
        acknowledged = {lane.name: len(lane.acknowledged) for lane in lanes}
        cards = (before, after) if before is not None and after is not None else None
        given_up = {lane.name: lane.given_up for lane in lanes}
        return Result(pairs, acknowledged, lost, missing, given_up, remarks, cards)

    def _lanes(self) -> tuple[list[Lane], list[str]]:
        lanes, missing = [], []
        for name in (OURS, *self._plan.against):
            try:
                lanes.append(Lane(name, self._peers[name](self._server.urls())))
            except NotInstalled as away:
                self._say(str(away))
                missing.append(name)
        return lanes, missing

    async def _pairs(self, case: Case, lanes: Sequence[Lane]) -> AsyncIterator[Pair]:
        self._say(str(case))
        seconds = self._plan.seconds
        for lane in lanes:
            await self._load.run(lane, case, min(WARM_UP_S, seconds))
        ours, *others = lanes
        for _ in range(self._plan.rounds):
            for other in others:
                mine = await self._load.run(ours, case, seconds)
                yield Pair(case, other.name, mine, await self._load.run(other, case, seconds))
            if not others:
                yield Pair(case, "", await self._load.run(ours, case, seconds), None)

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
    case = Case("spread", CRASH_IN_FLIGHT, 1)
    running = [asyncio.create_task(load.run(lane, case, 2 * CRASH_AFTER_S)) for lane in lanes]
    await asyncio.sleep(CRASH_AFTER_S)
    for pid in family(server.pid):
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(server.wait, END_LIMIT_S)
    await asyncio.to_thread(server.start)
    await asyncio.gather(*running, return_exceptions=True)  # most are told that the database is away
    return {lane.name: len(set(lane.acknowledged) - await lane.peer.stored()) for lane in lanes}


# ---- what it says --------------------------------------------------------------------------------------------------

COLUMNS: Final = (
    "postings",
    "ours/s",
    "CPU µs",
    "beside",
    "theirs/s",
    "CPU µs of theirs",
    "rate, ours : theirs",
    "CPU, theirs : ours",
)
HEADLINE_IN_FLIGHT: Final = 64


def finding_of(result: Result, command: str) -> Finding:
    """One row a case and peer: medians and ranges over the rounds."""
    grouped: dict[tuple[Case, str], list[Pair]] = {}
    for pair in result.pairs:
        grouped.setdefault((pair.case, pair.peer), []).append(pair)
    compared = [len(pairs) for (_, peer), pairs in grouped.items() if peer]
    told = ", ".join(f"{count:,} by {name}" for name, count in result.acknowledged.items())
    return Finding(
        bench="post", command=command, headline=_headline(grouped, result.cards), columns=COLUMNS,
        rows=tuple(_row(case, peer, pairs) for (case, peer), pairs in grouped.items()), cards=result.cards,
        losses=tuple(f"{name} has lost {count} acknowledged postings" for name, count in result.lost.items() if count),
        notes=(
            f"acknowledged and found again after the database was killed: {told}" if not any(result.lost.values())
            else f"acknowledged: {told}",
            *few_pairs(min(compared, default=PAIRS_MIN)),
            *(f"{name} is not installed: nothing is said of it" for name in result.not_installed),
            *(f"{name} gave up {count} calls" for name, count in result.given_up.items() if count),
            *(f"{name}, {remark}" for name, remark in result.remarks.items() if remark),
        ),
        facts=machine.facts(),
    )  # fmt: skip


def _row(case: Case, peer: str, pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    ours = [pair.ours for pair in pairs]
    theirs = [pair.theirs for pair in pairs if pair.theirs is not None]
    both = bool(theirs)
    return (
        str(case), spread_of(each.per_s for each in ours), spread_of(each.cpu_us for each in ours), peer or None,
        spread_of(each.per_s for each in theirs), spread_of(each.cpu_us for each in theirs),
        ratios([each.per_s for each in ours], [each.per_s for each in theirs]) if both else None,
        ratios([each.cpu_us for each in theirs], [each.cpu_us for each in ours]) if both else None,
    )  # fmt: skip


def _headline(grouped: Mapping[tuple[Case, str], Sequence[Pair]], cards: tuple[Card, Card] | None) -> str:
    """Hot, one a call, 64 in flight where that was measured; else whatever came first."""
    wanted = Case("hot", HEADLINE_IN_FLIGHT, 1)
    case = wanted if any(each == wanted for each, _ in grouped) else next(iter(grouped))[0]
    mine = [pair.ours.per_s for (each, _), pairs in grouped.items() if each == case for pair in pairs]
    per_s = statistics.median(mine)
    parts = [f"post ({case}): {per_s:,.0f}/s"]
    if cards is not None:
        parts.append(f"{per_s / cards[0].commits_of_64_clients_per_s:.2f} per one-row commit of the card at 64 clients")
    for (each, peer), pairs in grouped.items():
        theirs = [pair.theirs.per_s for pair in pairs if pair.theirs is not None]
        if each == case and theirs:
            parts.append(f"{ratios([pair.ours.per_s for pair in pairs], theirs)} x {peer}")
    return "; ".join(parts)
