"""The callers of `zerosum bench post`, in process and over gRPC: cases, runs, neighbouring runs, what each has acknowledged.

Invariant: a posting is counted when `Peer.post` has returned for it, and only then.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from loadtest.peers.peer import Peer, Posting
from loadtest.probe import cpu_ms_by_process
from zerosum.errors import SerializationConflict

WARM_UP_S: Final = 1.0
"""At most; a shorter run has as long a warm-up as itself. Speed.md has 3 s before 10 s; runs here are shorter."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to post. `sellers`: "spread", all alike; "hot", all to the first; "zipf", the n-th gets 1/n of the first's.

    Of 10,000 sellers by Zipf the first gets 10 % of all postings, the first hundred 53 %.
    """

    sellers: str
    in_flight: int
    a_call: int

    def __str__(self) -> str:
        return f"{self.sellers}, {self.in_flight} in flight, {self.a_call} a call"


CRASH: Final = Case("spread", 64, 1)
"""What everybody does while the database is killed, after so long of it."""

CRASH_AFTER_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Figure:
    """One run of one peer. CPU in microseconds a posting: of the ledger and its database, and of this process, which calls.

    In process the callers are in both: the ledger is called by the thread that runs it.
    """

    per_s: float
    cpu_us: float
    client_us: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Balances of one seller read one after another, whose account has about so many entries."""

    entries: int

    def __str__(self) -> str:
        return f"balance of {self.entries:,} entries, 1 reader"


@dataclass(frozen=True, slots=True)
class Pair:
    """Neighbouring runs of ours and of a peer; ours alone where nobody stands beside (`peer` "")."""

    case: Case | Reading
    peer: str
    ours: Figure
    theirs: Figure | None


def in_process_cpu_ms() -> float:
    """CPU of this process and of the database, since each began."""
    return time.process_time() * 1e3 + cpu_ms_by_process().get("database", 0.0)


@dataclass(slots=True)
class Lane:
    """A peer on its way through the bench: whose CPU is its own, what it has acknowledged, how many calls it gave up."""

    name: str
    peer: Peer
    cpu_ms: Callable[[], float] = in_process_cpu_ms
    acknowledged: list[str] = field(default_factory=list)
    given_up: int = 0


Work = Callable[[float], Awaitable[int]]
"""Works until that instant of the monotonic clock; how many it has done."""


async def measured(lane: Lane, work: Work, seconds: float) -> Figure:
    """One run. Raises what the work raises."""
    cpu_ms = lane.cpu_ms()  # looks at every process: before the clock starts
    began_s, client_s = time.monotonic(), time.process_time()
    count = max(await work(began_s + seconds), 1)
    elapsed_s, client_us = time.monotonic() - began_s, (time.process_time() - client_s) * 1e6
    return Figure(count / elapsed_s, (lane.cpu_ms() - cpu_ms) * 1e3 / count, client_us / count)


class Load:
    """Callers: an endless, seeded sequence of postings, and runs of them. Ids of another seed are others."""

    def __init__(self, sellers: Sequence[str], seed: int) -> None:
        self._sellers = sellers
        self._shares = list(accumulate(1 / rank for rank in range(1, len(sellers) + 1)))
        self._chance = random.Random(seed)
        self._seed = seed
        self._number = 0

    async def run(self, lane: Lane, case: Case, seconds: float) -> Figure:
        """Closed loop for so long. Raises what the peer raises; what was acknowledged before stays noted."""

        async def work(end_s: float) -> int:
            before = len(lane.acknowledged)
            await asyncio.gather(*(self._caller(lane, case, end_s) for _ in range(case.in_flight)))
            return len(lane.acknowledged) - before

        return await measured(lane, work, seconds)

    async def pairs(self, lanes: Sequence[Lane], case: Case, *, rounds: int, seconds: float) -> AsyncIterator[Pair]:
        """Everybody warm, then the first lane and each of the others in turn, A B A B."""
        for lane in lanes:
            await self.run(lane, case, min(WARM_UP_S, seconds))
        async for pair in in_turn(lanes, case, lambda lane: self.run(lane, case, seconds), rounds=rounds):
            yield pair

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
        return Posting(posting_id, self._seller(sellers), self._chance.randint(100, 25_000))

    def _seller(self, sellers: str) -> str:
        match sellers:
            case "hot":
                return self._sellers[0]
            case "zipf":
                return self._chance.choices(self._sellers, cum_weights=self._shares)[0]
            case _:
                return self._chance.choice(self._sellers)


async def in_turn(
    lanes: Sequence[Lane], case: Case | Reading, run: Callable[[Lane], Awaitable[Figure]], *, rounds: int
) -> AsyncIterator[Pair]:
    """Neighbouring runs, so many a peer."""
    ours, *others = lanes
    for _ in range(rounds):
        for other in others:
            mine = await run(ours)
            yield Pair(case, other.name, mine, await run(other))
        if not others:
            yield Pair(case, "", await run(ours), None)
