"""Refunds are rows below their order: loaded as committed, one live one at most, and shown to readers."""

import asyncio
from dataclasses import replace
from typing import Any

from tests.contract import sample
from tests.contract.house import House, Shard
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import OrderId
from zerosum.domain.message import OnPartial
from zerosum.domain.money import Money
from zerosum.domain.refund import Refund, RefundCause, RefundEnded, RefundOpened, RefundStatus
from zerosum.errors import CommitAmbiguous, SerializationConflict
from zerosum.ports import Clash, Committed, Wanted
from zerosum.readers import view_of

ORDER = OrderId("o1")
FIRST = Refund(
    1, RefundCause.REQUESTED, RefundStatus.PENDING, Money(1_250, "USD"), "DUPLICATE", "fin", "", sample.NOW_MS, 0
)
FAILED = replace(FIRST, status=RefundStatus.FAILED, outcome="BALANCE_TOO_LOW", ended_at_ms=sample.NOW_MS + 1)
SECOND = replace(FIRST, number=2, opened_at_ms=sample.NOW_MS + 2)


async def charged(house: House, shard: Shard) -> Checkout:
    """A checkout of two orders, the first of them charged; all or none."""
    draft = sample.checkouts()
    command = replace(sample.submit(house.tenant, "c1", "o1", "o2"), on_partial=OnPartial.REVERSE)
    state = sample.charged(draft, sample.executing(draft, sample.submitted(draft, command), "o1"), "o1", reply=b"r")
    assert isinstance(await shard.commit(draft), Committed)
    return state


async def moved(shard: Shard, state: Checkout, event: Any, now_ms: int) -> Checkout:
    """One turn with this event."""
    draft = sample.checkouts(now_ms)
    after = draft.turn(state.key, state, [event])
    assert isinstance(await shard.commit(draft), Committed)
    assert after is not None
    return after


async def test_refunds_are_loaded_and_shown_as_they_were_committed(house: House) -> None:
    """Opened, failed, opened again: each step is a row's present state and an event for ever."""
    shard = await Shard.begin(house.store())
    state = await charged(house, shard)

    events = [RefundOpened(ORDER, FIRST), RefundEnded(ORDER, FAILED), RefundOpened(ORDER, SECOND)]
    for at, event in enumerate(events, 1):
        state = await moved(shard, state, event, sample.NOW_MS + at)
        stored = (await shard.store.load(Wanted(entities=(state.key,)))).entities[state.key]
        assert stored == state
        assert await house.reader().payment(state.key) == view_of(state)
        shown = await house.reader().order(house.tenant, ORDER)
        assert shown == view_of(state).orders[0]

    assert state.orders[ORDER].refunds == (FAILED, SECOND)
    assert state.on_partial is OnPartial.REVERSE
    told = sorted(house.rows("payment", "history"), key=lambda row: int(row["version"]))
    assert [row["type"] for row in told][-3:] == ["RefundOpened", "RefundFailed", "RefundOpened"]


async def test_the_database_itself_takes_one_live_refund_of_an_order(house: House) -> None:
    """P16, I14: whatever a copy believes, a second reservation meets the first one's row."""
    shard = await Shard.begin(house.store())
    state = await charged(house, shard)
    state = await moved(shard, state, RefundOpened(ORDER, FIRST), sample.NOW_MS + 1)
    draft = sample.checkouts(sample.NOW_MS + 2)
    draft.turn(state.key, state, [RefundOpened(ORDER, SECOND)])

    assert isinstance(await shard.commit(draft), Clash)


async def test_of_two_refunds_begun_at_once_by_two_copies_one_is_reserved(house: House) -> None:
    """P16, I14: two live copies that both believe the order has none, at the same moment; and the loser, tried again, clashes.

    Source: juspay/hyperswitch#13182, where two at once passed the check together.
    """
    shard = await Shard.begin(house.store())
    state = await charged(house, shard)
    twin = Shard(house.store(), list(shard.heads.values()))
    asked = [replace(FIRST, requested_by=person) for person in ("ada", "ben")]
    drafts = [sample.checkouts(sample.NOW_MS + 1) for _ in asked]
    for draft, refund in zip(drafts, asked, strict=True):
        draft.turn(state.key, state, [RefundOpened(ORDER, refund)])

    copies = (shard, twin)
    ends = await asyncio.gather(
        *(copy.commit(draft) for copy, draft in zip(copies, drafts, strict=True)), return_exceptions=True
    )
    (won,) = [at for at, end in enumerate(ends) if isinstance(end, Committed)]
    lost = 1 - won
    copies[lost].heads = dict(copies[won].heads)
    again = await copies[lost].commit(drafts[lost])

    assert isinstance(ends[lost], SerializationConflict | CommitAmbiguous)
    assert isinstance(again, Clash)
    assert [row["requested_by"] for row in house.rows("payment", "refunds")] == [asked[won].requested_by]
