"""What every store keeps: what was committed is what is loaded, verbatim, whole, chained and numbered."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.contract import sample
from tests.contract.house import House, MemoryHouse, Shard
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import CommandKey, EntityKey, OrderId, slot_of
from zerosum.domain.message import Delivery, Mismatch, MismatchKind, MismatchOpened
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.ports import Committed, DueTodo, InboxRecord, KeyReuse, StoredCommand, Wanted


async def loaded(house: House, shard: Shard, key: EntityKey) -> object:
    return (await shard.store.load(Wanted(entities=(key,)))).entities.get(key)


async def test_a_checkout_is_loaded_as_it_was_committed_after_every_turn(house: House) -> None:
    """Every field of every part survives, through all turns of a pay-in."""
    shard = await Shard.begin(house.store())
    command = sample.submit(house.tenant, "c1", "o1", "o2")
    key = EntityKey(house.tenant, "c1")

    first = sample.checkouts()
    state = sample.submitted(first, command)
    assert isinstance(await shard.commit(first), Committed)
    assert await loaded(house, shard, key) == state

    second = sample.checkouts(sample.NOW_MS + 1)
    state = sample.executing(second, state, "o1")
    assert isinstance(await shard.commit(second), Committed)
    assert await loaded(house, shard, key) == state

    third = sample.checkouts(sample.NOW_MS + 2)
    state = sample.charged(third, state, "o1", reply=b"\x00\xff the reply")
    assert isinstance(await shard.commit(third), Committed)
    assert await loaded(house, shard, key) == state


async def test_several_turns_of_one_checkout_in_one_batch_are_one_row_and_all_their_history(house: House) -> None:
    """Entities move from the version seen to the last one, with a history row for each event between."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    state = sample.executing(draft, state, "o1")
    state = sample.charged(draft, state, "o1", reply=b"r")

    await shard.commit(draft)

    assert await loaded(house, shard, state.key) == state
    history = sorted(house.rows("payment", "history"), key=lambda row: int(row["version"]))
    assert [(row["version"], row["type"], row["status"]) for row in history] == [
        (1, "CheckoutSubmitted", ""),
        (2, "RiskAssessed", ""),
        (3, "AttemptOpened", "EXECUTING"),
        (4, "OperationStarted", "EXECUTING"),
        (5, "OperationSettled", "EXECUTING"),
        (6, "ObjectPrepared", "EXECUTING"),
        (7, "OrderCharged", "SUCCESS"),
        (8, "CheckoutAnswered", ""),
    ]


async def test_mismatches_are_kept_and_closed(house: House) -> None:
    """A case for finance is a row below its checkout, also for an order nobody knows."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    case = Mismatch(
        "m1", 1, OrderId("o9"), MismatchKind.UNKNOWN_ORDER, "stripe", "pi_9", Money(-5, "JPY"), "who?", False, 7
    )
    known = draft.turn(state.key, state, [MismatchOpened(case)])
    await shard.commit(draft)
    assert await loaded(house, shard, state.key) == known

    closing = sample.checkouts()
    closed = closing.turn(
        state.key, known, [], then=lambda now: replace(now, mismatches={"m1": replace(case, is_resolved=True)})
    )
    await shard.commit(closing)

    assert await loaded(house, shard, state.key) == closed


async def test_a_wallet_is_loaded_as_it_was_committed(house: House) -> None:
    """Two transfers in one batch, one more in the next."""
    shard = await Shard.begin(house.store("wallet"))
    draft = sample.wallets()
    state = sample.credit(draft, None, sample.transfer(house.tenant, "t1"))
    state = sample.credit(draft, None, sample.transfer(house.tenant, "t2", minor=50))
    await shard.commit(draft)
    assert await loaded(house, shard, state.key) == state

    later = sample.wallets(sample.NOW_MS + 5)
    state = sample.credit(later, state, sample.transfer(house.tenant, "t3", minor=7))
    await shard.commit(later)

    assert await loaded(house, shard, state.key) == state
    assert state.pending_minor == 1_307
    entries = house.rows("wallet", "entries")
    assert {(row["transfer_id"], row["version"], row["amount_minor"]) for row in entries} == {
        ("t1", 1, 1_250),
        ("t2", 2, 50),
        ("t3", 3, 7),
    }


async def test_an_owner_is_loaded_as_it_was_committed(house: House) -> None:
    """Journals with all their lines; balances of the owner's own accounts only."""
    shard = await Shard.begin(house.store("ledger"))
    draft = sample.owners()
    state = sample.post(draft, None, sample.capture(house.tenant, "j1"))
    state = sample.post(draft, None, sample.capture(house.tenant, "j2", minor=50))
    await shard.commit(draft)

    assert await loaded(house, shard, state.key) == state
    assert [row["account"] for row in house.rows("ledger", "accounts")] == ["seller:seller_1:pending:USD"]
    entries = house.rows("ledger", "entries")
    assert sum(int(row["amount_minor"]) for row in entries) == 0
    journals = {(row["slot"], row["seq"], row["ord"], row["journal_id"]) for row in house.rows("ledger", "journals")}
    assert {(row["slot"], row["seq"], row["ord"], row["journal_id"]) for row in entries} == journals
    assert sorted(row["line"] for row in entries) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_what_is_not_stored_is_left_out(house: House) -> None:
    """A load of unknown keys brings the clock and nothing else."""
    shard = await Shard.begin(house.store())
    key = EntityKey(house.tenant, "nobody")

    found = await shard.store.load(
        Wanted((key,), (CommandKey(house.tenant, "CreatePayment", "k"),), (key,), (("stripe", f"evt-{house.tenant}"),))
    )

    assert (found.entities, found.commands, found.claims, found.deliveries) == ({}, {}, {}, {})
    assert found.now_ms > 1_700_000_000_000


