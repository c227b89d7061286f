"""A captured charge that its seller's account cannot take goes back to the buyer, once, with proof; trouble is only retried.

The specification's cases: the ledger's write fails, the wallet's write fails after the ledger's, and the reverse.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from tests.sim.faults import PLACES_MAX, CrashDoors, keep_alive
from tests.sim.house import TENANT, Doors, House, checkout, rows, webhook
from tests.sim.proof import findings
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, LATE, STORED_AFTER, Object, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain.account import CloseAccount
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.message import ObjectStatus, OnPartial
from zerosum.domain.order import OrderStatus
from zerosum.domain.refund import RefundCause, RefundStatus, RequestRefund
from zerosum.domain.todo import TodoState

ORDER = OrderId("c-1-o0")
SIDES = [("wallet", "ledger"), ("wallet",), ("ledger",)]


async def close(house: House, services: Collection[str], seller: str = "seller-0") -> None:
    """Finance closes a seller's account, perhaps on one side only yet."""
    for service in services:
        asked = CloseAccount(TENANT, Key("close-1"), seller, "USD", "fin", "SELLER_LEFT")
        await house.fronts[service].submit([asked])


async def paid(
    services: Collection[str], *amounts: int, psp: ScriptedPsp | None = None, doors: Doors | None = None,
    token: str = "tok_visa", failures: Mapping[str, int] | None = None, on_partial: OnPartial = OnPartial.KEEP,
) -> tuple[Checkout, House]:  # fmt: skip
    """A checkout whose first seller is closed at these services, at rest."""
    house = House(psp=psp or ScriptedPsp(), doors=doors or Doors())
    at = 0
    if isinstance(doors, CrashDoors):
        doors.house, doors.at, at = house, 0, doors.at
    await house.start()
    await close(house, services)
    for service, count in (failures or {}).items():
        house.peers[service].failures = count
    if isinstance(doors, CrashDoors):
        doors.seen.clear()
        doors.at = at  # the story begins here
    keeper = asyncio.create_task(keep_alive(house))
    command = checkout("c-1", *(amounts or (1_000,)), token=token, on_partial=on_partial)
    await house.pay(command)
    done = await house.settle("c-1")
    keeper.cancel()
    return done, house


def types(house: House) -> list[str]:
    """What history tells of the reversal, in order."""
    told = {"OrderCharged", "PostingRefused", "RefundOpened", "MismatchOpened", "RefundSucceeded", "MismatchResolved"}
    history = sorted(rows(house, "payment", "history"), key=lambda row: int(row["version"]))
    return [row["type"] for row in history if row["type"] in told]


@pytest.mark.parametrize("services", SIDES, ids="-".join)
def test_a_charge_that_an_account_cannot_take_is_reversed_with_proof(services: tuple[str, ...]) -> None:
    """Specification "Error handling"; design section 4: suspense, refunded once, and everything nets to zero."""
    done, house = run(paid(services))

    order = done.orders[ORDER]
    assert (order.status, done.status) == (OrderStatus.SUCCESS, CheckoutStatus.REVERSED)
    assert [(refund.cause, refund.status) for refund in order.refunds] == [
        (RefundCause.ACCOUNT_CLOSED, RefundStatus.SUCCEEDED)
    ]
    assert (order.wallet_updated, order.ledger_updated) == ("wallet" not in services, "ledger" not in services)
    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [("account_closed", True)]
    assert findings(house) == []
    assert Counter(row["pending_minor"] for row in rows(house, "wallet", "wallets")) == Counter([0])


@pytest.mark.parametrize("services", SIDES, ids="-".join)
def test_each_step_of_a_reversal_is_in_the_history(services: tuple[str, ...]) -> None:
    """The record that support and finance read: what was refused, reserved, suspended, proven, closed; and every posting."""
    _, house = run(paid(services))

    refused = ["PostingRefused"] * len(services)
    assert types(house)[0] == "OrderCharged"
    assert Counter(types(house)) == Counter(
        ["OrderCharged", *refused, "RefundOpened", "MismatchOpened", "RefundSucceeded", "MismatchResolved"]
    )
    finished = [row["detail"] for row in rows(house, "payment", "history") if row["type"] == "TodoDone"]
    steps = {"post_suspense", "clear_suspense"} | ({"debit_wallet"} if services == ("ledger",) else set())
    assert {step for step in steps if any(f'"{step}"' in detail for detail in finished)} == steps


