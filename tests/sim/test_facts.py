"""Facts that come late, twice, out of order or about something else, through the whole house. Rows P29, P35, S4 to S11."""

import asyncio
from dataclasses import replace

import pytest

from actors.answer import Applied
from tests.sim.house import HOUR_MS, TENANT, House, checkout, rows, webhook
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, STORED_AFTER, Object, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, OrderId, derived_key
from zerosum.domain.money import Money
from zerosum.domain.order import OperationKind, OperationState, OrderStatus
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.domain.todo import TodoState
from zerosum.v1.payment_pb2 import CreatePaymentResponse
from zerosum.v1.payment_pb2 import OrderStatus as WireStatus


def test_money_that_moves_after_the_order_failed_is_suspended_and_refunded_once() -> None:
    """P35: facts are never refused."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token="tok_decline"))
        failed = await house.settle("c-1")
        house.psp.pay_now("pi_1")
        for event in ("evt_1", "evt_1", "evt_2"):
            await house.tell(failed.key, webhook(event, m.ObjectStatus.CHARGED))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert done.orders[OrderId("c-1-o0")].status is OrderStatus.FAILED
    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [("late_charge", True)]
    assert len(house.psp.refunds) == 1
    assert sorted(row["movement"] for row in rows(house, "ledger", "journals")) == [
        "suspense_charge",
        "suspense_refund",
    ]


def test_a_late_charge_is_given_back_whole_or_its_money_stays_in_suspense() -> None:
    """P35, I22: suspense is left by proof of the whole; a refund of another amount is a case of its own."""

    async def tell() -> tuple[Checkout, list[str], Checkout]:
        house = await House(psp=ScriptedPsp(always={"refund": DROP_REQUEST})).start()
        await house.pay(checkout("c-1", 1_000, token="tok_decline"))
        failed = await house.settle("c-1")
        house.psp.pay_now("pi_1")
        await house.tell(failed.key, webhook("evt_1", m.ObjectStatus.CHARGED))
        partly = replace(webhook("evt_2", m.ObjectStatus.REFUNDED), money=Money(400, "USD"))
        await house.tell(failed.key, partly)
        await asyncio.sleep(2)
        then, movements = await house.checkout("c-1"), [row["movement"] for row in rows(house, "ledger", "journals")]
        house.psp.always.clear()
        return then, movements, await house.settle("c-1")

    then, movements, done = run(tell())

    assert [(case.kind, case.is_resolved) for case in then.mismatches.values()] == [
        ("late_charge", False), ("wrong_money", False),
    ]  # fmt: skip
    assert movements == ["suspense_charge"]
    assert next(iter(done.mismatches.values())).is_resolved


@pytest.mark.parametrize("fault", [DROP_REQUEST, DROP_RESPONSE, STORED_AFTER])
def test_the_refund_of_a_late_charge_is_made_once_whatever_befalls_it(fault: str) -> None:
    """P35 with lost answers."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token="tok_decline"))
        failed = await house.settle("c-1")
        house.psp.pay_now("pi_1")
        house.psp.script["refund"] = [fault, fault]
        await house.tell(failed.key, webhook("evt_1", m.ObjectStatus.CHARGED))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert next(iter(done.mismatches.values())).is_resolved
    assert len(house.psp.refunds) == 1


@pytest.mark.parametrize(
    "twist", [{"money": Money(999, "USD")}, {"money": Money(1_000, "EUR")}, {"reference": "other"}]
)
def test_another_amount_currency_or_reference_is_not_a_success(twist: dict[str, Money | str]) -> None:
    """S9: every field of an answer is compared with what was asked."""

    async def tell() -> Checkout:
        house = await House(psp=ScriptedPsp(twist=twist)).start()
        await house.pay(checkout("c-1", 1_000))
        return await house.settle("c-1")

    done = run(tell())

    assert done.orders[OrderId("c-1-o0")].status is not OrderStatus.SUCCESS
    assert len(done.mismatches) == 1
    assert any(todo.state is TodoState.DEAD for todo in done.todos.values())


