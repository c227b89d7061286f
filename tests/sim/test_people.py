"""Budgets that are spent, and what people do then; keys of other tenants and of long ago. Rows P8, P33, O1, C3, C5."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from actors.answer import Answer, Applied, Refused, Replied
from tests.sim.house import HOUR_MS, TENANT, Doors, House, ScriptedRisk, checkout, envelope, rows
from tests.sim.proof import findings
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, ScriptedPsp
from tests.sim.virtual import run
from zerosum import limits
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, derived_key
from zerosum.domain.money import Money
from zerosum.domain.order import OrderStatus
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Reason
from zerosum.domain.request import AssessRisk
from zerosum.domain.todo import TodoKind, TodoState
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import OutcomeUnknown
from zerosum.ports import RiskAnswer
from zerosum.readers import DeadLetters
from zerosum.store.memory_reader import MemoryPaymentReader

C1 = EntityKey(TENANT, "c-1")
O1 = OrderId("c-1-o0")

# ---- P8, P33, O1: budgets and people -------------------------------------------------------------------------------


def test_a_risk_check_that_never_answers_is_a_dead_letter_and_no_psp_ever_hears_of_it() -> None:
    """P8, P33: fail closed; the budget spent, people decide; replayed, the checkout is paid once."""

    async def tell() -> tuple[Checkout, list[Any], House]:
        house = await House(risk=ScriptedRisk(failures=limits.TRIES_MAX)).start()
        await house.pay(checkout("c-1", 1_000, 2_000))
        stopped = await house.settle("c-1")
        calls = list(house.psp.calls)
        await house.tell(C1, m.ReplayTodo("assess_risk/1", Key("r-1"), "ops"))
        await house.settle("c-1")
        return stopped, calls, house

    stopped, calls, house = run(tell())

    assert calls == []
    assert stopped.todos["assess_risk/1"].state is TodoState.DEAD
    assert {order.status for order in stopped.orders.values()} == {OrderStatus.NOT_STARTED}
    assert findings(house) == []


@dataclass(slots=True)
class _RiskDoors(Doors):
    """A risk check whose answers are lost, and which answers otherwise the next time."""

    def risk(self, number: int, risk: ScriptedRisk) -> Any:
        return _Fickle()


@dataclass(slots=True)
class _Fickle:
    calls: int = 0

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        self.calls += 1
        if self.calls == 1:
            raise OutcomeUnknown("the answer ALLOW was lost")
        return RiskAnswer(m.Verdict.BLOCK, "RULE_7")


def test_the_first_verdict_that_is_stored_counts() -> None:
    """P8: durable before any PSP is called; a lost one was never given."""

    async def tell() -> tuple[Checkout, House]:
        house = await House(doors=_RiskDoors()).start()
        await house.pay(checkout("c-1", 1_000))
        await house.tell(C1, m.RecordVerdict("assess_risk/1", m.Verdict.ALLOW, ""))
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert (done.status, done.verdict, done.verdict_reason) == (CheckoutStatus.FAILED, m.Verdict.BLOCK, "RULE_7")
    assert house.psp.calls == []


def test_a_peer_that_refuses_for_good_is_a_dead_letter_and_the_charge_stands() -> None:
    """P33: the state of the money is untouched, and people see why; a replay without a repair changes nothing."""

    async def tell() -> tuple[Checkout, Checkout, House]:
        house = await House().start()
        taken = derived_key(TENANT, "c-1-o0", "credit", 1)
        other = Transfer(TENANT, taken, "thief", TransferKind.CREDIT_PENDING, Money(5, "USD"), OrderId("o-0"))
        await house.fronts["wallet"].submit([other])
        await house.pay(checkout("c-1", 1_000))
        stopped = await house.settle("c-1")
        await house.tell(C1, m.ReplayTodo("credit_wallet/1/c-1-o0", Key("r-1"), "ops"))
        return stopped, await house.settle("c-1"), house

    stopped, again, house = run(tell())

    for done in (stopped, again):
        order = done.orders[OrderId("c-1-o0")]
        assert (order.status, order.wallet_updated, order.ledger_updated) == (OrderStatus.SUCCESS, False, True)
        assert [todo.id for todo in done.todos.values() if todo.state is TodoState.DEAD] == ["credit_wallet/1/c-1-o0"]
    assert house.psp.charges == {"c-1-o0": 1}
    assert [row["owner"] for row in rows(house, "wallet", "wallets")] == ["thief"]


def test_a_dead_letter_of_a_paid_order_is_counted_while_it_is_one_though_no_order_is_overdue() -> None:
    """O1: what the alert reads. The credit is refused, its order is final; replayed it is live, then dies again."""

    async def tell() -> list[tuple[Sequence[DeadLetters], int]]:
        house, told = await House().start(), []
        reader = MemoryPaymentReader(house.stores["payment"])
        taken = derived_key(TENANT, "c-1-o0", "credit", 1)
        other = Transfer(TENANT, taken, "thief", TransferKind.CREDIT_PENDING, Money(5, "USD"), OrderId("o-0"))
        await house.fronts["wallet"].submit([other])
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        await house.skip(HOUR_MS)
        told.append((await reader.dead_letters(), await reader.count_in_flight(0)))
        await house.tell(C1, m.ReplayTodo("credit_wallet/1/c-1-o0", Key("r-1"), "ops"))
        told.append((await reader.dead_letters(), await reader.count_in_flight(0)))
        await house.settle("c-1")
        told.append((await reader.dead_letters(), await reader.count_in_flight(0)))
        return told

    (dead, overdue), (live, _), (again, _) = run(tell())

    assert [(each.kind, each.todos) for each in dead] == [(TodoKind.CREDIT_WALLET, 1)]
    assert dead[0].oldest_ms >= HOUR_MS > again[0].oldest_ms, "a replay's budget begins anew"
    assert overdue == 0
    assert live == []
    assert [(each.kind, each.todos) for each in again] == [(TodoKind.CREDIT_WALLET, 1)]


def test_two_operators_replaying_one_dead_letter_at_once_have_one_effect() -> None:
    """O1: the second is told that it is no dead letter any more, or is the same act."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House(psp=ScriptedPsp(always={"confirm": DROP_RESPONSE, "read": DROP_RESPONSE})).start()
        await house.pay(checkout("c-1", 1_000))
        await house.skip(24 * HOUR_MS)
        dead = await house.settle("c-1")
        (name,) = [todo.id for todo in dead.todos.values() if todo.state is TodoState.DEAD]
        house.psp.always.clear()
        keys = ("r-1", "r-2", "r-1", "r-2")
        acts = [house.tell(C1, m.ReplayTodo(name, Key(key), f"ops-{key}")) for key in keys]
        answers = list(await asyncio.gather(*acts))
        await house.settle("c-1")
        return answers, house

    answers, house = run(tell())

    assert answers[0] == Applied(is_replay=False)
    assert answers[2] == Applied(is_replay=True)
    assert [answer.refusal.reason for answer in answers if isinstance(answer, Refused)] == [
        Reason.NOT_A_DEAD_LETTER
    ] * 2
    assert findings(house) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"confirm": DROP_REQUEST, "read": DROP_RESPONSE},
            {"confirm": [DROP_REQUEST, DROP_RESPONSE], "read": ["", DROP_RESPONSE]},
        ),
        (
            {"prepare": DROP_RESPONSE},
            {"prepare": [DROP_REQUEST, DROP_RESPONSE], "confirm": [DROP_REQUEST, DROP_RESPONSE]},
        ),
    ],
)
def test_a_replayed_charge_has_a_new_budget_to_its_end(before: dict[str, str], after: dict[str, list[str]]) -> None:
    """O1, P33: what follows from a replay lives from the replay's budget, not from the one that is spent."""

    async def tell() -> House:
        house = await House(psp=ScriptedPsp(always=dict(before))).start()
        await house.pay(checkout("c-1", 1_000))
        await house.skip(24 * HOUR_MS)
        dead = await house.settle("c-1")
        (name,) = [todo.id for todo in dead.todos.values() if todo.state is TodoState.DEAD]
        house.psp.always.clear()
        house.psp.script = {verb: list(faults) for verb, faults in after.items()}
        await house.tell(C1, m.ReplayTodo(name, Key("r-1"), "ops"))
        await house.settle("c-1")
        return house

    assert findings(run(tell())) == []