@pytest.mark.parametrize("fault", [DROP_REQUEST, DROP_RESPONSE, STORED_AFTER, LATE])
@pytest.mark.parametrize("services", SIDES, ids="-".join)
def test_a_reversal_is_made_once_whatever_befalls_its_refund(services: tuple[str, ...], fault: str) -> None:
    """Q4, P17: an unknown outcome stays reserved and is asked for under the same key; silence proves nothing."""
    _, house = run(paid(services, psp=ScriptedPsp(script={"refund": [fault, fault], "read": ["", DROP_RESPONSE]})))

    assert findings(house) == []
    assert len({request.key for request in house.psp.calls if request.verb == "refund"}) == 1


@pytest.mark.parametrize("service", ["wallet", "ledger"])
def test_trouble_is_retried_and_never_reversed(service: str) -> None:
    """Only a typed refusal begins a reversal: a peer that is away comes back."""
    done, house = run(paid((), failures={service: 7}))

    assert (done.status, done.orders[ORDER].refunds) == (CheckoutStatus.DONE, ())
    assert house.psp.counts["refund"] == 0
    assert findings(house) == []


def test_other_orders_of_the_checkout_stand() -> None:
    """P7: a closed account concerns its own order; by default the others are kept."""
    done, house = run(paid(("wallet", "ledger"), 1_000, 2_000))

    assert done.status is CheckoutStatus.DONE
    assert [len(order.refunds) for order in done.orders.values()] == [1, 0]
    assert findings(house) == []


def test_a_reversal_that_the_psp_refuses_keeps_the_money_in_suspense_for_people() -> None:
    """Never give up suspense without proof: the case stays open, and nothing is asked for under another key."""
    done, house = run(paid(("wallet", "ledger"), token="tok_no_refund"))

    refund = done.orders[ORDER].refunds[0]
    assert (refund.status, refund.outcome) == (RefundStatus.FAILED, "REFUND_FAILED")
    assert [case.is_resolved for case in done.mismatches.values()] == [False]
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["suspense_charge"]
    assert len(house.psp.refused_refunds) == 1
    assert not any(todo.state is TodoState.DEAD for todo in done.todos.values())


@pytest.mark.parametrize("services", SIDES, ids="-".join)
def test_a_shard_may_die_at_every_place_of_a_reversal(services: tuple[str, ...]) -> None:
    """A1, P17: before and after each commit, each call to the PSP, wallet and ledger."""
    met: set[str] = set()
    for at in range(1, PLACES_MAX):
        doors = CrashDoors(at=at)
        done, house = run(paid(services, doors=doors))
        met.update(doors.seen)

        place = f"place {at}: {doors.seen[at - 1] if at <= len(doors.seen) else 'none'}"
        assert (findings(house), done.status) == ([], CheckoutStatus.REVERSED), place
        if not doors.killed:
            break
    assert not doors.killed, "the story never ran through"
    assert {"payment: before refund", "payment: after refund"} <= met


# ---- all or none -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_partial", OnPartial)
def test_the_caller_chooses_what_becomes_of_the_paid_orders_of_a_partly_failed_checkout(on_partial: OnPartial) -> None:
    """Design section 5: they stand, or they go back to the buyer, wallet and ledger."""
    done, house = run(paid((), 1_000, 2_000, 3_000, psp=ScriptedPsp(declines={"c-1-o1"}), on_partial=on_partial))

    is_reversed = on_partial is OnPartial.REVERSE
    assert done.status is (CheckoutStatus.REVERSED if is_reversed else CheckoutStatus.PARTIAL)
    assert [[refund.cause for refund in order.refunds] for order in done.orders.values()] == (
        [[RefundCause.CHECKOUT_FAILED], [], [RefundCause.CHECKOUT_FAILED]] if is_reversed else [[], [], []]
    )
    assert findings(house) == []


