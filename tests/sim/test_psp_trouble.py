"""A PSP that is slow, away, too busy, or tells things late, twice or in the wrong order. Rows S1 to S11."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from actors.answer import Answer, Applied
from tests.sim.house import HOUR_MS, TENANT, Doors, House, checkout, envelope, rows
from tests.sim.proof import findings
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, NOT_SENT, ScriptedPsp
from tests.sim.virtual import VirtualClock, run
from zerosum import limits
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.order import OrderStatus
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.domain.todo import TodoState
from zerosum.errors import NotSent, OutcomeUnknown
from zerosum.ports import PspGateway
from zerosum.psp.breaker import Breaker, BreakerState
from zerosum.psp.gateway import Gateway
from zerosum.psp.limiter import Limiter
from zerosum.psp.trouble import TurnedAway
from zerosum.v1.payment_pb2 import CreatePaymentResponse
from zerosum.v1.payment_pb2 import OrderStatus as WireStatus

# ---- S2, S3: the gateway of production around the scripted PSP -----------------------------------------------------


@dataclass(slots=True)
class Adapter:
    """The PSP's wire: away, or too busy until an instant of virtual time. Notes when each call came."""

    psp: ScriptedPsp
    is_away: bool = False
    busy_until_s: float = 0
    asks_for_ms: int = 0
    came_s: list[float] = field(default_factory=list)

    async def call(self, request: PspRequest) -> m.Report:
        now_s = asyncio.get_running_loop().time()
        self.came_s.append(now_s)
        if self.is_away:
            raise OutcomeUnknown("no answer")
        if now_s < self.busy_until_s:
            raise TurnedAway("429", self.asks_for_ms)
        return await self.psp.call(request)


@dataclass(slots=True)
class GatewayDoors(Doors):
    """Breaker, limiter and slots on virtual time, one gateway a shard as in production."""

    adapter: Adapter | None = None
    breakers: list[Breaker] = field(default_factory=list)

    def gateway(self, number: int, gateway: PspGateway) -> PspGateway:
        assert isinstance(gateway, ScriptedPsp)
        self.adapter = self.adapter or Adapter(gateway)
        clock_ms = VirtualClock().monotonic_ms
        breaker = Breaker("stripe", clock_ms)
        self.breakers.append(breaker)
        lines = {"stripe": Limiter("stripe", clock_ms)}
        return Gateway({"stripe": self.adapter}, {"stripe": breaker}, lines, clock_ms=clock_ms)


async def house_with_gateway() -> tuple[House, GatewayDoors, Adapter]:
    doors = GatewayDoors()
    house = await House(doors=doors).start()
    assert doors.adapter is not None
    return house, doors, doors.adapter


def test_a_psp_that_is_down_for_long_is_left_alone_and_its_backlog_drains() -> None:
    """S3: the breaker opens, one probe at a time finds out, and what waited is paid without a stampede.

    Twenty minutes stand for an hour: every pause is at its cap by then.
    """

    async def tell() -> tuple[House, GatewayDoors, int, float, int]:
        house, doors, adapter = await house_with_gateway()
        adapter.is_away = True
        names = [f"c-{number}" for number in range(24)]
        await house.fronts["payment"].submit([envelope(checkout(name, 1_000, sellers=["hot"])) for name in names])
        await asyncio.sleep(300)
        warm = len(adapter.came_s)
        await asyncio.sleep(900)
        assert {breaker.state for breaker in doors.breakers} <= {BreakerState.OPEN, BreakerState.HALF_OPEN}
        during = len(adapter.came_s) - warm
        adapter.is_away = False
        back_s = asyncio.get_running_loop().time()
        for name in names:
            await house.settle(name)
        seconds = Counter(int(at_s) for at_s in adapter.came_s if at_s >= back_s)
        return house, doors, during, asyncio.get_running_loop().time() - back_s, max(seconds.values())

    house, doors, during, drained_s, busiest = run(tell())

    assert findings(house) == []
    assert {breaker.state for breaker in doors.breakers} == {BreakerState.CLOSED}
    assert during <= 2 * 900 / (limits.BREAKER_OPEN_CAP_MS / 1_000) + 4
    assert drained_s < 120
    assert busiest <= 2 * (limits.PSP_BURST + limits.PSP_RATE_PER_S)


