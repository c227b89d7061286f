"""What runs in the processes of a world: the product's shards and servers, with the world where their adapters would be.

A clock of its own for each (from another beginning, a little too fast or too slow, and a wall clock that is off), the network
as their link to one another, the store's door, the adapter on the in-memory PSP.

Invariant: no rule of the product is repeated here; it only connects what `servers/wiring.py` connects.
"""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from actors.answer import Accepted, Answer, Applied, Refused, Replied
from actors.front import Front, slots_of_shard
from actors.host import Host
from actors.payment import PaymentBinding
from actors.posting import ledger_binding, wallet_binding
from actors.runner import Runner
from actors.shard import Shard
from servers.reply import encode_reply
from servers.webhook import Ignored, Incoming, stripe_reader
from simulator.world.database import Database, StoreDoor
from simulator.world.loop import VirtualLoop
from simulator.world.network import Lost, Network
from simulator.world.network import Refused as NobodyThere
from simulator.world.psp import WEBHOOK_SECRET, Psp, WorldStripe
from simulator.world.trace import Trace
from simulator.world.weather import EPOCH_MS, Weather
from zerosum.domain import message as m
from zerosum.domain.draft import Policy
from zerosum.domain.identity import EntityKey
from zerosum.domain.journal import Journal
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Refusal
from zerosum.domain.request import AssessRisk, PspRequest
from zerosum.domain.wallet import Transfer, wallet_key
from zerosum.errors import NotSent, OutcomeUnknown, Unavailable
from zerosum.limits import PEER_TIMEOUT_MS, RETRY_HINT_MS
from zerosum.peers.batch import Batcher, Told
from zerosum.ports import Done, ItemOutcome, RiskAnswer, TryLater
from zerosum.psp.breaker import Breaker, BreakerState
from zerosum.psp.gateway import Gateway
from zerosum.psp.limiter import Limiter
from zerosum.psp.stripe import PSP as STRIPE

ANSWER_SLACK_MS: Final = 4_000
"""As `servers/payment.py` waits beyond `answer_after_ms`."""

_RATE_OFF_PPM: Final = 20_000
_WALL_OFF_S: Final = 600


class ProcessClock:
    """Implements `actors.shard.Clock`: one process's time, which is nobody else's."""

    def __init__(self, loop: VirtualLoop, weather: Weather, trace: Trace) -> None:
        chance = weather.random
        self._loop = loop
        self._chance = Random(chance.random())
        self._began_ms = chance.randrange(10**9)
        self._rate, self._wall_off_s = 1.0, 0
        self._weather = weather
        if weather.hits(weather.mix.clock_skew):
            self._rate += chance.randint(-_RATE_OFF_PPM, _RATE_OFF_PPM) / 1_000_000
            self._wall_off_s = chance.randint(-_WALL_OFF_S, _WALL_OFF_S)
            trace.fault("clock_skew", f"{self._rate:.3f} of true time, wall clock off by {self._wall_off_s} s")

    def monotonic_ms(self) -> int:
        """Milliseconds that only ever grow."""
        return self._began_ms + int(self._loop.time() * 1_000 * self._rate)

    async def sleep_ms(self, duration_ms: int) -> None:
        """Waits."""
        await asyncio.sleep(duration_ms / 1_000 / self._rate)

    def jitter_ppm(self) -> int:
        """Chance of this process alone."""
        return self._chance.randrange(1_000_000)

    def wall_ms(self) -> int:
        """What it takes for the time of day; put right once there is no more trouble."""
        off_s = 0 if self._weather.is_over else self._wall_off_s
        return EPOCH_MS + int(self._loop.time() * 1_000) + off_s * 1_000


# ---- links ---------------------------------------------------------------------------------------------------------