def test_all_or_none_counts_an_order_that_had_to_go_back() -> None:
    """A closed account is as good as a decline to a buyer who wanted all of it."""
    done, house = run(paid(("wallet",), 1_000, 2_000, on_partial=OnPartial.REVERSE))

    causes = [order.refunds[0].cause for order in done.orders.values()]
    assert (done.status, causes) == (
        CheckoutStatus.REVERSED, [RefundCause.ACCOUNT_CLOSED, RefundCause.CHECKOUT_FAILED],
    )  # fmt: skip
    assert findings(house) == []


@pytest.mark.parametrize("is_refunded", [True, False], ids=["refunded", "refund refused"])
@pytest.mark.parametrize("services", SIDES, ids="-".join)
@pytest.mark.parametrize("cause", [RefundCause.ACCOUNT_CLOSED, RefundCause.REQUESTED])
def test_all_or_none_counts_an_order_that_had_to_go_back_before_another_was_paid(
    services: tuple[str, ...], is_refunded: bool, cause: RefundCause
) -> None:
    """What a closed account decides does not hang on when the others are paid, nor on what became of the order's own refund,
    nor on whether somebody had asked for that already."""
    done, house = run(one_goes_back_before_the_other_is_paid(services, cause, is_refunded=is_refunded))

    ended = RefundStatus.SUCCEEDED if is_refunded else RefundStatus.FAILED
    assert told_of_refunds(done) == [[(cause, ended)], [(RefundCause.CHECKOUT_FAILED, RefundStatus.SUCCEEDED)]]
    assert [case.is_resolved for case in done.mismatches.values()] == [is_refunded]
    assert is_refunded == (findings(house) == [])


def test_all_or_none_keeps_the_others_where_an_order_was_only_asked_back() -> None:
    """A refund that somebody asks for is no order that could not be paid."""
    done, house = run(one_goes_back_before_the_other_is_paid((), RefundCause.REQUESTED))

    assert told_of_refunds(done) == [[(RefundCause.REQUESTED, RefundStatus.SUCCEEDED)], []]
    assert findings(house) == []


async def one_goes_back_before_the_other_is_paid(
    closed: Collection[str], cause: RefundCause, *, is_refunded: bool = True
) -> tuple[Checkout, House]:
    """Two orders, all or none. The refund of the first has ended when the buyer of the second passes 3-D Secure. REQUESTED: it
    is asked for while wallet and ledger are away, before they say what they make of the capture."""
    house, first, second = await both_wait_for_3ds(closed)
    first.token = "tok_visa" if is_refunded else "tok_no_refund"
    asked = RequestRefund(ORDER, Key("r-1"), None, "REQUESTED_BY_CUSTOMER", "fin")
    for peer in house.peers.values():
        peer.failures = 2 if cause is RefundCause.REQUESTED else 0
    await passes_3ds(house, first)
    if cause is RefundCause.REQUESTED:
        await house.tell(EntityKey(TENANT, "c-1"), asked)
    await house.until(lambda: "ENDED" in refund_states(house))
    await passes_3ds(house, second)
    return await house.settle("c-1"), house


async def both_wait_for_3ds(closed: Collection[str]) -> tuple[House, Object, Object]:
    """A checkout of two orders, all or none, whose buyer has yet to pass 3-D Secure; its first seller is closed."""
    house = await House().start()
    await close(house, closed)
    await house.pay(checkout("c-1", 1_000, 2_000, token="tok_3ds", on_partial=OnPartial.REVERSE))
    of = {obj.order_id: obj for obj in house.psp.objects.values()}
    return house, of["c-1-o0"], of["c-1-o1"]


