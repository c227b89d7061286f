"""`zerosum bench post --rpc`: the ledger server's PostJournals on a whole system of its own, beside peers behind a gRPC shim.

    CPU µs            of the system: ledger server, shards, Ray, database; of a peer: its process and the database
    client µs         of this process, which calls

Ours has a sign-in, the contract's checks and a hop through Ray behind its door, a peer nothing but its own call. At the end
the database is killed under load and everything acknowledged must be there. Source: speed.md "The bench", RPC with RPC.

Invariant: a journal is counted when its own result in the reply says that it is done.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import grpc
import psycopg

from loadtest.bench.kept import kill_database
from loadtest.bench.post_finding import Result
from loadtest.bench.post_load import CRASH, CRASH_AFTER_S, Case, Lane, Load
from loadtest.bench.system import auditor_url
from loadtest.peers.peer import CURRENCY, NotInstalled, Posting
from loadtest.peers.shim import ShimPeer
from loadtest.peers.table import OURS, Urls
from loadtest.probe import NOT_THE_SYSTEM, PEER, cpu_ms_by_process
from servers.keys import token_path
from servers.supervisor import System
from zerosum.domain.journal import Movement, clearing_account, seller_pending_account
from zerosum.domain.money import Money, format_amount
from zerosum.errors import OutcomeUnknown
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.v1 import ledger_pb2 as pb
from zerosum.v1.common_pb2 import Money as MoneyMessage
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub

CASES: Final = (
    *(Case(sellers, in_flight, 1) for in_flight in (1, 64) for sellers in ("spread", "hot")),
    Case("zipf", 64, 1),
    *(Case(sellers, in_flight, 100) for in_flight in (1, 4) for sellers in ("spread", "hot")),
)
SELLERS: Final = 1_000
DEADLINE_S: Final = 30.0
_TENANT: Final = "bench"
_THEIRS: Final = frozenset({PEER, "database"})


class RpcPeer:
    """The ledger server of a running system, as its one caller calls it. Implements `peer.Peer`."""

    def __init__(self, system: System) -> None:
        settings = system.settings
        token = token_path(settings.data_dir, "payment").read_text(encoding="ascii").strip()
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._url = auditor_url(system).replace("+psycopg", "")
        self._channel = grpc.aio.insecure_channel(settings.ledger_address)
        self._ledger = LedgerServiceStub(self._channel)

    async def open(self, sellers: Sequence[str]) -> None:
        """Opens an owner for each seller by a first journal."""
        for at in range(0, len(sellers), 250):
            await self.post([Posting(f"open-{seller}", seller, 100) for seller in sellers[at : at + 250]])

    async def post(self, postings: Sequence[Posting]) -> None:
        """One PostJournals. Raises OutcomeUnknown where one of them is not known to be posted, grpc's error for the call."""
        request = pb.PostJournalsRequest(journals=[journal_message(posting) for posting in postings])
        reply = await self._ledger.PostJournals(request, timeout=DEADLINE_S, metadata=self._metadata)
        for result in reply.results:
            if not result.HasField("done"):
                raise OutcomeUnknown(f"a journal was answered {result}")

    async def stored(self) -> set[str]:
        """Journals with both entries, as the auditor's role sees them."""
        with psycopg.connect(self._url, connect_timeout=5) as connection:
            found = connection.execute("SELECT journal_id FROM ledger.entries GROUP BY journal_id HAVING count(*) = 2")
            return {journal_id for (journal_id,) in found}

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    def remark(self) -> str:
        """Nothing: the server's own figures tell of its shards."""
        return ""


def journal_message(posting: Posting) -> pb.Journal:
    """The posting as the contract has it: a capture of two entries."""
    amount = format_amount(Money(posting.amount_minor, CURRENCY))
    sides = (
        (clearing_account("stripe", CURRENCY), amount),
        (seller_pending_account(posting.seller, CURRENCY), f"-{amount}"),
    )
    entries = [
        pb.Entry(account=account, money=MoneyMessage(amount=signed, currency=CURRENCY)) for account, signed in sides
    ]
    return pb.Journal(
        journal_id=posting.posting_id, tenant=_TENANT, owner=posting.seller, movement=Movement.CAPTURE, entries=entries,
        payment_order_id=posting.posting_id,
    )  # fmt: skip


# ---- the run -------------------------------------------------------------------------------------------------------


async def measure(
    system: System, against: Sequence[str], *, rounds: int, seconds: float, cases: Sequence[Case] = CASES
) -> Result:
    """Every case in pairs with each peer, so many times; then the kill. Raises Unavailable."""
    sellers = [f"seller-{number:04}" for number in range(SELLERS)]
    load = Load(sellers, seed=1)
    async with AsyncExitStack() as stack:
        lanes, missing = [Lane(OURS, RpcPeer(system), _system_ms)], []
        stack.push_async_callback(lanes[0].peer.close)
        for name in against:
            try:
                peer = await asyncio.to_thread(ShimPeer, name, _urls(system))
            except NotInstalled:
                missing.append(name)
                continue
            stack.push_async_callback(peer.close)
            lanes.append(Lane(name, peer, _peers_ms))
        for lane in lanes:
            await lane.peer.open(sellers)
        pairs = [pair for case in cases async for pair in load.pairs(lanes, case, rounds=rounds, seconds=seconds)]
        remarks = {lane.name: lane.peer.remark() for lane in lanes}
        return Result(pairs, lanes, await _lost(system, lanes, load), missing, remarks)


def _urls(system: System) -> Urls:
    return EmbeddedPostgres(system.settings.data_dir / "postgres").urls()


def _system_ms() -> float:
    return sum(ms for name, ms in cpu_ms_by_process().items() if name not in NOT_THE_SYSTEM)


def _peers_ms() -> float:
    """Of all peers: those whose turn it is not do nothing. What ours does at rest in the database is in it."""
    return sum(ms for name, ms in cpu_ms_by_process().items() if name in _THEIRS)


async def _lost(system: System, lanes: Sequence[Lane], load: Load) -> dict[str, int]:
    """Kills the database while everybody posts, and counts what of the acknowledged it has lost once it is back, by lane."""
    running = [asyncio.create_task(load.run(lane, CRASH, 2 * CRASH_AFTER_S)) for lane in lanes]
    await asyncio.sleep(CRASH_AFTER_S)
    await kill_database(system)
    await asyncio.gather(*running, return_exceptions=True)  # most are told that the database is away
    return {lane.name: len(set(lane.acknowledged) - await lane.peer.stored()) for lane in lanes}
