# ruff: noqa: S608 - statements here are made of names of ours
"""A run's own rows, read in groups: lines of the files, movements it has set aside, and what a pass left to the next.

A group (of one PSP object, one reference, one amount) is always whole: the last one of a page is left to the next page, and
one that is larger than a page is read by itself.

Invariant: pages are by keyset in index order; memory holds a page and its largest group, whatever the file's size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from sqlalchemy import text

from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.reconcile_item import Movement, MovementKind, Standing
from zerosum.domain.settlement import Category, Line
from zerosum.store.database import Database
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.table import ITEMS, LEFTOVERS, LINES, MOVEMENTS
from zerosum.store.statement import text_array
from zerosum.store.wire import Query, compiled

PAGE_LINES = 2_000
"""Lines of a step: 2,000 with their movements are about 4 MB in memory and 100 ms of work."""

Groups = list[tuple[str, list[Line]]]


class RunRows:
    """The rows of one run over some files."""

    def __init__(self, database: Database, run_id: str, psp: str, files: Sequence[str]) -> None:
        self._database = database
        self._run = {"run_id": run_id}
        self._psp = psp
        self._files = text_array(list(files))

    # ---- lines ---------------------------------------------------------------------------------------------------

    async def lines_without_object(self, after: Sequence[Any] | None) -> tuple[list[Line], Sequence[Any] | None]:
        """A page of the lines that name no object, and where to go on; None = the end."""
        file_id, line_no = after or ("", 0)
        rows = await self._look(_NO_OBJECT, {"file_id": file_id, "line_no": line_no})
        lines = [line_of(self._psp, row) for row in rows]
        return lines, (lines[-1].file_id, lines[-1].number) if len(lines) == PAGE_LINES else None

    async def by_object(self, after: str) -> tuple[Groups, str | None]:
        """Lines by their PSP object, and the object to go on behind."""
        return await self._groups(_BY_OBJECT, _OF_OBJECT, {"after": after}, lambda row: str(row["psp_object_id"]))

    async def left(self, number: int, after: str) -> tuple[Groups, str | None]:
        """What was left to the pass of that number, by its group, and the group to go on behind."""
        values = {**self._run, "pass": number, "after": after}
        return await self._groups(_LEFT, _LEFT_OF_GROUP, values, lambda row: str(row["grp"]))

    async def left_alone(self, number: int, after: Sequence[Any] | None) -> tuple[list[Line], Sequence[Any] | None]:
        """The same without groups, by page."""
        file_id, line_no = after or ("", 0)
        rows = await self._look(_LEFT_ALONE, {**self._run, "pass": number, "file_id": file_id, "line_no": line_no})
        lines = [line_of(self._psp, row) for row in rows]
        return lines, (lines[-1].file_id, lines[-1].number) if len(lines) == PAGE_LINES else None

    # ---- movements -----------------------------------------------------------------------------------------------

    async def movements_of_objects(self, objects: Sequence[str]) -> list[Movement]:
        """Those set aside of these objects."""
        rows = await self._look(_MOVEMENTS_OF_OBJECTS, {**self._run, "objects": text_array(list(objects))})
        return [movement_of(row) for row in rows]

    async def taken(self, movements: Sequence[Movement]) -> list[Movement]:
        """The same; `settled_by` tells the line of this run that has one already, "-" where a case has it."""
        names = text_array([movement.item for movement in movements])
        rows = await self._look(_TAKEN, {**self._run, "items": names})
        by = {row["item"]: row["line_id"] for row in rows}
        return [replace(movement, settled_by=by.get(movement.item, movement.settled_by)) for movement in movements]

    async def movements_of_amounts(self, amounts: Iterable[Money]) -> list[Movement]:
        """Those set aside of these amounts that no line of this run has. Reads all that was set aside: lines that name
        nothing are rare."""
        wanted, found = set(amounts), list[Movement]()
        after: Sequence[Any] | None = None
        while page := await self.movements_with_state(after):
            found += [movement for movement, state in page if movement.money in wanted and not state]
            after = position_of(page[-1][0])
        return found

    async def movements_with_state(self, after: Sequence[Any] | None) -> list[tuple[Movement, str]]:
        """A page of those set aside, in order of their key, each with the state of its item; "" where it has none."""
        values = dict(zip(("object", "tenant", "order", "kind", "number"), after or ("", "", "", "", 0), strict=True))
        rows = await self._look(_MOVEMENTS_WITH_STATE, {**self._run, **values})
        return [(movement_of(row), row["state"] or "") for row in rows]

    # ---- pages ---------------------------------------------------------------------------------------------------

    async def _look(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        values = {"files": self._files, "rows": PAGE_LINES, **values}
        return (await self._database.look(query.call(values))).by_name()

    async def _groups(
        self, page: Query, whole: Query, values: dict[str, Any], group_of: Callable[[Row], str]
    ) -> tuple[Groups, str | None]:
        rows = await self._look(page, values)
        if not rows:
            return [], None
        last = group_of(rows[-1])
        is_end = len(rows) < PAGE_LINES
        if not is_end and group_of(rows[0]) == last:
            rows = await self._look(whole, {**values, "after": last})
        elif not is_end:
            rows = [row for row in rows if group_of(row) != last]
        groups = [(key, [line_of(self._psp, row) for row in found]) for key, found in groupby(rows, group_of)]
        return groups, None if is_end else groups[-1][0]


# ---- rows ----------------------------------------------------------------------------------------------------------


def line_of(psp: str, row: Mapping[str, Any]) -> Line:
    """The line a row stands for."""
    return Line(
        psp=psp, number=row["line_no"], id=row["line_id"], category=Category(row["category"]),
        object_id=row["psp_object_id"], tenant=Tenant(row["tenant"]), checkout_id=row["checkout_id"],
        reference=row["reference"], refund_key=row["refund_key"], gross=Money(row["gross_minor"], row["currency"]),
        fee_minor=row["fee_minor"], net_minor=row["net_minor"], created_at_ms=row["booked_at_ms"],
        payout_id=row["payout_id"], file_id=row["file_id"],
    )  # fmt: skip


def movement_of(row: Mapping[str, Any]) -> Movement:
    """The movement a row stands for."""
    return Movement(
        kind=MovementKind(row["kind"]), number=row["number"], tenant=Tenant(row["tenant"]),
        checkout_id=CheckoutId(row["checkout_id"]), order_id=OrderId(row["payment_order_id"]), psp=row["psp"],
        object_id=row["psp_object_id"], refund_key=row["refund_key"],
        money=Money(row["amount_minor"], row["currency"]), at_ms=row["at_ms"], standing=Standing(row["standing"]),
        buyer=row["buyer"], seller=row["seller"], is_from_suspense=row["is_from_suspense"],
    )  # fmt: skip


def position_of(movement: Movement) -> list[Any]:
    """Where a movement stands in the order of those set aside."""
    return [movement.object_id, movement.tenant, movement.order_id, movement.kind, movement.number]


def movement_row(run_id: str, movement: Movement) -> Row:
    """The row that sets a movement aside for a run."""
    return {
        "run_id": run_id, "psp_object_id": movement.object_id, "tenant": movement.tenant,
        "checkout_id": movement.checkout_id, "payment_order_id": movement.order_id, "kind": movement.kind,
        "number": movement.number, "psp": movement.psp, "refund_key": movement.refund_key,
        "amount_minor": movement.money.amount_minor, "currency": movement.money.currency, "at_ms": movement.at_ms,
        "standing": movement.standing, "buyer": movement.buyer, "seller": movement.seller,
        "is_from_suspense": movement.is_from_suspense,
    }  # fmt: skip


# ---- statements ----------------------------------------------------------------------------------------------------

_L, _LEFT_ROWS, _M = LINES.fullname, LEFTOVERS.fullname, MOVEMENTS.fullname
_EACH_FILE = "FROM unnest(CAST(:files AS TEXT[])) AS f (file_id) CROSS JOIN LATERAL"
_LINES_OF = f"SELECT t.* FROM {_L} AS t WHERE t.file_id = f.file_id AND t.line_no > 0"
_LIMIT = "LIMIT CAST(:rows AS INT8)"

_NO_OBJECT = compiled(
    text(
        f"SELECT p.* {_EACH_FILE} ({_LINES_OF} AND t.psp_object_id = '' "
        "AND (t.file_id, t.line_no) > (CAST(:file_id AS TEXT), CAST(:line_no AS INT8)) "
        f"ORDER BY t.line_no {_LIMIT}) AS p ORDER BY p.file_id, p.line_no {_LIMIT}"
    )
)
_BY_OBJECT = compiled(
    text(
        f"SELECT p.* {_EACH_FILE} ({_LINES_OF} AND t.psp_object_id > :after "
        f"ORDER BY t.psp_object_id, t.line_no {_LIMIT}) AS p ORDER BY p.psp_object_id, p.file_id, p.line_no {_LIMIT}"
    )
)
_OF_OBJECT = compiled(
    text(f"SELECT p.* {_EACH_FILE} ({_LINES_OF} AND t.psp_object_id = :after) AS p ORDER BY p.file_id, p.line_no")
)
_JOIN_LEFT = f"FROM {_LEFT_ROWS} AS r JOIN {_L} AS t ON t.file_id = r.file_id AND t.line_no = r.line_no "
_LEFT_TO = "WHERE r.run_id = :run_id AND r.pass = CAST(:pass AS INT4)"
_LEFT = compiled(
    text(f"SELECT r.grp, t.* {_JOIN_LEFT}{_LEFT_TO} AND r.grp > :after ORDER BY r.grp, r.file_id, r.line_no {_LIMIT}")
)
_LEFT_OF_GROUP = compiled(
    text(f"SELECT r.grp, t.* {_JOIN_LEFT}{_LEFT_TO} AND r.grp = :after ORDER BY r.file_id, r.line_no")
)
_LEFT_ALONE = compiled(
    text(
        f"SELECT t.* {_JOIN_LEFT}{_LEFT_TO} AND r.grp = '' "
        "AND (r.file_id, r.line_no) > (CAST(:file_id AS TEXT), CAST(:line_no AS INT8)) "
        f"ORDER BY r.file_id, r.line_no {_LIMIT}"
    )
)
_ITEM = "'order/' || m.kind || '/' || CAST(m.number AS TEXT) || '/' || m.tenant || '/' || m.payment_order_id"
_ITEM_OF = f"FROM {ITEMS.fullname} AS i WHERE i.run_id = m.run_id AND i.item = {_ITEM}"

_MOVEMENTS_OF_OBJECTS = compiled(
    text(
        f"SELECT m.* FROM unnest(CAST(:objects AS TEXT[])) AS u (id) JOIN {_M} AS m "
        "ON m.run_id = CAST(:run_id AS TEXT) AND m.psp_object_id = u.id"
    )
)
_TAKEN = compiled(
    text(
        f"SELECT i.item, CASE WHEN i.partner = '' THEN '-' ELSE (SELECT t.line_id FROM {_L} AS t "
        "WHERE t.file_id = split_part(i.partner, '/', 3) "
        "AND t.line_no = CAST(split_part(i.partner, '/', 2) AS INT8)) END AS line_id "
        f"FROM unnest(CAST(:items AS TEXT[])) AS u (id) JOIN {ITEMS.fullname} AS i "
        "ON i.run_id = CAST(:run_id AS TEXT) AND i.item = u.id"
    )
)
_MOVEMENTS_WITH_STATE = compiled(
    text(
        f"SELECT m.*, (SELECT i.state {_ITEM_OF}) AS state FROM {_M} AS m WHERE m.run_id = :run_id "
        "AND (m.psp_object_id, m.tenant, m.payment_order_id, m.kind, m.number) > (CAST(:object AS TEXT), "
        "CAST(:tenant AS TEXT), CAST(:order AS TEXT), CAST(:kind AS TEXT), CAST(:number AS INT4)) "
        f"ORDER BY m.psp_object_id, m.tenant, m.payment_order_id, m.kind, m.number {_LIMIT}"
    )
)
