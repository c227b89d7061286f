"""An hour inside: what orders promise against what wallet and ledger hold, in one snapshot of all three."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.reconciliation_inside import TENANT, Inside
from zerosum.domain.case import Resolution
from zerosum.domain.identity import Key, slot_of
from zerosum.domain.journal import Journal
from zerosum.domain.reconcile_inside import compare
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.ports import Done, ItemOutcome, TryLater
from zerosum.reconciling import RunKey, RunKind, RunRow, RunState
from zerosum.store.reconciliation import inside as reconciliation_inside
from zerosum.store.reconciliation import posted as reconciliation_posted
from zerosum.store.reconciliation.delivery import journal_body
from zerosum.store.reconciliation.outbox import Peers
from zerosum.store.reconciliation.run import Claim, RunBook
from zerosum.store.session import Session
from zerosum.store.wire import Call


async def test_services_that_agree_leave_nothing_for_anybody(inside: Inside) -> None:
    """Orders, wallet and ledger tell the same; matched postings leave no items, only counts."""
    for name in "abc":
        for promise in await inside.paid(name):
            inside.post(promise)

    run = await inside.hour()

    assert dict(run.summary.by_state) == {"MATCHED": 6}
    assert run.summary.explained_ppm == 1_000_000
    assert inside.cases() == []
    assert inside.sql("SELECT * FROM reconciliation.items") == []


async def test_postings_that_are_lost_are_sent_again_whole_under_their_own_ids(inside: Inside) -> None:
    """Rows P32, O1: the outbox has the very transfer and journal the order promised."""
    promises = await inside.paid("a")

    await inside.hour()

    assert inside.cases() == [("missing_journal", "FIXING"), ("missing_transfer", "FIXING")]
    sent = inside.sql("SELECT kind, key FROM reconciliation.deliveries ORDER BY kind")
    assert sent == sorted(
        ("transfer" if isinstance(promise.request, Transfer) else "journal", promise.id) for promise in promises
    )


async def test_two_hours_are_compared_posting_by_posting(inside: Inside) -> None:
    """A posting that agrees leaves no item: what was missing and is there differs, what is missing still does not."""
    transfer, journal = sorted(await inside.paid("a"), key=lambda promise: promise.side, reverse=True)
    first = await inside.hour()
    inside.post(transfer)
    second = await inside.midnight()

    page = await inside.store.runs.compare(first.run_id, second.run_id, 100, "")

    assert [(each.item, each.after) for each in page.rows] == [(f"wallet/{transfer.id}", "")]
    assert page.rows[0].before.startswith("MISMATCH missing_transfer (automatic): wallet.posting pending 12.50 USD")
    assert f"ledger/{journal.id}" in {item for (item,) in inside.sql("SELECT item FROM reconciliation.items")}


class _Wallet:
    """A fake of `ports.WalletPeer`: takes what it is sent, or says later."""

    def __init__(self) -> None:
        self.answer: ItemOutcome = Done()
        self.sent: list[str] = []

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        self.sent.append(transfer.transfer_id)
        return self.answer


async def test_what_a_wallet_lost_is_taken_out_again_only_behind_what_had_come_in(inside: Inside) -> None:
    """D10: a debit that comes before its cover is refused for ever under its id.

    Method: its key sorts first, as `debit-2` before `return-1`.
    """
    promise, credit = next(
        (each, each.request) for each in await inside.paid("a") if isinstance(each.request, Transfer)
    )
    debit = replace(credit, transfer_id=Key("!"), kind=TransferKind.DEBIT_PENDING)
    promises = {(promise.side, each.transfer_id): replace(promise, request=each) for each in (debit, credit)}
    for found in reconciliation_inside.found_of(compare(promises.values(), []), promises):
        kind, body = found.fix or ("", {})
        inside.sql(
            "INSERT INTO reconciliation.deliveries (key, kind, tenant, mismatch_id, run_id, body, state, outcome, tries, "
            "due_at_ms, created_at_ms) VALUES (%s, %s, %s, %s, 'r0', %s, 'OPEN', '', 0, 1, 1)",
            body["transfer_id"], kind, TENANT, found.case.id, json.dumps(body),
        )  # fmt: skip
    wallet: Any = _Wallet()
    outbox = inside.store.outbox(Peers(wallet, wallet, wallet))

    for wallet.answer in (TryLater(50), Done(), Done(), Done()):
        await outbox.deliver(100)
        inside.sql("UPDATE reconciliation.deliveries SET due_at_ms = 0 WHERE state = 'OPEN'")

    assert wallet.sent == [credit.transfer_id, credit.transfer_id, debit.transfer_id]


async def test_a_settlement_that_the_ledger_refused_for_good_is_a_case_that_it_may_take_later(inside: Inside) -> None:
    """It is sent once more under its own id by the machine; refused again, people have it, and no hour opens it anew."""
    promises = await inside.paid("a")
    for promise in promises:
        inside.post(promise)
    journal = next(each.request for each in promises if isinstance(each.request, Journal))
    lost = replace(journal, journal_id=Key("settlement-1"))
    inside.sql(
        "INSERT INTO reconciliation.deliveries (key, kind, tenant, mismatch_id, run_id, body, state, outcome, tries, "
        "due_at_ms, created_at_ms) VALUES (%s, 'journal', %s, '', 'r0', %s, 'DEAD', 'refused', 1, 1, 1)",
        lost.journal_id, lost.tenant, json.dumps(journal_body(lost)),
    )  # fmt: skip

    await inside.hour()
    fixing = inside.cases()
    await inside.refuse()
    await inside.midnight()

    assert fixing == [("missing_journal", "FIXING")]
    assert inside.cases() == [("missing_journal", "OPEN")]
    assert inside.sql("SELECT key, state FROM reconciliation.deliveries") == [("settlement-1", "DEAD")]


async def test_what_nobody_promised_and_what_differs_waits_for_people(inside: Inside) -> None:
    """Sets of ids are compared, not sums: two errors that cancel out are two errors."""
    first, second = await inside.paid("a"), await inside.paid("b")
    for promise in first:
        inside.post(promise, minor=7)
    for promise in second:
        inside.post(promise)
    promise, journal = next((each, each.request) for each in second if isinstance(each.request, Journal))
    inside.post(replace(promise, request=replace(journal, journal_id=Key("stray"))))

    run = await inside.hour()

    kinds = [kind for kind, _ in inside.cases()]
    assert kinds == ["clearing_not_open_items", "extra_journal", "posted_differently", "posted_differently"]
    assert dict(run.summary.by_class) == {"unclassified": 4}


async def test_an_hour_looks_at_what_is_new_and_a_restored_backup_makes_it_look_at_everything(inside: Inside) -> None:
    """The heads of the logs tell where to begin; a log that does not lead through them was restored."""
    for name in "ab":
        for promise in await inside.paid(name):
            inside.post(promise)
    whole = await inside.hour()
    quiet = await inside.hour()
    for promise in await inside.paid("c"):
        inside.post(promise)
    fresh = await inside.hour()
    inside.sql("ALTER TABLE ledger.slot_log DISABLE TRIGGER ALL")
    inside.sql("UPDATE ledger.slot_log SET hash = '\\x02'::bytea")
    restored = await inside.hour()

    examined = [run.summary.movements for run in (whole, quiet, fresh, restored)]
    assert examined == [4, 0, 2, 6]


async def test_a_case_of_the_payment_service_is_in_the_queue_until_it_resolves_it(inside: Inside) -> None:
    """PAYMENT_CASE: people see one queue; what the payment service has made good closes by itself.

    Its money can be in suspense already: there is nothing to write off.
    """
    for promise in await inside.paid("a"):
        inside.post(promise)
    slot = slot_of(TENANT, "c-a")
    inside.sql(
        "INSERT INTO payment.mismatches VALUES (%s, %s, 'c-a', 'wrong_money/o-a/pi_a', 1, 'o-a', 'wrong_money', 'stripe', "
        "'pi_a', 5, 'USD', 'asked 1, was 5', 'OPEN', 1)",
        slot, TENANT,
    )  # fmt: skip
    await inside.hour()
    before = inside.cases()
    told = inside.sql("SELECT theirs, amount_minor FROM reconciliation.mismatches")

    inside.sql("UPDATE payment.mismatches SET state = 'RESOLVED'")
    inside.touch("a")
    await inside.hour()

    assert before == [("payment_case", "OPEN")]
    assert told == [("asked 1, was 5 (0.05 USD)", 0)]
    assert inside.cases() == [("payment_case", "RESOLVED")]


async def test_a_case_in_a_currency_that_we_cannot_write_is_in_the_queue_like_any_other(inside: Inside) -> None:
    """What a PSP charged may be of a currency out of our table; it must not stop the hour for all others."""
    for promise in await inside.paid("a"):
        inside.post(promise)
    inside.sql(
        "INSERT INTO payment.mismatches VALUES (%s, %s, 'c-a', 'wrong_money/o-a/pi_b', 1, 'o-a', 'wrong_money', 'stripe', "
        "'pi_b', 900, 'STD', 'another object', 'OPEN', 1)",
        slot_of(TENANT, "c-a"), TENANT,
    )  # fmt: skip
    await inside.hour()

    assert inside.sql("SELECT kind, state, theirs FROM reconciliation.mismatches") == [
        ("payment_case", "OPEN", "another object (900 minor units of STD)")
    ]


@pytest.mark.parametrize("slow", ["checkouts", "postings", "clearing"])
async def test_a_living_holder_of_an_hour_that_agrees_everywhere_is_not_taken_over(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Nothing is written, and each page is a step all the same. Method: each of what is slow takes a third of the lease."""
    for name in "abcdef":
        for promise in await inside.paid(name):
            inside.post(promise)
    monkeypatch.setattr(reconciliation_inside, "CHECKOUTS_A_STEP", 1)
    monkeypatch.setattr(reconciliation_posted, "PAGE_ROWS", 2)
    reads: list[Claim | RunRow | None] = []
    send = Session.send

    async def slowly(session: Session, calls: Sequence[Call]) -> Any:
        if any(call.sql in _SLOW[slow] for call in calls):
            inside.sql("UPDATE reconciliation.runs SET lease_until_ms = lease_until_ms - 20000 WHERE state = 'RUNNING'")
            book = RunBook(inside.store.database)
            reads.append(await book.claim(RunKey(RunKind.INSIDE, "", "2026-03-02T01"), "another", is_again=False))
        return await send(session, calls)

    monkeypatch.setattr(Session, "send", slowly)
    run = await inside.hour()

    assert run.state is RunState.DONE
    assert len(reads) > 4
    assert set(reads) == {None}


