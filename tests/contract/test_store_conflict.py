"""Scripted interleavings of two and three shards: whoever is second is told so, and leaves nothing behind."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.contract import sample
from tests.contract.house import House, Shard, everything
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, OrderId, Tenant, slot_of
from zerosum.domain.message import AttemptOpened, Delivery, OrderMoved, RiskAssessed, Verdict
from zerosum.domain.order import Attempt, AttemptState, OrderEvent
from zerosum.errors import CommitAmbiguous, SerializationConflict, Superseded
from zerosum.ports import Clash, Committed, InboxRecord, Wanted


def ids_in_two_slots(tenant: Tenant) -> tuple[str, str]:
    """Two checkout ids whose entities are of different slots."""
    first = "c0"
    other = next(f"c{n}" for n in range(1, 100) if slot_of(tenant, f"c{n}") != slot_of(tenant, first))
    return first, other


# ---- the fence -----------------------------------------------------------------------------------------------------


async def test_a_copy_whose_slots_were_taken_commits_nothing_more(house: House) -> None:
    """The epoch is the first fence: two live copies, and only the newer one writes (R1)."""
    old = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    await old.commit(draft)
    new = await Shard.begin(house.store())
    before = everything(house)

    late = sample.checkouts()
    sample.executing(late, state, "c1_o1")
    with pytest.raises(Superseded):
        await old.commit(late)

    assert everything(house) == before
    assert isinstance(await new.commit(late), Committed)


async def test_one_lost_slot_among_many_is_enough_to_be_superseded(house: House) -> None:
    """Never a filtered remainder: the batch is fenced as a whole."""
    shard = await Shard.begin(house.store())
    first, other = ids_in_two_slots(house.tenant)
    await house.store().take_slots([slot_of(house.tenant, other)], "test")

    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, first))
    sample.submitted(draft, sample.submit(house.tenant, other))
    with pytest.raises(Superseded):
        await shard.commit(draft)

    assert not any(everything(house).values())


async def test_retaking_slots_that_are_owned_by_another_changes_nothing(house: House) -> None:
    """All or none: the copy that lost one slot raises no epoch."""
    shard = await Shard.begin(house.store(), [1, 2])
    (other,) = await house.store().take_slots([2], "test")

    with pytest.raises(Superseded):
        await shard.store.retake_slots(tuple(shard.heads.values()))

    assert (await house.store().retake_slots([shard.heads[1]]))[0].epoch == shard.heads[1].epoch + 1
    assert (await house.store().retake_slots([other]))[0].epoch == other.epoch + 1


async def test_a_head_that_moved_under_the_same_epoch_is_a_commit_of_our_own_in_doubt(house: House) -> None:
    """The same heads twice: the second commit would fork the chain, and is told to take the slots again."""
    shard = await Shard.begin(house.store())
    stale = Shard(shard.store, list(shard.heads.values()))
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    await shard.commit(draft)

    with pytest.raises(CommitAmbiguous):
        await stale.commit(sample_next(state))

    retaken = Shard(shard.store, await shard.store.retake_slots(list(shard.heads.values())))
    assert isinstance(await retaken.commit(sample_next(state)), Committed)


def sample_next(state: Checkout) -> Any:
    """The next turn of a checkout, in a draft."""
    draft = sample.checkouts()
    sample.executing(draft, state, f"{state.key.id}_o1")
    return draft


async def test_of_two_writers_on_one_slot_at_once_one_commits(house: House) -> None:
    """Two copies that both believe in the same head, at the same moment: one log, no fork."""
    shard = await Shard.begin(house.store())
    twin = Shard(house.store(), list(shard.heads.values()))
    drafts = [sample.checkouts(), sample.checkouts()]
    for number, draft in enumerate(drafts):
        sample.submitted(draft, sample.submit(house.tenant, "c1", f"o{number}", key=f"k{number}"))

    ends = await asyncio.gather(shard.commit(drafts[0]), twin.commit(drafts[1]), return_exceptions=True)

    committed = [end for end in ends if isinstance(end, Committed)]
    (other,) = [end for end in ends if not isinstance(end, Committed)]
    assert len(committed) == 1
    assert isinstance(other, SerializationConflict | CommitAmbiguous)
    assert len(house.rows("payment", "payment_orders")) == 1


# ---- compare and swap ----------------------------------------------------------------------------------------------


async def test_a_turn_decided_on_an_old_version_clashes_and_the_rest_is_named_unharmed(house: House) -> None:
    """The version is the second fence: the loser's turns are named, all of them, and nothing is committed."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    await shard.commit(draft)
    moved = sample.checkouts()
    sample.executing(moved, state, "o1")
    await shard.commit(moved)
    before = everything(house)

    late = sample.checkouts()
    sample.submitted(late, sample.submit(house.tenant, "c2"))
    stale = late.turn(state.key, state, [RiskAssessed(Verdict.ALLOW, "")])
    late.turn(state.key, state, [RiskAssessed(Verdict.BLOCK, "x")])
    sample.submitted(late, sample.submit(house.tenant, "c3"))
    result = await shard.commit(late)

    assert stale is not None
    assert result == Clash("payment.payment_events", frozenset({1, 2}), frozenset({state.key}))
    assert everything(house) == before


