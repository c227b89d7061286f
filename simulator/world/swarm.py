"""A swarm of checkouts in a world of trouble: a phase in which anything goes wrong, then everything must come to rest.

Buyers click twice, come back with another key, and cheat with the key of others; they know only what they were answered,
and ask again with the same key until they have their reply.

Invariant: everything that happens is drawn from the seed, and nothing is asked of the house that a caller could not ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

from actors.answer import Answer, Applied, Busy, Failed, InFlight, Refused, Replied
from simulator.world.damage import Damage
from simulator.world.finance import Finance
from simulator.world.forger import Forger
from simulator.world.house import House
from simulator.world.loop import Party
from simulator.world.mix import HOUR_MS
from simulator.world.network import BUYERS, Lost
from simulator.world.network import Refused as NobodyThere
from simulator.world.proof import findings
from simulator.world.psp import SERVER
from simulator.world.reconciler import Reconciler
from simulator.world.rival import Rivals
from zerosum.domain import message as m
from zerosum.domain.identity import CheckoutId, EntityKey, Key, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason
from zerosum.errors import Unavailable
from zerosum.store.memory_table import MemoryTable

TENANT: Final = Tenant("acme")
REST_S: Final = 2 * 3_600
"""A clock that jumped back is 20 minutes behind, a pending order is asked for after 1, 2, 4, 8, .. minutes."""
_PATIENCE_S: Final = 20.0
_PAUSE_S: Final = 2.0
_SPENT: Final = "budget spent"
_TIRED_S: Final = 16.0
"""A caller without an answer asks again after two seconds, then after twice as long each time, up to this."""
_CROWDS: Final = (4, 10, 100)
"""The checkouts of a story come at so many moments: some five at once, now two and now one, or nearly each alone."""
_CLICKS: Final = (1, 1, 1, 1, 2, 4)
_LOOKS_PER_MINUTE: Final = 4
"""The reconciler's, while there is trouble: often enough that its facts race answers, polls and webhooks."""
_DEAF_MS_MAX: Final = 15_000
"""For how long a PSP that leaves still carries out what it answers no more: longer than the longest call."""
_FAR_S: Final = 60
_NEAR_S: Final = 5
"""Where nothing is owed, only what is on its way between processes is left, and that is there sooner; a PSP that is gone
turns away whoever asks at once."""
_TOKENS: Final = (
    *("pm_card_visa",) * 7, "pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds",
    "pm_card_threeDSecure2Required", "pm_card_processing", "pm_of_nobody",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens: checkouts, how long the trouble lasts, and within which part of it everyone comes."""

    checkouts: int = 20
    trouble_s: float = 30.0
    arrivals: float = 0.5


class Swarm:
    """The callers and the troubles of one house. `told`: every fixed reply anyone ever got, by checkout.

    `first`: the number of its first checkout, where others came before.
    """

    def __init__(self, house: House, size: Size, first: int = 0) -> None:
        self.house, self.size, self._first = house, size, first
        self.weather, self.trace, self.loop = house.weather, house.trace, house.loop
        self.told: dict[str, set[bytes]] = {}
        self.wrong: list[str] = []
        self.commands: list[m.SubmitCheckout] = []
        self._buyers = Party(BUYERS)
        self._finance = Finance(house, TENANT, size.trouble_s, first)
        self._rivals = Rivals(house, TENANT, size.trouble_s * size.arrivals, first, self.told)
        self._forger = Forger(house.psp, house.network, house.trace, house.weather.seed)
        self._reconciler = Reconciler(house)
        self._damage = Damage(house, first)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> list[str]:
        """Everything that is wrong at the end; nothing, if all is well."""
        await self.house.start()
        keeper = asyncio.create_task(self.house.keep_alive())
        keeper.add_done_callback(self._ended)
        wrong = await self.story()
        keeper.cancel()
        return wrong

    async def story(self) -> list[str]:
        """From the first click until all is at rest and was looked at; the house runs, and goes on running."""
        self.commands = [self._command(self._first + number) for number in range(self.size.checkouts)]
        self.weather.is_over = False
        self.house.psp.set_trouble(self.weather.mix)
        chance = self.weather.random
        moments = [chance.random() * self.size.trouble_s * self.size.arrivals for _ in range(chance.choice(_CROWDS))]
        for command in self.commands:
            self._spawn(self._buy(command, chance.choice(moments)), self._buyers)
        for act in self._finance.acts(self.commands):
            self._spawn(act, self._buyers)
        for contest in self._rivals.acts(self._ask):
            self._spawn(contest, self._buyers)
        self._let_loose()
        await asyncio.sleep(self.size.trouble_s)
        self._calm()
        await self._come_to_rest()
        while self._reconciler.mends() and not self.house.safety.wrong:
            await self.loop.start(self._reconciler.party, self._reconciler.mend())
            await self._come_to_rest()
        await asyncio.gather(*(self.loop.start(self._buyers, self._ask_again(command)) for command in self.commands))
        rivals = await self.loop.start(self._buyers, self._rivals.findings(self._ask))
        told = [*rivals, *self._finance.look(self.house.database.rows("payment", "refunds"))]
        wrong = self._findings(told)
        if self._damage.strikes and not wrong:  # what is wrong already is told as it is
            wrong = [*await self._damage.strike(), *self._findings(told)]
        return wrong

    def _findings(self, told: list[str]) -> list[str]:
        """All that is wrong now. `told`: what buyers and finance have found, who were asked before."""
        unexplained = self._reconciler.findings()
        wrong = [*self.house.safety.wrong, *self.wrong, *self._forger.wrong, *told, *unexplained]
        return [*wrong, *findings(self.house.database, self.house.psp, self.told, self.house.carried)]

    def _command(self, number: int) -> m.SubmitCheckout:
        chance, name = self.weather.random, f"c{number}"
        lines = tuple(
            m.OrderLine(
                OrderId(f"{name}-o{position}"), chance.choice(("hot", f"seller-{chance.randint(1, 3)}")),
                f"{minor // 100}.{minor % 100:02}", Money(minor, "USD"),
            )
            for position, minor in enumerate(chance.randint(100, 9_999) for _ in range(chance.randint(1, 3)))
        )  # fmt: skip
        buyer = m.Buyer(f"buyer-{number}", "Ada", "ada@example.com", "GB")
        token = chance.choice(_TOKENS)
        return self._finance.choose(m.SubmitCheckout(TENANT, CheckoutId(name), Key(f"k{number}"), buyer, token, lines))

    # ---- buyers ----------------------------------------------------------------------------------------------

    async def _buy(self, command: m.SubmitCheckout, at_s: float) -> None:
        chance = self.weather.random
        await asyncio.sleep(at_s)
        clicks = [self._click(command) for _ in range(chance.choice(_CLICKS))]
        if chance.random() < 0.2:  # noqa: PLR2004 - one buyer in five
            clicks.append(self._click(replace(command, key=Key(f"{command.key}-other"))))
        if chance.random() < 0.2:  # noqa: PLR2004 - one buyer in five
            clicks.append(self._cheat(command))
        await asyncio.gather(*clicks)

    async def _click(self, command: m.SubmitCheckout) -> None:
        """Until there is a reply; a buyer gets tired of asking."""
        pause_s = _PAUSE_S
        while True:
            match await self._ask(command):
                case Replied(reply, is_replay):
                    self.trace.met["replay"] += is_replay
                    self.told.setdefault(command.checkout_id, set()).add(reply)
                    return
                case None | InFlight() | Busy():
                    self.trace.met["not_answered_yet"] += 1
                case Failed(kind, message) if kind == "Bug":
                    self.wrong.append(f"I6: checkout {command.checkout_id} failed: {message}")
                    return
                case Failed():
                    self.trace.met["failed_submit"] += 1
                case answer:
                    self.wrong.append(f"I6: checkout {command.checkout_id} was answered {answer}")
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _TIRED_S)

    async def _cheat(self, command: m.SubmitCheckout) -> None:
        """The key of a request that is known, for more money: refused, and nothing is executed."""
        await asyncio.sleep(1 + self.weather.random.random())
        commands = self.house.database.rows("payment", "commands")
        if not any(row["key"] == command.key for row in commands):
            return
        line = command.lines[0]
        money = replace(line.money, amount_minor=line.money.amount_minor + 1)
        other = replace(command, lines=(replace(line, money=money), *command.lines[1:]))
        match await self._ask(other):
            case Refused(refusal, _) if refusal.reason is Reason.KEY_REUSED:
                self.trace.met["key_reuse_refused"] += 1
            case Failed() | None | Busy():
                self.trace.met["failed_submit"] += 1
            case answer:
                self.wrong.append(f"I6: the key of {command.checkout_id} was used for another request: {answer}")

    async def _ask(self, command: m.SubmitCheckout) -> Answer | None:
        """One call to the payment server. None: no answer in time, or none that got through."""
        what = f"CreatePayment {command.checkout_id} {command.key}"
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer: Answer | None = await self.house.network.ask(
                    SERVER, what, lambda server: server.create(command)
                )
                return answer
        except (Lost, NobodyThere, Unavailable, TimeoutError):
            self.trace.tell(f"no answer to {what}")
            return None

    async def _ask_again(self, command: m.SubmitCheckout) -> None:
        """One reply for ever: the same bytes to everyone, then and now."""
        answer = await self._ask(command)
        if not isinstance(answer, Replied):
            self.wrong.append(f"I6: at rest checkout {command.checkout_id} was answered {answer}")
        else:
            self.told.setdefault(command.checkout_id, set()).add(answer.reply)

    # ---- trouble ---------------------------------------------------------------------------------------------

    def _let_loose(self) -> None:
        mix, house, chance = self.weather.mix, self.house, self.weather.random
        troubles: tuple[tuple[int, Callable[[], Awaitable[None] | None]], ...] = (
            (mix.crashes_per_minute, lambda: house.kill(chance.choice(house.shards), "crashes_per_minute")),
            (
                mix.server_crashes_per_minute,
                lambda: house.kill(chance.choice(house.servers), "server_crashes_per_minute"),
            ),
            (mix.pauses_per_minute, lambda: house.pause(self._anybody(), 1 + chance.random() * 59)),
            (mix.splits_per_minute, self._split),
            (mix.partitions_per_minute, lambda: house.network.cut(self._anybody(), 1 + chance.random() * 9)),
            (mix.outages_per_minute, self._outage),
            (mix.clock_jumps_per_minute, self._jump),
        )
        for per_minute, act in troubles:
            if per_minute:
                self._spawn(self._now_and_then(per_minute, act))
        if mix.psp_gone_hours_max:
            self._spawn(self._psp_leaves(mix.psp_gone_hours_max))
        self._spawn(self._now_and_then(_LOOKS_PER_MINUTE, self._reconciler.mend), self._reconciler.party)
        if mix.forged_webhooks_per_minute:
            self._spawn(self._now_and_then(mix.forged_webhooks_per_minute, self._forger.forge), self._forger.party)

    def _anybody(self) -> str:
        return self.weather.random.choice([*self.house.shards, *self.house.servers])

    async def _now_and_then(self, per_minute: int, act: Callable[[], Awaitable[None] | None]) -> None:
        while not self.weather.is_over:
            await asyncio.sleep(self.weather.random.expovariate(per_minute / 60))
            if not self.weather.is_over:
                waiting = act()
                if waiting is not None:
                    await waiting

    async def _split(self) -> None:
        """A shard is taken for dead while it lives: two copies."""
        address = self.weather.random.choice(self.house.shards)
        self.trace.fault("splits_per_minute", address)
        await self.house.boot(address)

    async def _outage(self) -> None:
        self.trace.tell("! the database is out", "database")
        self.house.database.is_out = True
        await asyncio.sleep(self.weather.random.random() * 10)
        self.house.database.is_out = False

    async def _psp_leaves(self, hours_max: int) -> None:
        """Later on, most orders are done by then. It is back when all else is long well, and knows no key of before."""
        house, chance = self.house, self.weather.random
        await asyncio.sleep((1 + chance.random()) / 2 * self.size.trouble_s)
        beyond_ms = chance.randint(1, hours_max * HOUR_MS)
        house.psp.leave(deaf_ms=chance.randint(0, _DEAF_MS_MAX), gone_ms=house.topology.key_expiry_ms + beyond_ms)

    def _jump(self) -> None:
        before_ms = self.house.database.jumped_ms
        self.house.database.jumped_ms = self.weather.random.randint(-600_000, 600_000)
        is_ahead = self.house.database.jumped_ms > before_ms
        self.trace.met["clock_jumped_ahead" if is_ahead else "clock_jumped_back"] += 1
        self.trace.fault("clock_jumps_per_minute", f"to {self.house.database.jumped_ms} ms off", "database")

    # ---- the end ---------------------------------------------------------------------------------------------

    def _calm(self) -> None:
        self.trace.tell("all is well from now on")
        self.weather.is_over = True
        self.house.database.is_out = False
        self.house.psp.set_trouble(type(self.weather.mix)())
        self.house.wake_all()

    async def _come_to_rest(self) -> None:
        """Nothing is owed and nobody has anything left to do; or the limit of time, and the findings say what is left.

        The limit is for what we owe: a PSP may be late by days, and each thing it then says may take us as long again.
        """
        owed_s, rest_s = 0.0, REST_S + self.house.topology.policy.backoff_cap_ms / 1_000
        while owed_s < rest_s and not self.house.safety.wrong:
            await asyncio.sleep(1)
            owed_s += 1
            if self._tasks:
                continue
            await self._give_new_budgets()
            owed_ms, psp_ms = self._owed_in_ms(), self._psp_acts_in_ms()
            is_gone = self.house.psp.is_gone
            if owed_ms is None or is_gone:
                owed_s = 0
            if owed_ms is None and psp_ms is None:
                self.trace.tell("all is at rest")
                await asyncio.sleep(1)
                return
            far_ms = min(each for each in (owed_ms, psp_ms) if each is not None)
            is_owed = owed_ms is not None and not is_gone
            if far_ms > (_FAR_S if is_owed else _NEAR_S) * 1_000:
                owed_s += far_ms / 1_000 if is_owed else 0
                await self.house.sleep_until(self.loop.time() + far_ms / 1_000)

    def _owed_in_ms(self) -> int | None:
        """Until the first to-do is due: what runs now is due when its lease ends, half a minute at most. None: none is open."""
        due = [row["due_at_ms"] for _, row in self._todos.in_index("todos_due")]
        return min(due) - self.house.database.now_ms() if due else None

    def _psp_acts_in_ms(self) -> int | None:
        due_ms = self.house.psp.next_due_ms
        return None if due_ms is None else due_ms - self.house.psp.now_ms()

    @property
    def _todos(self) -> MemoryTable:
        return self.house.database.stores["payment"].tables["todos"]

    async def _give_new_budgets(self) -> None:
        """Budgets are spent where the risk check is down for long, and where the PSP is gone: then by whoever sees it back."""
        for _, dead in list(self._todos.in_index("todos_dead")):
            is_psp_back = dead["reason"].startswith(_SPENT) and not self.house.psp.is_gone
            if dead["kind"] == "assess_risk" or is_psp_back:
                await self.loop.start(self._buyers, self._replay(dict(dead)))

    async def _replay(self, dead: dict[str, Any]) -> None:
        """An operator gives a to-do a new budget, twice under one key."""
        entity = EntityKey(TENANT, dead["checkout_id"])
        body = m.ReplayTodo(dead["todo_id"], Key(f"{entity.id}-replay-{self.trace.met['dead_letter']}"), "ops")
        self.trace.met["dead_letter"] += 1
        for _ in range(2):
            answer = await self.house.network.ask(
                SERVER, f"replay {entity.id}", lambda server: server.act(entity, body)
            )
            is_still_dead = any(row["todo_id"] == body.todo_id for _, row in self._todos.in_index("todos_dead"))
            if not isinstance(answer, Applied) and is_still_dead:
                self.wrong.append(f"O1: the replay of {entity.id}/{body.todo_id} was answered {answer}")

    def _spawn(self, work: Coroutine[Any, Any, None], party: Party | None = None) -> None:
        task = self.loop.create_task(work) if party is None else self.loop.start(party, work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.wrong.append(f"a task of the world failed: {task.exception()!r}")
