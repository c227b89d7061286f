# ruff: noqa: S608 - statements here are made of names of ours
"""What an accepted file settles, into the outbox: a journal a tenant and currency, of each part of the file.

A file of up to `PART_LINES` lines is one part; a longer one is posted in parts, each named by its first line. A part's row and
its journals are written in one commit. When a corrected file takes the place of one that was posted, every
journal of the old one is reversed by a journal of its own.

Invariant: a line is in exactly one part, and a part's journals have ids made from file, currency and first line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from zerosum.domain.discrepancy import Action, Discrepancy, Kind, Proposal
from zerosum.domain.identity import Key, OrderId, Tenant, derived_key
from zerosum.domain.money import Money
from zerosum.domain.reconcile import is_told_again
from zerosum.domain.reconcile_item import Item, MatchedBy, State
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_posting import Settled, settled, settlement_entries, settlement_journal, total
from zerosum.errors import Bug
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.delivery import HOUSE_BOOKS, delivery_row, journal_body
from zerosum.store.reconciliation.elsewhere import first_told
from zerosum.store.reconciliation.line import PAGE_LINES, line_of
from zerosum.store.reconciliation.table import DELIVERIES, FILES, ITEMS, LINES, MISMATCHES, PARTS
from zerosum.store.session import Session
from zerosum.store.statement import insert, text_array
from zerosum.store.wire import Call, Rows, compiled

PART_LINES = 10_000
"""Lines of a part: read and added up in about half a second, page by page, in one transaction."""


async def settle_part(
    session: Session, run_id: str, psp: str, files: Sequence[str], at: Sequence[Any] | None, now_ms: int
) -> list[Any] | None:
    """Puts the next part behind `at` (number of the file, line) into the outbox; where to go on, None = the end.

    No money moves yet: the outbox is sent afterwards.
    """
    number, after = at or (0, 0)
    if number >= len(files):
        return None
    file_id = files[number]
    values: dict[str, Any] = {"file_id": file_id, "after": after, "rows": min(PAGE_LINES, PART_LINES)}
    part = _Part()
    while part.lines < PART_LINES:
        (reply,) = (await session.send([_LINES.call(values)])).all()
        lines = [line_of(psp, row) for row in reply.by_name()]
        cases = await _doubts(session, run_id, lines)
        await _refuse_settled(session, psp, files, [line for line in lines if not _is_set_aside(line, cases)])
        for line in lines:
            part.add(_item(line, cases))
        values["after"] = part.last
        if len(reply) < values["rows"]:
            break
    if part.lines:
        await _post(session, psp, run_id, file_id, part, now_ms)
    return [number, part.last] if part.lines >= PART_LINES else [number + 1, 0]


async def _doubts(session: Session, run_id: str, lines: Sequence[Line]) -> Mapping[str, Row]:
    """The cases of these lines that settling does not believe, by item: of a page, for a PSP may change every fee of a file."""
    names = {name: line.item for line in lines for name in (line.item, line.fee_item)}
    (found,) = (await session.send([_DOUBTS.call({"run_id": run_id, "items": text_array(list(names))})])).all()
    return {names[row["item"]]: row for row in found.by_name()}


def _is_set_aside(line: Line, cases: Mapping[str, Row]) -> bool:
    return line.item in cases and cases[line.item]["kind"] == Kind.DUPLICATE_LINE


async def _refuse_settled(session: Session, psp: str, files: Sequence[str], lines: Sequence[Line]) -> None:
    """Raises Bug where another file has settled one of these since this run matched it: the run's next attempt sees it so.

    Another copy may have worked on another day meanwhile; that nothing settles twice is decided here, in the transaction
    that settles.
    """

    async def look(call: Call) -> Rows:
        return (await session.send([call])).all()[0]

    told = await first_told(look, psp, files, lines)
    for line in lines:
        first = told.get(line.item)
        if first is not None and first.is_settled and is_told_again(line, first.line):
            raise Bug(f"line {line.item} was settled by another file, as {first.line.item}, since this run matched it")


@dataclass(slots=True)
class _Part:
    """Lines of a file that are posted together, added up: sums by tenant and currency, never the lines themselves."""

    first: int = 0
    last: int = 0
    lines: int = 0
    wholes: dict[tuple[Tenant, str], Settled] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Counts a line."""
        assert item.line is not None  # each is made of one
        self.first, self.last = self.first or item.line.number, item.line.number
        self.lines += 1
        found = settled(item)
        if found is not None:
            owner = (item.line.tenant or HOUSE_BOOKS, found.currency)
            self.wholes[owner] = total([found, *([self.wholes[owner]] if owner in self.wholes else [])])