# ---- C3, C5 --------------------------------------------------------------------------------------------------------


def test_the_same_key_of_another_tenant_is_another_command() -> None:
    """C3: ids and keys live inside a tenant, the PSP's keys too."""

    async def tell() -> tuple[list[Answer], list[str]]:
        house = await House().start()
        one = checkout("c-1", 1_000)
        other = replace(one, tenant=Tenant("umbrella"))
        await house.fronts["payment"].submit([envelope(one), envelope(other)])
        await asyncio.sleep(60)
        again = [await house.submit(one), await house.submit(other)]
        return again, [call.key for call in house.psp.calls]

    again, keys = run(tell())

    assert [type(answer) for answer in again] == [Replied, Replied]
    assert len(keys) == len(set(keys)) == 4


def test_a_retry_a_day_and_a_month_later_brings_the_same_bytes() -> None:
    """C5: commands live as long as their orders, through restarts of everything."""

    async def tell() -> tuple[bytes | None, list[Answer]]:
        house = await House().start()
        first = await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        answers = []
        for hours in (25, 30 * 24):
            await house.skip(hours * HOUR_MS)
            number = house.shard_number("c-1")
            await house.crash(number)
            await house.revive(number)
            answers.append(await house.submit(checkout("c-1", 1_000)))
        return first, answers

    first, answers = run(tell())

    assert answers == [Replied(first or b"", is_replay=True)] * 2


