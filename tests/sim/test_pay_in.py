"""One checkout through the whole house, with and without faults. Rows P1 to P8, P33 to P36 and S of the failure catalogue."""

import asyncio

import pytest

from actors.answer import Accepted, InFlight, Refused, Replied
from tests.sim.house import HOUR_MS, TENANT, House, ScriptedRisk, checkout, envelope, pending, rows
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, LATE, NOT_SENT, STORED_AFTER, STORED_FAILURE, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import OrderId
from zerosum.domain.order import OrderStatus
from zerosum.domain.refusal import Reason
from zerosum.domain.request import PspVerb
from zerosum.domain.todo import TodoState
from zerosum.v1.payment_pb2 import CreatePaymentResponse
from zerosum.v1.payment_pb2 import OrderStatus as WireStatus


def story(house: House, *amounts_minor: int, token: str = "tok_visa") -> Checkout:
    """Pays one checkout and waits until nothing is owed."""

    async def tell() -> Checkout:
        await house.start()
        await house.pay(checkout("c-1", *amounts_minor, token=token))
        return await house.settle("c-1")

    return run(tell())


def test_a_checkout_is_charged_credited_and_posted_once_per_order() -> None:
    """The specification's pay-in, without faults."""
    house = House()

    done = story(house, 1_000, 2_500)

    assert done.status is CheckoutStatus.DONE
    assert done.is_payment_done
    assert house.psp.charges == {"c-1-o0": 1, "c-1-o1": 1}
    assert pending(house) == [1_000, 2_500]


def test_the_reply_is_fixed_when_every_order_is_final() -> None:
    """Design section 4: accepted once, answered once."""

    async def tell() -> CreatePaymentResponse:
        house = await House().start()
        return CreatePaymentResponse.FromString(await house.pay(checkout("c-1", 1_000)) or b"")

    reply = run(tell())

    assert [order.status for order in reply.payment.payment_orders] == [WireStatus.ORDER_STATUS_SUCCESS]


@pytest.mark.parametrize("verb", ["prepare", "confirm"])
@pytest.mark.parametrize("fault", [DROP_REQUEST, DROP_RESPONSE, NOT_SENT, STORED_FAILURE, STORED_AFTER, LATE])
@pytest.mark.parametrize("times", [1, 3])
def test_whatever_befalls_a_call_the_order_is_charged_exactly_once(verb: str, fault: str, times: int) -> None:
    """P3, P4, P34, S1: unknown is settled by reading the object; a stored 500 never stops an order."""
    house = House(psp=ScriptedPsp(script={verb: [fault] * times}))

    done = story(house, 1_000)

    assert done.status is CheckoutStatus.DONE
    assert house.psp.charges == {"c-1-o0": 1}


def test_no_confirm_is_ever_sent_twice_under_one_key() -> None:
    """Never retry with a new key, never send a confirm again: after the first send it is only asked for."""
    house = House(psp=ScriptedPsp(script={"confirm": [DROP_RESPONSE], "read": [DROP_RESPONSE, DROP_REQUEST]}))

    story(house, 1_000)

    confirms = [call.key for call in house.psp.calls if call.verb is PspVerb.CONFIRM]
    assert len(confirms) == len(set(confirms)) == 1


def test_a_decline_is_believed_only_after_the_object_is_canceled() -> None:
    """Design section 4: a decline is final only when the object can no longer be paid."""
    house = House(psp=ScriptedPsp(script={"cancel": [DROP_REQUEST, DROP_RESPONSE]}))

    done = story(house, 1_000, token="tok_decline")

    order = done.orders[OrderId("c-1-o0")]
    assert (order.status, order.reason) == (OrderStatus.FAILED, "CARD_DECLINED")
    assert {obj.status for obj in house.psp.objects.values()} == {m.ObjectStatus.CANCELED}


def test_an_object_the_psp_refuses_to_create_fails_the_order() -> None:
    """No object, no charge: a definitive no."""
    done = story(House(), 1_000, token="tok_refused")

    assert (done.orders[OrderId("c-1-o0")].status, done.orders[OrderId("c-1-o0")].reason) == (
        OrderStatus.FAILED,
        "NO_SUCH_TOKEN",
    )


def test_a_blocked_checkout_never_reaches_the_psp() -> None:
    """P8: the verdict comes first."""
    house = House(risk=ScriptedRisk(verdict=m.Verdict.BLOCK))

    done = story(house, 1_000, 2_000)

    assert done.status is CheckoutStatus.FAILED
    assert house.psp.calls == []