@pytest.mark.parametrize(("asks_for_ms", "waits_ms"), [(5_000, 5_000), (60_000, 60_000), (0, 0)])
def test_a_psp_that_asks_to_wait_is_obeyed_and_is_not_called_away(asks_for_ms: int, waits_ms: int) -> None:
    """S2: no call before the time is over, no breaker opens, and every checkout is paid."""

    async def tell() -> tuple[House, GatewayDoors, float, float]:
        house, doors, adapter = await house_with_gateway()
        adapter.asks_for_ms, adapter.busy_until_s = asks_for_ms, max(waits_ms / 1_000, 1)
        names = [f"c-{number}" for number in range(30)]
        for name in names:
            await house.submit(checkout(name, 1_000))
        first_s = adapter.came_s[0]
        for name in names:
            await house.settle(name)
        later = [at_s for at_s in adapter.came_s if at_s > first_s + 0.5]
        return house, doors, first_s, min(later, default=0)

    house, doors, first_s, again_s = run(tell())

    assert findings(house) == []
    assert {breaker.state for breaker in doors.breakers} == {BreakerState.CLOSED}
    assert again_s - first_s >= waits_ms / 1_000


def test_an_absurd_retry_after_is_obeyed_up_to_the_cap() -> None:
    """S2: a year is a minute."""

    async def tell() -> float:
        house = await House(psp=_AsksForAYear()).start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        return asyncio.get_running_loop().time()

    ended_s = run(tell())

    assert limits.RETRY_AFTER_CAP_MS / 1_000 <= ended_s <= limits.RETRY_AFTER_CAP_MS / 1_000 + 10


@dataclass(slots=True)
class _AsksForAYear(ScriptedPsp):
    async def call(self, request: PspRequest) -> m.Report:
        if not self.calls:
            self.calls.append(request)
            raise NotSent("429", 365 * 24 * HOUR_MS)
        return await super(_AsksForAYear, self).call(request)


@pytest.mark.parametrize("fault", [DROP_REQUEST, DROP_RESPONSE, NOT_SENT])
def test_a_psp_that_loses_nine_of_ten_answers_costs_time_only(fault: str) -> None:
    """S1: back-off with jitter, one object, one charge."""
    script = {verb: [fault] * 9 for verb in ("prepare", "confirm", "read")}

    async def tell() -> House:
        house = await House(psp=ScriptedPsp(script=script)).start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        return house

    assert findings(run(tell())) == []


# ---- S4 to S6, S8: webhooks ----------------------------------------------------------------------------------------


def webhook(event_id: str, status: m.ObjectStatus, number: int = 0, object_id: str = "pi_1") -> m.Report:
    """A verified webhook about an order of c-1, whose amounts are 1000, 2000, .."""
    delivery = m.Delivery("stripe", event_id, "payment_intent.x", "00" * 32, "current")
    order_id = OrderId(f"c-1-o{number}")
    return m.Report(
        m.ReportSource.WEBHOOK, order_id, "stripe", object_id, status, Money(1_000 * (number + 1), "USD"), order_id, "",
        delivery=delivery,
    )  # fmt: skip


C1 = EntityKey(TENANT, "c-1")