def test_a_webhook_before_the_answer_settles_the_order() -> None:
    """S5: the order's row precedes the call."""

    async def tell() -> tuple[Checkout, dict[str, int]]:
        house = await House(
            psp=ScriptedPsp(always={"read": DROP_RESPONSE}, script={"confirm": [DROP_RESPONSE]})
        ).start()
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(1)
        key = EntityKey(TENANT, "c-1")
        answers = [await house.tell(key, webhook("evt_1", m.ObjectStatus.CHARGED)) for _ in range(20)]
        assert {type(answer).__name__ for answer in answers} == {"Applied"}
        return await house.settle("c-1"), dict(house.psp.charges)

    done, charges = run(tell())

    assert done.is_payment_done
    assert charges == {"c-1-o0": 1}


def test_status_never_regresses_on_a_late_report() -> None:
    """S8: recorded, ignored."""

    async def tell() -> tuple[Checkout, list[str]]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        paid = await house.settle("c-1")
        for number, status in enumerate(m.ObjectStatus):
            await house.tell(paid.key, webhook(f"evt_{number}", status))
        outcomes = [row["outcome"] for row in rows(house, "payment", "inbox")]
        return await house.settle("c-1"), outcomes

    done, outcomes = run(tell())

    assert done.orders[OrderId("c-1-o0")].status is OrderStatus.SUCCESS
    assert outcomes == ["IGNORED"] * len(m.ObjectStatus)


class _BankSendsItBack(ScriptedPsp):
    """Like Stripe: a key brings its first answer for ever, "succeeded"; the refund itself has failed since."""

    def _report(self, request: PspRequest, obj: Object | None) -> m.Report:
        report = super()._report(request, obj)
        if request.verb is PspVerb.REFUND and request.key in self.refunds:
            return replace(report, status=m.ObjectStatus.REFUNDED, refund_key=request.key)
        return report


class _Slow(ScriptedPsp):
    """A refund is pending in every answer until it has failed."""

    def _report(self, request: PspRequest, obj: Object | None) -> m.Report:
        report = super()._report(request, obj)
        if report.status is m.ObjectStatus.REFUNDED:
            return replace(report, status=m.ObjectStatus.PROCESSING, reason="REFUND_PENDING")
        return report


async def late_refund_failed(psp: ScriptedPsp, *statuses: m.ObjectStatus) -> tuple[Checkout, list[str]]:
    """A late charge whose refund the bank sends back, and webhooks that tell of it in this order; then a few hours."""
    house = await House(psp=psp).start()
    await house.pay(checkout("c-1", 1_000, token="tok_decline"))
    failed = await house.settle("c-1")
    psp.pay_now("pi_1")
    await house.tell(failed.key, webhook("evt_1", m.ObjectStatus.CHARGED))
    await asyncio.sleep(0.05)
    (key,) = psp.refunds
    psp.refused_refunds.add(key)
    psp.objects["pi_1"].given_back = 0
    for number, status in enumerate(statuses):
        await house.tell(failed.key, replace(webhook(f"evt_2_{number}", status), refund_key=key))
    await asyncio.sleep(4 * HOUR_MS / 1_000)
    done = await house.settle("c-1")
    return done, [row["movement"] for row in rows(house, "ledger", "journals")]


FAILED, GIVEN_BACK = m.ObjectStatus.REFUND_FAILED, m.ObjectStatus.REFUNDED


