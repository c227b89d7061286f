"""`zerosum bench post --rpc`: the ledger server's PostJournals on a whole system of its own, single journals and hundreds.

    CPU µs            of the system: ledger server, shards, Ray, database
    client µs         of this process, which calls

At the end the database is killed and everything acknowledged must be there. Source: speed.md "The bench", RPC with RPC.

Invariant: a journal is counted when its own result in the reply says that it is done.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import psycopg

from loadtest.bench.finding import Finding, spread_of
from loadtest.bench.post import Case, Lane, Load
from loadtest.bench.system import auditor_url
from loadtest.peers.peer import CURRENCY, Posting
from loadtest.probe import NOT_THE_SYSTEM, cpu_ms_by_process, family
from servers.keys import token_path
from servers.supervisor import System
from zerosum.domain.journal import Movement, clearing_account, seller_pending_account
from zerosum.domain.money import Money, format_amount
from zerosum.errors import OutcomeUnknown, Unavailable
from zerosum.v1 import ledger_pb2 as pb
from zerosum.v1.common_pb2 import Money as MoneyMessage
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub

CASES: Final = tuple(
    Case(sellers, in_flight, a_call)
    for in_flight, a_call in ((1, 1), (64, 1), (1, 100), (4, 100))
    for sellers in ("spread", "hot")
)
SELLERS: Final = 1_000
RECOVERY_LIMIT_S: Final = 120.0
DEADLINE_S: Final = 30.0
_TENANT: Final = "bench"


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one case. CPU in microseconds a journal."""

    case: Case
    per_s: float
    system_us: float
    client_us: float


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


async def measure(system: System, *, rounds: int, seconds: float) -> tuple[list[Turn], int, int]:
    """Every case in turn, so many times; how many journals were acknowledged, and how many a killed database had lost."""
    peer = RpcPeer(system)
    sellers = [f"seller-{number:04}" for number in range(SELLERS)]
    lane, load = Lane("ledger server", peer), Load(sellers, seed=1)
    try:
        await peer.open(sellers)
        turns = [await _turn(load, lane, case, seconds) for _ in range(rounds) for case in CASES]
        return turns, len(lane.acknowledged), await _lost(system, lane)
    finally:
        await peer.close()


async def _turn(load: Load, lane: Lane, case: Case, seconds: float) -> Turn:
    before_ms, count = _system_ms(), len(lane.acknowledged)
    figure = await load.run(lane, case, seconds)
    done = max(len(lane.acknowledged) - count, 1)
    return Turn(case, figure.per_s, (_system_ms() - before_ms) * 1e3 / done, figure.process_us)


def _system_ms() -> float:
    spent: Mapping[str, float] = cpu_ms_by_process()
    return sum(ms for name, ms in spent.items() if name not in NOT_THE_SYSTEM)


async def _lost(system: System, lane: Lane) -> int:
    before = system.database_pid()
    if before is None:
        raise Unavailable("the database is not ours to kill")
    for pid in family(before):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                if system.database_pid() != before:
                    return len(set(lane.acknowledged) - await lane.peer.stored())
            await asyncio.sleep(0.1)


def finding_of(
    turns: Sequence[Turn], acknowledged: int, lost: int, *, command: str
) -> Finding:  # fmt: skip
    """A row a case: medians and ranges of the rounds."""
    groups = {case: [turn for turn in turns if turn.case == case] for case in CASES}
    rows = tuple(
        (
            str(case), spread_of(turn.per_s for turn in group), spread_of(turn.system_us for turn in group),
            spread_of(turn.client_us for turn in group),
        )
        for case, group in groups.items()
    )  # fmt: skip
    best = max(groups, key=lambda case: max(turn.per_s for turn in groups[case]))
    return Finding(
        bench="post", command=command, headline=f"post over gRPC ({best}): {spread_of(t.per_s for t in groups[best])}/s",
        columns=("journals", "journals/s", "CPU µs", "client µs"), rows=rows,
        losses=(f"{lost} acknowledged journals are lost",) if lost else (),
        notes=(f"{acknowledged:,} acknowledged journals looked for after the database was killed",),
    )  # fmt: skip
