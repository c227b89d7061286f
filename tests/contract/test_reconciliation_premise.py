"""A case whose premise is gone: it closes alone only by what is about its own movement or line, and what people posted for it
is never forgotten.

Design section 6; specification "Reconciliation". Tests look at the books: what the outbox posts, summed by account.
"""

import json

import pytest

from simulator.psp.settlement import AT, REFUND_KEY, Row
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_premise import (
    CLEARING,
    LONG_MS,
    MANY,
    NEXT_DAY,
    SUSPENSE,
    THIRD_DAY,
    acts,
    approved,
    charged_again,
    never_told,
    proposed,
    refund,
    second_charge,
    seen,
    told_as,
    told_nine,
    two_people,
)
from tests.contract.reconciliation_services import World
from zerosum.domain.case import CaseState, Resolution
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal

# ---- what closes alone ---------------------------------------------------------------------------------------------


async def test_a_missing_line_of_a_second_charge_is_not_closed_by_the_line_of_the_first(desk: Desk) -> None:
    """The order's own charge has its line; the second charge's never comes."""
    store = desk.open(line_due_ms=0)
    (order,) = desk.orders(1)
    desk.write([order])
    second_charge(desk, order)
    await desk.take(store, desk.file([order]))

    await desk.night(store)

    assert desk.cases() == [("missing_line", "manual", "OPEN")]


async def test_a_second_charge_whose_line_was_a_case_of_its_own_is_not_missing_later(desk: Desk) -> None:
    """The line came the night before the webhook: it is looked for no more."""
    store = desk.open(line_due_ms=0)
    (order,) = desk.orders(1)
    desk.write([order])
    await desk.take(store, desk.file([order], spoil=charged_again(desk, "pi_second")))
    await desk.night(store)
    ((progress,),) = desk.rows("SELECT progress FROM reconciliation.runs WHERE psp = %s", desk.psp)
    second_charge(desk, order, opened_at_ms=json.loads(progress)["before_ms"])

    for day in (NEXT_DAY, THIRD_DAY):
        await desk.night(store, day)

    assert [case for case in desk.cases() if case[2] != CaseState.RESOLVED] == []


async def test_a_refund_whose_fix_was_refused_stays_with_people_though_its_order_is_settled(
    desk: Desk, world: World
) -> None:
    """The case is of the refund: that the charge is SUCCESS says nothing of it."""
    store = desk.open(line_due_ms=LONG_MS)
    (order,) = desk.orders(1)
    desk.write([order])
    refund(desk, order, "UNKNOWN")

    def with_refund(rows: list[Row]) -> list[Row]:
        back = list(rows[0])
        back[AT["balance_transaction_id"]], back[AT["reporting_category"]] = f"txn_re_{desk.psp}", "refund"
        back[AT["gross"]] = back[AT["net"]] = f"-{rows[0][AT['gross']]}"
        back[AT["fee"]], back[AT[REFUND_KEY]] = "0.00", f"refund-{order.order_id}"
        return [*rows, back]

    await desk.take(store, desk.file([order], spoil=with_refund))
    await desk.night(store)
    world.answer = lambda: Refusal(Reason.KEY_REUSED, "", "another amount")
    await store.outbox(world.peers()).deliver(MANY)

    await desk.night(store, NEXT_DAY)
    stays = desk.cases()
    desk.rows("UPDATE payment.operations SET state = 'DONE' WHERE tenant = %s AND kind = 'refund'", desk.tenant)
    await desk.night(store, THIRD_DAY)

    assert stays == [("unresolved_order", "automatic", "OPEN")]
    assert acts(desk, "unresolved_order")[-1] == ("close_alone", "the payment service has booked the movement by now")


async def test_a_missing_line_survives_that_two_days_are_run_again_the_older_one_first(desk: Desk) -> None:
    """The older day's new attempt puts the movement away, and the newer day's begins without it: its line never came."""
    patient, strict = desk.open(line_due_ms=LONG_MS), desk.open(line_due_ms=0)
    (order,) = desk.orders(1)
    desk.write([order])
    await desk.night(patient)
    await desk.night(strict, NEXT_DAY)

    await desk.night(strict, is_again=True)
    await desk.night(strict, NEXT_DAY, is_again=True)

    assert desk.cases() == [("missing_line", "manual", "OPEN")]


@pytest.mark.parametrize(("movement", "state"), [("as it is", "RESOLVED"), ("''", "OPEN")])
async def test_a_missing_line_closes_when_its_line_comes_unless_it_is_older_than_such_knowledge(
    desk: Desk, movement: str, state: str
) -> None:
    """A case that was opened before cases named their movement is left to people."""
    store, order = await never_told(desk)
    if movement == "''":
        desk.rows("UPDATE reconciliation.mismatches SET movement = '' WHERE psp = %s", desk.psp)

    await desk.take(store, desk.file([order], day=1))
    await desk.night(store, NEXT_DAY)

    assert desk.cases() == [("missing_line", "manual", state)]


