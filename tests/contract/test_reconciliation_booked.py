"""A case whose money the payment service has booked by now: it closes alone, and nobody posts the same money once more.

Design section 6. The webhook comes before the proposal, between the two people, or after both.
"""

import json
from dataclasses import replace

import pytest

from loadtest.bench.reconcile_books import Order
from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_premise import (
    CLEARING,
    LONG_MS,
    MANY,
    NEXT_DAY,
    SUSPENSE,
    THIRD_DAY,
    Spoil,
    acts,
    approved,
    charged_again,
    proposed,
    second_charge,
    seen,
    the_case,
    two_people,
)
from tests.contract.reconciliation_services import World
from zerosum.domain.case import CaseState, Propose, Resolution
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.finance_queue import Acted
from zerosum.ports import Done
from zerosum.store.reconciliation.queue import SqlFinanceQueue
from zerosum.store.reconciliation.store import Reconciliation


async def charged_twice(desk: Desk, *objects: str) -> tuple[Reconciliation, Order]:
    """A file in which the order is charged again, by other objects: duplicate charges."""
    store = desk.open(line_due_ms=LONG_MS)
    (order,) = desk.orders(1)
    desk.write([order])
    await desk.take(store, desk.file([order], spoil=charged_again(desk, *objects)))
    await desk.night(store)
    return store, order


@pytest.mark.parametrize("is_proposed", [False, True])
async def test_a_duplicate_charge_that_the_payment_service_took_closes_alone(desk: Desk, is_proposed: bool) -> None:
    """It is in suspense already, by the payment service's own journal: what was proposed is gone."""
    store, order = await charged_twice(desk, "pi_second")
    if is_proposed:
        await proposed(store, desk, "duplicate_charge")

    second_charge(desk, order)
    await desk.night(store, NEXT_DAY)

    assert desk.cases() == [("duplicate_charge", "manual", "RESOLVED")]
    why = "the payment service has the case, and the money in suspense"
    assert acts(desk, "duplicate_charge")[-1] == ("close_alone", why)


async def test_a_write_off_of_what_the_payment_service_took_meanwhile_is_refused(desk: Desk) -> None:
    """Between two nights: by a look in the transaction of the act itself, at proposing and at approving."""
    store, order = await charged_twice(desk, "pi_second")
    before = await proposed(store, desk, "duplicate_charge")
    second_charge(desk, order)

    refused = await approved(store, desk, "duplicate_charge", before)
    queue, case = SqlFinanceQueue(store.database), the_case(desk, "duplicate_charge")
    desk.rows("UPDATE reconciliation.mismatches SET state = 'OPEN' WHERE mismatch_id = %s", case)
    not_proposed = await proposed(store, desk, "duplicate_charge", Resolution.AS_PROPOSED)

    assert isinstance(refused, Refusal)
    assert isinstance(not_proposed, Refusal)
    assert (refused.reason, not_proposed.reason) == (Reason.NOTHING_TO_POST, Reason.NOTHING_TO_POST)
    assert refused.message.startswith("the payment service has the case, and the money in suspense")
    assert desk.rows("SELECT * FROM reconciliation.deliveries WHERE mismatch_id = %s", case) == []
    assert isinstance(await queue.act(case, Propose(Resolution.CLOSE, "payment has it"), by="ann", key="k"), Acted)


async def test_a_duplicate_charge_written_off_before_the_webhook_came_is_opened_to_be_taken_back(
    desk: Desk, world: World
) -> None:
    """Nobody could know: for a night the money is in suspense twice, then the case says so."""
    store, order = await charged_twice(desk, "pi_second")
    before = await two_people(store, desk, world, "duplicate_charge")

    second_charge(desk, order)
    await desk.night(store, NEXT_DAY)
    opened = desk.cases()
    sums = await two_people(store, desk, world, "duplicate_charge", Resolution.AS_PROPOSED)

    assert (before[CLEARING], before[SUSPENSE]) == (-1_000, -1_000)
    assert opened == [("duplicate_charge", "manual", "OPEN")]
    assert (sums[CLEARING], sums.get(SUSPENSE, 0)) == (-2_000, 0)


async def test_a_second_charge_is_the_home_of_one_of_two_lines_of_its_object(desk: Desk) -> None:
    """The PSP lists the second object twice under two ids: one of them is money that nobody has."""
    store, order = await charged_twice(desk, "pi_second", "pi_second")

    second_charge(desk, order)
    await desk.night(store, NEXT_DAY)

    assert sorted(desk.cases()) == [("duplicate_charge", "manual", "OPEN"), ("duplicate_charge", "manual", "RESOLVED")]


