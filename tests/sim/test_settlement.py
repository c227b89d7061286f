"""Settlement lines as facts: the last line of defence resolves what answers, polls and webhooks left open. Rows P32, O1."""

import asyncio
from dataclasses import replace

import pytest

from actors.answer import Answer, Applied, Refused
from tests.sim.house import TENANT, House, checkout, rows, webhook
from tests.sim.proof import findings
from tests.sim.psp import DROP_RESPONSE, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, OrderId
from zerosum.domain.money import Money
from zerosum.domain.order import OrderStatus
from zerosum.domain.refusal import Reason

KEY = EntityKey(TENANT, "c-1")


def line(line_id: str = "txn_1", file_id: str = "file-1", status: m.ObjectStatus = m.ObjectStatus.CHARGED) -> m.Report:
    """A line about the first order of c-1."""
    return m.Report(
        m.ReportSource.SETTLEMENT, OrderId("c-1-o0"), "stripe", "pi_1", status, Money(1_000, "USD"), "c-1-o0", "",
        settlement=m.SettlementLineRef("stripe", line_id, file_id),
    )  # fmt: skip


def test_a_line_resolves_an_order_that_nothing_else_told_about_and_works_once() -> None:
    """S6, O1: settlement as last line; the same line told twice, or by another file, is one effect."""

    async def tell() -> tuple[list[Answer], Checkout, House]:
        house = await House(
            psp=ScriptedPsp(script={"confirm": [DROP_RESPONSE]}, always={"read": DROP_RESPONSE})
        ).start()
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(2)
        told = [await house.tell(KEY, line(file_id=file_id)) for file_id in ("file-1", "file-1", "file-2")]
        return told, await house.settle("c-1"), house

    told, done, house = run(tell())

    assert told == [Applied(False, True), Applied(True), Applied(True)]
    assert done.is_payment_done
    assert findings(house) == []
    assert [row["type"] for row in rows(house, "payment", "history")].count("SettlementTold") == 1


def test_a_line_that_comes_after_the_webhook_changes_nothing() -> None:
    """P32: an automatic fix races a late webhook: one posting."""

    async def tell() -> tuple[Answer, Answer, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        first = await house.tell(KEY, webhook("evt_1", m.ObjectStatus.CHARGED))
        second = await house.tell(KEY, line())
        await house.settle("c-1")
        return first, second, house

    first, second, house = run(tell())

    assert (first, second) == (Applied(False), Applied(False, is_news=False))
    assert findings(house) == []


def test_a_line_and_a_webhook_at_once_make_one_posting() -> None:
    """P32: both in one batch."""

    async def tell() -> House:
        house = await House(
            psp=ScriptedPsp(script={"confirm": [DROP_RESPONSE]}, always={"read": DROP_RESPONSE})
        ).start()
        await house.submit(checkout("c-1", 1_000))
        await asyncio.sleep(2)
        facts = [line(), webhook("evt_1", m.ObjectStatus.CHARGED), line(), line(file_id="file-2")]
        await asyncio.gather(*(house.tell(KEY, fact) for fact in facts))
        await house.settle("c-1")
        return house

    assert findings(run(tell())) == []


def test_a_line_about_a_failed_order_is_a_late_charge_refunded_once() -> None:
    """P35: facts are never refused."""

    async def tell() -> tuple[Answer, Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token="tok_decline"))
        await house.settle("c-1")
        house.psp.pay_now("pi_1")
        told = await house.tell(KEY, line())
        await house.tell(KEY, line())
        return told, await house.settle("c-1"), house

    told, done, house = run(tell())

    assert told == Applied(False, is_news=True)
    assert done.orders[OrderId("c-1-o0")].status is OrderStatus.FAILED
    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [("late_charge", True)]
    assert findings(house) == []


@pytest.mark.parametrize("twist", [{"money": Money(999, "USD")}, {"object_id": "pi_2"}, {"reference": "other"}])
def test_another_fact_under_a_lines_id_is_refused(twist: dict[str, Money | str]) -> None:
    """C2: nothing is executed twice under one key, whatever it carries."""

    async def tell() -> tuple[Answer, Checkout]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.tell(KEY, line())
        other = replace(line(), **twist)  # type: ignore[arg-type]  # the names are those of fields
        return await house.tell(KEY, other), await house.settle("c-1")

    told, done = run(tell())

    assert isinstance(told, Refused)
    assert told.refusal.reason is Reason.KEY_REUSED
    assert not done.mismatches


@pytest.mark.parametrize("home", ["c-1", "c-nobody"])
def test_a_line_about_an_unknown_order_leaves_nothing(home: str) -> None:
    """It is the reconciler's case, and may come to be known later."""

    async def tell() -> tuple[Answer, int]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        told = await house.tell(EntityKey(TENANT, home), replace(line(), order_id=OrderId("o-nobody")))
        return told, len([row for row in rows(house, "payment", "commands") if row["method"] == "ReportSettlement"])

    told, stored = run(tell())

    assert isinstance(told, Refused)
    assert (told.refusal.reason, stored) == (Reason.UNKNOWN_ID, 0)