LINE = m.Report(
    m.ReportSource.SETTLEMENT, O1, "stripe", "pi_1", m.ObjectStatus.CHARGED, Money(1_000, "USD"), "c-1-o0", "",
    settlement=m.SettlementLineRef("stripe", "txn_1", "file-1"),
)  # fmt: skip
KEY_OF_LINE = m.SettlementLineRef("stripe", "txn_1", "file-1").key


@pytest.mark.parametrize(
    ("method", "key", "first", "other"),
    [
        (
            "CreateRefund",
            "k-1",
            RequestRefund(O1, Key("k-1"), None, "DUPLICATE", "fin"),
            RequestRefund(O1, Key("k-1"), None, "FRAUDULENT", "fin"),
        ),
        (
            "ReplayTodo",
            "k-1",
            m.ReplayTodo("confirm/1/c-1-o0", Key("k-1"), "ops"),
            m.ReplayTodo("prepare/1/c-1-o0", Key("k-1"), "ops"),
        ),
        ("ReportSettlement", KEY_OF_LINE, LINE, replace(LINE, money=Money(999, "USD"))),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_key_used_for_another_request_leaves_an_audit_row_whoever_used_it(
    method: str, key: str, first: m.Inner, other: m.Inner
) -> None:
    """C2: as for a checkout's key; the row is committed before the refusal is told, and the same request leaves none."""

    async def tell() -> tuple[Answer, list[dict[str, Any]], House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        for _ in range(2):
            await house.tell(C1, first)
        refused = await house.tell(C1, other)
        audited = rows(house, "payment", "refusals")
        await house.settle("c-1")
        return refused, audited, house

    refused, audited, house = run(tell())

    assert isinstance(refused, Refused)
    assert refused.refusal.reason is Reason.KEY_REUSED
    assert [(row["tenant"], row["method"], row["key"], row["reason"]) for row in audited] == [
        (TENANT, method, key, "KEY_REUSED")
    ]
    assert findings(house) == []
