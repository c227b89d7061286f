"""One shard and its batches: poison, floods, passivation, turns that fall out. Rows A4 to A7 and D3 of the catalogue."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from actors.answer import Accepted, Answer, Applied, Busy, Failed, Replied
from actors.payment import PaymentBinding
from actors.shard import Shard
from tests.sim.faults import StoreDoor
from tests.sim.house import TENANT, Doors, House, checkout, envelope, rows
from tests.sim.proof import findings
from tests.sim.virtual import run
from zerosum import limits
from zerosum.domain import message as m
from zerosum.domain.checkout_state import CheckoutStatus
from zerosum.domain.identity import Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.order import OrderStatus
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug, RowHeld
from zerosum.ports import Batch, Clash, Committed, Loaded, Store, Wanted

# ---- A4: poison ----------------------------------------------------------------------------------------------------


def credit(number: int, owner: str, minor: int = 100) -> Transfer:
    money = Money(minor, "USD")
    return Transfer(TENANT, Key(f"t-{number}"), owner, TransferKind.CREDIT_PENDING, money, OrderId(f"o-{number}"))


@pytest.mark.parametrize("place", [0, 1, 7, 15])
@pytest.mark.parametrize("is_same_owner", [True, False])
def test_a_command_whose_row_cannot_be_stored_fails_alone(place: int, is_same_owner: bool) -> None:
    """A4: halves, down to the one; its neighbours of the same and of other entities commit."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House().start()
        items = [credit(n, "seller-0" if is_same_owner else f"seller-{n % 4}") for n in range(16)]
        items[place] = credit(place, items[place].owner, minor=1 << 70)
        return list(await house.fronts["wallet"].submit(items)), house

    answers, house = run(tell())

    failed = [number for number, answer in enumerate(answers) if answer != Applied(is_replay=False)]
    assert failed == [place]
    assert isinstance(answers[place], Failed)
    assert sum(row["pending_minor"] for row in rows(house, "wallet", "wallets")) == 1_500


class _Held(Doors):
    """Rows of checkout c-held are held by somebody else's transaction, for as long as `is_held`."""

    is_held = True

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _HeldStore(self, store) if service == "payment" else store


