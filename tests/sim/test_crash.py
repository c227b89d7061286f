"""A shard dies at every place of the story, and again while its successor recovers. Rows A1, A3, A9, P1 to P6, P29, P30."""

import asyncio

import pytest

from actors.answer import Accepted, Answer, Applied, InFlight, Replied
from tests.sim.faults import PLACES_MAX, CrashDoors, keep_alive
from tests.sim.house import TENANT, House, checkout, envelope, rows
from tests.sim.proof import findings
from tests.sim.psp import DROP_REQUEST, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import CheckoutStatus
from zerosum.domain.identity import EntityKey
from zerosum.domain.money import Money
from zerosum.v1.payment_pb2 import CreatePaymentResponse

ORDERS = (1_000, 2_000, 3_000)
ENDS = {"tok_visa": CheckoutStatus.DONE, "tok_decline": CheckoutStatus.FAILED, "tok_refused": CheckoutStatus.FAILED}


async def tell(
    doors: CrashDoors, token: str, script: dict[str, list[str]]
) -> tuple[House, list[Answer], list[bytes | None]]:
    """A checkout of three orders; whatever the first answer, the caller asks again with the same key until it knows."""
    house = House(doors=doors, psp=ScriptedPsp(script=script))
    doors.house = house
    await house.start()
    keeper = asyncio.create_task(keep_alive(house))
    command = envelope(checkout("c-1", *ORDERS, token=token))
    answers = [(await house.fronts["payment"].submit([command]))[0]]
    replies = [await house.fronts["payment"].outcome(command.entity, 60_000)]
    await house.settle("c-1")
    answers.append(await house.submit(checkout("c-1", *ORDERS, token=token)))
    keeper.cancel()
    return house, answers, replies


def check(house: House, answers: list[Answer], replies: list[bytes | None], token: str, place: str) -> None:
    """Exactly once, wallets, ledger, and one reply for ever."""
    stored = rows(house, "payment", "payment_events")[0]["reply"]
    assert findings(house) == [], place
    assert isinstance(answers[0], Accepted | Replied), place
    assert replies == [stored], place
    assert answers[1] == Replied(stored, is_replay=True), place
    assert rows(house, "payment", "payment_events")[0]["status"] == ENDS[token], place
    assert len(CreatePaymentResponse.FromString(stored).payment.payment_orders) == len(ORDERS), place


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("tok_visa", {}),
        ("tok_visa", {"prepare": [DROP_REQUEST], "confirm": [DROP_REQUEST]}),
        ("tok_decline", {}),
        ("tok_refused", {}),
    ],
)
def test_a_shard_may_die_at_every_place_of_the_story(token: str, script: dict[str, list[str]]) -> None:
    """A1, A3: before and after each commit of each service, each call to risk check, PSP, wallet and ledger."""
    met: set[str] = set()
    for at in range(1, PLACES_MAX):
        doors = CrashDoors(at=at)
        house, answers, replies = run(tell(doors, token, {verb: list(faults) for verb, faults in script.items()}))
        place = f"place {at}: {doors.seen[at - 1] if at <= len(doors.seen) else 'none'}"
        check(house, answers, replies, token, place)
        met.update(doors.seen)
        if not doors.killed:
            break

        assert doors.killed[0][0] == doors.seen[at - 1].split(":")[0]
    assert not doors.killed, "the story never ran through"
    assert {"payment: before commit", "payment: after commit", "payment: after prepare"} <= met


@pytest.mark.parametrize("again", [1, 2, 3, 5, 8])
def test_a_shard_may_die_again_while_its_successor_recovers(again: int) -> None:
    """A1: recovery is a story like any other."""
    for at in range(1, PLACES_MAX, 3):
        doors = CrashDoors(at=at, again=again)
        house, answers, replies = run(tell(doors, "tok_visa", {"confirm": [DROP_REQUEST]}))
        check(house, answers, replies, "tok_visa", f"places {at} and {at + again}: {doors.seen[at - 1 : at + again]}")
        if not doors.killed:
            break
    assert not doors.killed


def test_a_webhook_is_never_lost_and_never_taken_twice_wherever_the_shard_dies() -> None:
    """P29: 2xx only after the durable insert; the PSP sends again until then."""
    for at in range(1, 20):

        async def story(doors: CrashDoors, at: int) -> tuple[House, list[Answer]]:
            house = House(doors=doors)
            doors.house = house
            await house.start()
            keeper = asyncio.create_task(keep_alive(house))
            await house.pay(checkout("c-1", 1_000, token="tok_3ds"))
            house.psp.pay_now("pi_1")
            doors.seen.clear()
            doors.at = at
            order_id = checkout("c-1").lines[0].order_id
            delivery = m.Delivery("stripe", "evt_1", "payment_intent.succeeded", "00" * 32, "current")
            fact = m.Report(
                m.ReportSource.WEBHOOK, order_id, "stripe", "pi_1", m.ObjectStatus.CHARGED, Money(1_000, "USD"),
                order_id, "", delivery=delivery,
            )  # fmt: skip
            answers: list[Answer] = []
            while not answers or not isinstance(answers[-1], Applied):
                answers.append(await house.tell(EntityKey(TENANT, "c-1"), fact))
            await house.settle("c-1")
            keeper.cancel()
            return house, answers

        doors = CrashDoors()
        house, answers = run(story(doors, at))

        assert findings(house) == [], f"place {at}"
        assert len(rows(house, "payment", "inbox")) == 1
        assert len(answers) == 1
        if not doors.killed:
            break
    assert not doors.killed