@pytest.mark.parametrize("statuses", [(FAILED,), (FAILED, FAILED), (FAILED, GIVEN_BACK)])
@pytest.mark.parametrize("psp", [_BankSendsItBack, _Slow])
def test_a_late_charge_s_refund_that_failed_is_never_proven_by_what_is_told_afterwards(
    psp: type[ScriptedPsp], statuses: tuple[m.ObjectStatus, ...]
) -> None:
    """P18, P35: `failed` is final. A stale first answer, or a webhook of before that comes after it, is no proof."""
    lost = {"refund": [DROP_RESPONSE], "read": [DROP_REQUEST]}
    done, movements = run(late_refund_failed(psp(script=lost), *statuses))

    (refund,) = (op for op in done.orders[OrderId("c-1-o0")].operations if op.kind is OperationKind.REFUND)
    assert (refund.state, refund.answer) == (OperationState.DECLINED, "REFUND_FAILED")
    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [("late_charge", False)]
    assert movements == ["suspense_charge"]
    assert not any(todo.state is TodoState.DEAD for todo in done.todos.values())


def test_a_late_charge_s_refund_that_a_poll_finds_failed_ends_at_once() -> None:
    """P18: nothing is asked for until a budget is spent where the end is known."""
    done, movements = run(late_refund_failed(_Slow()))

    assert [case.is_resolved for case in done.mismatches.values()] == [False]
    assert movements == ["suspense_charge"]


def test_a_late_charge_s_refund_that_came_back_after_it_had_succeeded_is_a_case_of_its_own() -> None:
    """P18: proof, and then the bank: both are on record, and finance has the case."""
    done, _ = run(late_refund_failed(_BankSendsItBack(), FAILED))

    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [
        ("late_charge", True), ("refund_failed", False),
    ]  # fmt: skip


def test_a_charge_of_another_object_goes_to_suspense_and_opens_a_case() -> None:
    """Design section 8: a possible second charge is a mismatch, never a second success; the first one stays the seller's."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        paid = await house.settle("c-1")
        await house.tell(paid.key, webhook("evt_1", m.ObjectStatus.CHARGED, object_id="pi_other"))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert [case.kind for case in done.mismatches.values()] == ["second_charge"]
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["capture", "suspense_charge"]
    assert [row["balance_minor"] for row in rows(house, "ledger", "accounts")] == [-1_000]


@pytest.mark.parametrize("money", [Money(900, "STD"), Money(0, "USD"), Money(10**17, "USD")])
def test_a_charge_of_another_object_that_no_journal_can_say_is_a_case_and_posts_nothing(money: Money) -> None:
    """A PSP charges in currencies that we do not take: named, for people, once; the order goes its way."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        paid = await house.settle("c-1")
        for event in ("evt_1", "evt_2"):
            charged = replace(webhook(event, m.ObjectStatus.CHARGED, object_id="pi_other"), money=money)
            assert await house.tell(paid.key, charged) == Applied(is_replay=False)
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert [(case.kind, case.object_id, case.money) for case in done.mismatches.values()] == [
        ("wrong_money", "pi_other", money)
    ]
    assert done.is_payment_done
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["capture"]


def test_a_webhook_about_an_unknown_checkout_is_recorded_once() -> None:
    """P29: 2xx only after a durable insert, for what we do not know too."""

    async def tell() -> list[str]:
        house = await House().start()
        for _ in range(3):
            await house.tell(EntityKey(TENANT, "c-nobody"), webhook("evt_1", m.ObjectStatus.CHARGED))
        return [row["outcome"] for row in rows(house, "payment", "inbox")]

    assert run(tell()) == ["UNMATCHED"]


def test_a_pending_order_answers_the_caller_and_ends_by_poll_without_any_webhook() -> None:
    """S6, S11: pending is visible; polling after 1, 2, 4 .. minutes brings the end."""

    async def tell() -> tuple[CreatePaymentResponse, Checkout, int]:
        house = await House().start()
        reply = await house.pay(checkout("c-1", 1_000, token="tok_3ds"))
        await asyncio.sleep(1_800)
        house.psp.pay_now("pi_1")
        done = await house.settle("c-1")
        return CreatePaymentResponse.FromString(reply or b""), done, house.psp.counts["read"]

    reply, done, reads = run(tell())

    assert reply.payment.payment_orders[0].status == WireStatus.ORDER_STATUS_PENDING
    assert done.status is CheckoutStatus.DONE
    assert reads < 10


