"""Every statement of a run finds its rows by an index, whatever the parameters: a run's pages cost what they bring."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.contract.house import session
from zerosum.domain.reconcile_inside import Side
from zerosum.store.engine import connect_args
from zerosum.store.migrate import migrate
from zerosum.store.reconciliation import (
    books,
    case,
    compare,
    elsewhere,
    file,
    leftover,
    line,
    nightly,
    outbox,
    posted,
    prune,
    queue,
    record,
    run,
    settle,
    suspense,
)
from zerosum.store.wire import Query

ORDERS = {"payment_orders_pkey", "attempts_pkey", "operations_pkey", "mismatches_pkey"}

POSTED_FOR = {"acts_pkey", "acts_key_once", "deliveries_pkey"}
HOME = {
    "payment_orders_id_once", "attempts_pkey", "attempts_one_live", "operations_pkey", "mismatches_pkey", "mismatches_by_order",
    "lines_by_id", "lines_pkey", "items_by_item", *POSTED_FOR,
}  # fmt: skip
WHY = {"items_by_item", "items_pkey", "runs_pkey", "runs_once", "files_pkey", *HOME}

PLANS: Mapping[str, tuple[Query, set[str]]] = {
    "files, first page": (file._FIRST_PAGE[False], {"files_by_time"}),
    "files, next page": (file._NEXT_PAGE[False], {"files_by_time", "files_pkey"}),
    "files of a PSP, first page": (file._FIRST_PAGE[True], {"files_of_psp_by_time"}),
    "files of a PSP, next page": (file._NEXT_PAGE[True], {"files_of_psp_by_time", "files_pkey"}),
    "runs, first page": (run._FIRST_PAGE, {"runs_by_time"}),
    "runs, next page": (run._NEXT_PAGE, {"runs_by_time", "runs_pkey"}),
    "newest version": (file._NEWEST_VERSION, {"files_by_series"}),
    "newest attempts": (run._NEWEST_OF, {"runs_once"}),
    "runs ended since": (run._ENDED_SINCE, {"runs_once"}),
    "loaded lines": (file._LOADED, {"lines_pkey"}),
    "files of a day": (nightly._FILES, {"files_by_day"}),
    "lines without object": (line._NO_OBJECT, {"lines_by_object"}),
    "lines by object": (line._BY_OBJECT, {"lines_by_object"}),
    "lines of one object": (line._OF_OBJECT, {"lines_by_object"}),
    "left, by group": (line._LEFT, {"leftovers_pkey", "lines_pkey"}),
    "left, of one group": (line._LEFT_OF_GROUP, {"leftovers_pkey", "lines_pkey"}),
    "left, alone": (line._LEFT_ALONE, {"leftovers_pkey", "lines_pkey"}),
    "lines told twice": (elsewhere._TOLD_TWICE, {"lines_by_id"}),
    "lines told first": (
        elsewhere._FIRST, {"lines_by_id", "files_pkey", "parts_pkey", "items_pkey", "mismatches_pkey"},
    ),
    "what movements got": (
        elsewhere._GOT, {"items_by_item", "runs_pkey", "runs_once", "files_pkey", "lines_pkey", "mismatches_pkey"},
    ),
    "lines to be judged": (
        elsewhere._UNJUDGED, {"lines_by_reference", "files_pkey", "items_by_item", "runs_pkey", "runs_once"},
    ),
    "disputes of orders": (
        elsewhere._DISPUTED, {"lines_by_reference", "files_pkey", "items_by_item", "items_pkey", "runs_pkey", "runs_once"},
    ),
    "movements of objects": (line._MOVEMENTS_OF_OBJECTS, {"movements_pkey"}),
    "movements with state": (line._MOVEMENTS_WITH_STATE, {"movements_pkey", "items_pkey"}),
    "taken movements": (line._TAKEN, {"items_pkey", "lines_pkey"}),
    "movements put away": (prune._PUT_AWAY, {"movements_pkey"}),
    "the oldest night left": (prune._OLDEST_LEFT, {"runs_once", "runs_pkey", "movements_pkey"}),
    "a page of an old night": (prune._PRUNE, {"movements_pkey"}),
    "leftovers used": (leftover._USED, {"leftovers_pkey"}),
    "tenants of a slot": (books._TENANT, {"payment_events_by_time"}),
    "checkouts of a period": (books._CHECKOUTS, {"payment_events_by_time"}),
    "refunds of a period": (books._NEWS[books.News.REFUNDS], {"refunds_by_time"}),
    "cases of a period": (books._NEWS[books.News.CASES], {"mismatches_by_time"}),
    "attempts": (books._ATTEMPTS, ORDERS),
    "refunds": (books._REFUNDS, ORDERS),
    "second charges": (books._CASES, ORDERS),
    "what was settled": (books._SETTLED, {"history_version_once"}),
    "homes of orders": (books._HOMES, {"payment_orders_id_once"}),
    "known cases": (record._KNOWN, {"mismatches_pkey", "acts_key_once", "acts_pkey"}),
    "a part of a file": (settle._LINES, {"lines_pkey", "files_pkey", "parts_pkey"}),
    "what a run made of lines": (settle._FOUND, {"mismatches_pkey", "items_pkey"}),
    "postings of a file": (settle._POSTED, {"deliveries_by_run"}),
    "open cases": (case._OPEN, {"mismatches_by_state", *WHY}),
    "closed cases that people posted for": (case._CLOSED_ONES, {"deliveries_by_run", *WHY}),
    "cases that are right": (case._STILL, {"mismatches_pkey", *POSTED_FOR}),
    "a case and who has booked it": (queue._CASE, {"mismatches_pkey", "lines_by_id", *HOME}),
    "what stands in suspense": (suspense._STANDS, {"ledger_entries_by_account", "journals_pkey"}),
    "acts of a case": (queue._ACTS, {"acts_pkey"}),
    "due deliveries": (outbox._DUE, {"deliveries_due"}),
    "claimed deliveries": (outbox._CLAIM, {"deliveries_pkey"}),
    "files of two runs": (compare._FILES, {"runs_pkey"}),
    "lines of two runs, by id": (compare._LINES, {"lines_by_file_and_id", "lines_by_id"}),
    "other items of two runs": (compare._OTHERS, {"items_pkey"}),
    "outcomes of two runs": (compare._OUTCOMES, {"items_pkey", "mismatches_pkey"}),
    "history of a slot": (posted._HISTORY, {"history_pkey"}),
    "new transfers": (posted._NEW[Side.WALLET], {"entries_pkey"}),
    "new journals": (posted._NEW[Side.LEDGER], {"journals_pkey"}),
    "transfers by id": (posted._BY_ID[Side.WALLET], {"wallet_entries_transfer_once"}),
    "journals by id": (posted._BY_ID[Side.LEDGER], {"journals_id_once", "entries_pkey"}),
    "clearing accounts of a slot": (posted._CLEARING, {"entries_pkey"}),
    "journals of the outbox": (posted._DELIVERIES, {"deliveries_pkey"}),
}  # fmt: skip

FORBIDDEN = {"Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"}


@pytest.fixture(scope="module")
def planner(postgres_urls: Mapping[str, str]) -> Iterator[psycopg.Connection[Any]]:
    """A session set up as ours are, on a database that has just been made: no rows, no statistics."""
    name = "test_plans_of_reconciliation"
    url = make_url(postgres_urls["admin"]).set(database=name)
    with session(postgres_urls["admin"]) as maker:
        maker.execute(f"CREATE DATABASE {name}".encode())
        migrate(url.render_as_string(hide_password=False))
        conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True, options=connect_args(url)["options"]) as connection:
            yield connection
        maker.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.parametrize("name", PLANS)
def test_every_statement_of_a_run_is_served_by_its_index(planner: psycopg.Connection[Any], name: str) -> None:
    """Design section 7: pages by keyset in index order, and a test looks at their plans."""
    query, indexes = PLANS[name]

    (plan,) = planner.execute(b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + query.sql).fetchone() or ("[]",)
    nodes = list(_nodes((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]))

    assert {node["Index Name"] for node in nodes if "Index Name" in node} <= indexes
    assert [node["Node Type"] for node in nodes if node["Node Type"] in FORBIDDEN] == []


WALKS = (
    "history of a slot", "new transfers", "new journals", "clearing accounts of a slot", "journals of the outbox",
)  # fmt: skip
"""What walks a table from one end to the other, a page a statement."""


@pytest.mark.parametrize("name", WALKS)
def test_a_page_of_an_hour_reads_no_more_rows_than_its_bound(planner: psycopg.Connection[Any], name: str) -> None:
    """No statement grows with the books: a limit stands right above each scan, and a scan passes on every row it reads."""
    query, indexes = PLANS[name]

    (plan,) = planner.execute(b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + query.sql).fetchone() or ("[]",)
    nodes = list(_nodes((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]))
    scans = [(above["Node Type"], scan) for above in nodes for scan in above.get("Plans", ()) if "Index Name" in scan]

    assert [scan["Index Name"] for _, scan in scans] == list(indexes)
    assert [(above, scan.get("Filter", "")) for above, scan in scans] == [("Limit", "")]


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
