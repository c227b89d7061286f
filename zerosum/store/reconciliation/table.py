"""The reconciler's own tables, schema `reconciliation`: files, lines, runs, items, mismatches and what people did to them.

The reconciler has no slots and no turns: a row is written once under a key made from its source, or moved by
compare-and-swap on `version`. Kinds in `info["kind"]`: `once` (append-only, unique by its key), `state` (moves) and
`scratch` (a run's own working rows, which may be removed).

Invariants: lines count only while their file is ACCEPTED; an item's key makes its state the only one in its run; every
move of a mismatch has an act beside it, in the same transaction.
Money is BIGINT minor units beside a currency, time BIGINT milliseconds UTC of the database's clock, `day` "YYYY-MM-DD" UTC.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

RECONCILIATION = MetaData()
SCHEMA = "reconciliation"
ROLE = "reconciler"


def _text(name: str, *, optional: bool = False) -> Column[str]:
    return Column(name, Text, nullable=optional)


def _long(name: str, *, optional: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=optional)


def _small(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _table(name: str, kind: str, *parts: Any, key: tuple[str, ...]) -> Table:
    return Table(name, RECONCILIATION, *parts, PrimaryKeyConstraint(*key), schema=SCHEMA, info={"kind": kind})


# file_id: SHA-256 of the content, hex. state: LOADING, ACCEPTED, REFUSED, SUPERSEDED. `series` names what re-issues share
# (psp, payout or period); the newest accepted version of a series counts. manifest: JSON of what was
# understood of it, "" where the PSP has none.
FILES = _table(
    "files", "state",
    _text("file_id"), _text("psp"), _text("name"), _text("series"), _small("version"), _text("state"), _text("reason"),
    _text("manifest"), _long("lines"), _text("day"), _long("period_from_ms"), _long("period_to_ms"),
    _text("received_by"), _long("received_at_ms"), _long("decided_at_ms", optional=True),
    Index("files_by_series", "psp", "series", "version", postgresql_where=text("version > 0")),
    Index("files_by_day", "psp", "day"),
    # The condition always holds; only the list's pages state it, of all PSPs and of one.
    Index("files_by_time", "received_at_ms", "file_id", postgresql_where=text("received_at_ms > 0")),
    Index("files_of_psp_by_time", "psp", "received_at_ms", "file_id", postgresql_where=text("received_at_ms > 0")),
    key=("file_id",),
)  # fmt: skip

LINES = _table(
    "lines", "once",
    _text("file_id"), _long("line_no"), _text("line_id"), _text("category"), _text("psp_object_id"), _text("tenant"),
    _text("checkout_id"), _text("reference"), _text("refund_key"), _text("currency"), _long("gross_minor"),
    _long("fee_minor"), _long("net_minor"), _long("booked_at_ms"), _text("payout_id"),
    # The condition always holds; only pages by object state it. Else the planner, where statistics are young, finds one line by
    # this index and reads its whole file.
    Index("lines_by_object", "file_id", "psp_object_id", "line_no", postgresql_where=text("line_no > 0")),
    Index("lines_by_reference", "reference"),
    Index("lines_by_id", "line_id"),
    # Likewise: only the pages that compare two runs state it.
    Index("lines_by_file_and_id", "file_id", "line_id", postgresql_where=text("line_id <> ''")),
    key=("file_id", "line_no"),
)  # fmt: skip

# Which lines of a file are settled, from first to last: a row was written in the commit that put its journals into the outbox.
PARTS = _table(
    "parts", "once",
    _text("file_id"), _long("first_line"), _long("last_line"), _text("run_id"), _long("at_ms"),
    key=("file_id", "first_line"),
)  # fmt: skip

# The calendar: a file that is due and not there raises an alarm once. file_id "" until it came.
EXPECTED_FILES = _table(
    "expected_files", "state",
    _text("psp"), _text("day"), _long("due_at_ms"), _text("file_id"), _long("alarmed_at_ms", optional=True),
    key=("psp", "day"),
)  # fmt: skip

# kind: nightly (period = day of the PSP's files) or inside (period = the hour, "YYYY-MM-DDTHH"). attempt: 1, 2, .. for
# re-runs with other rules. holder and epoch: who works on it; a run whose lease is over is taken over by epoch + 1.
# asked_by: for whom the attempt was begun: a caller, or "schedule".
# progress: JSON, where to go on. summary: JSON, counts by state and class, explained share.
RUNS = _table(
    "runs", "state",
    _text("run_id"), _text("kind"), _text("psp"), _text("period"), _small("attempt"), _text("rules"), _text("state"),
    _text("holder"), _long("epoch"), _long("lease_until_ms"), _text("progress"), _text("summary"),
    _long("started_at_ms"), _long("ended_at_ms", optional=True),
    Column("asked_by", Text, nullable=False, server_default=text("''")),
    UniqueConstraint("kind", "psp", "period", "attempt", name="runs_once"),
    # Likewise.
    Index("runs_by_time", "kind", "started_at_ms", "run_id", postgresql_where=text("started_at_ms > 0")),
    key=("run_id",),
)  # fmt: skip

# What our books know of a PSP's objects when a run began: a row an attempt, and one a refund. It stands still while the run
# works, so that one that died goes on with the same. Rows left after the run are those still EXPECTED: the next run of the PSP
# begins with them, and with what came since; those of nights long ago are pruned. kind: charge, refund. number: of the attempt,
# or of the refund. standing: what our side says of it, in the words of `domain.reconcile`.
MOVEMENTS = _table(
    "movements", "scratch",
    _text("run_id"), _text("psp_object_id"), _text("tenant"), _text("checkout_id"), _text("payment_order_id"), _text("kind"),
    _small("number"), _text("psp"), _text("refund_key"), _long("amount_minor"), _text("currency"), _long("at_ms"),
    _text("standing"), _text("buyer"), _text("seller"), _flag("is_from_suspense"),
    key=("run_id", "psp_object_id", "tenant", "payment_order_id", "kind", "number"),
)  # fmt: skip

# One row a line, and one a movement; a pair is a row of each. state: MATCHED, EXPECTED, EXPLAINED (needs no partner), MISMATCH.
# item: "line/<line_no>/<file_id>" or "order/<kind>/<number>/<tenant>/<payment_order_id>"; partner: the other's item, or "".
# Beside a line "fee/<line_no>/<file_id>", where its fee is in a case of its own; partner: the line.
# found: JSON of what this run said is wrong, "" where nothing is: the case is told anew by every run that meets it.
ITEMS = _table(
    "items", "once",
    _text("run_id"), _text("item"), _text("partner"), _text("state"), _text("matched_by"), _text("mismatch_id"),
    Column("found", Text, nullable=False, server_default=text("''")),
    Index("items_by_mismatch", "mismatch_id", postgresql_where=text("mismatch_id <> ''")),
    Index("items_by_item", "item"),
    key=("run_id", "item"),
)  # fmt: skip

# mismatch_id is made from kind and subject, so that every run that sees it again finds the same case.
# state: OPEN, FIXING (an automatic fix is on its way), PROPOSED, APPROVED, RESOLVED, WRITTEN_OFF. field, ours, theirs: what
# differs. proposal: JSON {action, postings: [[account, minor, currency], ..], command}: the dry run. movement: the item of the
# movement it is about, "" where it is about a line, a posting or an account alone.
MISMATCHES = _table(
    "mismatches", "state",
    _text("mismatch_id"), _text("kind"), _text("class"), _text("state"), _long("version"), _text("psp"), _text("tenant"),
    _text("checkout_id"), _text("payment_order_id"), _text("line_id"), _text("file_id"), _text("field"), _text("ours"),
    _text("theirs"), _text("likely_cause"), _text("proposal"), _long("amount_minor"), _text("currency"),
    _text("assignee"), _text("proposed_by"), _long("opened_at_ms"), _long("closed_at_ms", optional=True),
    _text("first_run"), _text("last_run"), Column("movement", Text, nullable=False, server_default=text("''")),
    Index("mismatches_by_state", "state", "opened_at_ms", "mismatch_id"),
    Index("mismatches_by_order", "tenant", "payment_order_id"),
    Index("mismatches_by_run", "last_run", "kind"),
    key=("mismatch_id",),
)  # fmt: skip

# What a pass of a run left to the next one: scratch. grp: what the pass groups by, "" for the last one.
LEFTOVERS = _table(
    "leftovers", "scratch",
    _text("run_id"), _small("pass"), _text("grp"), _text("file_id"), _long("line_no"),
    key=("run_id", "pass", "grp", "file_id", "line_no"),
)  # fmt: skip

# Every act of finance or of the machine on a mismatch. number: 1, 2, .. within it. act_key: the caller's idempotency key.
ACTS = _table(
    "acts", "once",
    _text("mismatch_id"), _small("number"), _text("act"), _text("actor"), _text("act_key"), _text("detail"), _long("at_ms"),
    UniqueConstraint("mismatch_id", "act_key", name="acts_key_once"),
    key=("mismatch_id", "number"),
)  # fmt: skip

# The reconciler's outbox: what it will post or report, written before it is sent. key: of the journal, transfer or report, the
# same for ever. kind: journal, transfer, debit (which waits for transfers), report. body: JSON of the whole request. state:
# OPEN, DONE, DEAD. run_id: the run that asked for it, "settle/<file_id>" for the postings of a file, "" for a person's.
DELIVERIES = _table(
    "deliveries", "state",
    _text("key"), _text("kind"), _text("tenant"), _text("mismatch_id"), _text("run_id"), _text("body"), _text("state"),
    _text("outcome"), _small("tries"), _long("due_at_ms"), _long("created_at_ms"),
    Index("deliveries_due", "due_at_ms", "key", postgresql_where=text("state = 'OPEN'")),
    Index("deliveries_by_run", "run_id", "key"),
    key=("key",),
)  # fmt: skip
