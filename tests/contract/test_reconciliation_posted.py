"""What an hour reads of the services, page by page: what comes out is the same whatever the size of a page."""

from collections import Counter

import pytest

from tests.contract.reconciliation_inside import TENANT, Inside
from zerosum.domain.identity import Tenant
from zerosum.limits import SLOTS
from zerosum.store.reconciliation import posted
from zerosum.store.session import Session


@pytest.mark.parametrize("entries", [1, 3, 1_000])
async def test_a_clearing_account_is_added_up_in_pages_of_whatever_size(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    """A statement has 5 s, however large a slot is. Method: pages that end within a journal, a last one that is full, and ones
    without an entry of a clearing account."""
    for name in "ab":
        for promise in await inside.paid(name):
            inside.post(promise)
    inside.stray("b", "stray-1")
    monkeypatch.setattr(posted, "SUM_ROWS", entries)

    async def work(session: Session) -> list[dict[tuple[Tenant, str], int]]:
        return [sums async for sums in posted.Snapshot(session).clearing()]

    pages = await inside.store.database.snapshot(work)

    in_slots = [rows for (rows,) in inside.sql("SELECT count(*) FROM ledger.entries GROUP BY slot")]
    assert len(pages) == SLOTS + sum(rows // entries for rows in in_slots)
    assert sum((Counter(sums) for sums in pages), Counter()) == {(TENANT, "psp:stripe:clearing:USD"): 3_750}


async def test_a_journal_of_the_outbox_is_found_behind_pages_of_other_deliveries(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page counts what it read and not what it is for: one without a journal is not the last."""
    monkeypatch.setattr(posted, "PAGE_ROWS", 2)
    insert = (
        "INSERT INTO reconciliation.deliveries (key, kind, tenant, mismatch_id, run_id, body, state, outcome, tries, "
        "due_at_ms, created_at_ms) VALUES (%s, %s, 't', '', 'r0', 'body', 'DONE', '', 0, %s, 1)"
    )
    for key, kind, due_at_ms in (
        ("a", "transfer", 9), ("b", "debit", 9), ("c", "journal", 4), ("d", "report", 9), ("e", "journal", 5),
    ):  # fmt: skip
        inside.sql(insert, key, kind, due_at_ms)

    async def work(session: Session) -> list[list[str]]:
        return [[row["key"] for row in rows] async for rows in posted.Snapshot(session).deliveries(5)]

    assert await inside.store.database.snapshot(work) == [[], [], ["e"]]