class Link:
    """A shard as a server sees it. Implements `actors.front.ShardLink`."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        """See `ShardLink`."""
        what = f"{'tell' if is_inner else 'submit'} {len(commands)}"
        answers: Sequence[Answer] = await self._ask(what, lambda host: host.submit(commands, is_inner))
        return answers

    async def outcomes(self, epoch: int, position: int) -> Any:
        """See `ShardLink`."""
        return await self._ask("", lambda host: host.outcomes(epoch, position))

    async def _ask(self, what: str, work: Any) -> Any:
        try:
            return await self._network.ask(self._address, what, work)
        except (Lost, NobodyThere) as trouble:
            raise Unavailable(f"{self._address} cannot be reached: {type(trouble).__name__}") from trouble


class Peer:
    """Wallet or ledger as a payment shard sees it: the product's batching, and the network where gRPC would be."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address
        self._batcher: Batcher[Transfer | Journal] = Batcher(self._send)

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        """See `ports.WalletPeer`."""
        entity = wallet_key(transfer.tenant, transfer.owner, transfer.money.currency)
        return await self._batcher.put(transfer, key=transfer.transfer_id, place=(entity.tenant, entity.id))

    async def post(self, journal: Journal) -> ItemOutcome:
        """See `ports.LedgerPeer`."""
        return await self._batcher.put(journal, key=journal.journal_id, place=(journal.tenant, journal.owner))

    async def _send(self, items: Sequence[Transfer | Journal]) -> Sequence[Told]:
        try:
            async with asyncio.timeout(PEER_TIMEOUT_MS / 1_000):
                answers = await self._network.ask(
                    self._address, f"post {len(items)}", lambda server: server.submit(items)
                )
        except NobodyThere as trouble:
            raise NotSent(f"{self._address} could not be connected to") from trouble
        except (Lost, TimeoutError, Unavailable) as trouble:
            raise OutcomeUnknown(f"a call to {self._address} ended {type(trouble).__name__}") from trouble
        return [_told(answer) for answer in answers]


def _told(answer: Answer) -> Told:
    match answer:
        case Applied():
            return Done()
        case Refused(refusal, _):
            return refusal
        case _:
            return TryLater(RETRY_HINT_MS)


class Risk:
    """Everyone is allowed; says so at once, or is asked and may be down."""

    def __init__(self, weather: Weather, trace: Trace, *, is_at_once: bool) -> None:
        self._weather, self._trace, self._is_at_once = weather, trace, is_at_once

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        """See `ports.RiskCheck`."""
        await asyncio.sleep(self._weather.way_s())
        if self._weather.hits(self._weather.mix.risk_trouble):
            self._trace.fault("risk_trouble")
            raise OutcomeUnknown("the risk check did not answer")
        return RiskAnswer(m.Verdict.ALLOW, "")

    def judge(self, request: AssessRisk) -> RiskAnswer | None:
        """See `ports.Judge`."""
        if not self._is_at_once:
            return None
        if self._weather.hits(self._weather.mix.risk_trouble):
            self._trace.fault("risk_trouble")
            return None
        return RiskAnswer(m.Verdict.ALLOW, "")


# ---- processes -----------------------------------------------------------------------------------------------------


class ShardProcess:
    """What one process of a shard hosts. `start` raises Unavailable where the database is away."""

    def __init__(
        self, *, service: str, number: int, shards: int, clock: ProcessClock, database: Database, policy: Policy,
        network: Network, psp: Psp, risk: Risk, trace: Trace,
    ) -> None:  # fmt: skip
        binding: Any = {"wallet": wallet_binding, "ledger": ledger_binding}.get(service, lambda: None)()
        if binding is None:
            binding = PaymentBinding(policy, encode_reply, risk.judge)
        self.shard: Shard[Any, Any] = Shard(
            binding=binding, store=StoreDoor(database, service), slots=slots_of_shard(number, shards),
            deployment="world", clock=clock, expects_replays=service == "payment",
        )  # fmt: skip
        self.host = Host(self.shard, self.shard.stop)
        self._runner = None
        if service == "payment":
            self._runner = Runner(
                gateway=_Watched(psp, clock, trace), risk=risk, wallet=Peer(network, "wallet-server"),
                ledger=Peer(network, "ledger-server"), clock=clock, lease_ms=policy.lease_ms, tell=self.shard.tell,
            )  # fmt: skip

    async def start(self) -> None:
        """Takes the slots and serves."""
        await self.shard.start(self._runner)


