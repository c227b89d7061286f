# ruff: noqa: S608 - statements here are made of names of ours
"""What an accepted file settles, into the outbox: a journal a tenant and currency, of each part of the file.

A file of up to `PART_LINES` lines is one part; a longer one is posted in parts, each named by its first line. A part's row and
its journals are written in one commit. When a corrected file takes the place of one that was posted, every
journal of the old one is reversed by a journal of its own.

Invariant: a line is in exactly one part and in one tenant's books, and a part's journals have ids made from tenant, file,
currency and first line.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import text

from zerosum.domain.discrepancy import Action, Discrepancy, Kind, Proposal
from zerosum.domain.identity import Key, OrderId, Tenant, derived_key
from zerosum.domain.money import Money
from zerosum.domain.reconcile import is_told_again
from zerosum.domain.reconcile_item import Item, MatchedBy, State, tenant_of
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_posting import Settled, books_of, settled, settlement_entries, settlement_journal, total
from zerosum.errors import Bug
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.delivery import delivery_row, journal_body
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
        found = await _found(session, run_id, lines)
        settling = [line for line, each in zip(lines, found, strict=True) if not each.is_set_aside]
        await _refuse_settled(session, psp, files, settling)
        for line, each in zip(lines, found, strict=True):
            part.add(line, each)
        values["after"] = part.last
        if len(reply) < values["rows"]:
            break
    if part.lines:
        await _post(session, psp, run_id, file_id, part, now_ms)
    return [number, part.last] if part.lines >= PART_LINES else [number + 1, 0]


class _Found(NamedTuple):
    """What the run made of a line, as much of it as settling looks at: the line, its cases, and whose books it settles in."""

    item: Item
    books: Tenant

    @property
    def is_set_aside(self) -> bool:
        return self.item.discrepancy is not None and self.item.discrepancy.kind is Kind.DUPLICATE_LINE


async def _found(session: Session, run_id: str, lines: Sequence[Line]) -> list[_Found]:
    """Of each line of a page, by the run's own items: another run may have met the same case since."""
    names = [name for line in lines for name in (line.item, line.fee_item)]
    (reply,) = (await session.send([_FOUND.call({"run_id": run_id, "items": text_array(names)})])).all()
    rows = {row["item"]: row for row in reply.by_name()}
    return [_found_of(line, rows.get(line.item), rows.get(line.fee_item)) for line in lines]


def _found_of(line: Line, own: Row | None, fee: Row | None) -> _Found:
    found, beside = _case(line, own), _case(line, fee)
    item = Item(line, None, State.MISMATCH if found else State.MATCHED, MatchedBy.NOTHING, found, beside)
    movement = tenant_of(own["partner"]) if own and own["partner"] else ""
    return _Found(item, books_of(movement, found.tenant if found else "", line.tenant))


def _case(line: Line, row: Row | None) -> Discrepancy | None:
    """The kind, the money and the tenant of a case of the line."""
    if row is None or row["kind"] is None:
        return None
    return Discrepancy(
        id=Key(row["mismatch_id"]), kind=Kind(row["kind"]), psp=line.psp, tenant=Tenant(row["tenant"]),
        checkout_id=line.checkout_id, order_id=OrderId(line.reference), object_id=line.object_id, line_id=line.id,
        file_id=line.file_id, field="", ours="", theirs="", money=Money(row["amount_minor"], row["currency"]),
        proposal=Proposal(Action.NONE, (), ""),
    )  # fmt: skip


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

    def add(self, line: Line, found: _Found) -> None:
        """Counts a line."""
        self.first, self.last = self.first or line.number, line.number
        self.lines += 1
        part = settled(found.item)
        if part is not None:
            owner = (found.books, part.currency)
            self.wholes[owner] = total([part, *([self.wholes[owner]] if owner in self.wholes else [])])


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


# ---- statements ----------------------------------------------------------------------------------------------------

_LINES = compiled(
    text(
        f"SELECT t.* FROM {LINES.fullname} AS t JOIN {FILES.fullname} AS f ON f.file_id = t.file_id "
        "AND f.state = 'ACCEPTED' WHERE t.file_id = :file_id AND t.line_no > greatest(CAST(:after AS INT8), "
        f"coalesce((SELECT max(p.last_line) FROM {PARTS.fullname} AS p WHERE p.file_id = CAST(:file_id AS TEXT)), 0)) "
        "ORDER BY t.line_no LIMIT CAST(:rows AS INT8)"
    )
)
_FOUND = compiled(
    text(
        "SELECT i.item, i.partner, m.mismatch_id, m.kind, m.tenant, m.amount_minor, m.currency "
        f"FROM unnest(CAST(:items AS TEXT[])) AS u (id) JOIN {ITEMS.fullname} AS i ON i.run_id = CAST(:run_id AS TEXT) "
        f"AND i.item = u.id LEFT JOIN {MISMATCHES.fullname} AS m ON m.mismatch_id = i.mismatch_id"
    )
)
_POSTED = compiled(
    text(
        f"SELECT key, tenant, body FROM {DELIVERIES.fullname} WHERE run_id = :run_id AND kind = 'journal' "
        "AND state <> 'DEAD' ORDER BY key"
    )
)
"""What the ledger refused for good was never posted: there is nothing to take back."""