async def test_a_line_that_the_corrected_file_took_back_closes_nothing(desk: Desk) -> None:
    """The day after brought the line, and its corrected file does not: what its first run found is no more."""
    patient, strict = desk.open(line_due_ms=LONG_MS), desk.open(line_due_ms=0)
    orders = desk.orders(2)
    desk.write(orders)
    await desk.night(patient)
    await desk.take(patient, desk.file(orders, day=1))
    await desk.night(patient, NEXT_DAY)

    await desk.take(strict, desk.file(orders[1:], day=1))
    await desk.night(strict, NEXT_DAY, is_again=True)

    assert desk.cases() == [("missing_line", "manual", "OPEN")]


# ---- what was written off ------------------------------------------------------------------------------------------


async def test_a_case_written_off_and_told_with_another_amount_is_written_off_for_the_rest_alone(
    desk: Desk, world: World
) -> None:
    """Charged 10.00, told 9.00 and written off; then told 1.00: 8.00 more are off, and clearing comes out even."""
    store, order = await told_nine(desk)
    first = await two_people(store, desk, world, "wrong_amount")

    await desk.take(store, desk.file([order], spoil=told_as("1.00", "0.41")))
    await desk.night(store, is_again=True)
    again = await seen(store, desk, "wrong_amount")
    second = await two_people(store, desk, world, "wrong_amount")

    assert (first[CLEARING], first[SUSPENSE]) == (-1_000, 100)
    assert (again.row.state, again.row.money, again.proposal) == (CaseState.OPEN, Money(-900, "USD"), None)
    assert world.written_off() == {100, 800}
    assert (second[CLEARING], second[SUSPENSE]) == (-1_000, 900)
    assert desk.cases() == [("wrong_amount", "manual", "WRITTEN_OFF")]


async def test_what_was_written_off_stays_so_when_it_is_met_again_as_it_was(desk: Desk, world: World) -> None:
    """Two people have settled it: a night, and its day again, change nothing."""
    store, _ = await told_nine(desk)
    await two_people(store, desk, world, "wrong_amount")

    await desk.night(store, is_again=True)
    await desk.night(store, NEXT_DAY)

    assert desk.cases() == [("wrong_amount", "manual", "WRITTEN_OFF")]
    assert [act for act, _ in acts(desk, "wrong_amount")] == ["propose", "approve", "write_off"]


@pytest.mark.parametrize("kind", ["missing_line", "wrong_amount"])
async def test_a_write_off_whose_case_was_none_is_taken_back_by_two_people(desk: Desk, world: World, kind: str) -> None:
    """The missing line comes after all, or the corrected file tells the right amount: told once, and money moves back once."""
    if kind == "wrong_amount":
        store, order = await told_nine(desk, line_due_ms=0)
    else:
        store, order = await never_told(desk)
    await two_people(store, desk, world, kind)

    await desk.take(store, desk.file([order], day=1 if kind == "missing_line" else 0))
    await desk.night(store, **({"day": NEXT_DAY} if kind == "missing_line" else {"is_again": True}))
    again = await seen(store, desk, kind)
    await desk.night(store, THIRD_DAY)
    sums = await two_people(store, desk, world, kind, Resolution.AS_PROPOSED)
    await desk.night(store, "2026-03-05")

    why = {"missing_line": "a line came", "wrong_amount": "not seen any more"}[kind]
    assert (again.row.state, again.row.money, again.row.theirs) == (CaseState.OPEN, Money(0, "USD"), why)
    assert len(again.dry_run) == 2
    assert (sums[CLEARING], sums.get(SUSPENSE, 0)) == (-1_000, 0)
    assert desk.cases() == [(kind, "manual", "WRITTEN_OFF")]
    assert [act for act, _ in acts(desk, kind)] == [
        "propose", "approve", "write_off", "reopen", "propose", "approve", "write_off",
    ]  # fmt: skip


async def test_a_case_that_became_another_while_its_write_off_was_on_its_way_is_open_the_night_after(
    desk: Desk, world: World
) -> None:
    """What was approved is posted as it was shown; then the case waits for the rest."""
    store, order = await told_nine(desk)
    await approved(store, desk, "wrong_amount", await proposed(store, desk, "wrong_amount"))
    await desk.take(store, desk.file([order], spoil=told_as("1.00", "0.41")))
    await desk.night(store, is_again=True)
    await store.outbox(world.peers()).deliver(MANY)

    await desk.night(store, NEXT_DAY)
    reopened = desk.cases()
    sums = await two_people(store, desk, world, "wrong_amount")
    await desk.night(store, THIRD_DAY)

    assert reopened == [("wrong_amount", "manual", "OPEN")]
    assert (sums[CLEARING], sums[SUSPENSE]) == (-1_000, 900)
    assert desk.cases() == [("wrong_amount", "manual", "WRITTEN_OFF")]


async def test_the_case_of_a_clearing_account_that_was_written_off_is_left_to_its_own_comparison(
    desk: Desk, world: World
) -> None:
    """Its money is what is off at the time: a night compares it with nothing."""
    store, _ = await told_nine(desk)
    desk.rows(
        "UPDATE reconciliation.mismatches SET kind = 'clearing_not_open_items', movement = '', last_run = '' WHERE psp = %s",
        desk.psp,
    )
    await two_people(store, desk, world, "clearing_not_open_items")
    desk.rows("UPDATE reconciliation.mismatches SET amount_minor = 5 WHERE psp = %s", desk.psp)

    await desk.night(store, NEXT_DAY)

    assert desk.cases() == [("clearing_not_open_items", "manual", "WRITTEN_OFF")]
