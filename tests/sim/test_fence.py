"""Two live copies of a shard: the older one is fenced, and never answers what is not true. Rows A2 and A8."""

import asyncio
from dataclasses import replace
from typing import Any

from actors.answer import Answer, Applied, Refused, Replied
from actors.posting import wallet_binding
from actors.shard import Shard
from tests.sim.house import TENANT, Copy, House, checkout, envelope
from tests.sim.proof import findings
from tests.sim.virtual import VirtualClock, run
from zerosum.domain import message as m
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason
from zerosum.domain.todo import TodoState
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.store.memory import memory_store

# ---- A8, A2: a stale copy ------------------------------------------------------------------------------------------


async def two_copies(house: House, checkout_id: str) -> tuple[Copy, int]:
    """Starts a second copy of the shard that owns the checkout; the first one, now stale, lives on behind a pause."""
    number = house.shard_number(checkout_id)
    stale = house.copies["payment"][number]
    assert stale is not None
    await house.revive(number)
    return stale, number


def twin(command: m.SubmitCheckout, **changes: Any) -> m.CheckoutCommand:
    return envelope(replace(command, **changes))


def test_a_stale_copy_is_superseded_for_every_command_that_writes() -> None:
    """A8: new checkouts, refusals with their audit rows, other keys of a known checkout, webhooks: all are fenced."""
    known = checkout("c-1", 1_000)
    commands = [
        twin(checkout("c-1", 9_999)),  # the same key, another body: an audit row
        twin(known, key=Key("k-other")),  # a known checkout under another key: its command row
        twin(checkout("c-1", 9_999), key=Key("k-third")),  # a refusal: its command row
        m.CheckoutCommand(EntityKey(TENANT, "c-1"), webhook("evt_1", "c-1")),
    ]
    for command in commands:

        async def tell(command: m.CheckoutCommand) -> tuple[list[Answer], House, Copy]:
            house = await House().start()
            await house.pay(known)
            await house.settle("c-1")
            stale, _ = await two_copies(house, "c-1")
            answers = await stale.host.submit([command], False)
            return list(answers), house, stale

        answers, house, stale = run(tell(command))

        assert [getattr(answer, "kind", answer) for answer in answers] == ["Superseded"]
        assert stale.host.shard.ended.is_set()
        assert stale.host.shard.figures.fenced == 1
        assert findings(house) == []


def test_a_stale_copy_with_work_of_its_own_ends_by_itself() -> None:
    """A2: its effects may come back, its timers may ring; the first commit of any of them is its end."""

    async def tell() -> tuple[bool, list[str]]:
        house = await House().start()
        house.psp.holding.add("confirm")
        await house.submit(checkout("c-1", 1_000, 2_000))
        await asyncio.sleep(1)
        stale, _ = await two_copies(house, "c-1")
        house.psp.holding.clear()
        house.psp.held["confirm"].set()
        await house.settle("c-1")
        return stale.host.shard.ended.is_set(), findings(house)

    is_ended, wrong = run(tell())

    assert is_ended
    assert wrong == []


def test_a_stale_copy_never_says_in_flight_of_what_has_been_answered() -> None:
    """A8: an answer without a write is given from what is stored, never from what a stale copy remembers."""

    async def tell() -> tuple[bytes | None, list[Answer]]:
        house = await House().start()
        house.psp.holding.add("confirm")
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(1)
        stale, _ = await two_copies(house, "c-1")
        await house.tell(EntityKey(TENANT, "c-1"), webhook("evt_1", "c-1"))
        reply = (await house.checkout("c-1")).reply
        return reply, list(await stale.host.submit([twin(checkout("c-1", 1_000))], False))

    reply, answers = run(tell())

    assert answers == [Replied(reply or b"", is_replay=True)]