async def test_commands_claims_and_deliveries_are_found_again(house: House) -> None:
    """What is looked up before deciding: the key, the order id, the webhook."""
    shard = await Shard.begin(house.store())
    command = sample.submit(house.tenant, "c1", "o1", key="k1")
    draft = sample.checkouts()
    state = sample.submitted(draft, command)
    event_id = f"evt-{house.tenant}"
    delivery = Delivery("stripe", event_id, "payment_intent.succeeded", "ab" * 32, "current")
    draft.turn(state.key, None, [], inbox=InboxRecord(delivery, "pi_1", "APPLIED"))
    await shard.commit(draft)

    found = await shard.store.load(
        Wanted(
            commands=(sample.accepted(command).key,),
            claims=(EntityKey(house.tenant, "o1"),),
            deliveries=(("stripe", event_id),),
        )
    )

    assert found.commands == {sample.accepted(command).key: sample.accepted(command)}
    assert found.claims == {EntityKey(house.tenant, "o1"): state.key}
    assert found.deliveries == {("stripe", event_id): "ab" * 32}
    (inbox,) = house.rows("payment", "inbox")
    assert (inbox["checkout_id"], inbox["outcome"], inbox["verified_with"]) == ("c1", "APPLIED", "current")


async def test_a_refusal_is_kept_under_its_key_though_its_entity_never_came_to_be(house: House) -> None:
    """A refusal is a turn: committed under the same fence, and told again in the same words."""
    shard = await Shard.begin(house.store())
    command = sample.submit(house.tenant, "c1")
    refusal = Refusal(Reason.PAYMENT_ORDER_ID_TAKEN, "payment_orders[0].payment_order_id", "taken by 'another'")
    draft = sample.checkouts()
    key = EntityKey(house.tenant, "c1")
    draft.turn(key, None, [], command=sample.accepted(command, refusal))

    result = await shard.commit(draft)

    assert isinstance(result, Committed)
    assert [head.slot for head in result.heads] == [slot_of(*key)]
    found = await shard.store.load(Wanted(entities=(key,), commands=(sample.accepted(command).key,)))
    assert found.entities == {}
    assert found.commands[sample.accepted(command).key].refusal == refusal


async def test_a_key_used_for_another_request_leaves_an_audit_row_and_nothing_else(house: House) -> None:
    """Nothing was executed, and people can see that it was tried."""
    shard = await Shard.begin(house.store())
    key = EntityKey(house.tenant, "c1")
    reuse = KeyReuse(CommandKey(house.tenant, "CreatePayment", "k1"), "1:other", "KEY_REUSED")
    draft = sample.checkouts()
    draft.turn(key, None, [], key_reuse=reuse)

    await shard.commit(draft)

    (row,) = house.rows("payment", "refusals")
    assert (row["method"], row["key"], row["fingerprint"], row["reason"]) == (
        "CreatePayment", "k1", "1:other", "KEY_REUSED",
    )  # fmt: skip
    assert house.rows("payment", "commands") == []


