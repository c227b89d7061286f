"""The processes of a world and who keeps them alive: shards, servers, one database, one PSP.

A process is killed, paused, or declared dead while it lives; its keeper starts another in its place. A paused one that
wakes finds its successor at work: two live copies, and the fence between them.

Invariant: whoever lives at an address is the newest; older ones go on until they find out by themselves.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from simulator.world.database import SERVICES, Database
from simulator.world.loop import Party, VirtualLoop
from simulator.world.mix import HOUR_MS, Mix
from simulator.world.network import Network
from simulator.world.process import Link, PaymentServer, PostingServer, ProcessClock, Risk, ShardProcess
from simulator.world.proof import Carried
from simulator.world.psp import Psp
from simulator.world.safety import Safety
from simulator.world.trace import Trace
from simulator.world.weather import Weather
from zerosum.domain.draft import Policy
from zerosum.errors import Retryable

_DECLARED_DEAD_S: Final = 8.0
"""A process that does not answer for so long is taken for dead and gets a successor. Ray: 7.8 s measured."""

_LIVES_BESIDE_S: Final = 60.0
"""Who has a successor and runs is ended within this time by whoever declared it dead. Ray: after 14 s measured."""

_TRIES_WHILE_GONE: Final = 4
_BASE_MS: Final = 2_000
"""Of one to-do, at the back-off's cap, until the PSP forgets its key; some ten others lead up to the cap."""


@dataclass(frozen=True, slots=True)
class Topology:
    """What a seed draws of the house."""

    shards_of: dict[str, int]
    policy: Policy
    key_expiry_ms: int
    is_risk_at_once: bool