def test_a_stale_copy_never_refuses_the_replay_of_what_has_died_since() -> None:
    """A8: "not a dead letter" is a refusal like any: read anew and committed under the fence before it is told."""

    async def tell() -> tuple[list[Answer], list[Answer]]:
        house = await House().start()
        house.psp.always["prepare"] = "drop_request"
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(1)
        stale, _ = await two_copies(house, "c-1")
        assert stale.runner is not None
        await stale.runner.stop()
        name = "prepare/1/c-1-o0"
        replay = m.CheckoutCommand(EntityKey(TENANT, "c-1"), m.ReplayTodo(name, Key("r-1"), "ops"))
        first = list(await stale.host.submit([replay], False))
        await house.skip(24 * 3_600_000)
        dead = await house.settle("c-1")
        assert dead.todos[name].state is TodoState.DEAD
        return first, [await house.tell(dead.key, m.ReplayTodo(name, Key("r-2"), "ops"))]

    first, then = run(tell())

    assert [getattr(answer, "kind", answer) for answer in first] == ["Superseded"]
    assert then == [Applied(is_replay=False)]


def test_the_refusal_of_a_replay_is_kept_and_repeated() -> None:
    """Design section 3: a refusal is a turn too; its command row is committed before it is answered."""

    async def tell() -> list[Answer]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        paid = await house.settle("c-1")
        name = next(iter(paid.todos))
        asked = [(name, "r-1"), (name, "r-1"), ("prepare/1/c-1-o0", "r-1"), ("no-such-todo", "r-2")]
        return [await house.tell(paid.key, m.ReplayTodo(todo, Key(key), "ops")) for todo, key in asked]

    first, again, other, unknown = run(tell())

    assert isinstance(first, Refused)
    assert first.refusal.reason is Reason.NOT_A_DEAD_LETTER
    assert again == Refused(first.refusal, is_replay=True)
    assert isinstance(other, Refused)
    assert other.refusal.reason is Reason.KEY_REUSED
    assert isinstance(unknown, Refused)
    assert unknown.refusal.reason is Reason.UNKNOWN_ID


def test_two_writers_of_one_account_never_add_up() -> None:
    """A2, A7: the older copy's batch is refused whole by the fence, though its turns are all new."""

    async def tell() -> tuple[list[Answer], list[Answer], list[dict[str, Any]]]:
        store = memory_store("wallet", lambda: 1_700_000_000_000)
        older, newer = (
            Shard(binding=wallet_binding(), store=store, slots=range(64), deployment="sim", clock=VirtualClock())
            for _ in range(2)
        )
        await older.start(None)
        await older.submit([credit(n, "hot") for n in range(10)])
        await newer.start(None)
        taken = await newer.submit([credit(n, "hot") for n in range(5, 15)])
        fenced = await older.submit([credit(n, "hot") for n in range(12, 20)])
        return taken, fenced, [dict(row) for row in store.tables["wallets"].rows.values()]

    taken, fenced, wallets = run(tell())

    assert taken == [Applied(is_replay=number < 10) for number in range(5, 15)]
    assert {getattr(answer, "kind", "") for answer in fenced} == {"Superseded"}
    assert [row["pending_minor"] for row in wallets] == [1_500]


def credit(number: int, owner: str, minor: int = 100) -> Transfer:
    money = Money(minor, "USD")
    return Transfer(TENANT, Key(f"t-{number}"), owner, TransferKind.CREDIT_PENDING, money, OrderId(f"o-{number}"))


def webhook(event_id: str, checkout_id: str) -> m.Report:
    """A verified webhook: the first order of the checkout has been charged."""
    delivery = m.Delivery("stripe", event_id, "payment_intent.succeeded", "00" * 32, "current")
    order_id = checkout(checkout_id).lines[0].order_id
    return m.Report(
        m.ReportSource.WEBHOOK, order_id, "stripe", "pi_1", m.ObjectStatus.CHARGED, Money(1_000, "USD"), order_id, "",
        delivery=delivery,
    )  # fmt: skip