_SLOW: Mapping[str, frozenset[bytes]] = {
    "checkouts": frozenset(query.sql for query in reconciliation_posted._BY_ID.values()),
    "postings": frozenset({reconciliation_posted._HOMES.sql}),
    "clearing": frozenset({reconciliation_posted._CLEARING.sql}),
}
"""What each of them reads by."""


async def test_an_hour_is_run_once(inside: Inside) -> None:
    """Each run once: what was found is told again."""
    inside.heads()
    key = RunKey(RunKind.INSIDE, "", "2026-03-02T01")

    first = await inside.store.runs.run(key, "a")

    assert first == await inside.store.runs.run(key, "b")


# ---- the clearing account ------------------------------------------------------------------------------------------


async def balanced(inside: Inside) -> None:
    """Two orders, posted as promised."""
    for name in "ab":
        for promise in await inside.paid(name):
            inside.post(promise)


async def test_a_clearing_account_that_is_off_names_what_differs_and_only_that(inside: Inside) -> None:
    await balanced(inside)
    inside.stray("b", "stray-1")

    await inside.midnight()

    assert inside.clearing() == [("OPEN", "37.50 USD (o-b 12.50)", "25.00 USD (o-b 0.00)", -1_250)]


async def test_a_day_whose_first_hour_was_missed_is_looked_at_whole_by_the_first_that_runs(inside: Inside) -> None:
    """Downtime at midnight does not leave the clearing accounts unlooked at for a day."""
    await balanced(inside)
    before = await inside.midnight()
    whole = await inside.midnight("T05")

    assert (before.summary.movements, whole.summary.movements) == (4, 4)


