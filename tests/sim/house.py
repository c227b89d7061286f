"""The whole house in one thread on virtual time: memory stores, local shards, a scripted PSP.

The same domain, turns, shards, runner and front that Ray and gRPC carry in production.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.answer import Answer, Applied, Refused
from actors.front import Front, shard_of, slots_of_shard
from actors.host import Host
from actors.payment import PaymentBinding
from actors.posting import ledger_binding, wallet_binding
from actors.runner import Runner
from actors.shard import Shard
from servers.reply import encode_reply
from tests.sim.psp import ScriptedPsp
from tests.sim.virtual import VirtualClock
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.draft import Policy
from zerosum.domain.identity import CheckoutId, EntityKey, Key, OrderId, Tenant
from zerosum.domain.journal import Journal
from zerosum.domain.money import Money
from zerosum.domain.wallet import Transfer
from zerosum.errors import NotSent
from zerosum.ports import Done, ItemOutcome, RiskAnswer, TryLater, Wanted
from zerosum.store.memory import MemoryStore
from zerosum.store.opening import memory_store

TENANT = Tenant("acme")
SHARDS = 2
HOUR_MS = 3_600_000
POLICY = Policy(
    psp="stripe", answer_after_ms=10_000, lease_ms=15_000, backoff_base_ms=100, backoff_cap_ms=2_000,
    horizon_ms=24 * HOUR_MS,
)  # fmt: skip


@dataclass(slots=True)
class ScriptedRisk:
    """Allows, blocks, or is down for the next `failures` calls."""

    verdict: m.Verdict = m.Verdict.ALLOW
    failures: int = 0
    calls: int = 0

    async def assess(self, request: m.AssessRisk) -> RiskAnswer:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise NotSent("the risk check is down")
        return RiskAnswer(self.verdict, "")


@dataclass(slots=True)
class LocalPeer:
    """Wallet and ledger behind their fronts, as the runner sees them. `failures`: the next calls that get lost."""

    front: Front[Any]
    failures: int = 0

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        return await self._send(transfer)

    async def post(self, journal: Journal) -> ItemOutcome:
        return await self._send(journal)

    async def _send(self, item: Transfer | Journal) -> ItemOutcome:
        if self.failures:
            self.failures -= 1
            raise NotSent("the peer is down")
        answer = (await self.front.submit([item]))[0]
        if isinstance(answer, Applied):
            return Done()
        return answer.refusal if isinstance(answer, Refused) else TryLater(100)


@dataclass(slots=True)
class House:
    """Start with `await House().start()`; crash shards with `crash`, bring them back with `revive`."""

    psp: ScriptedPsp = field(default_factory=ScriptedPsp)
    risk: ScriptedRisk = field(default_factory=ScriptedRisk)
    policy: Policy = POLICY
    stores: dict[str, MemoryStore[Any]] = field(default_factory=dict)
    hosts: dict[str, list[Host | None]] = field(default_factory=dict)
    fronts: dict[str, Front[Any]] = field(default_factory=dict)
    runners: list[Runner | None] = field(default_factory=list)
    peers: dict[str, LocalPeer] = field(default_factory=dict)
    skipped_ms: int = 0

    async def start(self) -> "House":
        for service, binding in (("wallet", wallet_binding()), ("ledger", ledger_binding())):
            self.stores[service] = memory_store(service, self.database_ms)
            shard: Shard[Any, Any] = self._shard(service, binding, tuple(range(64)))
            await shard.start(None)
            self.hosts[service] = [Host(shard, shard.stop)]
            self.fronts[service] = self._front(service, 1, binding.entity)
            self.peers[service] = LocalPeer(self.fronts[service])
        self.stores["payment"] = memory_store("payment", self.database_ms)
        self.hosts["payment"] = [None] * SHARDS
        self.runners = [None] * SHARDS
        for number in range(SHARDS):
            await self.revive(number)
        self.fronts["payment"] = self._front("payment", SHARDS, lambda command: command.entity)
        self.fronts["payment"].start()
        return self

    def _shard(self, service: str, binding: Any, slots: Sequence[int]) -> Shard[Any, Any]:
        clock = VirtualClock()
        return Shard(binding=binding, store=self.stores[service], slots=slots, deployment="sim", clock=clock)

    def _front(self, service: str, shards: int, entity_of: Any) -> Front[Any]:
        links = [_Local(self, service, number) for number in range(shards)]
        stored = self.stored_reply if service == "payment" else None
        return Front(links=links, entity_of=entity_of, is_inner=_is_webhook, stored_reply=stored)

    async def revive(self, number: int) -> Host:
        """A (new) copy of a payment shard; an older one is fenced by it."""
        shard = self._shard("payment", PaymentBinding(self.policy, encode_reply), slots_of_shard(number, SHARDS))
        runner = Runner(
            gateway=self.psp, risk=self.risk, wallet=self.peers["wallet"], ledger=self.peers["ledger"],
            clock=VirtualClock(number + 7), lease_ms=self.policy.lease_ms, tell=shard.tell,
        )  # fmt: skip
        await shard.start(runner)
        host = Host(shard, shard.stop)
        self.hosts["payment"][number], self.runners[number] = host, runner
        return host

    async def crash(self, number: int) -> None:
        """Kills a payment shard: memory and running effects are gone, at once."""
        host, runner = self.hosts["payment"][number], self.runners[number]
        self.hosts["payment"][number] = self.runners[number] = None
        if host is not None and runner is not None:
            await runner.stop()
            await host.close()

    def database_ms(self) -> int:
        """The database's clock: virtual time, and what was skipped by hand."""
        return 1_700_000_000_000 + int(asyncio.get_running_loop().time() * 1_000) + self.skipped_ms

    async def skip(self, duration_ms: int) -> None:
        """Moves the database's clock ahead by hand, and gives everyone a moment to notice."""
        self.skipped_ms += duration_ms
        await asyncio.sleep(3)

    # ---- what a caller does ----------------------------------------------------------------------------------

    async def submit(self, command: m.SubmitCheckout) -> Answer:
        return (await self.fronts["payment"].submit([envelope(command)]))[0]

    async def pay(self, command: m.SubmitCheckout, timeout_ms: int = 60_000) -> bytes | None:
        """Submits and waits for the fixed reply."""
        await self.submit(command)
        return await self.fronts["payment"].outcome(envelope(command).entity, timeout_ms)

    async def tell(self, entity: EntityKey, body: Any) -> Answer:
        return (await self.fronts["payment"].submit([m.CheckoutCommand(entity, body)]))[0]

    async def checkout(self, checkout_id: str) -> Checkout:
        key = EntityKey(TENANT, checkout_id)
        return (await self.stores["payment"].load(Wanted(entities=(key,)))).entities[key]

    async def stored_reply(self, entity: EntityKey) -> bytes | None:
        found = (await self.stores["payment"].load(Wanted(entities=(entity,)))).entities.get(entity)
        return found.reply if found is not None else None

    async def settle(self, checkout_id: str, limit_ms: int = 2 * HOUR_MS) -> Checkout:
        """Waits (virtual time) until nothing is owed for the checkout any more."""
        waited_ms = 0
        while waited_ms < limit_ms:
            checkout = await self.checkout(checkout_id)
            if checkout.is_settled:
                return checkout
            await asyncio.sleep(0.25)
            waited_ms += 250
        raise AssertionError(f"{checkout_id} is not settled: {checkout.todos}")

    def shard_number(self, checkout_id: str) -> int:
        return shard_of(EntityKey(TENANT, checkout_id), SHARDS)


