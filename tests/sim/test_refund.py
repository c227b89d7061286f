"""A full refund that a caller asks for: reserved once, debited, asked of the PSP, posted. Rows P16 to P18, O1; I13, I14."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from actors.answer import Answer, Applied, Refused
from tests.sim.faults import PLACES_MAX, CrashDoors, keep_alive
from tests.sim.house import TENANT, Doors, House, checkout, rows, webhook
from tests.sim.proof import findings
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, LATE, STORED_AFTER, ScriptedPsp
from tests.sim.test_reversal import close
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.order import OperationKind, OrderStatus
from zerosum.domain.refund import RefundCause, RefundStatus, RequestRefund
from zerosum.domain.refusal import Reason
from zerosum.domain.todo import TodoKind, todo_id
from zerosum.domain.wallet import Transfer, TransferKind

KEY = EntityKey(TENANT, "c-1")
ORDER = OrderId("c-1-o0")
ASKED = RequestRefund(ORDER, Key("r-1"), None, "DUPLICATE", "fin")


async def told(
    *asked: RequestRefund, psp: ScriptedPsp | None = None, doors: Doors | None = None, token: str = "tok_visa"
) -> tuple[list[Answer], Checkout, House]:
    """A checkout of one order that is paid and at rest; then these requests, one after the other, and rest again."""
    house, at = House(psp=psp or ScriptedPsp(), doors=doors or Doors()), 0
    if isinstance(doors, CrashDoors):
        doors.house, doors.at, at = house, 0, doors.at
    await house.start()
    keeper = asyncio.create_task(keep_alive(house))
    await house.pay(checkout("c-1", 1_000, token=token))
    await house.settle("c-1")
    if isinstance(doors, CrashDoors):
        doors.seen.clear()
        doors.at = at
    answers: list[Answer] = []
    for one in asked:
        answer = await house.tell(KEY, one)
        while not isinstance(answer, Applied | Refused):
            answer = await house.tell(KEY, one)  # a caller that was not answered asks again with the same key
        answers.append(answer)
        await house.settle("c-1")
    done = await house.settle("c-1")
    keeper.cancel()
    return answers, done, house


def reasons(answers: Sequence[Answer]) -> list[str]:
    return [str(answer.refusal.reason) if isinstance(answer, Refused) else "" for answer in answers]


def test_a_refund_gives_the_whole_amount_back_and_every_book_follows() -> None:
    """Design section 6: by the original split; the order stays SUCCESS, its refund is a row of its own."""
    answers, done, house = run(told(ASKED))

    order = done.orders[ORDER]
    assert answers == [Applied(is_replay=False)]
    assert (order.status, done.status) == (OrderStatus.SUCCESS, CheckoutStatus.DONE)
    assert [(r.cause, r.status, r.money, r.reason, r.requested_by) for r in order.refunds] == [
        (RefundCause.REQUESTED, RefundStatus.SUCCEEDED, Money(1_000, "USD"), "DUPLICATE", "fin")
    ]
    assert findings(house) == []
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["capture", "refund"]
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1_000]


def test_a_refund_is_made_once_per_key_and_once_per_order() -> None:
    """O1, P16: the same request changes nothing, another one under its key is refused, a second refund too."""
    again, other = replace(ASKED, money=Money(1_000, "USD")), replace(ASKED, reason="FRAUDULENT")
    answers, _, house = run(told(ASKED, ASKED, again, other, replace(ASKED, key=Key("r-2"))))

    assert answers[1:3] == [Applied(is_replay=True)] * 2
    assert reasons(answers) == ["", "", "", Reason.KEY_REUSED, Reason.ALREADY_REFUNDED]
    assert len(house.psp.refunds) == 1
    assert findings(house) == []


@pytest.mark.parametrize("money", [Money(999, "USD"), Money(1_001, "USD"), Money(1_000, "EUR")])
def test_only_the_whole_amount_is_refunded(money: Money) -> None:
    """Nothing moves by the refusal, and the same key is refused alike for ever."""
    answers, done, house = run(told(replace(ASKED, money=money), replace(ASKED, money=money)))

    assert reasons(answers) == [Reason.REFUND_NOT_WHOLE] * 2
    assert (done.orders[ORDER].refunds, house.psp.counts["refund"]) == ((), 0)
    assert findings(house) == []


def test_an_order_that_took_no_money_is_not_refundable() -> None:
    """P14 in spirit: refused before any PSP call."""
    answers, _, house = run(
        told(ASKED, replace(ASKED, key=Key("r-2"), order_id=OrderId("o-nobody")), token="tok_decline")
    )

    assert reasons(answers) == [Reason.NOT_REFUNDABLE, Reason.UNKNOWN_ID]
    assert house.psp.counts["refund"] == 0


def test_two_refunds_at_once_are_one() -> None:
    """P16: two callers, two keys, one batch."""

    async def race() -> tuple[list[Answer], House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        asked = [replace(ASKED, key=Key(f"r-{number}")) for number in range(5)]
        answers = await asyncio.gather(*(house.tell(KEY, one) for one in asked))
        await house.settle("c-1")
        return list(answers), house

    answers, house = run(race())

    assert sorted(reasons(answers)) == ["", *[Reason.ALREADY_REFUNDED] * 4]
    assert findings(house) == []


def test_a_refund_that_the_balance_does_not_cover_fails_before_the_psp_is_asked() -> None:
    """I13: nothing falls below zero; nothing has moved, and a later refund may be asked for."""

    async def short() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        spent = Transfer(
            TENANT, Key("spent"), "seller-0", TransferKind.DEBIT_PENDING, Money(1, "USD"), OrderId("another")
        )
        await house.fronts["wallet"].submit([spent])
        await house.tell(KEY, ASKED)
        await house.settle("c-1")
        await house.fronts["wallet"].submit([replace(spent, transfer_id=Key("back"), kind=TransferKind.RETURN_PENDING)])
        await house.tell(KEY, replace(ASKED, key=Key("r-2")))
        return await house.settle("c-1"), house

    done, house = run(short())

    assert [(refund.status, refund.outcome) for refund in done.orders[ORDER].refunds] == [
        (RefundStatus.FAILED, "BALANCE_TOO_LOW"),
        (RefundStatus.SUCCEEDED, ""),
    ]
    assert (house.psp.counts["refund"], len(house.psp.refunds)) == (1, 1)
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["capture", "refund"]


def test_a_refund_that_the_psp_refuses_gives_the_seller_the_money_back() -> None:
    """P18: the reservation is released by new rows; another refund may be asked for, under its own key."""
    answers, done, house = run(told(ASKED, replace(ASKED, key=Key("r-2")), token="tok_no_refund"))

    assert answers == [Applied(is_replay=False)] * 2
    assert [(refund.number, refund.status, refund.outcome) for refund in done.orders[ORDER].refunds] == [
        (1, RefundStatus.FAILED, "REFUND_FAILED"), (2, RefundStatus.FAILED, "REFUND_FAILED"),
    ]  # fmt: skip
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1_000, 1_000, -1_000, 1_000]
    assert len(house.psp.refused_refunds) == 2
    assert findings(house) == []


@pytest.mark.parametrize("status", [m.ObjectStatus.REFUND_FAILED, m.ObjectStatus.REFUNDED])
@pytest.mark.parametrize("is_told_by_its_run", [True, False])
def test_what_is_told_late_of_a_failed_refund_says_nothing_of_the_next(
    status: m.ObjectStatus, is_told_by_its_run: bool
) -> None:
    """Answers, webhooks and lines come doubled and late: a fact is about the refund whose key or run it names."""

    async def late() -> tuple[Checkout, Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token="tok_no_refund"))
        await house.settle("c-1")
        await house.tell(KEY, ASKED)
        first = (await house.settle("c-1")).orders[ORDER].operation(OperationKind.REFUND, 1)
        assert first is not None
        house.psp.always, house.psp.objects["pi_1"].token = {"refund": DROP_REQUEST, "read": DROP_REQUEST}, "tok_visa"
        await house.tell(KEY, replace(ASKED, key=Key("r-2")))
        await asyncio.sleep(2)
        fact = replace(webhook("evt_1", status), refund_key=first.key)
        if is_told_by_its_run:
            fact = replace(
                fact, source=m.ReportSource.ANSWER, delivery=None, refund_key="", tries=1,
                todo_id=todo_id(TodoKind.REFUND, ORDER, 1),
            )  # fmt: skip
        await house.tell(KEY, fact)
        told = await house.checkout("c-1")
        house.psp.always = {}
        return told, await house.settle("c-1"), house

    told, done, house = run(late())

    assert [refund.status for refund in told.orders[ORDER].refunds] == [RefundStatus.FAILED, RefundStatus.PENDING]
    assert [refund.status for refund in done.orders[ORDER].refunds] == [RefundStatus.FAILED, RefundStatus.SUCCEEDED]
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1_000, 1_000, -1_000]
    assert findings(house) == []


def test_a_refund_that_came_back_after_it_had_succeeded_is_a_case_for_finance_once() -> None:
    """P18: the bank sends it back weeks later. Nothing moves by itself: the buyer is paid another way, the books by hand."""

    async def returned() -> tuple[Checkout, list[Answer], House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        await house.tell(KEY, ASKED)
        operation = (await house.settle("c-1")).orders[ORDER].operation(OperationKind.REFUND, 1)
        assert operation is not None
        facts = [
            replace(webhook(f"evt_{at}", m.ObjectStatus.REFUND_FAILED), refund_key=key)
            for at, key in enumerate(["another", operation.key, operation.key])
        ]
        answers = [await house.tell(KEY, fact) for fact in facts]
        return await house.settle("c-1"), answers, house

    done, answers, house = run(returned())

    assert answers == [Applied(is_replay=False)] * 3
    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [("refund_failed", False)]
    assert [refund.status for refund in done.orders[ORDER].refunds] == [RefundStatus.SUCCEEDED]
    assert [row["outcome"] for row in rows(house, "payment", "inbox")] == ["IGNORED", "APPLIED", "IGNORED"]
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["capture", "refund"]


@pytest.mark.parametrize("fault", [DROP_REQUEST, DROP_RESPONSE, STORED_AFTER, LATE])
def test_a_refund_whose_answer_is_unknown_stays_reserved_and_is_made_once(fault: str) -> None:
    """P17, Q4: never given back on silence; asked again under the same key."""
    _, done, house = run(told(ASKED, psp=ScriptedPsp(script={"refund": [fault, fault]})))

    assert done.orders[ORDER].refunds[0].status is RefundStatus.SUCCEEDED
    assert len({request.key for request in house.psp.calls if request.verb == "refund"}) == 1
    assert findings(house) == []


def test_a_refund_asked_for_before_the_books_have_the_capture_waits_for_them() -> None:
    """The wallet is debited of what it has; it never was a race between credit and debit."""

    async def early() -> tuple[Answer, Checkout, House]:
        house = await House().start()
        house.peers["ledger"].failures = house.peers["wallet"].failures = 6
        await house.pay(checkout("c-1", 1_000))
        answer = await house.tell(KEY, ASKED)
        return answer, await house.settle("c-1"), house

    answer, done, house = run(early())

    assert answer == Applied(is_replay=False)
    assert done.orders[ORDER].refunds[0].status is RefundStatus.SUCCEEDED
    assert findings(house) == []


def test_a_closed_account_can_still_be_refunded_from() -> None:
    """Closing keeps what is inside, and corrections go through."""

    async def late() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        await close(house, ("wallet", "ledger"))
        await house.tell(KEY, ASKED)
        return await house.settle("c-1"), house

    done, house = run(late())

    assert done.orders[ORDER].refunds[0].status is RefundStatus.SUCCEEDED
    assert findings(house) == []


@pytest.mark.parametrize("token", ["tok_visa", "tok_no_refund"])
def test_a_shard_may_die_at_every_place_of_a_refund(token: str) -> None:
    """A1, P17, P18: before and after each commit, each call to the PSP, wallet and ledger."""
    wanted = RefundStatus.SUCCEEDED if token == "tok_visa" else RefundStatus.FAILED
    for at in range(1, PLACES_MAX):
        doors = CrashDoors(at=at)
        _, done, house = run(told(ASKED, doors=doors, token=token))

        place = f"place {at}: {doors.seen[at - 1] if at <= len(doors.seen) else 'none'}"
        assert (findings(house), [r.status for r in done.orders[ORDER].refunds]) == ([], [wanted]), place
        if not doors.killed:
            break
    assert not doors.killed, "the story never ran through"