async def test_a_checkout_that_is_new_to_two_shards_is_inserted_once(house: House) -> None:
    """A second first turn of the same checkout clashes at the root."""
    shard = await Shard.begin(house.store())
    first, again = sample.checkouts(), sample.checkouts()
    state = sample.submitted(first, sample.submit(house.tenant, "c1", "o1"))
    sample.submitted(again, sample.submit(house.tenant, "c1", "o2", key="other"))
    await shard.commit(first)

    result = await shard.commit(again)

    assert result == Clash("payment.payment_events", frozenset({0}), frozenset({state.key}))


# ---- keys that are unique over slots -------------------------------------------------------------------------------


async def test_twins_of_one_command_from_two_shards_are_one(house: House) -> None:
    """The same key for two checkouts of different slots: the second turn is named, and finds the first (P36)."""
    first, other = ids_in_two_slots(house.tenant)
    one = await Shard.begin(house.store(), [slot_of(house.tenant, first)])
    two = await Shard.begin(house.store(), [slot_of(house.tenant, other)])
    winner = sample.submit(house.tenant, first, key="same")
    draft = sample.checkouts()
    sample.submitted(draft, winner)
    await one.commit(draft)

    twin = sample.checkouts()
    sample.submitted(twin, sample.submit(house.tenant, other, key="same"))
    result = await two.commit(twin)

    assert isinstance(result, Clash)
    assert (result.table, result.turns) == ("payment.commands", frozenset({0}))
    key = sample.accepted(winner).key
    found = await two.store.load(Wanted(commands=(key,)))
    assert found.commands[key] == sample.accepted(winner)
    assert {row["checkout_id"] for row in house.rows("payment", "payment_events")} == {first}


async def test_one_payment_order_id_belongs_to_one_checkout(house: House) -> None:
    """Two checkouts of different shards name the same order: the second is told which of its turns."""
    first, other = ids_in_two_slots(house.tenant)
    one = await Shard.begin(house.store(), [slot_of(house.tenant, first)])
    two = await Shard.begin(house.store(), [slot_of(house.tenant, other)])
    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, first, "o1"))
    await one.commit(draft)

    late = sample.checkouts()
    sample.submitted(late, sample.submit(house.tenant, other, "o2", "o1", "o3"))
    result = await two.commit(late)

    holder = EntityKey(house.tenant, other)
    assert result == Clash("payment.payment_orders", frozenset({0}), frozenset({holder}))
    found = await two.store.load(Wanted(claims=(EntityKey(house.tenant, "o1"), EntityKey(house.tenant, "o3"))))
    assert found.claims == {EntityKey(house.tenant, "o1"): EntityKey(house.tenant, first)}


async def test_one_order_id_twice_in_one_batch_takes_the_first_only(house: House) -> None:
    """Two turns of one batch claim the same order: one of the two checkouts is named, and a commit without it passes."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    sample.submitted(draft, sample.submit(house.tenant, "c2", "o1"))

    result = await shard.commit(draft)

    assert isinstance(result, Clash)
    (fallen,) = result.entities
    kept = sample.checkouts()
    sample.submitted(kept, sample.submit(house.tenant, "c2" if fallen.id == "c1" else "c1", "o1"))
    assert isinstance(await shard.commit(kept), Committed)


async def test_one_key_twice_in_one_batch_names_the_second_turn(house: House) -> None:
    """The first of two turns with one key stands; the later one is named."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    for number in range(3):
        sample.submitted(draft, sample.submit(house.tenant, f"c{number}", key="same" if number else "own"))

    result = await shard.commit(draft)

    assert isinstance(result, Clash)
    assert (result.table, result.turns) == ("payment.commands", frozenset({2}))


async def test_three_shards_at_once_with_one_order_id_commit_it_once(house: House) -> None:
    """Three transactions in flight together: one claim, and the others learn it by clash or conflict."""
    slots: dict[int, str] = {}
    for number in range(200):
        slots.setdefault(slot_of(house.tenant, f"c{number}"), f"c{number}")
    ids = list(slots.values())[:3]
    shards = [await Shard.begin(house.store(), [slot_of(house.tenant, checkout_id)]) for checkout_id in ids]
    drafts = []
    for checkout_id in ids:
        draft = sample.checkouts()
        sample.submitted(draft, sample.submit(house.tenant, checkout_id, "o1"))
        drafts.append(draft)

    ends = await asyncio.gather(
        *(shard.commit(draft) for shard, draft in zip(shards, drafts, strict=True)), return_exceptions=True
    )

    assert sum(isinstance(end, Committed) for end in ends) == 1
    assert all(isinstance(end, Committed | Clash | SerializationConflict) for end in ends)
    assert len(house.rows("payment", "payment_orders")) == len(house.rows("payment", "payment_events")) == 1
    settled = await shards[0].commit(drafts[0])
    assert isinstance(settled, Clash | Committed)


