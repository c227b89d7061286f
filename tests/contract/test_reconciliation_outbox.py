"""What the reconciler decided is sent after its commit, once for ever under its key, and the case moves with what came of it.

Tests share an outbox: each looks at what concerns its own PSP.
"""

import asyncio
from typing import Any

import pytest

from loadtest.bench.reconcile_books import Order
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_proposal import proposed_write_off
from tests.contract.reconciliation_services import World
from zerosum.domain.journal import Movement
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import Bug, OutcomeUnknown, Unavailable
from zerosum.finance_queue import Acted
from zerosum.limits import PEER_TRIES_MAX
from zerosum.ports import Done, ItemOutcome, TryLater
from zerosum.store.reconciliation import settle as reconciliation_settle
from zerosum.store.reconciliation.outbox import SqlOutbox
from zerosum.store.reconciliation.store import Reconciliation

MANY = 10_000


async def settled(desk: Desk, count: int = 3) -> tuple[Reconciliation, list[Order]]:
    """A file of charges, taken and reconciled: its settlement waits in the outbox."""
    store = desk.open(line_due_ms=0)
    orders = desk.orders(count)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    return store, orders


def due_now(desk: Desk) -> None:
    """Time passes: what waits is due."""
    desk.rows("UPDATE reconciliation.deliveries SET due_at_ms = 0 WHERE state = 'OPEN'")


GROSS = 1_000 + 1_007 + 1_014
FEES = 59 + 59 + 59
"""2.9 % and 30 cents of each, rounded half up."""


async def test_a_file_settles_by_one_journal_once(desk: Desk, world: World) -> None:
    """Design section 6: the bank's in transit takes the net, fees the PSP's part, clearing gives the gross."""
    store, _ = await settled(desk)
    outbox = store.outbox(world.peers())

    await outbox.deliver(MANY)
    due_now(desk)
    await outbox.deliver(MANY)
    await desk.night(store, is_again=True)
    await outbox.deliver(MANY)

    assert len(world.journals) == 1
    assert world.sums() == {
        "bank:in_transit:USD": GROSS - FEES, "fees:psp:psp:USD": FEES, "psp:psp:clearing:USD": -GROSS,
    }  # fmt: skip