@pytest.mark.parametrize(
    "waits", [m.ObjectStatus.PROCESSING, m.ObjectStatus.ACTION_REQUIRED, m.ObjectStatus.AUTHORIZED]
)
def test_an_object_of_a_lost_life_that_waits_is_asked_about_until_it_ends(waits: m.ObjectStatus) -> None:
    """D10, I9: after a restore a prepare may find one that was confirmed already; no webhook need come."""

    async def taken_over() -> tuple[Checkout, House]:
        house = await House().start()
        key = derived_key(TENANT, "c-1-o0", OperationKind.PREPARE, 1)
        house.psp.answered[key] = "pi_lost"
        house.psp.objects["pi_lost"] = Object("pi_lost", "c-1-o0", Money(1_000, "USD"), "tok_3ds", waits)
        await house.pay(checkout("c-1", 1_000, token="tok_3ds"))
        await asyncio.sleep(300)
        house.psp.pay_now("pi_lost")
        await asyncio.sleep(2 * HOUR_MS / 1_000)
        return await house.settle("c-1"), house

    done, house = run(taken_over())

    assert done.orders[OrderId("c-1-o0")].status is OrderStatus.SUCCESS
    assert (house.psp.charges, house.psp.counts["confirm"]) == ({"c-1-o0": 1}, 0)


@pytest.mark.parametrize("said", [m.ObjectStatus.REFUNDED, m.ObjectStatus.REFUND_FAILED])
def test_a_refund_of_a_lost_life_that_is_heard_before_its_charge_leaves_nothing_unasked(said: m.ObjectStatus) -> None:
    """D10, I9: the PSP repeats its webhooks after a restore; the object they name is asked what it is."""

    async def heard() -> Checkout:
        house = await House(psp=ScriptedPsp(always={"prepare": DROP_REQUEST})).start()
        house.psp.objects["pi_lost"] = Object(
            "pi_lost", "c-1-o0", Money(1_000, "USD"), "tok_visa", m.ObjectStatus.CHARGED, paid=1
        )
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(2)
        await house.tell(EntityKey(TENANT, "c-1"), webhook("evt_1", said, "pi_lost"))
        return await house.settle("c-1")

    assert run(heard()).orders[OrderId("c-1-o0")].status is OrderStatus.SUCCESS


def test_a_charge_whose_key_the_psp_has_forgotten_is_not_repeated() -> None:
    """S10: three virtual days with every answer lost; the object can be paid only once."""

    async def tell() -> dict[str, int]:
        house = await House(
            psp=ScriptedPsp(script={"confirm": [DROP_RESPONSE]}, always={"read": DROP_RESPONSE})
        ).start()
        await house.pay(checkout("c-1", 1_000))
        for _ in range(3):
            await house.skip(24 * HOUR_MS)
            house.psp.answered.clear()
        house.psp.always.clear()
        dead = await house.settle("c-1")
        name = next(todo.id for todo in dead.todos.values() if todo.state is TodoState.DEAD)
        await house.tell(dead.key, m.ReplayTodo(name, "r-1", "ops"))  # type: ignore[arg-type]  # ids are strings
        await house.settle("c-1")
        return dict(house.psp.charges)

    assert run(tell()) == {"c-1-o0": 1}


def test_an_answer_deadline_fixes_the_reply_as_things_stand() -> None:
    """Design section 4: after about 10 s, whichever comes first."""

    async def tell() -> CreatePaymentResponse:
        house = await House(psp=ScriptedPsp(always={"confirm": DROP_REQUEST, "read": DROP_RESPONSE})).start()
        return CreatePaymentResponse.FromString(await house.pay(checkout("c-1", 1_000), timeout_ms=15_000) or b"")

    assert run(tell()).payment.payment_orders[0].status == WireStatus.ORDER_STATUS_EXECUTING