async def test_a_webhook_is_recorded_once_though_two_checkouts_claim_it(house: House) -> None:
    """The inbox is unique per PSP event, over all slots (S4)."""
    first, other = ids_in_two_slots(house.tenant)
    shard = await Shard.begin(house.store())
    delivery = Delivery("stripe", f"evt-{house.tenant}", "t", "ab", "current")
    for number, checkout_id in enumerate((first, other)):
        draft = sample.checkouts()
        draft.turn(EntityKey(house.tenant, checkout_id), None, [])
        draft.turn(EntityKey(house.tenant, checkout_id), None, [], inbox=InboxRecord(delivery, "pi", "UNMATCHED"))
        result = await shard.commit(draft)

        if number == 0:
            assert isinstance(result, Committed)
        else:
            assert result == Clash("payment.inbox", frozenset({1}), frozenset())
    assert len(house.rows("payment", "inbox")) == 1


async def test_a_transfer_id_makes_entries_once(house: House) -> None:
    """Even were its command row under another key: the entry's own id is unique for ever."""
    shard = await Shard.begin(house.store("wallet"))
    draft = sample.wallets()
    state = sample.credit(draft, None, sample.transfer(house.tenant, "t1"))
    await shard.commit(draft)

    again = sample.wallets()
    twin = replace(sample.transfer(house.tenant, "t2"), transfer_id=draft.turns[0].events[0].transfer_id)
    after = sample.credit(again, state, replace(twin, transfer_id="t2"))  # type: ignore[arg-type]  # ids are strings
    again.turns[0] = replace(again.turns[0], events=draft.turns[0].events)
    result = await shard.commit(again)

    assert after.version == 2
    assert result == Clash("wallet.entries", frozenset({0}), frozenset())
    assert [row["pending_minor"] for row in house.rows("wallet", "wallets")] == [1_250]


async def test_a_journal_id_is_posted_once(house: House) -> None:
    """One journal per id, whoever writes it."""
    shard = await Shard.begin(house.store("ledger"))
    draft = sample.owners()
    sample.post(draft, None, sample.capture(house.tenant, "j1"))
    await shard.commit(draft)

    again = sample.owners()
    sample.post(again, None, sample.capture(house.tenant, "j1", owner="seller_2"))
    again.turns[0] = replace(again.turns[0], command=None)
    result = await shard.commit(again)

    assert result == Clash("ledger.journals", frozenset({0}), frozenset())
    assert len(house.rows("ledger", "entries")) == 4


# ---- attempts ------------------------------------------------------------------------------------------------------


async def _executing(house: House, shard: Shard) -> Checkout:
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    state = sample.executing(draft, state, "o1")
    await shard.commit(draft)
    return state


async def test_a_second_attempt_is_not_opened_while_the_first_may_have_charged(house: House) -> None:
    """I4: at most one attempt per order that is not NO_CHARGE, whatever the domain believes."""
    shard = await Shard.begin(house.store())
    state = await _executing(house, shard)

    second = Attempt(2, "stripe", AttemptState.UNKNOWN, "", sample.NOW_MS)
    order = state.orders[OrderId("o1")]
    draft = sample.checkouts()
    draft.turn(state.key, state, [], then=lambda now: now.with_order(order.with_attempt(second, 1)))
    result = await shard.commit(draft)

    assert result == Clash("payment.attempts", frozenset({0}), frozenset({state.key}))


async def test_an_attempt_that_ends_without_charge_makes_room_in_the_same_commit(house: House) -> None:
    """Failover: the first attempt's proof of no charge and the second attempt are one commit."""
    shard = await Shard.begin(house.store())
    state = await _executing(house, shard)

    first = replace(state.orders[OrderId("o1")].attempts[0], state=AttemptState.NO_CHARGE)
    second = Attempt(2, "stripe", AttemptState.UNKNOWN, "", sample.NOW_MS)
    order = state.orders[OrderId("o1")].with_attempt(first, 1).with_attempt(second, 1)
    draft = sample.checkouts()
    after = draft.turn(state.key, state, [], then=lambda now: now.with_order(order))
    result = await shard.commit(draft)

    assert isinstance(result, Committed)
    assert (await shard.store.load(Wanted((state.key,)))).entities == {state.key: after}


async def test_orders_that_move_are_moved_by_the_table(house: House) -> None:
    """History folds statuses by the same table as the domain: FAILED after EXECUTING, over two batches."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1", "o2"))
    opened = draft.turn(state.key, None, [AttemptOpened(OrderId("o1"), 1, "stripe")])
    await shard.commit(draft)

    later = sample.checkouts()
    later.turn(state.key, opened, [OrderMoved(OrderId("o1"), OrderEvent.ORDER_FAILED, "CARD_DECLINED")])
    later.turn(state.key, opened, [OrderMoved(OrderId("o2"), OrderEvent.ORDER_FAILED, "RISK_BLOCKED")])
    await shard.commit(later)

    history = sorted(house.rows("payment", "history"), key=lambda row: int(row["version"]))
    assert [(row["type"], row["payment_order_id"], row["status"]) for row in history[1:]] == [
        ("AttemptOpened", "o1", "EXECUTING"),
        ("OrderFailed", "o1", "FAILED"),
        ("OrderFailed", "o2", "FAILED"),
    ]