async def test_text_is_stored_verbatim(house: House) -> None:
    """Quotes, braces, backslashes, percent signs and statements in a text are text (security tests, point 8)."""
    nasty = """'; DROP TABLE payment.history; -- "q" \\ {a,"b"} %s %(x)s :name NULL $1 \x07\t\n ü 🂡 \\x00"""
    shard = await Shard.begin(house.store())
    command = sample.submit(house.tenant, nasty, f"{nasty}1", f"{nasty}2", key=nasty, seller=nasty, name=nasty)
    draft = sample.checkouts()
    state = sample.submitted(draft, command)

    assert isinstance(await shard.commit(draft), Committed)

    found = await shard.store.load(
        Wanted((state.key,), (sample.accepted(command).key,), (EntityKey(house.tenant, f"{nasty}1"),))
    )
    assert found.entities == {state.key: state}
    assert found.commands == {sample.accepted(command).key: sample.accepted(command)}
    assert found.claims == {EntityKey(house.tenant, f"{nasty}1"): state.key}


async def test_the_buyers_details_are_in_one_row_only(house: House) -> None:
    """Erasing the buyer's row touches nothing else, and the checkout still loads and moves."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1", name="Very Rare Name"))
    state = sample.executing(draft, state, "o1")
    await shard.commit(draft)

    holding = [
        name
        for name in (
            "payment_events",
            "buyers",
            "payment_orders",
            "attempts",
            "operations",
            "todos",
            "history",
            "commands",
        )
        if "Very Rare Name" in str(house.rows("payment", name)) or "ada@example.com" in str(house.rows("payment", name))
    ]
    assert holding == ["buyers"]
    assert sample.TOKEN not in str(house.rows("payment", "history"))


async def test_three_hundred_turns_are_one_commit(house: House) -> None:
    """One batch, many slots: all of it is there, each touched slot one seq further."""
    shard = await Shard.begin(house.store())
    before = dict(shard.heads)
    draft = sample.checkouts()
    states = [sample.submitted(draft, sample.submit(house.tenant, f"c{number}")) for number in range(300)]

    result = await shard.commit(draft)

    assert isinstance(result, Committed)
    assert {head.seq - before[head.slot].seq for head in result.heads} == {1}
    found = await shard.store.load(Wanted(entities=[state.key for state in states]))
    assert found.entities == {state.key: state for state in states}


async def test_the_hash_of_every_slot_can_be_recomputed_from_its_rows(house: House) -> None:
    """seq has no gap, and the chain verifies with code that shares nothing with the writer (I7, I18)."""
    shard = await Shard.begin(house.store())
    start = dict(shard.heads)
    state: Checkout | None = None
    for turn in range(3):
        draft = sample.checkouts(sample.NOW_MS + turn)
        for number in range(12):
            made = sample.submitted(draft, sample.submit(house.tenant, f"c{turn}_{number}", name="Zoë"))
        draft.turn(made.key, None, [], key_reuse=KeyReuse(CommandKey(house.tenant, "M", "k"), "1:f", "ü"))
        if state is not None:
            sample.executing(draft, state, f"{state.key.id}_o1")
        state = made
        await shard.commit(draft)

    tables = {name: house.rows("payment", name) for name in ("slot_log", "history", "refusals")}
    for head in shard.heads.values():
        before = start[head.slot]
        assert _recomputed(tables, head.slot, before.seq, before.hash) == (head.seq, head.hash)


def _recomputed(tables: Mapping[str, Sequence[Any]], slot: int, seq: int, digest: bytes) -> tuple[int, bytes]:
    logs = {row["seq"]: row for row in tables["slot_log"] if row["slot"] == slot and row["seq"] > seq}
    for number in sorted(logs):
        assert number == seq + 1
        seq = number
        heading = {name: value for name, value in logs[number].items() if name != "hash"}
        document: dict[str, object] = {"slot_log": heading}
        for name in ("history", "refusals"):
            rows = [dict(row) for row in tables[name] if (row["slot"], row["seq"]) == (slot, seq)]
            if rows:
                document[name] = sorted(rows, key=lambda row: int(row["ord"]))
        plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(digest + plain.encode()).digest()
        assert digest == logs[number]["hash"]
    return seq, digest


async def test_taking_slots_raises_their_epoch_and_keeps_their_log(house: House) -> None:
    """A slot that was never taken begins at epoch 1, seq 0 and 32 zero bytes; its head survives every change of hands."""
    store = house.store()
    first = await Shard.begin(store)
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    await first.commit(draft)
    mine = slot_of(*state.key)

    (taken,) = await store.take_slots([mine], "test")
    (retaken,) = await store.retake_slots([taken])

    assert taken == replace(first.heads[mine], epoch=first.heads[mine].epoch + 1)
    assert retaken == replace(taken, epoch=taken.epoch + 1)
    if isinstance(house, MemoryHouse):
        (fresh,) = await MemoryHouse().store().take_slots([5], "test")
        assert (fresh.slot, fresh.epoch, fresh.seq, fresh.hash) == (5, 1, 0, bytes(32))


async def test_due_todos_are_the_open_ones_whose_time_has_come_oldest_first(house: House) -> None:
    """The sweep's hint: by the database's clock, of the slots asked for, no more than asked for."""
    shard = await Shard.begin(house.store())
    now_ms = (await shard.store.load(Wanted())).now_ms
    keys = []
    for number, since_ms in enumerate((3_000, 9_000, 6_000, -60_000)):
        draft = sample.checkouts(now_ms - since_ms)
        keys.append(sample.submitted(draft, sample.submit(house.tenant, f"c{number}")).key)
        await shard.commit(draft)
    slots = sorted({slot_of(*key) for key in keys})

    async def due(overdue_ms: int, rows_max: int = 10_000) -> list[EntityKey]:
        found = await shard.store.due_todos(slots, overdue_ms, rows_max)
        return [todo.entity for todo in found if todo.entity.tenant == house.tenant]

    assert await due(0) == [keys[1], keys[2], keys[0]]
    assert await due(5_000) == [keys[1], keys[2]]
    assert len(await shard.store.due_todos(slots, 0, 1)) == 1
    assert await shard.store.due_todos([], 0, 10) in ([], ())
    assert list(await house.store("wallet").due_todos(slots, 0, 10)) == []


@pytest.mark.parametrize("rows_max", [1, 3])
async def test_due_todos_go_on_behind_the_one_named_and_end(house: House, rows_max: int) -> None:
    """The sweep's keyset: each once and in one order, of one time or not; what is named may be there no more."""
    shard = await Shard.begin(house.store())
    now_ms = (await shard.store.load(Wanted())).now_ms
    keys = []
    for number, since_ms in enumerate((9_000, 6_000, 9_000, 9_000, 3_000)):
        draft = sample.checkouts(now_ms - since_ms)
        keys.append(sample.submitted(draft, sample.submit(house.tenant, f"c{number}")).key)
        await shard.commit(draft)
    slots = sorted({slot_of(*key) for key in keys})
    whole = list(await shard.store.due_todos(slots, 0, 10_000))

    walked: list[DueTodo] = []
    while found := await shard.store.due_todos(slots, 0, rows_max, walked[-1] if walked else None):
        walked.extend(found)
    gone = replace(whole[0], todo_id=whole[0].todo_id + "-gone")

    assert walked == whole
    assert {todo.entity for todo in whole if todo.entity.tenant == house.tenant} == set(keys)
    assert list(await shard.store.due_todos(slots, 0, 10_000, gone)) == whole[1:]


async def test_an_empty_batch_commits_nothing(house: House) -> None:
    """No turn, no statement."""
    shard = await Shard.begin(house.store())

    assert await shard.commit(sample.checkouts()) == Committed(())


async def test_a_stored_command_of_an_inner_result_has_no_refusal(house: House) -> None:
    """Commands of the wallet and the ledger are kept like any."""
    shard = await Shard.begin(house.store("wallet"))
    asked = sample.transfer(house.tenant, "t1")
    draft = sample.wallets()
    state = sample.credit(draft, None, asked)
    await shard.commit(draft)
    key = CommandKey(house.tenant, "ApplyTransfer", "t1")

    found = await shard.store.load(Wanted(commands=(key,)))

    assert found.commands == {key: StoredCommand(key, asked.fingerprint(), state.key, None)}