async def test_a_long_file_settles_in_parts_that_add_up(
    desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line in exactly one part, each part once."""
    monkeypatch.setattr(reconciliation_settle, "PART_LINES", 2)
    store, orders = await settled(desk, 7)

    await store.outbox(world.peers()).deliver(MANY)

    assert len(world.journals) == 4
    assert world.sums()["psp:psp:clearing:USD"] == -sum(order.money.amount_minor for order in orders)
    parts = desk.rows(
        "SELECT first_line, last_line FROM reconciliation.parts AS p JOIN reconciliation.files AS f ON f.file_id = p.file_id "
        "WHERE f.psp = %s ORDER BY first_line",
        desk.psp,
    )
    assert parts == [(1, 2), (3, 4), (5, 6), (7, 8)]


async def test_a_corrected_file_takes_back_what_the_first_one_settled(desk: Desk, world: World) -> None:
    """L10: corrections are new journals; in the end the books hold the corrected file's settlement alone."""
    store, orders = await settled(desk, 4)
    await store.outbox(world.peers()).deliver(MANY)

    await desk.take(store, desk.file(orders[:3]))
    await desk.night(store, is_again=True)
    await store.outbox(world.peers()).deliver(MANY)

    assert len(world.journals) == 3
    assert world.sums() == {
        "bank:in_transit:USD": GROSS - FEES, "fees:psp:psp:USD": FEES, "psp:psp:clearing:USD": -GROSS,
    }  # fmt: skip


async def test_silence_is_sent_again_under_the_same_id_until_it_is_answered(desk: Desk, world: World) -> None:
    """Never a new key: an unknown outcome, a "later" and at last an answer."""
    store, _ = await settled(desk)
    outbox = store.outbox(world.peers())
    answers = iter([_unknown, lambda: TryLater(50), Done])

    for _ in range(3):
        world.answer = next(answers)
        due_now(desk)
        await outbox.deliver(MANY)

    assert len(world.journals) == 3
    assert len({journal.journal_id for journal in world.journals}) == 1
    assert _states(desk) == [("DONE", 3)]


async def test_settlement_is_sent_until_it_is_answered_however_long_the_ledger_is_silent(
    desk: Desk, world: World
) -> None:
    """D10: no case waits for it, so nobody would ever see that it was given up."""
    store, _ = await settled(desk)
    spend_the_budget(desk)
    world.answer = _unknown

    await store.outbox(world.peers()).deliver(MANY)

    assert _states(desk) == [("OPEN", PEER_TRIES_MAX)]


async def test_what_the_ledger_refused_of_a_file_is_not_taken_back_with_it(desk: Desk, world: World) -> None:
    """It was never posted: its reverse would be money from nowhere."""
    store, orders = await settled(desk, 4)
    world.answer = lambda: Refusal(Reason.ACCOUNT_MALFORMED, "", "no such account")
    await store.outbox(world.peers()).deliver(MANY)
    refused = len(world.journals)

    world.answer = Done
    await desk.take(store, desk.file(orders[:3]))
    await store.outbox(world.peers()).deliver(MANY)

    assert (refused, len(world.journals)) == (1, 1)


async def test_one_that_cannot_be_sent_does_not_hold_up_the_outcomes_of_others(desk: Desk, world: World) -> None:
    """A Bug is told, after what came of all the others is recorded."""
    store, _ = await settled(desk)
    desk.rows(
        "INSERT INTO reconciliation.deliveries SELECT key || '-empty', kind, tenant, '', run_id, "
        "replace(body, '\"entries\": [[', '\"entries\": [], \"was\": [['), state, '', 0, 0, created_at_ms "
        "FROM reconciliation.deliveries WHERE body LIKE %s",
        f"%{desk.psp}%",
    )

    with pytest.raises(Bug):
        await store.outbox(world.peers()).deliver(MANY)
    desk.rows("DELETE FROM reconciliation.deliveries WHERE key LIKE '%%-empty'")

    assert _states(desk) == [("DONE", 1)]


def spend_the_budget(desk: Desk) -> None:
    """All tries but the last one were silence."""
    desk.rows(
        "UPDATE reconciliation.deliveries SET due_at_ms = 0, tries = %s WHERE state = 'OPEN' AND body LIKE %s",
        PEER_TRIES_MAX - 1, f"%{desk.psp}%",
    )  # fmt: skip


def _unknown() -> ItemOutcome:
    raise OutcomeUnknown("no answer")


def _states(desk: Desk) -> list[tuple[Any, ...]]:
    return desk.rows(
        "SELECT d.state, d.tries FROM reconciliation.deliveries AS d WHERE d.body LIKE %s ORDER BY key", f"%{desk.psp}%"
    )


async def test_dying_after_the_ledger_has_it_and_before_it_is_recorded_posts_once(
    desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crash after the effect: the lease ends, the same journal goes out again, and the ledger knows its id."""
    store, _ = await settled(desk)

    async def gone(self: SqlOutbox, *_: Any) -> None:
        raise Unavailable("gone")

    with monkeypatch.context() as dying:
        dying.setattr(SqlOutbox, "_record", gone)
        with pytest.raises(Unavailable):
            await store.outbox(world.peers()).deliver(MANY)
    leased = await store.outbox(world.peers()).deliver(MANY)
    due_now(desk)
    await store.outbox(world.peers()).deliver(MANY)

    assert leased == 0
    assert len(world.journals) == 2
    assert len({journal.journal_id for journal in world.journals}) == 1
    assert _states(desk) == [("DONE", 2)]


async def test_two_outboxes_at_once_send_each_thing_once(desk: Desk, world: World) -> None:
    """The claim is committed before anything is sent."""
    store, _ = await settled(desk)
    other = desk.open()

    await asyncio.gather(store.outbox(world.peers()).deliver(MANY), other.outbox(world.peers()).deliver(MANY))

    assert len(world.journals) == 1


async def unresolved(desk: Desk) -> Reconciliation:
    """An order whose outcome we do not know, and its line: the machine's own fix waits in the outbox."""
    store = desk.open()
    orders = desk.orders(1)
    desk.write(orders)
    desk.stand("UNKNOWN", "EXECUTING")
    await desk.take(store, desk.file(orders))
    await desk.night(store)
    return store


def acts(desk: Desk) -> list[str]:
    """The acts of the PSP's cases, in order."""
    rows = desk.rows(
        "SELECT a.act FROM reconciliation.acts AS a JOIN reconciliation.mismatches AS m ON m.mismatch_id = a.mismatch_id "
        "WHERE m.psp = %s ORDER BY a.number",
        desk.psp,
    )
    return [act for (act,) in rows]


async def test_a_line_that_the_payment_service_took_settles_its_case(desk: Desk, world: World) -> None:
    """P32: told as a fact with the order it was matched with; the case is closed in the commit that records it."""
    store = await unresolved(desk)

    await store.outbox(world.peers()).deliver(MANY)

    (report,) = world.reports
    assert (report.line.gross.amount_minor, report.line.reference) == (1_000, report.order_id)
    assert desk.cases() == [("unresolved_order", "automatic", "RESOLVED")]
    assert acts(desk) == ["fix", "settle"]


async def test_a_line_that_is_refused_for_good_goes_to_people(desk: Desk, world: World) -> None:
    """A machine that gives up says so, and does not try for ever."""
    store = await unresolved(desk)
    world.answer = lambda: Refusal(Reason.UNKNOWN_ID, "", "no such order")

    await store.outbox(world.peers()).deliver(MANY)

    assert desk.cases() == [("unresolved_order", "automatic", "OPEN")]
    assert acts(desk) == ["fix", "give_up"]


async def test_a_case_met_again_while_its_fix_is_on_its_way_is_not_fixed_twice(desk: Desk, world: World) -> None:
    """O1: the night run again, the report told again: one command, one key."""
    store = await unresolved(desk)
    await desk.night(store, is_again=True)

    await store.outbox(world.peers()).deliver(MANY)

    assert len(world.reports) == 1
    assert acts(desk) == ["fix", "settle"]


async def test_a_fix_that_did_not_hold_is_opened_again(desk: Desk, world: World) -> None:
    """A case that was settled and is met again is told: nothing is ever silent."""
    store = await unresolved(desk)
    await store.outbox(world.peers()).deliver(MANY)

    await desk.night(store, is_again=True)

    assert desk.cases() == [("unresolved_order", "automatic", "OPEN")]
    assert acts(desk) == ["fix", "settle", "reopen"]


# ---- what two people approved --------------------------------------------------------------------------------------


async def approved(desk: Desk) -> Reconciliation:
    """A charge for an order we do not have: one person proposes to write it off, another approves."""
    proposed = await proposed_write_off(desk)
    assert isinstance(await proposed.approve(), Acted)
    return proposed.store


async def test_an_approved_write_off_is_posted_once_and_the_case_written_off(desk: Desk, world: World) -> None:
    """Four eyes, then the outbox: what settled without a home leaves clearing for suspense."""
    store = await approved(desk)

    await store.outbox(world.peers()).deliver(MANY)
    await store.outbox(world.peers()).deliver(MANY)

    written = [journal for journal in world.journals if journal.movement is Movement.WRITE_OFF]
    assert [[(entry.account.replace(desk.psp, "psp"), entry.money.amount_minor) for entry in written[0].entries]] == [
        [("psp:psp:clearing:USD", 1_007), ("suspense:USD", -1_007)]
    ]
    assert len(written) == 1
    assert desk.cases() == [("unknown_charge", "unclassified", "WRITTEN_OFF")]
    assert acts(desk) == ["propose", "approve", "write_off"]


async def test_an_approved_posting_that_the_ledger_refuses_goes_back_to_people(desk: Desk, world: World) -> None:
    """Nothing is in the books, and the case says so."""
    store = await approved(desk)
    world.answer = lambda: Refusal(Reason.ACCOUNT_MALFORMED, "", "no such account")

    await store.outbox(world.peers()).deliver(MANY)

    assert desk.cases() == [("unknown_charge", "unclassified", "OPEN")]
    assert acts(desk) == ["propose", "approve", "give_up"]


async def test_an_approved_posting_whose_outcome_is_unknown_never_comes_back_to_people(
    desk: Desk, world: World
) -> None:
    """It may be in the ledger: another proposal would post it a second time, under another key."""
    store = await approved(desk)
    spend_the_budget(desk)
    world.answer = _unknown

    await store.outbox(world.peers()).deliver(MANY)

    assert desk.cases() == [("unknown_charge", "unclassified", "APPROVED")]
    assert acts(desk) == ["propose", "approve"]


async def test_a_fix_of_the_machine_that_nobody_answers_goes_to_people(desk: Desk, world: World) -> None:
    """They can have the same command sent again, under its own key."""
    store = await unresolved(desk)
    spend_the_budget(desk)
    world.answer = _unknown

    await store.outbox(world.peers()).deliver(MANY)

    assert acts(desk) == ["fix", "give_up"]
