"""What stands in suspense and since when, read from the ledger's own accounts: neither more nor less than what is in them.

Each test has a currency of its own, because suspense is one for all. Row L11 of failures.md.
"""

import uuid
from dataclasses import dataclass, field

import pytest

from tests.contract.house import SqlHouse
from tests.contract.reconciliation_desk import Desk
from zerosum.domain.money import EXPONENTS
from zerosum.store.reconciliation import suspense
from zerosum.store.reconciliation.queue import SqlFinanceQueue
from zerosum.store.session import Session
from zerosum.store.wire import Call

HOUR_MS = 3_600_000


@dataclass(slots=True)
class Books:
    """Journals of one currency between a PSP's clearing account and suspense, hours ago."""

    desk: Desk
    currency: str = ""
    tenant: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        """A currency that nothing in suspense is of yet."""
        taken = {code for (code,) in self.desk.rows("SELECT DISTINCT currency FROM ledger.entries")}
        self.currency = min(EXPONENTS.keys() - taken)

    def post(self, order: str, came_minor: int, hours_ago: int, *, slot: int = 7, tenant: str = "") -> None:
        """So much came into suspense for an order (or a case); negative: it went out."""
        seq, name = uuid.uuid4().int % 2**50, uuid.uuid4().hex
        self.desk.rows(
            "INSERT INTO ledger.journals SELECT %s, %s, 0, %s, %s, %s, %s, 'x', %s, "
            "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS INT8) - CAST(%s AS INT8)",
            slot, seq, tenant or self.tenant, "psp:stripe", seq, name, order, hours_ago * HOUR_MS,
        )  # fmt: skip
        sides = ((f"psp:stripe:clearing:{self.currency}", came_minor), (f"suspense:{self.currency}", -came_minor))
        for line, (account, minor) in enumerate(sides):
            self.desk.rows(
                "INSERT INTO ledger.entries SELECT slot, seq, ord, %s, tenant, journal_id, %s, %s, %s, at_ms "
                "FROM ledger.journals WHERE tenant = %s AND journal_id = %s",
                line, account, self.currency, minor, tenant or self.tenant, name,
            )  # fmt: skip

    async def stands(self) -> tuple[int, int, int, int] | None:
        """What came, what went, of how many parts, and the whole hours since the oldest; None: nothing is told."""
        told = (await SqlFinanceQueue(self.desk.open().database).ageing(HOUR_MS)).suspense
        for held in told:
            if held.came.currency == self.currency:
                return held.came.amount_minor, held.went.amount_minor, held.parts, held.oldest_ms // HOUR_MS
        return None


async def test_what_came_and_what_went_are_told_apart_over_all_tenants_and_the_house(desk: Desk) -> None:
    """Their sum would hide both. The oldest part is a tenant's or the house's, whoever's it is."""
    books = Books(desk)
    books.post("o-1", 1_000, 2)
    books.post("case-1", 500, 50, tenant="-")
    books.post("o-2", -300, 3, tenant=f"z{uuid.uuid4().hex[:8]}")

    assert await books.stands() == (1_500, 300, 3, 50)


async def test_a_part_that_was_refunded_or_taken_back_stands_no_more(desk: Desk) -> None:
    """In by one journal and out by another, in whatever slots; of a currency where nothing is left nothing is told."""
    books = Books(desk)
    books.post("late", 1_000, 90)
    books.post("late", -1_000, 80, slot=3)

    before = await books.stands()
    books.post("other", 250, 5)

    assert before is None
    assert await books.stands() == (250, 0, 1, 5)


async def test_a_part_stands_since_it_was_last_at_zero_and_what_came_on_top_makes_it_no_younger(desk: Desk) -> None:
    """Of 400 and 600 more, 600 taken back: some of the first is there still. What came anew after zero is new."""
    books = Books(desk)
    books.post("anew", 1_000, 300)
    books.post("anew", -1_000, 200)
    books.post("anew", 400, 40)
    books.post("anew", 600, 30, slot=3)
    books.post("anew", -600, 20)

    assert await books.stands() == (400, 0, 1, 40)


async def test_orders_of_the_same_name_are_parts_of_their_own_tenants(desk: Desk) -> None:
    """One tenant's money out is not the other's in."""
    books = Books(desk)
    books.post("o-1", 1_000, 2)
    books.post("o-1", -1_000, 1, tenant=f"z{uuid.uuid4().hex[:8]}")

    assert await books.stands() == (1_000, 1_000, 2, 2)


async def test_suspense_is_found_by_index_however_much_else_is_posted(desk: Desk, sql_house: SqlHouse) -> None:
    """The watch asks four times a minute. Read as PostgreSQL explains it."""
    if sql_house.kind == "cluster":
        pytest.skip("a cluster explains itself in other words")
    books = Books(desk)
    books.post("o-1", 1_000, 1)
    query = suspense._STANDS.call({"tenant": books.tenant, "accounts": "{suspense:EUR,suspense:USD}"})

    async def explained(opened: Session) -> str:
        await opened.send([Call(b"SET LOCAL enable_seqscan = off")])
        (rows,) = (await opened.send([Call(b"EXPLAIN " + query.sql, query.values)])).all()
        return "\n".join(line for (line,) in rows)

    plan = await desk.open().database.write_unless_conflict(explained)

    assert "ledger_entries_by_account" in plan
    assert any("Index Cond: ((tenant = " in line and "(account = ANY" in line for line in plan.splitlines())
    assert "Seq Scan" not in plan  # how few journals are found depends on how few there are