def test_a_verdict_that_needs_nobody_is_part_of_the_submit() -> None:
    """One commit less on the buyer's way; the history is the same, and no to-do was ever owed: it has no row."""
    house = House(risk=ScriptedRisk(is_at_once=True))

    done = story(house, 1_000)

    assert (done.status, done.verdict, house.risk.calls) == (CheckoutStatus.DONE, m.Verdict.ALLOW, 0)
    assert "assess_risk/1" not in done.todos
    asked_and_told = [row["type"] for row in house.stores["payment"].tables["history"].rows.values()][:3]
    assert asked_and_told == ["CheckoutSubmitted", "RiskAssessed", "AttemptOpened"]


def test_a_checkout_blocked_at_once_is_answered_by_its_submit() -> None:
    """P8: no PSP hears of it, and its reply is fixed in the very commit that accepts it."""
    house = House(risk=ScriptedRisk(verdict=m.Verdict.BLOCK, is_at_once=True))

    done = story(house, 1_000, 2_000)

    assert done.status is CheckoutStatus.FAILED
    assert done.reply is not None
    assert house.psp.calls == []


def test_a_checkout_waits_while_the_risk_check_is_down() -> None:
    """P8: fail closed, then go on with one verdict."""
    house = House(risk=ScriptedRisk(failures=5))

    done = story(house, 1_000)

    assert done.status is CheckoutStatus.DONE
    assert house.risk.calls == 6


def test_one_declined_order_leaves_the_others_standing() -> None:
    """P7: the event is PARTIAL."""

    async def tell() -> Checkout:
        house = await House(psp=ScriptedPsp()).start()
        house.psp.holding.add("confirm")
        await house.submit(checkout("c-1", 1_000, 2_000))
        await asyncio.sleep(1)
        house.psp.objects["pi_2"].token = "tok_decline"
        house.psp.holding.clear()
        house.psp.held["confirm"].set()
        return await house.settle("c-1")

    assert run(tell()).status is CheckoutStatus.PARTIAL


def test_wallet_and_ledger_are_brought_their_postings_until_they_take_them() -> None:
    """P5, D-rows: a peer that is away costs time, never a posting."""

    async def tell() -> tuple[Checkout, int]:
        house = await House().start()
        house.peers["wallet"].failures = house.peers["ledger"].failures = 7
        await house.pay(checkout("c-1", 1_000))
        done = await house.settle("c-1")
        return done, pending(house)[0]

    done, pending_minor = run(tell())

    assert done.is_payment_done
    assert pending_minor == 1_000


@pytest.mark.parametrize("verb", ["prepare", "confirm", "read", "cancel"])
@pytest.mark.parametrize("token", ["tok_visa", "tok_decline"])
def test_a_shard_that_dies_during_a_call_resumes_from_its_rows(verb: str, token: str) -> None:
    """P2, P3, A1, A3: dying during the call is an unknown outcome, settled by the successor."""

    async def tell() -> tuple[Checkout, dict[str, int]]:
        script = {"confirm": [DROP_REQUEST]} if verb == "read" else {}
        house = await House(psp=ScriptedPsp(script=script)).start()
        house.psp.holding.add(verb)
        await house.submit(checkout("c-1", 1_000, token=token))
        await asyncio.sleep(3)
        number = house.shard_number("c-1")
        await house.crash(number)
        house.psp.holding.clear()
        house.psp.held[verb].set()
        await asyncio.sleep(2)
        await house.revive(number)
        return await house.settle("c-1"), dict(house.psp.charges)

    done, charges = run(tell())

    expected = (CheckoutStatus.DONE, {"c-1-o0": 1}) if token == "tok_visa" else (CheckoutStatus.FAILED, {})
    assert (done.status, charges) == expected


def test_second_submit_with_the_same_key_returns_the_first_outcome() -> None:
    """C1, C5: the same bytes, now and a month later."""

    async def tell() -> tuple[bytes | None, object]:
        house = await House().start()
        first = await house.pay(checkout("c-1", 1_000))
        await house.skip(30 * 24 * HOUR_MS)
        return first, await house.submit(checkout("c-1", 1_000))

    first, again = run(tell())

    assert again == Replied(first or b"", is_replay=True)


def test_fifty_copies_at_once_are_one_execution() -> None:
    """C1: double clicks. Whoever asks again is told what the first is told."""

    async def tell() -> tuple[list[object], list[object], dict[str, int]]:
        house = await House().start()
        command = envelope(checkout("c-1", 1_000))
        answers = await house.fronts["payment"].submit([command] * 50)
        await house.settle("c-1")
        again = await house.fronts["payment"].submit([command] * 50)
        return list(answers), list(again), dict(house.psp.charges)

    answers, again, charges = run(tell())

    assert [type(answer) for answer in answers].count(Accepted) == 1
    assert [type(answer) for answer in answers].count(InFlight) == 49
    assert isinstance(again[0], Replied)
    assert again == [again[0]] * 50
    assert charges == {"c-1-o0": 1}