class _Watched:
    """The product's gateway over its adapter; what becomes of calls is counted."""

    def __init__(self, psp: Psp, clock: ProcessClock, trace: Trace) -> None:
        self._breaker = Breaker(STRIPE, clock.monotonic_ms)
        self._trace = trace
        self._gateway = Gateway(
            {STRIPE: WorldStripe(psp, clock.wall_ms)}, {STRIPE: self._breaker},
            {STRIPE: Limiter(STRIPE, clock.monotonic_ms)}, clock_ms=clock.monotonic_ms, observe=self._observe,
        )  # fmt: skip

    async def call(self, request: PspRequest) -> m.Report:
        """See `ports.PspGateway`."""
        return await self._gateway.call(request)

    def _observe(self, verb: str, outcome: str, _: int) -> None:
        self._trace.tell(f"believes: {verb} {outcome}")
        self._trace.met[f"psp {outcome}"] += 1
        if self._breaker.state is BreakerState.OPEN:
            self._trace.met["breaker_open"] += 1


class PaymentServer:
    """The payment service's door: `servers/payment.py` without gRPC."""

    def __init__(
        self, *, links: Sequence[Link], clock: ProcessClock, database: Database, policy: Policy, trace: Trace, psp: Psp
    ) -> None:
        self._database, self._trace, self._psp = database, trace, psp
        self._answer_within_ms = policy.answer_after_ms + ANSWER_SLACK_MS
        self._read = stripe_reader([("current", WEBHOOK_SECRET)], lambda: clock.wall_ms() // 1_000)
        self.front: Front[m.CheckoutCommand] = Front(
            links=links, entity_of=lambda command: command.entity, stored_reply=self._stored_reply,
            is_inner=lambda command: isinstance(command.body, m.Report),
        )  # fmt: skip

    async def start(self) -> None:
        """Listens for outcomes."""
        self.front.start()

    async def create(self, command: m.SubmitCheckout) -> Answer | None:
        """As CreatePayment: the fixed reply, or why there is none yet. None: accepted, not answered in time."""
        entity = EntityKey(command.tenant, command.checkout_id)
        answer = (await self.front.submit([m.CheckoutCommand(entity, command)]))[0]
        if not isinstance(answer, Accepted):
            return answer
        reply = await self.front.outcome(entity, self._answer_within_ms)
        return Replied(reply, is_replay=False) if reply is not None else None

    async def act(self, entity: EntityKey, body: m.ReplayTodo | RequestRefund) -> Answer:
        """As ReplayTodo or CreateRefund."""
        return (await self.front.submit([m.CheckoutCommand(entity, body)]))[0]

    async def settle(self, entity: EntityKey, fact: m.Report) -> Answer:
        """As ReportSettlement, one line of it."""
        return (await self.front.submit([m.CheckoutCommand(entity, fact)]))[0]

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> int:
        """As ReceiveWebhook: an HTTP status, 200 only once it is durably recorded, or tells us nothing."""
        event = self._read(body, headers)
        match event:
            case Refusal():
                return 400
            case Ignored():
                self._psp.ignored[event.type] += 1
                return 200
            case Incoming(entity, report):
                answer = (await self.front.submit([m.CheckoutCommand(entity, report)]))[0]
        match answer:
            case Applied(is_replay):
                self._trace.met["webhook_replay" if is_replay else "webhook_recorded"] += 1
                return 200
            case _:
                return 503

    async def _stored_reply(self, entity: EntityKey) -> bytes | None:
        store = self._database.stores["payment"]

        async def read() -> bytes | None:
            found = store.root(entity)
            return found["reply"] if found is not None else None

        return await self._database.look(read)


class PostingServer:
    """The wallet's or the ledger's door."""

    def __init__(self, links: Sequence[Link], service: str) -> None:
        binding: Any = wallet_binding() if service == "wallet" else ledger_binding()
        self._front: Front[Any] = Front(
            links=links, entity_of=binding.entity, is_inner=lambda _: False, stored_reply=None
        )

    async def start(self) -> None:
        """Nothing to listen for."""

    async def submit(self, items: Sequence[Any]) -> Sequence[Answer]:
        """One answer each."""
        return await self._front.submit(items)
