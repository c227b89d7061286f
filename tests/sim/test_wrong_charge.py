"""A charge that is not what was asked, or of another object, while the order's own is still to come: the buyer is not charged
once more, people see it, and what they do at the PSP ends the order. Rows S9, D10."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from actors.answer import Applied, Refused
from tests.sim.faults import PLACES_MAX, CrashDoors, die_from_here
from tests.sim.house import TENANT, House, ScriptedRisk, checkout, rows, webhook
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, Object, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.order import OrderStatus
from zerosum.domain.todo import TodoState

C1, O1 = EntityKey(TENANT, "c-1"), OrderId("c-1-o0")
BEFORE, NINE = "pi_before", Money(900, "USD")
CHARGED, REFUNDED = m.ObjectStatus.CHARGED, m.ObjectStatus.REFUNDED


def told(event_id: str, status: m.ObjectStatus, object_id: str = BEFORE, money: Money = NINE) -> m.Report:
    """A webhook about the object of the life before, which our books have lost."""
    return replace(webhook(event_id, status, object_id), money=money)


def line() -> m.Report:
    """The settlement line that tells the same charge."""
    settled = m.SettlementLineRef("stripe", "txn_1", "f" * 64)
    return replace(told("", CHARGED), source=m.ReportSource.SETTLEMENT, delivery=None, settlement=settled)


async def wrongly_charged(house: House | None = None, *, reference: str = O1) -> House:
    """10.00 are asked and their prepare is on its way, when 9.00 are told that the life before had charged."""
    house = await (house or House()).start()
    house.psp.objects[BEFORE] = Object(BEFORE, reference, NINE, "tok_visa", CHARGED, paid=1)
    house.psp.holding.add("prepare")
    await house.submit(checkout("c-1", 1_000))
    await asyncio.sleep(1)
    await house.tell(C1, replace(told("evt_1", CHARGED), reference=reference))
    return house


def dead(found: Checkout) -> list[tuple[str, str]]:
    """Its dead letters: id, and the first word of the reason."""
    return [(todo.id, todo.reason.split(":")[0]) for todo in found.todos.values() if todo.state is TodoState.DEAD]


def cases(found: Checkout) -> list[tuple[str, str, bool]]:
    return [(case.kind, case.object_id, case.is_resolved) for case in found.mismatches.values()]


@pytest.mark.parametrize(("reference", "kind"), [(O1, "wrong_money"), ("o-other", "wrong_reference")])
def test_after_a_wrong_charge_the_answer_of_a_prepare_leads_to_no_other(reference: str, kind: str) -> None:
    """S9: people look first; the attempt's object is the one that was charged, and no other one is confirmed."""

    async def tell() -> tuple[Checkout, House]:
        house = await wrongly_charged(reference=reference)
        house.psp.held["prepare"].set()
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert (house.psp.counts["prepare"], house.psp.counts["confirm"]) == (1, 0)
    assert done.orders[O1].status is OrderStatus.EXECUTING
    assert cases(done) == [(kind, BEFORE, False)]
    assert dead(done) == [(f"confirm/1/{O1}", kind)]


def test_a_wrong_charge_that_is_told_again_and_by_its_settlement_line_is_one_case() -> None:
    """S8: the same webhook, another one, and the line of the PSP's file."""

    async def tell() -> tuple[Checkout, House]:
        house = await wrongly_charged()
        for again in (told("evt_1", CHARGED), told("evt_2", CHARGED), line(), line()):
            await house.tell(C1, again)
        house.psp.held["prepare"].set()
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert cases(done) == [("wrong_money", BEFORE, False)]
    assert (house.psp.charges, house.psp.counts["confirm"]) == ({O1: 1}, 0)


def test_a_replay_after_a_wrong_charge_asks_the_psp_and_charges_nothing() -> None:
    """O1: what an operator replays is a question about the object that was charged."""

    async def tell() -> tuple[Checkout, House]:
        house = await wrongly_charged()
        house.psp.held["prepare"].set()
        for key in ("r-1", "r-2"):
            await house.tell(C1, m.ReplayTodo(f"confirm/1/{O1}", Key(key), "ops"))
            await house.settle("c-1")
        await house.tell(C1, m.ReplayTodo(f"prepare/1/{O1}", Key("r-3"), "ops"))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert dead(done) == [(f"confirm/1/{O1}", "wrong_money")]
    assert (house.psp.charges, house.psp.counts["read"]) == ({O1: 1}, 2)
    assert (house.psp.counts["prepare"], house.psp.counts["confirm"]) == (1, 0)


def test_a_wrong_charge_that_is_given_back_at_the_psp_ends_its_order() -> None:
    """I9: the object can be paid once only, and was: CANCELED, with proof; what is told late changes nothing."""

    async def tell() -> tuple[Checkout, Checkout, House]:
        house = await wrongly_charged()
        house.psp.held["prepare"].set()
        await house.tell(C1, told("evt_2", REFUNDED, money=Money(400, "USD")))
        half = await house.settle("c-1")
        for late in (told("evt_3", REFUNDED), told("evt_4", REFUNDED), told("evt_5", CHARGED), line()):
            await house.tell(C1, late)
        return half, await house.settle("c-1"), house

    half, done, house = run(tell())

    assert (half.orders[O1].status, cases(half)) == (OrderStatus.EXECUTING, [("wrong_money", BEFORE, False)])
    assert (done.orders[O1].status, done.orders[O1].reason) == (OrderStatus.CANCELED, "GIVEN_BACK_AT_PSP")
    assert (cases(done), dead(done)) == ([("wrong_money", BEFORE, True)], [])
    assert rows(house, "ledger", "journals") == []