async def _post(session: Session, psp: str, run_id: str, file_id: str, part: _Part, now_ms: int) -> None:
    journals = [
        settlement_journal(tenant, psp, file_id=file_id, number=part.first, whole=whole)
        for (tenant, _), whole in sorted(part.wholes.items(), key=lambda one: one[0])
        if settlement_entries(psp, whole)
    ]
    deliveries = [
        delivery_row(each.journal_id, "journal", each.tenant, "", settle_name(file_id), journal_body(each), now_ms)
        for each in journals
    ]
    row: Row = {
        "file_id": file_id, "first_line": part.first, "last_line": part.last, "run_id": run_id, "at_ms": now_ms,
    }  # fmt: skip
    calls = [session.call(insert(PARTS), [row])]
    if deliveries:
        calls.append(session.call(insert(DELIVERIES), deliveries))
    (await session.send(calls)).all()


async def reverse_settlement(session: Session, file_id: str, now_ms: int) -> None:
    """Puts the reverse of everything that is or will be posted of a superseded file into the outbox, each once."""
    (posted,) = (await session.send([_POSTED.call({"run_id": settle_name(file_id)})])).all()
    rows = []
    for key, tenant, body in posted:
        reversed_body = reversal_of(key, tenant, body)
        rows.append(
            delivery_row(
                reversed_body["journal_id"], "journal", tenant, "", f"reverse/{file_id}", reversed_body, now_ms
            )
        )
    if rows:
        (await session.send([session.call(insert(DELIVERIES), rows)])).all()


def settle_name(file_id: str) -> str:
    """What stands for the postings of a file in the outbox."""
    return f"settle/{file_id}"


def reversal_of(key: str, tenant: str, body: str) -> dict[str, Any]:
    """The journal that takes a posted one back."""
    found: dict[str, Any] = json.loads(body)
    entries = [[account, -minor, currency] for account, minor, currency in found["entries"]]
    return {**found, "journal_id": derived_key(tenant, key, "reversal", 1), "entries": entries}


def _item(line: Line, cases: Mapping[str, Row]) -> Item:
    """As much of the line's item as settling looks at: the line, and the kind and money of its case."""
    row = cases.get(line.item)
    if row is None:
        return Item(line, None, State.MATCHED, MatchedBy.NOTHING, None)
    found = Discrepancy(
        id=Key(row["mismatch_id"]), kind=Kind(row["kind"]), psp=line.psp, tenant=line.tenant,
        checkout_id=line.checkout_id, order_id=OrderId(line.reference), object_id=line.object_id, line_id=line.id,
        file_id=line.file_id, field="", ours="", theirs="", money=Money(row["amount_minor"], row["currency"]),
        proposal=Proposal(Action.NONE, (), ""),
    )  # fmt: skip
    return Item(line, None, State.MISMATCH, MatchedBy.NOTHING, found)


# ---- statements ----------------------------------------------------------------------------------------------------

_LINES = compiled(
    text(
        f"SELECT t.* FROM {LINES.fullname} AS t JOIN {FILES.fullname} AS f ON f.file_id = t.file_id "
        "AND f.state = 'ACCEPTED' WHERE t.file_id = :file_id AND t.line_no > greatest(CAST(:after AS INT8), "
        f"coalesce((SELECT max(p.last_line) FROM {PARTS.fullname} AS p WHERE p.file_id = CAST(:file_id AS TEXT)), 0)) "
        "ORDER BY t.line_no LIMIT CAST(:rows AS INT8)"
    )
)
_DOUBTS = compiled(
    text(
        "SELECT i.item, m.mismatch_id, m.kind, m.amount_minor, m.currency FROM unnest(CAST(:items AS TEXT[])) AS u (id) "
        f"JOIN {ITEMS.fullname} AS i ON i.run_id = CAST(:run_id AS TEXT) AND i.item = u.id AND i.mismatch_id || '' <> '' "
        f"JOIN {MISMATCHES.fullname} AS m ON m.mismatch_id = i.mismatch_id WHERE m.kind = ANY(CAST('{{"
        f"{','.join((Kind.WRONG_FEE, Kind.UNKNOWN_FEE, Kind.DUPLICATE_LINE))}"
        "}' AS TEXT[]))"
    )
)
"""By the run's own items: another run may have met the same case since."""
_POSTED = compiled(
    text(
        f"SELECT key, tenant, body FROM {DELIVERIES.fullname} WHERE run_id = :run_id AND kind = 'journal' "
        "AND state <> 'DEAD' ORDER BY key"
    )
)
"""What the ledger refused for good was never posted: there is nothing to take back."""