async def test_a_second_charge_of_another_object_closes_nothing(desk: Desk) -> None:
    """Another object is another charge."""
    store, order = await charged_twice(desk, "pi_second")

    second_charge(desk, order, "pi_third")
    await desk.night(store, NEXT_DAY)

    assert desk.cases() == [("duplicate_charge", "manual", "OPEN")]


async def test_a_second_charge_of_another_amount_leaves_the_rest_to_its_day_run_again(desk: Desk) -> None:
    """Something is off, and nobody writes all of it off: the line and the payment service's case are compared."""
    store, order = await charged_twice(desk, "pi_second")
    second_charge(desk, order, amount_minor=900)

    await desk.night(store, NEXT_DAY)
    stays, refused = desk.cases(), await proposed(store, desk, "duplicate_charge")
    await desk.night(store, is_again=True)

    assert stays == [("duplicate_charge", "manual", "OPEN")]
    assert isinstance(refused, Refusal)
    assert desk.cases() == [("duplicate_charge", "manual", "RESOLVED"), ("wrong_amount", "manual", "OPEN")]
    assert (await seen(store, desk, "wrong_amount")).row.money == Money(100, "USD")


async def test_an_unresolved_order_that_was_written_off_and_settles_after_all_is_opened_to_be_taken_back(
    desk: Desk, world: World
) -> None:
    """Its fix was refused and people wrote it off; then the webhook came, and the payment service booked the capture."""
    store = desk.open(line_due_ms=LONG_MS)
    (order,) = desk.orders(1)
    desk.write([order])
    desk.stand("UNKNOWN", "EXECUTING")
    await desk.take(store, desk.file([order]))
    await desk.night(store)
    world.answer = lambda: Refusal(Reason.UNKNOWN_ID, "", "no such order")
    await store.outbox(world.peers()).deliver(MANY)
    world.answer = Done
    await two_people(store, desk, world, "unresolved_order")

    desk.stand("CHARGED", "SUCCESS")
    await desk.night(store, NEXT_DAY)
    again = await seen(store, desk, "unresolved_order")
    sums = await two_people(store, desk, world, "unresolved_order")

    assert (again.row.state, again.row.money.amount_minor) == (CaseState.OPEN, 0)
    assert sums.get(SUSPENSE, 0) == 0


async def test_a_fee_booked_and_told_with_another_amount_is_booked_for_the_difference(desk: Desk, world: World) -> None:
    """The contract's 0.59 is told as 5.59, and in the corrected file as 3.59: the books end with the latter."""
    store = desk.open(line_due_ms=LONG_MS)
    (order,) = desk.orders(1)
    desk.write([order])

    def fee(told: str, net: str) -> Spoil:
        def spoil(rows: list[Row]) -> list[Row]:
            rows[0][AT["fee"]], rows[0][AT["net"]] = told, net
            return rows

        return spoil

    await desk.take(store, desk.file([order], spoil=fee("5.59", "4.41")))
    await desk.night(store)
    first = await two_people(store, desk, world, "wrong_fee", Resolution.AS_PROPOSED)
    await desk.take(store, desk.file([order], spoil=fee("3.59", "6.41")))
    await desk.night(store, is_again=True)
    second = await two_people(store, desk, world, "wrong_fee", Resolution.AS_PROPOSED)

    assert (first["fees:psp:psp:USD"], first[CLEARING]) == (559, -1_000)
    assert (second["fees:psp:psp:USD"], second[CLEARING]) == (359, -1_000)
    assert desk.cases() == [("wrong_fee", "manual", "RESOLVED")]


async def test_an_unknown_charge_whose_order_comes_later_closes_alone_and_is_not_missing(desk: Desk) -> None:
    """A restored backup: the order is taken again with the charge that the PSP has. Its line came before."""
    store = desk.open(line_due_ms=0)
    (order,) = desk.orders(1)
    await desk.take(store, desk.file([order]))
    await desk.night(store)
    before = desk.cases()
    ((progress,),) = desk.rows("SELECT progress FROM reconciliation.runs WHERE psp = %s", desk.psp)
    desk.write([replace(order, at_ms=json.loads(progress)["before_ms"])])

    await desk.night(store, NEXT_DAY)
    after = desk.cases()
    await desk.night(store, THIRD_DAY)

    assert before == [("unknown_charge", "unclassified", "OPEN")]
    assert {(kind, state) for kind, _, state in after} == {("missing_line", "RESOLVED"), ("unknown_charge", "RESOLVED")}
    assert desk.cases() == after