async def test_two_errors_that_cancel_out_in_a_clearing_account_are_two_names(inside: Inside) -> None:
    """Sums that agree by chance hide nothing."""
    await balanced(inside)
    inside.stray("a", "stray-1")
    inside.stray("b", "stray-2", sign=-1)

    await inside.midnight()

    assert inside.clearing() == [
        ("OPEN", "25.00 USD (o-a 12.50, o-b -12.50)", "25.00 USD (o-a 0.00, o-b 0.00)", 0),
    ]  # fmt: skip


async def test_a_clearing_account_that_agrees_again_closes_its_case_and_the_next_difference_opens_it(
    inside: Inside,
) -> None:
    await balanced(inside)
    inside.stray("b", "stray-1")
    await inside.midnight()
    for table in ("journals", "entries"):
        inside.sql(f"ALTER TABLE ledger.{table} DISABLE TRIGGER ALL")
        inside.sql(f"DELETE FROM ledger.{table} WHERE journal_id = 'stray-1'")  # noqa: S608 - names of ours

    await inside.midnight()
    closed = inside.clearing()[0][0]
    inside.stray("a", "stray-2")
    await inside.midnight()

    assert (closed, inside.clearing()[0][0]) == ("RESOLVED", "OPEN")


async def test_a_difference_that_two_people_closed_stays_closed_and_another_one_opens_the_case_again(
    inside: Inside,
) -> None:
    """The case is of the account: it must not be deaf for ever to what is found later."""
    await balanced(inside)
    inside.stray("b", "stray-1")
    await inside.midnight()
    await inside.settle(Resolution.CLOSE)

    await inside.midnight()
    same = inside.clearing()[0][0]
    inside.stray("a", "stray-2")
    await inside.midnight()

    assert (same, inside.clearing()[0][0], inside.clearing()[0][3]) == ("RESOLVED", "OPEN", -2_500)


async def test_what_was_written_off_of_a_clearing_account_is_right_and_the_same_again_is_not(inside: Inside) -> None:
    """After the write-off the account agrees; as much once more is found once more."""
    await balanced(inside)
    inside.stray("b", "stray-1")
    await inside.midnight()
    await inside.settle(Resolution.WRITE_OFF)

    await inside.midnight()
    same = inside.clearing()[0][0]
    inside.stray("a", "stray-2")
    await inside.midnight()

    assert (same, inside.clearing()[0][0], inside.clearing()[0][3]) == ("WRITTEN_OFF", "OPEN", -1_250)