def test_twenty_copies_of_a_webhook_at_once_have_one_effect_and_are_all_taken() -> None:
    """S4."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House(
            psp=ScriptedPsp(script={"confirm": [DROP_RESPONSE]}, always={"read": DROP_RESPONSE})
        ).start()
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(1)
        copies = [house.tell(C1, webhook("evt_1", m.ObjectStatus.CHARGED)) for _ in range(20)]
        answers = list(await asyncio.gather(*copies))
        await house.settle("c-1")
        return answers, house

    answers, house = run(tell())

    assert sorted(answer.is_replay for answer in answers if isinstance(answer, Applied)) == [False] + [True] * 19
    assert [row["outcome"] for row in rows(house, "payment", "inbox")] == ["APPLIED"]
    assert findings(house) == []


@pytest.mark.parametrize("at_ms", range(0, 130, 10))
def test_a_webhook_may_come_at_any_moment_of_the_story(at_ms: int) -> None:
    """S5: before the object is known, before the confirm is sent, before its answer, after everything."""

    async def tell() -> House:
        house = await House().start()
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(at_ms / 1_000)
        obj = house.psp.objects.get("pi_1")
        if obj is not None:
            await house.tell(C1, webhook("evt_1", obj.status))
        await house.settle("c-1")
        return house

    assert findings(run(tell())) == []


@pytest.mark.parametrize("token", ["tok_visa", "tok_decline"])
def test_webhooks_in_the_wrong_order_lead_to_the_same_end(token: str) -> None:
    """S8: ranked by the state table: what is late is recorded and changes nothing."""

    async def tell() -> House:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token=token))
        await house.settle("c-1")
        late = (m.ObjectStatus.PROCESSING, m.ObjectStatus.UNCONFIRMED, m.ObjectStatus.AUTHORIZED)
        for number, status in enumerate((*late, m.ObjectStatus.ACTION_REQUIRED, m.ObjectStatus.DECLINED)):
            await house.tell(C1, webhook(f"evt_{number}", status))
        await house.settle("c-1")
        return house

    house = run(tell())

    assert findings(house) == []
    assert {row["outcome"] for row in rows(house, "payment", "inbox")} == {"IGNORED"}


def test_without_any_webhook_and_with_every_first_answer_lost_all_is_settled_by_asking() -> None:
    """S6: polling brings the end."""

    async def tell() -> House:
        house = await House(
            psp=ScriptedPsp(script={"prepare": [DROP_RESPONSE], "confirm": [DROP_RESPONSE] * 3})
        ).start()
        await house.pay(checkout("c-1", 1_000, 2_000, 3_000))
        await house.settle("c-1")
        return house

    assert findings(run(tell())) == []


def test_a_confirm_that_is_never_executed_becomes_a_dead_letter_long_before_its_budget_ends() -> None:
    """P33: not thousands of numbers a day. The order stays EXECUTING, uncharged; a replay goes on where it stopped."""

    async def tell() -> tuple[House, str, int]:
        house = await House(psp=ScriptedPsp(always={"confirm": DROP_REQUEST})).start()
        await house.submit(checkout("c-1", 1_000))
        await house.settle("c-1")
        (dead,) = [row for row in rows(house, "payment", "todos") if row["state"] == "DEAD"]
        sent = house.psp.counts["confirm"]
        house.psp.always.clear()
        await house.tell(C1, m.ReplayTodo(dead["todo_id"], Key("replay-1"), "ann"))
        await house.settle("c-1")
        return house, dead["reason"], sent

    house, reason, sent = run(tell())

    assert (sent, reason) == (limits.NUMBERS_MAX, "sent under 50 numbers, and never executed")
    assert findings(house) == []
    assert sum(house.psp.charges.values()) == 1


# ---- S9 to S11 -----------------------------------------------------------------------------------------------------


def test_a_charge_of_the_wrong_amount_waits_for_people_and_posts_nothing() -> None:
    """S9: not a success, no posting, a case and a dead letter that names it; the caller is told what is known."""

    async def tell() -> tuple[Checkout, House]:
        house = await House(psp=ScriptedPsp(twist={"money": Money(1_001, "USD")})).start()
        reply = CreatePaymentResponse.FromString(await house.pay(checkout("c-1", 1_000)) or b"")
        assert reply.payment.payment_orders[0].status == WireStatus.ORDER_STATUS_EXECUTING
        return await house.settle("c-1"), house

    stopped, house = run(tell())

    assert stopped.orders[OrderId("c-1-o0")].status is OrderStatus.EXECUTING
    assert [case.kind for case in stopped.mismatches.values()] == [m.MismatchKind.WRONG_MONEY]
    assert [todo.reason[:11] for todo in stopped.todos.values() if todo.state is TodoState.DEAD] == ["wrong_money"]
    assert rows(house, "wallet", "entries") == rows(house, "ledger", "journals") == []


def test_keys_that_the_psp_has_forgotten_are_never_sent_again() -> None:
    """S10: three days; a forgotten confirm is asked for, a forgotten prepare is never confirmed twice."""

    async def tell() -> tuple[House, list[str]]:
        house = await House(psp=ScriptedPsp(always={"prepare": DROP_RESPONSE})).start()
        await house.pay(checkout("c-1", 1_000))
        for _ in range(3):
            await house.skip(24 * HOUR_MS)
            house.psp.answered.clear()
        dead = await house.settle("c-1")
        house.psp.always.clear()
        (name,) = [todo.id for todo in dead.todos.values() if todo.state is TodoState.DEAD]
        await house.tell(C1, m.ReplayTodo(name, Key("r-1"), "ops"))
        await house.settle("c-1")
        sent = [call.key for call in house.psp.calls if call.verb is PspVerb.PREPARE]
        return house, sorted(set(sent))

    house, keys = run(tell())

    assert findings(house) == []
    assert len(keys) == 2


def test_an_order_that_is_pending_for_hours_is_asked_for_seldom_and_told_as_pending() -> None:
    """S11: visible, without a retry storm; the end comes whenever the buyer acts."""

    async def tell() -> tuple[House, int]:
        house = await House().start()
        reply = CreatePaymentResponse.FromString(await house.pay(checkout("c-1", 1_000, token="tok_3ds")) or b"")
        assert reply.payment.payment_orders[0].status == WireStatus.ORDER_STATUS_PENDING
        await asyncio.sleep(3 * 3_600)
        reads = house.psp.counts["read"]
        assert (await house.checkout("c-1")).orders[OrderId("c-1-o0")].status is OrderStatus.PENDING
        house.psp.pay_now("pi_1")
        await house.settle("c-1")
        return house, reads

    house, reads = run(tell())

    assert findings(house) == []
    assert reads <= 9
