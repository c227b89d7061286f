"""A reversal that the seller's balance does not cover, and refunds behind one that failed. Rows P16, P18, O1; I13.

The wallet keeps its "no" under a transfer's id for ever: nothing may ask too early, and a replay must not ask it again.
"""

import asyncio
from dataclasses import replace

import pytest

from actors.answer import Answer, Applied, Refused
from tests.sim.faults import PLACES_MAX, CrashDoors, die_from_here
from tests.sim.house import HOUR_MS, TENANT, House, checkout, rows, webhook
from tests.sim.proof import findings
from tests.sim.psp import ScriptedPsp
from tests.sim.test_refund_replay import ASKED, KEY, ORDER, replay
from tests.sim.test_reversal import close
from tests.sim.virtual import run
from zerosum import limits
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.refund import RefundCause, RefundStatus
from zerosum.domain.refusal import Reason
from zerosum.domain.todo import TodoKind, TodoState, todo_id
from zerosum.domain.wallet import Transfer, TransferKind

# ---- a reversal that the balance does not cover --------------------------------------------------------------------

SPENT = Transfer(TENANT, Key("spent"), "seller-0", TransferKind.DEBIT_PENDING, Money(1, "USD"), OrderId("another"))
DEBITS = [todo_id(TodoKind.DEBIT_WALLET, ORDER, number) for number in (1, 2, 3)]


async def uncovered(house: House, cause: RefundCause) -> None:
    """A reversal of ours whose seller has spent the money: 0.01 is missing."""
    await house.start()
    house.peers["ledger"].failures = 6
    if cause is RefundCause.ACCOUNT_CLOSED:
        await close(house, ("ledger",))
    house.psp.declines = {"c-1-o1"}
    amounts = (1_000, 500) if cause is RefundCause.CHECKOUT_FAILED else (1_000,)
    await house.submit(checkout("c-1", *amounts, on_partial=m.OnPartial.REVERSE))
    await house.until(lambda: bool(rows(house, "wallet", "wallets")))
    await house.fronts["wallet"].submit([SPENT])
    await house.settle("c-1")


async def made_good(house: House) -> None:
    back = replace(SPENT, transfer_id=Key("back"), kind=TransferKind.RETURN_PENDING)
    await house.fronts["wallet"].submit([back])


def given_back(house: House) -> int:
    """How often the PSP gave the order's charge back."""
    return sum(obj.given_back for obj in house.psp.objects.values() if obj.order_id == ORDER)


def dead(checkout: Checkout) -> list[tuple[str, str]]:
    return [(todo.id, todo.reason) for todo in checkout.todos.values() if todo.state is TodoState.DEAD]


REVERSALS = [RefundCause.CHECKOUT_FAILED, RefundCause.ACCOUNT_CLOSED]


@pytest.mark.parametrize("cause", REVERSALS)
def test_a_reversal_that_the_balance_does_not_cover_waits_for_people_and_a_replay_makes_it(cause: RefundCause) -> None:
    """P16, I13: a dead letter says why. The wallet's "no" is for ever under its id, so a replay goes under the next number."""

    async def tell() -> tuple[list[Checkout], int, Checkout, House]:
        house = House()
        await uncovered(house, cause)
        waiting = [await house.checkout("c-1")]
        await replay(house, DEBITS[0])
        waiting.append(await house.settle("c-1"))
        asked = house.psp.counts["refund"]
        await made_good(house)
        await replay(house, DEBITS[1], "op-2")
        return waiting, asked, await house.settle("c-1"), house

    waiting, asked, done, house = run(tell())

    assert [dead(one) for one in waiting] == [[(name, "BALANCE_TOO_LOW")] for name in DEBITS[:2]]
    assert asked == 0
    assert [(one.number, one.cause, one.status, one.outcome) for one in done.orders[ORDER].refunds] == [
        (1, cause, RefundStatus.FAILED, "BALANCE_TOO_LOW"),
        (2, cause, RefundStatus.FAILED, "BALANCE_TOO_LOW"),
        (3, cause, RefundStatus.SUCCEEDED, ""),
    ]
    assert done.status is CheckoutStatus.REVERSED
    assert [row["pending_minor"] for row in rows(house, "wallet", "wallets")] == [0]
    assert (given_back(house), dead(done)) == (1, [])


def test_two_operators_replaying_one_refused_debit_at_once_reverse_once() -> None:
    """O1: the act under another key finds no dead letter any more, and the wallet is debited once."""

    async def tell() -> tuple[list[Answer], Checkout, House]:
        house = House()
        await uncovered(house, RefundCause.CHECKOUT_FAILED)
        await made_good(house)
        acts = [replay(house, DEBITS[0], key) for key in ("op-1", "op-2", "op-1")]
        answers = list(await asyncio.gather(*acts))
        return answers, await house.settle("c-1"), house

    answers, done, house = run(tell())

    assert [answer for answer in answers if isinstance(answer, Applied)] == [Applied(False), Applied(True)]
    assert [answer.refusal.reason for answer in answers if isinstance(answer, Refused)] == [Reason.NOT_A_DEAD_LETTER]
    assert [one.status for one in done.orders[ORDER].refunds] == [RefundStatus.FAILED, RefundStatus.SUCCEEDED]
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1, 1, -1_000]
    assert findings(house) == []


