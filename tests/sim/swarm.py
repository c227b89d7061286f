"""A swarm of checkouts under a mix of faults that one seed draws: a phase of trouble, then everything must come to rest.

Everything that happens is drawn from the seed, on virtual time, so that the same seed is the same story.

Invariant: a caller here knows only what it was answered, and asks again with the same key until it has its reply.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actors.answer import Accepted, Answer, Applied, Failed, InFlight, Refused, Replied
from tests.sim.house import SHARDS_OF, TENANT, Copy, House, ScriptedRisk, checkout, envelope, rows
from tests.sim.proof import findings
from tests.sim.psp import Object
from tests.sim.trouble import Chance, SwarmDoors, SwarmPsp, mix_of
from zerosum.domain import message as m
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.refusal import Reason
from zerosum.errors import Retryable

CHECKOUTS = 10
TROUBLE_S = 40
REST_S = 4 * 3_600
TOKENS = ("tok_visa",) * 6 + ("tok_decline", "tok_3ds", "tok_refused")


# ---- the story -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Swarm:
    """One seed's house, its callers and its troubles. `told`: every fixed reply anyone ever got, by checkout."""

    seed: int
    chance: Chance = field(init=False)
    house: House = field(init=False)
    told: dict[str, set[bytes]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    stale: list[Copy] = field(default_factory=list)
    deliveries: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.chance = Chance(self.seed, mix_of(self.seed))
        self.house = House(
            psp=SwarmPsp(chance=self.chance, tell=self._changed), doors=SwarmDoors(self.chance),
            risk=ScriptedRisk(is_at_once=self.seed % 4 == 0),
        )  # fmt: skip

    async def run(self) -> list[str]:
        """Everything that is wrong at the end; nothing, if all is well."""
        await self._start()
        commands = [self._command(number) for number in range(CHECKOUTS)]
        callers = [asyncio.create_task(self._buy(command)) for command in commands]
        mix = self.chance.mix
        for rate, act in (
            (mix.crashes_per_minute, self._crash),
            (mix.splits_per_minute, self._split),
            (mix.front_restarts_per_minute, self._restart_front),
        ):
            if rate:
                self._spawn(self._now_and_then(rate, act))
        keeper = asyncio.create_task(self._keep_alive())
        keeper.add_done_callback(self._ended)
        await asyncio.sleep(TROUBLE_S)
        self.chance.is_over = True
        await asyncio.gather(*callers)
        await self._come_to_rest()
        await self._ask_again(commands)
        keeper.cancel()
        return [*self.wrong, *findings(self.house)]

    async def _start(self) -> None:
        self.chance.is_over = True
        await self.house.start()
        self.chance.is_over = False

    def _command(self, number: int) -> m.SubmitCheckout:
        chance = self.chance.random
        amounts = [chance.randint(100, 9_999) for _ in range(chance.randint(1, 3))]
        sellers = [chance.choice(("hot", f"seller-{chance.randint(1, 3)}")) for _ in amounts]
        token = chance.choice(TOKENS)
        return checkout(f"s{self.seed}-c{number}", *amounts, token=token, key=f"k-{number}", sellers=sellers)

    # ---- callers ----

    async def _buy(self, command: m.SubmitCheckout) -> None:
        """A caller that clicks several times, and asks again with the same key until it has its reply."""
        chance = self.chance.random
        await asyncio.sleep(chance.random() * TROUBLE_S / 2)
        clicks = [self._click(command) for _ in range(chance.choice((1, 1, 1, 2, 5)))]
        if chance.random() < 0.2:
            clicks.append(self._click(replace(command, key=Key(f"{command.key}-other"))))
        if chance.random() < 0.2:
            clicks.append(self._cheat(command))
        await asyncio.gather(*clicks)

    async def _click(self, command: m.SubmitCheckout) -> None:
        while True:
            await self.chance.pause()
            answer = await self.house.submit(command)
            reply = await self._reply_of(command, answer)
            if reply is not None:
                self.told.setdefault(command.checkout_id, set()).add(reply)
                return
            await asyncio.sleep(0.5)

    async def _reply_of(self, command: m.SubmitCheckout, answer: Answer) -> bytes | None:
        match answer:
            case Replied(reply, _):
                return reply
            case Accepted():
                return await self.house.fronts["payment"].outcome(envelope(command).entity, 14_000)
            case Refused(refusal, _):
                self.wrong.append(f"checkout {command.checkout_id} was refused: {refusal.reason}")
                return b""
            case InFlight() | Failed():
                if isinstance(answer, Failed) and answer.kind == "Bug":
                    self.wrong.append(f"checkout {command.checkout_id} failed: {answer.message}")
                return None
            case _:
                self.wrong.append(f"checkout {command.checkout_id} was answered {answer}")
                return b""

    async def _cheat(self, command: m.SubmitCheckout) -> None:
        """The same key for more money: never executed, whoever comes first; the buyer's own request may lose to it."""
        await asyncio.sleep(1 + self.chance.random.random())
        if not self.told.get(command.checkout_id) and not await self._is_known(command):
            return
        line = command.lines[0]
        money = replace(line.money, amount_minor=line.money.amount_minor + 1)
        other = replace(command, lines=(replace(line, money=money), *command.lines[1:]))
        answer = await self.house.submit(other)
        if isinstance(answer, Refused) and answer.refusal.reason is Reason.KEY_REUSED:
            return
        if not isinstance(answer, Failed):
            self.wrong.append(f"the key of {command.checkout_id} was used for another request: {answer}")

    async def _is_known(self, command: m.SubmitCheckout) -> bool:
        return any(row["key"] == command.key for row in rows(self.house, "payment", "commands"))

    async def _ask_again(self, commands: Sequence[m.SubmitCheckout]) -> None:
        """One reply for ever: the same bytes to everyone, then and now."""
        for command in commands:
            answer = await self.house.submit(command)
            reply = answer.reply if isinstance(answer, Replied) else None
            if self.told.get(command.checkout_id) != {reply}:
                self.wrong.append(
                    f"checkout {command.checkout_id} was told {len(self.told[command.checkout_id])} replies"
                )

    # ---- troubles ----

    async def _now_and_then(self, per_minute: int, act: Callable[[], Awaitable[None]]) -> None:
        while not self.chance.is_over:
            await asyncio.sleep(self.chance.random.expovariate(per_minute / 60))
            if not self.chance.is_over:
                await act()

    async def _crash(self) -> None:
        service = self.chance.random.choice(("payment", "payment", "payment", "wallet", "ledger"))
        self.house.kill(self.chance.random.randrange(SHARDS_OF[service]), service)

    async def _split(self) -> None:
        """A second copy of a live shard: the first goes on behind a pause until the fence stops it."""
        service = self.chance.random.choice(("payment", "payment", "wallet", "ledger"))
        await self._revive(self.chance.random.randrange(SHARDS_OF[service]), service)

    async def _restart_front(self) -> None:
        await self.house.fronts["payment"].stop()
        self.house.fronts["payment"] = self.house.new_front("payment")
        self.house.fronts["payment"].start()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(0.5 + self.chance.random.random())
            for service, shards in SHARDS_OF.items():
                for number in range(shards):
                    copy = self.house.copies[service][number]
                    if copy is None or copy.host.shard.ended.is_set():
                        await self._revive(number, service)
            for copy in [stale for stale in self.stale if stale.host.shard.ended.is_set()]:
                self.stale.remove(copy)
                await copy.close()

    async def _revive(self, number: int, service: str) -> None:
        older = self.house.copies[service][number]
        self.stale.extend([older] if older is not None else [])
        try:
            await self.house.revive(number, service)
        except Retryable:
            if older is not None and older in self.stale:
                self.stale.remove(older)  # it is still the one; the next round tries again

    # ---- webhooks ----

    def _changed(self, obj: Object) -> None:
        chance, mix = self.chance.random, self.chance.mix
        if obj.status is m.ObjectStatus.ACTION_REQUIRED:
            self._spawn(self._pass_challenge(obj))
        if obj.status is m.ObjectStatus.CANCELED and self.chance.hits(mix.late_charge):
            self._spawn(self._charge_late(obj))
        if not self.chance.hits(mix.webhook_lost):
            self.deliveries += 1
            fact = self._fact(obj, f"evt_{self.deliveries}")
            for _ in range(chance.randint(1, mix.webhook_copies_max)):
                self._spawn(self._deliver(fact, chance.choice((0.0, 0.01, 0.1, 3.0, 30.0)) * chance.random()))

    async def _pass_challenge(self, obj: Object) -> None:
        await asyncio.sleep(self.chance.random.random() * 60)
        if obj.status is m.ObjectStatus.ACTION_REQUIRED:
            self.house.psp.pay_now(obj.id)
            self._changed(obj)

    async def _charge_late(self, obj: Object) -> None:
        """The impossible: money moves for an object that was canceled. Told by webhook until it is taken."""
        await asyncio.sleep(self.chance.random.random() * 20)
        if obj.paid == 0:
            self.house.psp.pay_now(obj.id)
            self.deliveries += 1
            await self._deliver(self._fact(obj, f"evt_{self.deliveries}"), 0)

    def _fact(self, obj: Object, event_id: str) -> m.Report:
        delivery = m.Delivery("stripe", event_id, "payment_intent.x", "00" * 32, "current")
        return m.Report(
            m.ReportSource.WEBHOOK, OrderId(obj.order_id), "stripe", obj.id, obj.status, obj.money, obj.order_id,
            obj.reason, delivery=delivery,
        )  # fmt: skip

    async def _deliver(self, fact: m.Report, delay_s: float) -> None:
        """Again and again until it is taken, as a PSP does."""
        await asyncio.sleep(delay_s)
        entity = EntityKey(TENANT, fact.order_id.rsplit("-", 1)[0])
        while not isinstance(answer := await self.house.tell(entity, fact), Applied):
            if not isinstance(answer, Failed):
                self.wrong.append(f"a webhook of {entity.id} was answered {answer}")
                return
            await asyncio.sleep(1)

    # ---- the end ----

    async def _come_to_rest(self) -> None:
        """No task of the world left, nothing owed: or the limit of time, and the findings say what is left."""
        for _ in range(REST_S):
            await asyncio.sleep(1)
            todos = rows(self.house, "payment", "todos")
            for dead in [row for row in todos if row["state"] == "DEAD" and row["kind"] == "assess_risk"]:
                await self._replay(dead)
            is_owed = any(row["state"] != "DONE" for row in todos)
            if not is_owed and not any(not task.done() for task in self.tasks):
                break
        await asyncio.sleep(100)  # late executions and late commits are over as well

    async def _replay(self, dead: dict[str, Any]) -> None:
        """A budget in tries may be spent when the risk check is down for long: an operator gives it a new one, twice."""
        entity = EntityKey(TENANT, dead["checkout_id"])
        replay = m.ReplayTodo(dead["todo_id"], Key(f"{entity.id}-replay"), "ops")
        for _ in range(2):
            answer = await self.house.tell(entity, replay)
            if not isinstance(answer, Applied):
                self.wrong.append(f"the replay of {entity.id}/{replay.todo_id} was answered {answer}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.wrong.append(f"a task of the swarm failed: {task.exception()!r}")
