"""The whole house in one thread on virtual time: memory stores, local shards, a scripted PSP.

The same domain, turns, shards, runner and front that Ray and gRPC carry in production. `Doors` are where a test stands
between a shard and its surroundings; a killed shard answers nobody, as a killed process does.

Invariant: no rule of the product is repeated here; the house only connects.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from actors.answer import Answer, Applied, Refused
from actors.front import Front, ShardLink, shard_of, slots_of_shard
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
from zerosum.domain.request import AssessRisk
from zerosum.domain.wallet import Transfer
from zerosum.errors import NotSent, OutcomeUnknown, Unavailable
from zerosum.ports import Done, ItemOutcome, PspGateway, RiskAnswer, Store, TryLater, Wanted
from zerosum.store.memory import MemoryStore
from zerosum.store.opening import memory_store

T = TypeVar("T")

TENANT = Tenant("acme")
SERVICES = ("wallet", "ledger", "payment")
SHARDS = 2
SHARDS_OF = {"payment": SHARDS, "wallet": 1, "ledger": 1}
HOUR_MS = 3_600_000
POLICY = Policy(
    psp="stripe", answer_after_ms=10_000, lease_ms=15_000, backoff_base_ms=100, backoff_cap_ms=2_000,
    horizon_ms=24 * HOUR_MS,
)  # fmt: skip


@dataclass(slots=True)
class ScriptedRisk:
    """Allows, blocks, or is down for the next `failures` calls. `is_at_once`: it needs nobody else, and nothing fails."""

    verdict: m.Verdict = m.Verdict.ALLOW
    failures: int = 0
    calls: int = 0
    is_at_once: bool = False

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise NotSent("the risk check is down")
        return RiskAnswer(self.verdict, "")

    def judge(self, request: AssessRisk) -> RiskAnswer | None:
        """The verdict, where it is one to be had at once."""
        return RiskAnswer(self.verdict, "") if self.is_at_once else None


@dataclass(slots=True)
class LocalPeer:
    """Wallet and ledger behind their fronts, as the runner sees them. `failures`: the next calls lost; `losses`: answers."""

    front: Front[Any]
    failures: int = 0
    losses: int = 0

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        return await self._send(transfer)

    async def post(self, journal: Journal) -> ItemOutcome:
        return await self._send(journal)

    async def _send(self, item: Transfer | Journal) -> ItemOutcome:
        if self.failures:
            self.failures -= 1
            raise NotSent("the peer is down")
        answer = (await self.front.submit([item]))[0]
        if self.losses:
            self.losses -= 1
            raise OutcomeUnknown("the peer's answer is lost")
        if isinstance(answer, Applied):
            return Done()
        return answer.refusal if isinstance(answer, Refused) else TryLater(100)


class Doors:
    """What one copy of a shard sees of its surroundings: here, plainly what is there. Tests put faults in between."""

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return store

    def link(self, service: str, link: ShardLink) -> ShardLink:
        return link

    def gateway(self, number: int, gateway: PspGateway) -> PspGateway:
        return gateway

    def peer(self, number: int, peer: LocalPeer) -> Any:
        return peer

    def risk(self, number: int, risk: ScriptedRisk) -> Any:
        return risk


@dataclass(slots=True)
class Copy:
    """One live copy of a shard. `is_killed`: nobody hears of it any more."""

    host: Host
    runner: Runner | None
    is_killed: bool = False

    async def close(self) -> None:
        if self.runner is not None:
            await self.runner.stop()
        await self.host.close()


@dataclass(slots=True)
class House:
    """Start with `await House().start()`; crash shards with `crash`, bring them back with `revive`."""

    psp: ScriptedPsp = field(default_factory=ScriptedPsp)
    risk: ScriptedRisk = field(default_factory=ScriptedRisk)
    policy: Policy = POLICY
    doors: Doors = field(default_factory=Doors)
    stores: dict[str, MemoryStore[Any]] = field(default_factory=dict)
    copies: dict[str, list[Copy | None]] = field(default_factory=dict)
    fronts: dict[str, Front[Any]] = field(default_factory=dict)
    peers: dict[str, LocalPeer] = field(default_factory=dict)
    skipped_ms: int = 0
    closing: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> "House":
        for service in SERVICES:
            self.stores[service] = memory_store(service, self.database_ms)
            self.copies[service] = [None] * SHARDS_OF[service]
            self.fronts[service] = self.new_front(service)
        self.peers = {service: LocalPeer(self.fronts[service]) for service in ("wallet", "ledger")}
        for service in SERVICES:
            for number in range(SHARDS_OF[service]):
                await self.revive(number, service)
        self.fronts["payment"].start()
        return self

    def new_front(self, service: str) -> Front[Any]:
        """A server's way to the shards; a new one knows nothing of what an earlier one waited for."""
        links = [self.doors.link(service, _Local(self, service, number)) for number in range(SHARDS_OF[service])]
        stored = self.stored_reply if service == "payment" else None
        return Front(links=links, entity_of=_BINDINGS[service].entity, is_inner=_is_fact, stored_reply=stored)

    async def revive(self, number: int, service: str = "payment") -> Host:
        """A (new) copy of a shard; an older one is fenced by it. Raises Unavailable where its store is away."""
        binding = _BINDINGS[service]
        if service == "payment":
            binding = PaymentBinding(self.policy, encode_reply, self.risk.judge)
        shard: Shard[Any, Any] = Shard(
            binding=binding, store=self.doors.store(service, number, self.stores[service]),
            slots=slots_of_shard(number, SHARDS_OF[service]), deployment="sim", clock=VirtualClock(),
            expects_replays=service == "payment",
        )  # fmt: skip
        runner = self._runner(number, shard) if service == "payment" else None
        await shard.start(runner)
        host = Host(shard, shard.stop)
        self.copies[service][number] = Copy(host, runner)
        return host

    def _runner(self, number: int, shard: Shard[Any, Any]) -> Runner:
        doors, wallet, ledger = self.doors, self.peers["wallet"], self.peers["ledger"]
        return Runner(
            gateway=doors.gateway(number, self.psp), risk=doors.risk(number, self.risk),
            wallet=doors.peer(number, wallet), ledger=doors.peer(number, ledger), clock=VirtualClock(number + 7),
            lease_ms=self.policy.lease_ms, tell=shard.tell,
        )  # fmt: skip

    def kill(self, number: int, service: str = "payment") -> None:
        """kill -9: memory and running effects are gone, and nobody is answered. May be called from within the shard."""
        copy, self.copies[service][number] = self.copies[service][number], None
        if copy is not None:
            copy.is_killed = True
            task = asyncio.get_running_loop().create_task(copy.close())
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)

    async def crash(self, number: int, service: str = "payment") -> None:
        """The same, and waits until nothing of it is left."""
        self.kill(number, service)
        await asyncio.gather(*self.closing)

    def shard(self, number: int, service: str = "payment") -> Shard[Any, Any]:
        """The live copy of a shard."""
        copy = self.copies[service][number]
        assert copy is not None, "the shard is down"
        return copy.host.shard

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
        found: Checkout = (await self.stores["payment"].load(Wanted(entities=(key,)))).entities[key]
        return found

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

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Waits (virtual time, a millisecond a look) until the tables or the PSP show it."""
        while not is_so():  # noqa: ASYNC110 - a table has no event; the clock is virtual
            await asyncio.sleep(0.001)

    def shard_number(self, checkout_id: str) -> int:
        return shard_of(EntityKey(TENANT, checkout_id), SHARDS)


@dataclass(slots=True)
class _Local:
    """A link to whatever copy of a shard lives now. A copy that is killed while it is asked is Unavailable."""

    house: House
    service: str
    number: int

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        copy = self._copy()
        return self._believe(copy, await copy.host.submit(commands, is_inner))

    async def outcomes(self, epoch: int, position: int) -> Any:
        copy = self._copy()
        return self._believe(copy, await copy.host.outcomes(epoch, position))

    def _copy(self) -> Copy:
        copy = self.house.copies[self.service][self.number]
        if copy is None or copy.host.shard.ended.is_set():
            raise Unavailable("the shard is down")
        return copy

    def _believe(self, copy: Copy, answer: T) -> T:
        if copy.is_killed:
            raise Unavailable("the shard was killed")
        return answer


def checkout(
    checkout_id: str,
    *amounts_minor: int,
    token: str = "tok_visa",
    key: str = "",
    sellers: Sequence[str] = (),
    on_partial: m.OnPartial = m.OnPartial.KEEP,
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
    return m.SubmitCheckout(TENANT, CheckoutId(checkout_id), Key(key or checkout_id), buyer, token, lines, on_partial)


def envelope(command: m.SubmitCheckout) -> m.CheckoutCommand:
    return m.CheckoutCommand(EntityKey(command.tenant, command.checkout_id), command)


def rows(house: House, service: str, table: str) -> list[dict[str, Any]]:
    """What a table of a service's memory store holds."""
    return [dict(row) for row in house.stores[service].tables[table].rows.values()]


class _ByEnvelope:
    """How a front finds the shard of a checkout's command."""

    def entity(self, command: m.CheckoutCommand) -> EntityKey:
        return command.entity


_BINDINGS: dict[str, Any] = {"payment": _ByEnvelope(), "wallet": wallet_binding(), "ledger": ledger_binding()}


def _is_fact(command: Any) -> bool:
    return isinstance(command, m.CheckoutCommand) and isinstance(command.body, m.Report)


def webhook(event_id: str, status: m.ObjectStatus, object_id: str = "pi_1") -> m.Report:
    """A verified webhook about the first order of c-1."""
    delivery = m.Delivery("stripe", event_id, "payment_intent.x", "00" * 32, "current")
    order_id = checkout("c-1").lines[0].order_id
    return m.Report(
        m.ReportSource.WEBHOOK, order_id, "stripe", object_id, status, Money(1_000, "USD"), order_id, "",
        delivery=delivery,
    )  # fmt: skip


def pending(house: House) -> list[int]:
    """What each wallet has pending, by owner."""
    return [row["pending_minor"] for row in sorted(rows(house, "wallet", "wallets"), key=lambda row: row["owner"])]