def test_a_posting_whose_answer_is_lost_is_taken_once() -> None:
    """P30, P5: the peer's inbox is its command row: the same transfer and journal again change nothing."""
    story = CrashDoors()
    run(tell(story, "tok_visa", {}))
    lost = ("payment: after wallet", "payment: after ledger")
    for at in [place for place, name in enumerate(story.seen, 1) if name in lost]:
        doors = CrashDoors(at=at)
        house, _, _ = run(tell(doors, "tok_visa", {}))

        assert doors.seen[at - 1] in lost
        assert len(rows(house, "wallet", "entries")) == len(ORDERS)
        assert sorted(row["movement"] for row in rows(house, "ledger", "journals")) == ["capture"] * len(ORDERS)


def test_a_caller_whose_server_died_is_answered_by_another_within_two_seconds() -> None:
    """A9: a new server knows of no waiter and missed the news; the database has the reply."""

    async def story(is_late: bool) -> tuple[bytes | None, float, bytes | None]:
        house = await House().start()
        command = envelope(checkout("c-1", 1_000))
        house.psp.holding.add("confirm")
        await house.fronts["payment"].submit([command])
        await house.fronts["payment"].stop()
        another = house.new_front("payment")
        if not is_late:
            another.start()  # else: it listens to nothing at all
        waiting = asyncio.create_task(another.outcome(command.entity, 60_000))
        await asyncio.sleep(1)
        house.psp.held["confirm"].set()
        await asyncio.sleep(0.5)
        fixed_s = asyncio.get_running_loop().time()
        reply = await waiting
        return reply, asyncio.get_running_loop().time() - fixed_s, (await house.checkout("c-1")).reply

    for is_late in (False, True):
        reply, waited_s, stored = run(story(is_late))

        assert reply == stored is not None
        assert waited_s <= 2


def test_news_lost_between_shard_and_server_cost_two_seconds_at_the_most() -> None:
    """A9: outcomes are messengers only."""

    async def story() -> tuple[bytes | None, float]:
        house = await House().start()
        shard = house.shard(house.shard_number("c-1"))
        shard.outcomes.publish = lambda *_: None  # type: ignore[method-assign]  # every message gets lost
        reply = await house.pay(checkout("c-1", 1_000))
        return reply, asyncio.get_running_loop().time()

    reply, ended_s = run(story())

    assert reply is not None
    assert ended_s < 2.5


def test_a_caller_that_goes_away_changes_nothing_and_may_come_back() -> None:
    """C4: the work completes; the same key brings the reply."""
    for after_ms in range(0, 100, 9):

        async def story(after_ms: int) -> tuple[House, Answer]:
            house = await House().start()
            calling = asyncio.create_task(house.pay(checkout("c-1", 1_000)))
            await asyncio.sleep(after_ms / 1_000)
            calling.cancel()
            await asyncio.sleep(10)
            if not rows(house, "payment", "payment_events"):
                await house.pay(checkout("c-1", 1_000))
            await house.settle("c-1")
            return house, await house.submit(checkout("c-1", 1_000))

        house, answer = run(story(after_ms))

        assert findings(house) == []
        assert isinstance(answer, Replied)


def test_a_channel_that_sends_twice_or_through_two_servers_is_harmless() -> None:
    """G2: the command's id is in the message; retries and hedges of the channel are the same command."""

    async def story() -> tuple[House, set[type[Answer]]]:
        house = await House().start()
        other = house.new_front("payment")
        command = envelope(checkout("c-1", 1_000, 2_000))
        asking = [front.submit([command]) for front in (house.fronts["payment"], other) for _ in range(5)]
        answers = [answer for (answer,) in await asyncio.gather(*asking)]
        await house.settle("c-1")
        return house, {type(answer) for answer in answers}

    house, kinds = run(story())

    assert findings(house) == []
    assert kinds == {Accepted, InFlight}


def test_two_submits_of_one_batch_that_is_sent_again_are_both_answered() -> None:
    """A1, G2: a shard killed after its commit leaves the front to ask again; what it finds in flight was its own."""

    async def story() -> tuple[House, list[Answer]]:
        doors = CrashDoors(at=2)
        house = House(doors=doors)
        doors.house = house
        await house.start()
        keeper = asyncio.create_task(keep_alive(house))
        number = house.shard_number("c-0")
        names = [name for name in (f"c-{n}" for n in range(20)) if house.shard_number(name) == number][:4]
        answers = await house.fronts["payment"].submit([envelope(checkout(name, 1_000)) for name in names])
        for name in names:
            await house.settle(name)
        keeper.cancel()
        return house, list(answers)

    house, answers = run(story())

    assert findings(house) == []
    assert answers == [Accepted()] * 4
