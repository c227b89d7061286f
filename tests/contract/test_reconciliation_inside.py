"""An hour inside: what orders promise against what wallet and ledger hold, in one snapshot of all three."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy import make_url

from loadtest.bench_reconcile_books import Order, write_books
from tests.contract.house import SqlHouse, session
from tests.contract.reconciliation_desk import FROM_MS
from zerosum.domain.case import Approve, Propose, Resolution
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, slot_of
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.domain.reconcile_inside import Promise, promises_of
from zerosum.domain.wallet import Transfer
from zerosum.finance_queue import Acted
from zerosum.ports import Done
from zerosum.reconciling import RunKey, RunKind, RunRow
from zerosum.store.migrate import migrate
from zerosum.store.opening import open_reader, open_reconciliation
from zerosum.store.reconciliation.outbox import Peers
from zerosum.store.reconciliation.queue import SqlFinanceQueue

TENANT = Tenant("shop")


class Inside:
    """A database of its own, in which orders were paid and posted."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.store = open_reconciliation(urls["reconciler"], {})
        self._reader = open_reader("payment", urls["payment"])
        self._admin = make_url(urls["admin"]).set(drivername="postgresql").render_as_string(hide_password=False)
        self._seq = count(1)
        self._days = (f"2026-03-{day:02}" for day in count(3))
        self._hours = (f"2026-03-02T{hour:02}" for hour in count(1))

    async def paid(self, name: str) -> list[Promise]:
        """An order that is SUCCESS, its to-dos long gone; what it promises."""
        order = Order(TENANT, f"c-{name}", f"o-{name}", f"pi_{name}", Money(1_250, "USD"), FROM_MS)
        write_books(self._admin, lambda: iter([order]))
        self.sql("UPDATE payment.payment_events SET fingerprint = '1:f' WHERE checkout_id = %s", order.checkout_id)
        self.touch(name)
        checkout = await self._reader.checkout(EntityKey(TENANT, order.checkout_id))
        assert checkout is not None
        return list(promises_of(checkout))

    def touch(self, name: str) -> None:
        """Something happens to the checkout."""
        slot = slot_of(TENANT, f"c-{name}")
        self.sql(
            "INSERT INTO payment.history VALUES (%s, %s, 0, %s, %s, %s, 'X', '', '', '{}', 1)",
            slot, next(self._seq), TENANT, f"c-{name}", next(self._seq),
        )  # fmt: skip

    def post(self, promise: Promise, *, minor: int = 0) -> None:
        """Posts what was promised; `minor` more of the first side, and of the last one less."""
        request = promise.request
        seq = next(self._seq)
        if isinstance(request, Transfer):
            self.sql(
                "INSERT INTO wallet.entries VALUES (%s, %s, 0, %s, %s, 1, %s, 'pending', %s, %s, %s, 1)",
                slot_of(request.tenant, f"{request.owner}:USD"), seq, request.tenant, f"{request.owner}:USD",
                request.transfer_id, request.money.amount_minor + minor, "USD", request.order_id,
            )  # fmt: skip
        else:
            self._post_journal(request, seq, minor)

    def _post_journal(self, journal: Journal, seq: int, minor: int) -> None:
        slot = slot_of(journal.tenant, journal.owner)
        self.sql(
            "INSERT INTO ledger.journals VALUES (%s, %s, 0, %s, %s, %s, %s, %s, %s, 1)",
            slot, seq, journal.tenant, journal.owner, seq, journal.journal_id, journal.movement, journal.order_id,
        )  # fmt: skip
        for line, entry in enumerate(journal.entries):
            more = {0: minor, len(journal.entries) - 1: -minor}.get(line, 0)
            self.sql(
                "INSERT INTO ledger.entries VALUES (%s, %s, 0, %s, %s, %s, %s, 'USD', %s, 1)",
                slot, seq, line, journal.tenant, journal.journal_id, entry.account, entry.money.amount_minor + more,
            )  # fmt: skip

    def heads(self) -> None:
        """Moves the services' heads to what was written, as their commits would have."""
        for service, table in (("payment", "history"), ("wallet", "entries"), ("ledger", "journals")):
            self.sql(
                f"INSERT INTO {service}.slot_log SELECT DISTINCT slot, seq, 1, '\\x01'::bytea, 1 FROM {service}.{table} "  # noqa: S608 - names of ours
                "ON CONFLICT DO NOTHING"
            )
            self.sql(
                f"INSERT INTO {service}.slots SELECT slot, 1, max(seq), '\\x01'::bytea, 't' FROM {service}.{table} "  # noqa: S608 - names of ours
                "GROUP BY slot ON CONFLICT (slot) DO UPDATE SET seq = excluded.seq"
            )

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """As the administrator."""
        with session(self._admin) as connection:
            cursor = connection.execute(statement.encode(), list(values))
            return cursor.fetchall() if cursor.description else []

    async def hour(self) -> RunRow:
        """The next hour's run."""
        self.heads()
        found = await self.store.runs.run(RunKey(RunKind.INSIDE, "", next(self._hours)), "test")
        assert found is not None
        return found

    async def midnight(self, hour: str = "T00") -> RunRow:
        """The next day's first run: everything is looked at."""
        self.heads()
        found = await self.store.runs.run(RunKey(RunKind.INSIDE, "", next(self._days) + hour), "test")
        assert found is not None
        return found

    def stray(self, name: str, journal_id: str, *, sign: int = 1) -> None:
        """The journal of an order is in the ledger once more, under an id that nobody promised; `sign` -1: reversed."""
        entries = (
            Entry("psp:stripe:clearing:USD", Money(sign * 1_250, "USD")),
            Entry("suspense:USD", Money(-sign * 1_250, "USD")),
        )
        made = Journal(TENANT, Key(journal_id), "s", Movement.SUSPENSE_CHARGE, entries, OrderId(f"o-{name}"))
        self._post_journal(made, next(self._seq), 0)

    async def settle(self, resolution: Resolution) -> None:
        """Two people settle the clearing account's case; what it posts is posted."""
        queue = SqlFinanceQueue(self.store.database)
        ((case,),) = self.sql(
            "SELECT mismatch_id FROM reconciliation.mismatches WHERE kind = 'clearing_not_open_items'"
        )
        proposed = await queue.act(case, Propose(resolution, "found out"), by="ann", key=f"p{next(self._seq)}")
        assert isinstance(proposed, Acted)
        assert proposed.view.proposal is not None
        number = proposed.view.proposal.number
        assert isinstance(await queue.act(case, Approve(number), by="bob", key=f"a{number}"), Acted)
        ledger: Any = _Ledger(self)
        await self.store.outbox(Peers(ledger, ledger, ledger)).deliver(100)

    def take(self, journal: Journal) -> None:
        """The ledger posts what is sent to it."""
        self._post_journal(journal, next(self._seq), 0)

    def clearing(self) -> list[tuple[Any, ...]]:
        """State, both sides and money of the clearing account's case."""
        return self.sql(
            "SELECT state, ours, theirs, amount_minor FROM reconciliation.mismatches WHERE kind = 'clearing_not_open_items'"
        )

    def cases(self) -> list[tuple[Any, ...]]:
        """Kind and state of each case, by kind."""
        return self.sql("SELECT kind, state FROM reconciliation.mismatches ORDER BY kind, mismatch_id")

    async def close(self) -> None:
        """Closes what was opened."""
        await self.store.close()
        await self._reader.close()


class _Ledger:
    """A fake of `ports.LedgerPeer`: what is sent is posted."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    async def post(self, journal: Journal) -> Done:
        """Once."""
        self._inside.take(journal)
        return Done()


@pytest.fixture
def urls(sql_house: SqlHouse, new_database: str) -> Mapping[str, str]:
    """The house's roles at a database of its own."""
    migrate(new_database)
    name = make_url(new_database).database
    return {
        role: make_url(url).set(database=name).render_as_string(hide_password=False)
        for role, url in sql_house.urls.items()
    }


@pytest.fixture
async def inside(urls: Mapping[str, str]) -> AsyncIterator[Inside]:
    """The same with the stores on it."""
    made = Inside(urls)
    yield made
    await made.close()


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