class _HeldStore(StoreDoor):
    def __init__(self, doors: _Held, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._doors = doors

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        if self._doors.is_held and any(turn.entity.id == "c-held" for turn in batch.turns):
            raise RowHeld("a row of payment.payment_orders is held too long (55P03)")
        return await self.inner.commit(batch)


def test_a_row_that_somebody_holds_is_asked_for_again_and_its_neighbours_commit() -> None:
    """A10: a lock timeout says nothing about the row: typed and retryable, and afterwards the same command goes through."""

    async def tell() -> tuple[list[Answer], bytes | None]:
        doors = _Held()
        house = await House(doors=doors).start()
        commands = [checkout(name, 1_000) for name in ("c-1", "c-held", "c-2")]
        answers = await asyncio.gather(*(house.submit(command) for command in commands))
        doors.is_held = False
        return answers, await house.pay(commands[1])

    answers, reply = run(tell())

    assert [type(answer) for answer in answers] == [Accepted, Failed, Accepted]
    assert isinstance(answers[1], Failed)
    assert answers[1].kind == "Unavailable"
    assert reply is not None


class _Contradicting(Doors):
    """Makes rows of one checkout contradict what is stored: what only a bug can do."""

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _ContradictingStore(store) if service == "payment" else store


class _ContradictingStore(StoreDoor):
    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        changes = [
            replace(change, after=replace(change.after, version=change.after.version + 1))
            if change.key.id == "c-bad"
            else change
            for change in batch.changes
        ]
        return await self.inner.commit(replace(batch, changes=changes))


def test_a_bug_in_a_commit_stops_its_entity_and_never_the_shard() -> None:
    """A4, design section 3: a Bug quarantines its entity; every caller is answered."""

    async def tell() -> tuple[list[Answer], list[CheckoutStatus], bool]:
        house = await House(doors=_Contradicting()).start()
        names = [
            name for name in (f"c-{n}" for n in range(40)) if house.shard_number(name) == house.shard_number("c-bad")
        ]
        commands = [envelope(checkout(name, 1_000)) for name in (*names[:3], "c-bad", *names[3:6])]
        async with asyncio.timeout(60):
            answers = list(await house.fronts["payment"].submit(commands))
            settled = [(await house.settle(name)).status for name in names[:6]]
        return answers, settled, house.shard(house.shard_number("c-bad")).ended.is_set()

    answers, settled, is_ended = run(tell())

    assert [type(answer) for answer in answers] == [Accepted] * 3 + [Failed] + [Accepted] * 3
    assert settled == [CheckoutStatus.DONE] * 6
    assert not is_ended


@pytest.mark.parametrize(
    "slip", [KeyError("order"), TypeError("int"), Bug("a broken invariant")], ids=lambda slip: type(slip).__name__
)
def test_whatever_a_turn_stumbles_over_stops_its_entity_and_never_the_shard(
    monkeypatch: pytest.MonkeyPatch, slip: Exception
) -> None:
    """A4: else one command would end the shard, be asked for again, and end the next one."""
    take = PaymentBinding.take

    def stumble(binding: PaymentBinding, state: Any, command: m.CheckoutCommand, known: Any, now_ms: int) -> Any:
        if command.entity.id == "c-bad":
            raise slip
        return take(binding, state, command, known, now_ms)

    monkeypatch.setattr(PaymentBinding, "take", stumble)

    async def tell() -> tuple[list[Answer], bool]:
        house = await House().start()
        number = house.shard_number("c-bad")
        names = [name for name in (f"c-{n}" for n in range(40)) if house.shard_number(name) == number][:2]
        commands = [envelope(checkout(name, 1_000)) for name in (names[0], "c-bad", names[1])]
        async with asyncio.timeout(60):
            answers = list(await house.fronts["payment"].submit(commands))
        return answers, house.shard(number).ended.is_set()

    answers, is_ended = run(tell())

    assert [type(answer) for answer in answers] == [Accepted, Failed, Accepted]
    assert isinstance(answers[1], Failed)
    assert answers[1].kind == "Bug"
    assert not is_ended


def test_a_shard_that_is_stopped_in_the_middle_of_a_commit_answers_everyone() -> None:
    """A1: nobody waits for ever for a shard that has ended."""

    async def tell() -> list[Answer]:
        house = await House(doors=_Slow(("commit",), 5)).start()
        shard = house.shard(house.shard_number("c-1"))
        asking = asyncio.create_task(shard.submit([envelope(checkout("c-1", 1_000))]))
        await asyncio.sleep(1)
        await shard.stop()
        async with asyncio.timeout(10):
            return await asking

    (answer,) = run(tell())

    assert isinstance(answer, Failed)
    assert answer.kind == "Unavailable"


# ---- A5: floods ----------------------------------------------------------------------------------------------------


async def slow_wallets(house: House) -> Shard[Any, Any]:
    """The wallet shard over a store whose commits take a second: everything else waits in the mailboxes."""
    await house.start()
    return house.shard(0, "wallet")


def test_a_flood_on_one_account_is_refused_on_that_account_only() -> None:
    """A5: Busy with a hint; other accounts are served."""

    async def tell() -> tuple[list[Answer], list[Answer], list[dict[str, Any]]]:
        house = House(doors=_Slow(("commit",), 1))
        shard = await slow_wallets(house)
        flood = [credit(n, "hot") for n in range(limits.MAILBOX_ENTITY_MAX + 50)]
        hot = asyncio.create_task(shard.submit(flood))
        await asyncio.sleep(0)
        others = asyncio.create_task(shard.submit([credit(10_000 + n, f"cool-{n}") for n in range(50)]))
        return await hot, await others, rows(house, "wallet", "wallets")

    hot, others, wallets = run(tell())

    applied = [answer for answer in hot if isinstance(answer, Applied)]
    assert [type(answer) for answer in hot[-50:]] == [Busy] * 50
    assert len(applied) == limits.MAILBOX_ENTITY_MAX
    assert others == [Applied(is_replay=False)] * 50
    assert {row["owner"]: row["pending_minor"] for row in wallets}["hot"] == 100 * len(applied)


def test_a_full_shard_refuses_callers_and_never_its_inner_lane() -> None:
    """A5: results of effects, webhooks and sweeps go on behind a flood."""

    async def tell() -> tuple[int, list[Answer], list[Answer]]:
        house = House(doors=_Slow(("commit",), 1))
        shard = await slow_wallets(house)
        flood = asyncio.create_task(shard.submit([credit(n, f"s-{n}") for n in range(limits.MAILBOX_SHARD_MAX + 5)]))
        await asyncio.sleep(0)
        refused = list(await shard.submit([credit(99_999, "late")]))
        inner = list(await shard.deliver([credit(n, f"s-{n}") for n in range(50_000, 50_020)]))
        waited_s = asyncio.get_running_loop().time()
        assert waited_s < 3, "the inner lane goes first"
        return sum(isinstance(answer, Busy) for answer in await flood), refused, inner

    busy, refused, inner = run(tell())

    assert busy == 5
    assert refused == [Busy(limits.RETRY_HINT_MS)]
    assert inner == [Applied(is_replay=False)] * 20


# ---- A6: passivation -----------------------------------------------------------------------------------------------


class _Slow(Doors):
    """Stores that take their time for these calls."""

    def __init__(self, calls: tuple[str, ...], seconds: float) -> None:
        self.calls, self.seconds = calls, seconds

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _SlowStore(self, store)


class _SlowStore(StoreDoor):
    def __init__(self, doors: _Slow, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._doors = doors

    async def load(self, wanted: Wanted) -> Loaded[Any]:
        if "load" in self._doors.calls and wanted != Wanted():
            await asyncio.sleep(self._doors.seconds)
        return await self.inner.load(wanted)

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        if "commit" in self._doors.calls:
            await asyncio.sleep(self._doors.seconds)
        return await self.inner.commit(batch)


def test_a_message_that_races_passivation_finds_its_entity() -> None:
    """A6: an entity that leaves memory while its message is being loaded for is not taken for one that never was."""

    async def tell() -> tuple[Answer, list[str], House]:
        doors = _Slow((), 0)
        house = await House(doors=doors).start()
        await house.pay(checkout("c-1", 1_000))
        paid = await house.settle("c-1")
        await asyncio.sleep(limits.PASSIVATE_AFTER_MS / 1_000 - 5)  # still in memory, nearly idle
        doors.calls, doors.seconds = ("load",), 2 * limits.PASSIVATE_AFTER_MS / 1_000
        answer = await house.tell(paid.key, webhook("evt_1", "c-1"))
        doors.calls = ()
        return answer, [row["outcome"] for row in rows(house, "payment", "inbox")], house

    answer, outcomes, house = run(tell())

    assert answer == Applied(is_replay=False)
    assert outcomes == ["IGNORED"]
    assert findings(house) == []


@pytest.mark.parametrize("idle_ms", range(limits.PASSIVATE_AFTER_MS - 1_500, limits.PASSIVATE_AFTER_MS + 2_000, 500))
def test_a_message_around_the_moment_of_passivation_is_answered_alike(idle_ms: int) -> None:
    """A6: in memory or loaded again, the answer is the same."""

    async def tell() -> tuple[bytes | None, Answer]:
        house = await House().start()
        reply = await house.pay(checkout("c-1", 1_000))
        await asyncio.sleep(idle_ms / 1_000)
        return reply, await house.submit(checkout("c-1", 1_000))

    reply, again = run(tell())

    assert again == Replied(reply or b"", is_replay=True)


# ---- A7: turns that fall out ---------------------------------------------------------------------------------------


def test_later_turns_of_an_entity_whose_turn_falls_out_are_decided_again() -> None:
    """A7, D3: the batch is rolled back whole; the rest commits, and the others are decided over what is true."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House().start()
        one, other = names_on_two_shards(house)
        thief = replace(checkout(one, 1_000), lines=checkout(other, 1_000).lines)
        honest = replace(checkout(one, 5_000), key=Key("k-honest"))
        beside = checkout(
            next(n for n in names(house) if house.shard_number(n) == house.shard_number(one) and n != one)
        )
        batch = [envelope(command) for command in (thief, honest, thief, beside)]
        await asyncio.gather(house.submit(checkout(other, 1_000)), house.fronts["payment"].submit(batch))
        again = [await house.submit(command.body) for command in batch]  # type: ignore[arg-type]  # submits all
        for name in (one, other, beside.checkout_id):
            await house.settle(name)
        return again, house

    again, house = run(tell())

    assert findings(house) == []
    assert [type(answer).__name__ for answer in again[:1]] == ["Refused"]
    assert (
        sum(row["payment_order_status"] == OrderStatus.SUCCESS for row in rows(house, "payment", "payment_orders")) == 3
    )


def test_the_balance_is_right_when_every_other_turn_of_a_hot_account_is_a_twin() -> None:
    """A7: sixty turns of one wallet in a batch, half of them known already to a copy that has died since."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House().start()
        await house.fronts["wallet"].submit([credit(n, "hot") for n in range(0, 60, 2)])
        await house.crash(0, "wallet")
        await house.revive(0, "wallet")
        return list(await house.fronts["wallet"].submit([credit(n, "hot") for n in range(60)])), house

    answers, house = run(tell())

    assert answers == [Applied(is_replay=number % 2 == 0) for number in range(60)]
    assert [(row["pending_minor"], row["version"]) for row in rows(house, "wallet", "wallets")] == [(6_000, 60)]


def names(house: House) -> list[str]:
    return [f"c-{number}" for number in range(40)]


def names_on_two_shards(house: House) -> tuple[str, str]:
    """A checkout id of each shard."""
    return (
        next(name for name in names(house) if house.shard_number(name) == 0),
        next(name for name in names(house) if house.shard_number(name) == 1),
    )


def webhook(event_id: str, checkout_id: str) -> m.Report:
    """A verified webhook: the first order of the checkout has been charged."""
    delivery = m.Delivery("stripe", event_id, "payment_intent.succeeded", "00" * 32, "current")
    order_id = checkout(checkout_id).lines[0].order_id
    return m.Report(
        m.ReportSource.WEBHOOK, order_id, "stripe", "pi_1", m.ObjectStatus.CHARGED, Money(1_000, "USD"), order_id, "",
        delivery=delivery,
    )  # fmt: skip