@dataclass(slots=True)
class _Local:
    house: House
    service: str
    number: int

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        return await self._host().submit(commands, is_inner)

    async def outcomes(self, epoch: int, position: int) -> Any:
        return await self._host().outcomes(epoch, position)

    def _host(self) -> Host:
        from zerosum.errors import Unavailable

        host = self.house.hosts[self.service][self.number]
        if host is None or host.shard.ended.is_set():
            raise Unavailable("the shard is down")
        return host


def checkout(
    checkout_id: str, *amounts_minor: int, token: str = "tok_visa", key: str = "", sellers: Sequence[str] = ()
) -> m.SubmitCheckout:
    """A checkout with an order of each amount, in USD."""
    lines = tuple(
        m.OrderLine(
            OrderId(f"{checkout_id}-o{position}"),
            sellers[position] if sellers else f"seller-{position}",
            f"{minor // 100}.{minor % 100:02}",
            Money(minor, "USD"),
        )
        for position, minor in enumerate(amounts_minor or (1_000,))
    )
    buyer = m.Buyer("buyer-1", "Ada", "ada@example.com", "GB")
    return m.SubmitCheckout(TENANT, CheckoutId(checkout_id), Key(key or checkout_id), buyer, token, lines)


def envelope(command: m.SubmitCheckout) -> m.CheckoutCommand:
    return m.CheckoutCommand(EntityKey(command.tenant, command.checkout_id), command)


def rows(house: House, service: str, table: str) -> list[dict[str, Any]]:
    """What a table of a service's memory store holds."""
    return [dict(row) for row in house.stores[service].tables[table].rows.values()]


def _is_webhook(command: Any) -> bool:
    return isinstance(command, m.CheckoutCommand) and isinstance(command.body, m.Report)