async def passes_3ds(house: House, paid: Object) -> None:
    """The buyer passes it, and the PSP says so."""
    house.psp.pay_now(paid.id)
    told = replace(
        webhook(f"evt_{paid.id}", ObjectStatus.CHARGED, paid.id), order_id=OrderId(paid.order_id), money=paid.money,
        reference=paid.order_id,
    )  # fmt: skip
    await house.tell(EntityKey(TENANT, "c-1"), told)


def refund_states(house: House) -> set[str]:
    """Whether refunds are PENDING, or ENDED one way or the other."""
    return {"PENDING" if row["status"] == "PENDING" else "ENDED" for row in rows(house, "payment", "refunds")}


def told_of_refunds(done: Checkout) -> list[list[tuple[RefundCause, RefundStatus]]]:
    """By order, in their order: each refund's cause and end."""
    return [[(refund.cause, refund.status) for refund in order.refunds] for order in done.orders.values()]


def test_all_or_none_asks_no_second_time_for_a_charge_that_people_must_send_back() -> None:
    """Seed 673: a requested refund of a charge that the ledger refused had failed, and the wallet was debited again."""

    async def story() -> tuple[Checkout, House]:
        house = House(psp=ScriptedPsp())
        await house.start()
        await close(house, ("ledger",))
        await house.fronts["ledger"].submit(
            [CloseAccount(TENANT, Key("close-2"), "seller-1", "USD", "fin", "SELLER_LEFT")]
        )
        house.peers["ledger"].failures = 2
        await house.pay(checkout("c-1", 1_000, 2_000, token="tok_no_refund", on_partial=OnPartial.REVERSE))
        asked = RequestRefund(ORDER, Key("r-1"), None, "REQUESTED_BY_CUSTOMER", "fin")
        await house.tell(EntityKey(TENANT, "c-1"), asked)
        return await house.settle("c-1"), house

    done, house = run(story())

    assert [refund.cause for refund in done.orders[ORDER].refunds] == [RefundCause.REQUESTED]
    assert [row["pending_minor"] for row in rows(house, "wallet", "wallets")] == [0, 0]
    assert {case.is_resolved for case in done.mismatches.values()} == {False}


def test_all_or_none_leaves_a_checkout_alone_that_was_paid_whole() -> None:
    """Nothing to reverse."""
    done, house = run(paid((), 1_000, 2_000, on_partial=OnPartial.REVERSE))

    assert (done.status, house.psp.counts["refund"]) == (CheckoutStatus.DONE, 0)
    assert findings(house) == []


def test_a_reversal_that_the_psp_refuses_gives_the_seller_the_money_back_and_opens_a_case() -> None:
    """P18: the buyer's charge stands, so the seller's money does; finance is told."""
    done, house = run(
        paid(
            (), 1_000, 2_000, token="tok_no_refund", psp=ScriptedPsp(declines={"c-1-o1"}), on_partial=OnPartial.REVERSE
        )
    )

    assert done.status is CheckoutStatus.PARTIAL
    assert [(case.kind, case.is_resolved) for case in done.mismatches.values()] == [("reversal_failed", False)]
    assert [row["pending_minor"] for row in rows(house, "wallet", "wallets")] == [1_000]
    assert [row["amount_minor"] for row in rows(house, "wallet", "entries")] == [1_000, -1_000, 1_000]
    assert [row["movement"] for row in rows(house, "ledger", "journals")] == ["capture"]


def test_a_shard_may_die_at_every_place_of_an_all_or_none_checkout() -> None:
    """A1: the reversal of a paid order is a story like any other."""
    for at in range(1, PLACES_MAX, 2):
        doors = CrashDoors(at=at)
        psp = ScriptedPsp(declines={"c-1-o1"})
        done, house = run(paid((), 1_000, 2_000, psp=psp, doors=doors, on_partial=OnPartial.REVERSE))

        assert (findings(house), done.status) == ([], CheckoutStatus.REVERSED), f"place {at}"
        if not doors.killed:
            break
    assert not doors.killed