@pytest.mark.parametrize("is_told_again_before", [True, False])
def test_the_wallet_s_no_told_twice_ends_one_debit(is_told_again_before: bool) -> None:
    """A doubled answer of the refused debit, before or after the replay, says nothing of the next one."""

    async def tell() -> tuple[Checkout, House]:
        house = House()
        await uncovered(house, RefundCause.CHECKOUT_FAILED)
        again = m.RecordTrouble(DEBITS[0], 1, m.Trouble.REFUSED, "BALANCE_TOO_LOW: again", 0, 0, Reason.BALANCE_TOO_LOW)
        await made_good(house)
        if is_told_again_before:
            await house.tell(KEY, again)
        await replay(house, DEBITS[0])
        if not is_told_again_before:
            await house.tell(KEY, again)
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert [one.status for one in done.orders[ORDER].refunds] == [RefundStatus.FAILED, RefundStatus.SUCCEEDED]
    assert findings(house) == []


def test_a_debit_that_died_without_an_answer_is_replayed_under_its_own_number() -> None:
    """Its budget spent, the wallet may have taken it: a new number would take the money twice."""

    async def tell() -> tuple[Checkout, Checkout, House]:
        house = await House(psp=ScriptedPsp(declines={"c-1-o1"})).start()
        await house.submit(checkout("c-1", 1_000, 500, on_partial=m.OnPartial.REVERSE))
        await house.until(lambda: bool(rows(house, "wallet", "wallets")))
        house.peers["wallet"].losses = limits.PEER_TRIES_MAX + 5
        stopped = await house.settle("c-1", limit_ms=48 * HOUR_MS)
        house.peers["wallet"].losses = 0
        await replay(house, DEBITS[0])
        return stopped, await house.settle("c-1"), house

    stopped, done, house = run(tell())

    assert [name for name, _ in dead(stopped)] == [DEBITS[0]]
    assert [one.status for one in done.orders[ORDER].refunds] == [RefundStatus.SUCCEEDED]
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1_000]
    assert findings(house) == []


@pytest.mark.parametrize("cause", REVERSALS)
def test_a_shard_may_die_at_every_place_of_a_reversal_that_is_replayed(cause: RefundCause) -> None:
    """A1: the end of the refused number and the beginning of the next are one commit."""

    async def tell(doors: CrashDoors, at: int) -> Checkout:
        doors.house = house = House(doors=doors)
        await uncovered(house, cause)
        await made_good(house)
        keeper = die_from_here(doors, at)
        await replay(house, DEBITS[0])
        done = await house.settle("c-1")
        keeper.cancel()
        assert [row["pending_minor"] for row in rows(house, "wallet", "wallets")] == [0]
        assert given_back(house) == 1
        return done

    for at in range(1, PLACES_MAX, 2):
        doors = CrashDoors()
        done = run(tell(doors, at))

        statuses = [one.status for one in done.orders[ORDER].refunds]
        assert statuses == [RefundStatus.FAILED, RefundStatus.SUCCEEDED], f"place {at}: {doors.seen[at - 1 : at]}"
        if not doors.killed:
            break
    assert not doors.killed, "the story never ran through"


# ---- a refund behind one that failed -------------------------------------------------------------------------------


async def while_the_wallet_is_away(house: House) -> None:
    """The refund that the PSP holds is refused just when the wallet cannot be told; the next one the bank would take."""
    house.peers["wallet"].failures = 1
    house.psp.held["refund"].set()
    await house.until(lambda: "FAILED" in [row["status"] for row in rows(house, "payment", "refunds")])
    next(obj for obj in house.psp.objects.values() if obj.order_id == ORDER).token = "tok_visa"


def test_a_second_refund_waits_until_the_wallet_has_back_what_it_was_debited_for_the_first() -> None:
    """P18: a debit that overtook it would be refused, and that "no" is kept for ever under the transfer's id."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token="tok_no_refund"))
        await house.settle("c-1")
        house.psp.holding.add("refund")
        await house.tell(KEY, ASKED)
        await asyncio.sleep(2)
        await while_the_wallet_is_away(house)
        await house.tell(KEY, replace(ASKED, key=Key("r-2")))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert [(one.status, one.outcome) for one in done.orders[ORDER].refunds] == [
        (RefundStatus.FAILED, "REFUND_FAILED"), (RefundStatus.SUCCEEDED, ""),
    ]  # fmt: skip
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1_000, 1_000, -1_000]
    assert findings(house) == []


def test_a_reversal_behind_a_refused_refund_is_made_without_anybody() -> None:
    """P18, all or none: decided in the very commit that ends the first, and its debit waits for what comes back."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.submit(checkout("c-1", 1_000, 500, token="tok_3ds", on_partial=m.OnPartial.REVERSE))
        await asyncio.sleep(2)
        of = {obj.order_id: obj for obj in house.psp.objects.values()}
        first, second = of["c-1-o0"], of["c-1-o1"]
        house.psp.pay_now(first.id)
        await house.tell(KEY, webhook("evt_1", m.ObjectStatus.CHARGED, first.id))
        await asyncio.sleep(2)
        first.token = "tok_no_refund"
        house.psp.holding.add("refund")
        await house.tell(KEY, ASKED)
        await asyncio.sleep(2)
        second.status = m.ObjectStatus.DECLINED
        declined = replace(
            webhook("evt_2", m.ObjectStatus.DECLINED, second.id), order_id=OrderId("c-1-o1"), reference="c-1-o1",
            money=Money(500, "USD"), reason="CARD_DECLINED",
        )  # fmt: skip
        await house.tell(KEY, declined)
        await asyncio.sleep(2)
        await while_the_wallet_is_away(house)
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert dead(done) == []
    assert [(one.cause, one.status) for one in done.orders[ORDER].refunds] == [
        (RefundCause.REQUESTED, RefundStatus.FAILED), (RefundCause.CHECKOUT_FAILED, RefundStatus.SUCCEEDED),
    ]  # fmt: skip
    assert findings(house) == []