def test_the_same_key_with_another_body_is_refused_and_leaves_an_audit_row() -> None:
    """C2."""

    async def tell() -> tuple[object, int]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        answer = await house.submit(checkout("c-1", 9_999))
        return answer, len(rows(house, "payment", "refusals"))

    answer, audit_rows = run(tell())

    assert isinstance(answer, Refused)
    assert answer.refusal.reason is Reason.KEY_REUSED
    assert audit_rows == 1


def test_the_same_key_with_another_checkout_is_refused_whatever_shard_owns_it() -> None:
    """P36: the command's slot comes from the key alone."""

    async def tell() -> list[Reason]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, key="k-1"))
        others = [checkout(f"c-{number}", 1_000, key="k-1") for number in range(2, 12)]
        answers = [await house.submit(other) for other in others]
        return [answer.refusal.reason for answer in answers if isinstance(answer, Refused)]

    assert run(tell()) == [Reason.KEY_REUSED] * 10


def test_twin_keys_racing_on_two_shards_execute_one_checkout() -> None:
    """P36: the command row is one, whoever comes first."""

    async def tell() -> dict[str, int]:
        house = await House().start()
        twins = [envelope(checkout(f"c-{number}", 1_000, key="k-1")) for number in range(20)]
        await house.fronts["payment"].submit(twins)
        await asyncio.sleep(60)
        return dict(house.psp.charges)

    assert len(run(tell())) == 1


def test_a_known_checkout_under_another_key_is_a_replay() -> None:
    """P36: ids are unique per tenant."""

    async def tell() -> tuple[bytes | None, object, object]:
        house = await House().start()
        first = await house.pay(checkout("c-1", 1_000, key="k-1"))
        same = await house.submit(checkout("c-1", 1_000, key="k-2"))
        other = await house.submit(checkout("c-1", 5_000, key="k-3"))
        return first, same, other

    first, same, other = run(tell())

    assert same == Replied(first or b"", is_replay=True)
    assert isinstance(other, Refused)
    assert other.refusal.reason is Reason.CHECKOUT_ID_REUSED


def test_a_payment_order_id_of_another_checkout_is_refused() -> None:
    """Unique per tenant, for ever: it is the PSP's deduplication key."""

    async def tell() -> object:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        thief = checkout("c-2", 1_000)
        line = thief.lines[0]
        stolen = m.OrderLine(checkout("c-1").lines[0].order_id, line.seller_account, line.amount, line.money)
        return await house.submit(
            m.SubmitCheckout(TENANT, thief.checkout_id, thief.key, thief.buyer, thief.token, (stolen,))
        )

    answer = run(tell())

    assert isinstance(answer, Refused)
    assert answer.refusal.reason is Reason.PAYMENT_ORDER_ID_TAKEN


def test_a_retry_budget_that_is_spent_leaves_a_dead_letter_and_the_attempt_unknown() -> None:
    """P33: never FAILED without proof."""

    async def tell() -> Checkout:
        house = await House(psp=ScriptedPsp(always={"confirm": DROP_REQUEST, "read": DROP_RESPONSE})).start()
        await house.pay(checkout("c-1", 1_000))
        await house.skip(24 * HOUR_MS)
        return await house.settle("c-1")

    done = run(tell())

    order = done.orders[OrderId("c-1-o0")]
    assert order.status is OrderStatus.EXECUTING
    assert order.attempt is not None
    assert order.attempt.state == "UNKNOWN"
    assert [todo.kind for todo in done.todos.values() if todo.state is TodoState.DEAD] == ["confirm"]


def test_a_dead_letter_replayed_twice_has_one_effect() -> None:
    """O1: operators' acts are commands with ids."""

    async def tell() -> tuple[Checkout, dict[str, int]]:
        house = await House(psp=ScriptedPsp(always={"confirm": DROP_REQUEST, "read": DROP_RESPONSE})).start()
        await house.pay(checkout("c-1", 1_000))
        await house.skip(24 * HOUR_MS)
        dead = await house.settle("c-1")
        name = next(todo.id for todo in dead.todos.values() if todo.state is TodoState.DEAD)
        house.psp.always.clear()
        for key in ("r-1", "r-1", "r-2"):
            await house.tell(dead.key, m.ReplayTodo(name, key, "ops"))  # type: ignore[arg-type]  # ids are strings
        return await house.settle("c-1"), dict(house.psp.charges)

    done, charges = run(tell())

    assert done.status is CheckoutStatus.DONE
    assert charges == {"c-1-o0": 1}