def topology_of(seed: int, mix: Mix) -> Topology:
    """1 to 3 payment shards, 1 or 2 of wallet and ledger, the lease, and how long the PSP remembers keys.

    Where the PSP is gone for longer than that, whoever waits for it asks a few times in all: so is the back-off set.
    """
    chance = Random(f"house {seed}")
    expiry_ms = chance.choice((1, 6, 24, 24 * 7)) * HOUR_MS
    policy = Policy(
        psp="stripe", answer_after_ms=10_000, lease_ms=chance.randint(2_000, 30_000), backoff_base_ms=100,
        backoff_cap_ms=chance.choice((2_000, 10_000, 30_000)), horizon_ms=expiry_ms,
    )  # fmt: skip
    if mix.psp_gone_hours_max:
        policy = replace(policy, backoff_base_ms=_BASE_MS, backoff_cap_ms=expiry_ms // _TRIES_WHILE_GONE)
    shards_of = {"wallet": chance.randint(1, 2), "ledger": chance.randint(1, 2), "payment": chance.randint(1, 3)}
    return Topology(shards_of, policy, expiry_ms, chance.random() < 0.3)  # noqa: PLR2004 - most ask the risk check


class House:
    """Everything that runs, by address: `payment-0`, `wallet-server`, .."""

    def __init__(self, *, loop: VirtualLoop, weather: Weather, trace: Trace, topology: Topology) -> None:
        self.loop, self.weather, self.trace, self.topology = loop, weather, trace, topology
        self.safety = Safety()
        self.network = Network(loop, weather, trace)
        self.database = Database(loop, weather, trace, self.safety)
        for service in SERVICES:
            self.safety.watch(service, self.database.stores[service].tables)
        self.psp = Psp(
            loop=loop, weather=weather, trace=trace, safety=self.safety, network=self.network,
            key_expiry_ms=topology.key_expiry_ms,
        )  # fmt: skip
        self.risk = Risk(weather, trace, is_at_once=topology.is_risk_at_once)
        self.shards = [f"{service}-{number}" for service in SERVICES for number in range(topology.shards_of[service])]
        self.servers = [f"{service}-server" for service in SERVICES]
        self.living: dict[str, Party] = {}
        self.processes: dict[Party, Any] = {}
        self.carried = Carried()
        self._paused_at_s: dict[Party, float] = {}
        self._day = asyncio.Event()
        self._day.set()
        self._copies: Counter[str] = Counter()

    async def start(self) -> None:
        """Everything is up."""
        for address in [*self.shards, *self.servers]:
            await self.boot(address)

    async def boot(self, address: str) -> None:
        """A new process at the address; an older one there is hung up on and fenced. Nothing where it cannot start."""
        self._copies[address] += 1
        party = Party(f"{address}#{self._copies[address]}")
        clock = ProcessClock(self.loop, self.weather, self.trace)
        process = self._server(address, clock) if address in self.servers else self._shard(address, clock)
        party.roots.append(process)
        self.trace.tell("starts", party.name)
        try:
            await self.loop.start(party, process.start())
        except Retryable as away:
            self.trace.tell(f"cannot start: {away}", party.name)
            party.is_dead = True
            return
        older = self.living.get(address)
        if older is not None and older.is_running:
            self._end_soon(older)
        self.processes[party] = process
        self.living[address] = party
        self.network.move_in(address, party, getattr(process, "host", process))

    def _shard(self, address: str, clock: ProcessClock) -> ShardProcess:
        service, _, number = address.partition("-")
        return ShardProcess(
            service=service, number=int(number), shards=self.topology.shards_of[service], clock=clock,
            database=self.database, policy=self.topology.policy, network=self.network, psp=self.psp, risk=self.risk,
            trace=self.trace,
        )  # fmt: skip

    def _server(self, address: str, clock: ProcessClock) -> PaymentServer | PostingServer:
        service = address.partition("-")[0]
        links = [Link(self.network, f"{service}-{number}") for number in range(self.topology.shards_of[service])]
        if service != "payment":
            return PostingServer(links, service)
        return PaymentServer(
            links=links,
            clock=clock,
            database=self.database,
            policy=self.topology.policy,
            trace=self.trace,
            psp=self.psp,
        )

    # ---- what befalls processes ------------------------------------------------------------------------------

    def kill(self, address: str, fault: str) -> None:
        """kill -9: memory and tasks are gone; what was sent is on its way, what was committed stays."""
        party = self.living.pop(address, None)
        if party is not None:
            self.trace.fault(fault, party=party.name)
            party.is_dead = True
            self.network.hang_up(address)

    def pause(self, address: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        party = self.living.get(address)
        if party is not None and party.is_running:
            self.trace.fault("pauses_per_minute", f"for {seconds:.1f} s", party.name)
            party.is_paused = True
            self._paused_at_s[party] = self.loop.time()
            self.loop.later(seconds, self.wake, party)

    def wake(self, party: Party) -> None:
        """SIGCONT."""
        if party.is_paused and not party.is_dead:
            is_stale = self.living.get(party.name.partition("#")[0]) is not party
            self.trace.met["woke_beside_successor"] += is_stale
            self.trace.tell(f"wakes{' beside its successor' if is_stale else ''}", party.name)
            self.loop.resume(party)
            if is_stale:
                self._end_soon(party)

    def _end_soon(self, older: Party) -> None:
        """Two copies live for a while. One that gets no work never learns of its successor, and would live for ever."""

        def end() -> None:
            if not older.is_dead:
                self.trace.met["stale_ended"] += 1
                self.trace.tell("ends: it had been declared dead", older.name)
                older.is_dead = True

        self.loop.later(self.weather.random.random() * _LIVES_BESIDE_S, end)

    def wake_all(self) -> None:
        """The end of all pauses."""
        for party in self.processes:
            self.wake(party)

    def forget(self) -> None:
        """What was audited at rest leaves memory, and what must go on from there is carried over."""
        self.carried = Carried.of(self.database)
        for service in SERVICES:
            self.database.stores[service].clear(but=Carried.TABLES)
        self.psp.forget()
        self.safety.forget()
        self.trace.forget()
        self.processes = {party: process for party, process in self.processes.items() if not party.is_dead}
        self._paused_at_s = {party: at_s for party, at_s in self._paused_at_s.items() if not party.is_dead}

    def let_go(self) -> None:
        """The story is over and everything of it was looked at: what it was made of is free at once, without a collector."""
        for store in self.database.stores.values():
            store.clear()
        self.psp.forget()
        for party in self.processes:
            party.roots.clear()
            party.held.clear()

    async def sleep_until(self, at_s: float) -> None:
        """Nothing is left to do before that: everyone rests, as machines switched off for a night."""
        self._day.clear()
        resting = [party for party in self.processes if party.is_running]
        for party in resting:
            party.is_paused = True
        await asyncio.sleep(max(at_s - self.loop.time(), 0))
        self._day.set()
        for party in resting:
            self.loop.resume(party)

    async def keep_alive(self) -> None:
        """Starts another where a process is dead, has ended or does not answer; buries those that were fenced."""
        while True:
            await asyncio.sleep(0.5 + self.weather.random.random())
            await self._day.wait()
            for address in [*self.shards, *self.servers]:
                party = self.living.get(address)
                if party is None or self._is_over(party) or self._is_silent(party):
                    await self.boot(address)
            for party in [each for each in self.processes if not each.is_dead and self._is_over(each)]:
                self.trace.tell("ends: it was superseded", party.name)
                self.trace.met["fenced"] += 1
                party.is_dead = True

    def _is_over(self, party: Party) -> bool:
        process = self.processes[party]
        return isinstance(process, ShardProcess) and process.shard.ended.is_set()

    def _is_silent(self, party: Party) -> bool:
        return party.is_paused and self.loop.time() - self._paused_at_s[party] > _DECLARED_DEAD_S
