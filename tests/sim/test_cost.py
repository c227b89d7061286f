"""What a payment costs, counted: commits, round trips, statements, rows, looks, calls. Times do not repeat, counts do; so these
are held by a test.

A count that rises is a decision: change the table here and say in the commit what the payment gets for it. Source: speed.md,
"The bench" (cost), and its budget of one payment.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.answer import Answer
from actors.front import ShardLink
from actors.outcome import News
from tests.sim.faults import StoreDoor
from tests.sim.house import Doors, House, LocalPeer, ScriptedRisk, checkout
from tests.sim.virtual import run
from zerosum.domain.journal import Journal
from zerosum.domain.message import SubmitCheckout
from zerosum.domain.wallet import Transfer
from zerosum.ports import NOTHING, Batch, Clash, Committed, ItemOutcome, Loaded, Store, Wanted
from zerosum.store.memory import MemoryStore
from zerosum.store.plan import Plan, plan

LONE = {
    "commits of payment": 4, "rows of payment": 47, "loads of payment": 1,
    "round trips of payment": 10, "statements of payment": 49,
    "commits of wallet": 1, "rows of wallet": 5, "loads of wallet": 1,
    "round trips of wallet": 4, "statements of wallet": 11,
    "commits of ledger": 1, "rows of ledger": 10, "loads of ledger": 1,
    "round trips of ledger": 4, "statements of ledger": 13,
    "calls of the PSP": 2, "calls of peers": 2,
    "calls to shards of payment": 1, "news of payment": 1, "calls to shards of wallet": 1, "calls to shards of ledger": 1,
}  # fmt: skip
"""One checkout of one order, alone on a quiet system. Its four turns are submitted, prepared, charged, posted; a statement is
one over all its rows; the fence is two; BEGIN and the end of a transaction are counted. The commits of wallet and ledger are
in parallel. A call of a peer is an RPC of one item. Calls to shards go through Ray: a server's to its shards, and the
outstanding one that brings the reply as news. That a real database is sent these round trips and statements, no more and no
less, is held by tests/contract/test_store_cost.py, which sends it `sent`."""

SELLERS = 10
CROWD = 100


@dataclass(slots=True)
class CountingDoors(Doors):
    """Counts what passes, and lets everything through. `sent`: what went to each service's store, in order."""

    counts: "Counter[str]" = field(default_factory=Counter)
    sent: dict[str, list[Wanted | Batch[Any]]] = field(default_factory=dict)

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _CountingStore(self.counts, self.sent.setdefault(service, []), service, store)

    def link(self, service: str, link: ShardLink) -> ShardLink:
        return _CountingLink(self.counts, service, link)

    def peer(self, number: int, peer: LocalPeer) -> Any:
        return _CountingPeer(self.counts, peer)


@dataclass(slots=True)
class _CountingLink:
    """A server's way to a shard, a call through Ray. Outstanding calls that brought nothing are the clock's."""

    counts: "Counter[str]"
    service: str
    inner: ShardLink

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        self.counts[f"calls to shards of {self.service}"] += 1
        return await self.inner.submit(commands, is_inner)

    async def outcomes(self, epoch: int, position: int) -> News:
        news = await self.inner.outcomes(epoch, position)
        self.counts[f"news of {self.service}"] += bool(news.replies)
        return news


class _CountingStore(StoreDoor):
    """Looks at the clock alone are the clock's, and not counted."""

    def __init__(
        self, counts: "Counter[str]", sent: list[Wanted | Batch[Any]], service: str, inner: Store[Any]
    ) -> None:
        super().__init__(inner)
        self._counts = counts
        self._sent = sent
        self._service = service

    async def load(self, wanted: Wanted) -> Loaded[Any]:
        loaded = await self.inner.load(wanted)
        if wanted != NOTHING:
            assert not loaded.entities, "entities that were stored before are a round trip more"
            kinds = sum(map(bool, (wanted.entities, wanted.commands, wanted.claims, wanted.deliveries)))
            self._sent.append(wanted)
            self._counts[f"loads of {self._service}"] += 1
            self._counts[f"round trips of {self._service}"] += 2
            self._counts[f"statements of {self._service}"] += 3 + kinds
        return loaded

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        assert isinstance(self.inner, MemoryStore)
        rows: Plan = plan(self.inner.aggregate, batch)
        self._counts[f"commits of {self._service}"] += 1
        self._sent.append(batch)
        self._counts[f"round trips of {self._service}"] += 2
        self._counts[f"statements of {self._service}"] += 4 + len(rows.steps)
        self._counts[f"rows of {self._service}"] += 2 * len(rows.heads) + sum(len(step.rows) for step in rows.steps)
        return await self.inner.commit(batch)


@dataclass(slots=True)
class _CountingPeer:
    counts: "Counter[str]"
    inner: LocalPeer

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        self.counts["calls of peers"] += 1
        return await self.inner.apply(transfer)

    async def post(self, journal: Journal) -> ItemOutcome:
        self.counts["calls of peers"] += 1
        return await self.inner.post(journal)


def counted(checkouts: int, *amounts_minor: int) -> "Counter[str]":
    """Counts of so many checkouts, all submitted at once, until nothing is owed for any."""
    names = [f"c-{number}" for number in range(checkouts)]
    return told([checkout(name, *amounts_minor) for name in names]).counts


def told(commands: Sequence[SubmitCheckout]) -> CountingDoors:
    """What passed for these checkouts, all submitted at once, until nothing is owed for any."""
    doors = CountingDoors()
    house = House(doors=doors, risk=ScriptedRisk(is_at_once=True))

    async def tell() -> None:
        await house.start()
        await asyncio.gather(*(house.pay(command) for command in commands))
        for command in commands:
            await house.settle(command.checkout_id)

    run(tell())
    doors.counts["calls of the PSP"] = len(house.psp.calls)
    return doors


def test_a_lone_payment_costs_what_the_table_says() -> None:
    """Six commits, two calls of the PSP (prepare, confirm), one of wallet and of ledger; nothing is read but what is new."""
    assert counted(1, 1_000) == LONE


def test_an_order_more_costs_rows_and_no_commit_or_statement_more() -> None:
    """Its orders are one entity: they share every statement, and the rows of the checkout itself are paid once."""
    one, ten = counted(1, 1_000), counted(1, *[1_000] * SELLERS)

    shared = [name for name in LONE if name.startswith(("commits", "statements", "round trips", "loads"))]
    assert {name: ten[name] for name in shared} == {name: one[name] for name in shared}
    assert ten["rows of payment"] < 0.65 * SELLERS * one["rows of payment"]
    assert ten["calls of the PSP"] == SELLERS * one["calls of the PSP"]


def test_a_crowd_shares_commits_and_reads() -> None:
    """The whole speed of the system is in the batch: a hundred at once pay a tenth of a commit each, or less."""
    lone, crowd = counted(1, 1_000), counted(CROWD, 1_000)

    assert sum(crowd[f"commits of {service}"] for service in ("payment", "wallet", "ledger")) <= CROWD / 10
    assert crowd["loads of payment"] <= CROWD / 50
    assert sum(crowd[f"round trips of {service}"] for service in ("payment", "wallet", "ledger")) <= CROWD / 3
    for service in ("payment", "wallet", "ledger"):
        assert crowd[f"rows of {service}"] <= CROWD * lone[f"rows of {service}"]
    assert sum(crowd[f"calls to shards of {service}"] for service in ("payment", "wallet", "ledger")) <= CROWD / 10
    assert crowd["calls of the PSP"] == CROWD * lone["calls of the PSP"]