async def charged_before_the_risk_check(house: House) -> None:
    """The life before is told while nothing has been asked of the PSP yet."""
    house.risk.failures = 3
    await house.start()
    await house.submit(checkout("c-1", 1_000))
    await house.tell(C1, told("evt_1", CHARGED))


async def charged_before_a_confirm_goes_again(house: House) -> None:
    """The confirm was lost on its way, and what it asks next is proof of that."""
    house.psp = ScriptedPsp(always={"read": DROP_RESPONSE}, script={"confirm": [DROP_REQUEST]})
    await house.start()
    await house.submit(checkout("c-1", 1_000))
    await asyncio.sleep(1)
    await house.tell(C1, told("evt_1", CHARGED))
    house.psp.always.clear()


Scene = Callable[[House], Awaitable[None]]


@pytest.mark.parametrize("scene", [charged_before_the_risk_check, charged_before_a_confirm_goes_again])
def test_no_confirm_is_sent_once_another_object_was_charged_for_the_order(scene: Scene) -> None:
    """Design section 8: it would be the second charge; people cancel the order's own object, and that ends it."""

    async def tell() -> tuple[Checkout, Checkout, House]:
        house = House(risk=ScriptedRisk())
        await scene(house)
        stopped = await house.settle("c-1")
        own = stopped.orders[O1].attempt
        assert own is not None
        await house.tell(C1, webhook("evt_2", m.ObjectStatus.CANCELED, own.object_id))
        return stopped, await house.settle("c-1"), house

    stopped, done, house = run(tell())

    assert dead(stopped) == [(f"confirm/1/{O1}", "second_charge")]
    assert cases(stopped) == [("second_charge", BEFORE, False)]
    assert (done.orders[O1].status, dead(done)) == (OrderStatus.CANCELED, [])
    assert house.psp.charges == {}


def test_a_second_charge_that_people_give_back_leaves_suspense_and_the_order_may_go_on() -> None:
    """Its case is closed with the PSP's proof; then nothing stands against the order's own charge."""

    async def tell() -> tuple[Checkout, House]:
        house = House(risk=ScriptedRisk())
        await charged_before_the_risk_check(house)
        await house.settle("c-1")
        for event in ("evt_2", "evt_3"):
            await house.tell(C1, told(event, REFUNDED))
        await house.tell(C1, m.ReplayTodo(f"confirm/1/{O1}", Key("r-1"), "ops"))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert (done.is_payment_done, cases(done)) == (True, [("second_charge", BEFORE, True)])
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == [
        "suspense_charge", "suspense_refund", "capture",
    ]  # fmt: skip
    assert house.psp.charges == {O1: 1}


async def insist(house: House, body: m.Report | m.ReplayTodo) -> None:
    """As a PSP that delivers again, and an operator that asks again, until somebody has taken it."""
    while not isinstance(await house.tell(C1, body), Applied | Refused):
        pass


async def wrong_money_given_back(house: House, doors: CrashDoors, at: int) -> "asyncio.Task[None]":
    await wrongly_charged(house)
    house.psp.held["prepare"].set()
    keeper = die_from_here(doors, at)
    await insist(house, told("evt_2", REFUNDED))
    return keeper


async def second_charge_given_back(house: House, doors: CrashDoors, at: int) -> "asyncio.Task[None]":
    await charged_before_the_risk_check(house)
    await house.settle("c-1")
    keeper = die_from_here(doors, at)
    await insist(house, told("evt_2", REFUNDED))
    await insist(house, m.ReplayTodo(f"confirm/1/{O1}", Key("r-1"), "ops"))
    return keeper


@pytest.mark.parametrize(
    ("story", "status", "booked"),
    [
        (wrong_money_given_back, OrderStatus.CANCELED, []),
        (second_charge_given_back, OrderStatus.SUCCESS, ["suspense_charge", "suspense_refund", "capture"]),
    ],
)
def test_a_shard_may_die_at_every_place_of_a_charge_that_people_give_back(
    story: Callable[[House, CrashDoors, int], Awaitable["asyncio.Task[None]"]], status: OrderStatus, booked: list[str]
) -> None:
    """A1: before, during and after each commit and call; the webhook comes again, and so does the operator."""

    async def tell(doors: CrashDoors, at: int) -> tuple[Checkout, House]:
        doors.house = house = House(doors=doors, risk=ScriptedRisk())
        keeper = await story(house, doors, at)
        done = await house.settle("c-1")
        keeper.cancel()
        return done, house

    for at in range(1, PLACES_MAX):
        doors = CrashDoors()
        done, house = run(tell(doors, at))
        place = f"place {at}: {doors.seen[at - 1 : at]}"
        assert (done.orders[O1].status, dead(done)) == (status, []), place
        assert [is_resolved for _, _, is_resolved in cases(done)] == [True], place
        assert sorted(row["movement"] for row in rows(house, "ledger", "journals")) == sorted(booked), place
        assert house.psp.charges == {O1: 1}, place
        if not doors.killed:
            break
    assert at > 1
    assert not doors.killed, "the story never ran through"
