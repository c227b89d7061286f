# ruff: noqa: S608 - statements here are made of names of ours
"""What other nights have made of movements and lines: which line a movement has got, and where a line was told first.

A movement is known by its item, a line by the PSP's id of it, neither by the reference that a line carries: a line whose
reference is wrong or missing has its movement all the same, and a line that nobody has judged has none.

Invariant: only nights that are DONE, by their newest attempt, and only files that are still ACCEPTED count.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import text

from zerosum.domain.reconcile_item import Movement, MovementKind
from zerosum.domain.reconcile_judgement import has_no_fee
from zerosum.domain.settlement import Category, Line
from zerosum.reconciling import RunKey
from zerosum.store.reconciliation.line import line_of
from zerosum.store.reconciliation.table import FILES, ITEMS, LINES, MISMATCHES, PARTS, RUNS
from zerosum.store.statement import int_array, text_array
from zerosum.store.wire import Call, Rows, compiled

Look = Callable[[Call], Awaitable[Rows]]
"""How a statement is sent: within a transaction, or by itself."""


# ---- lines ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class First:
    """Where a line was told first. `is_settled`: its money is on its way already; else a file of this very run has it."""

    line: Line
    is_settled: bool


async def first_told(look: Look, psp: str, files: Sequence[str], lines: Sequence[Line]) -> Mapping[str, First]:
    """Item of each of these lines that is not the first with its id -> the first one. Payout rows settle nothing: left out.

    The first is the one that is settled, else, among `files` (those of the run), the one that settles first.
    """
    asked = [line for line in lines if line.category is not Category.PAYOUT]
    if not asked:
        return {}
    twice = await look(_TOLD_TWICE.call({
        "ids": text_array([line.id for line in asked]), "files": text_array([line.file_id for line in asked]),
        "numbers": int_array(line.number for line in asked),
    }))  # fmt: skip
    if not len(twice):
        return {}
    values = {"ids": text_array([name for (name,) in twice]), "files": text_array(list(files)), "psp": psp}
    rows = (await look(_FIRST.call(values))).by_name()
    firsts = {row["line_id"]: First(line_of(psp, row), row["settled_at_ms"] is not None) for row in rows}
    return {
        line.item: firsts[line.id] for line in asked if line.id in firsts and firsts[line.id].line.item != line.item
    }


async def disputes_without_fee(
    look: Look, psp: str, files: Sequence[str], lines: Sequence[Line]
) -> Mapping[str, Sequence[Line]]:
    """Reference -> disputes that other files tell of the orders that fee rows among `lines` name, and tell without a fee.

    As many of an object as other nights have explained fee rows by are left out.
    """
    references = sorted({line.reference for line in lines if line.category is Category.FEE and line.reference})
    if not references:
        return {}
    values = {"references": text_array(references), "files": text_array(list(files)), "psp": psp}
    told: dict[tuple[str, str], dict[str, Line]] = {}
    taken: dict[tuple[str, str], set[str]] = {}
    for row in (await look(_DISPUTED.call(values))).by_name():
        line = line_of(psp, row)
        if has_no_fee(line):
            told.setdefault((line.reference, line.object_id), {})[line.id] = line
        elif row["is_explained"]:
            taken.setdefault((line.reference, line.object_id), set()).add(line.id)
    found: dict[str, list[Line]] = {}
    for key, disputes in told.items():
        found.setdefault(key[0], []).extend(list(disputes.values())[len(taken.get(key, ())) :])
    return found


# ---- movements -----------------------------------------------------------------------------------------------------


async def with_what_they_got(look: Look, key: RunKey, movements: Sequence[Movement]) -> list[Movement]:
    """The same; `settled_by` tells the line that another night gave a movement, "-" where a case of several has it."""
    asked = [movement.item for movement in movements if not movement.settled_by]
    if not asked:
        return list(movements)
    rows = await look(_GOT.call({"items": text_array(asked), "psp": key.psp, "period": key.period}))
    got: dict[str, str] = {}
    for item, line_id in rows:
        got[item] = line_id or got.get(item, "-")
    return [replace(movement, settled_by=movement.settled_by or got.get(movement.item, "")) for movement in movements]


async def still_to_be_judged(
    look: Look, psp: str, files: Sequence[str], movements: Sequence[Movement]
) -> frozenset[str]:
    """Items of those with a line under their own reference in another accepted file whose day has yet to be run.

    A day that FAILED waits for people, and its lines explain nothing until it is run again.
    """
    if not movements:
        return frozenset()
    references = text_array(sorted({movement.order_id for movement in movements}))
    rows = (
        await look(_UNJUDGED.call({"references": references, "files": text_array(list(files)), "psp": psp}))
    ).by_name()
    lines: dict[str, list[Line]] = {}
    for line in (line_of(psp, row) for row in rows):
        lines.setdefault(line.reference, []).append(line)
    return frozenset(
        movement.item
        for movement in movements
        if any(_is_about(line, movement) for line in lines.get(movement.order_id, ()))
    )


_CATEGORY: Mapping[MovementKind, Category] = {
    MovementKind.CHARGE: Category.CHARGE,
    MovementKind.REFUND: Category.REFUND,
}


def _is_about(line: Line, movement: Movement) -> bool:
    is_same = line.object_id == movement.object_id and line.category is _CATEGORY[movement.kind]
    return is_same and line.refund_key in ("", movement.refund_key)


# ---- statements ----------------------------------------------------------------------------------------------------

_L, _F, _I, _R = LINES.fullname, FILES.fullname, ITEMS.fullname, RUNS.fullname
_NEWER = (
    f"SELECT 1 FROM {_R} AS n WHERE n.kind = 'nightly' AND n.psp = r.psp AND n.period = r.period AND n.state = 'DONE' "
    "AND n.attempt > r.attempt"
)
_ITEM_OF_LINE = "'line/' || CAST(t.line_no AS TEXT) || '/' || t.file_id"
_ACCEPTED = f"JOIN {_F} AS f ON f.file_id = t.file_id || '' AND f.state = 'ACCEPTED' AND f.psp || '' = :psp"
"""As a value, the file leads the planner to no other order than lines first, then each one's file."""

_TOLD_TWICE = compiled(
    text(
        "SELECT DISTINCT u.id FROM unnest(CAST(:ids AS TEXT[]), CAST(:files AS TEXT[]), CAST(:numbers AS INT8[])) "
        f"AS u (id, file_id, line_no) CROSS JOIN LATERAL (SELECT 1 FROM {_L} AS t WHERE t.line_id = u.id "
        "AND (t.file_id || '' <> u.file_id OR t.line_no <> u.line_no) LIMIT 1) AS other"
    )
)
_SETTLED_AT_MS = (
    f"(SELECT p.at_ms FROM {PARTS.fullname} AS p WHERE p.file_id = t.file_id AND p.first_line <= t.line_no "
    f"AND p.last_line >= t.line_no AND NOT EXISTS (SELECT 1 FROM {_I} AS i JOIN {MISMATCHES.fullname} AS m "
    f"ON m.mismatch_id = i.mismatch_id WHERE i.run_id = p.run_id AND i.item = {_ITEM_OF_LINE} "
    "AND m.kind = 'duplicate_line') LIMIT 1)"
)
"""When a line's part was put into the outbox; NULL where that run set the line aside, as one that was told before."""
_FIRST = compiled(
    text(
        "SELECT s.* FROM unnest(CAST(:ids AS TEXT[])) AS u (id) CROSS JOIN LATERAL (SELECT p.* FROM ("
        f"SELECT t.*, {_SETTLED_AT_MS} AS settled_at_ms FROM {_L} AS t {_ACCEPTED} WHERE t.line_id = u.id) AS p "
        "WHERE p.settled_at_ms IS NOT NULL OR p.file_id = ANY(CAST(:files AS TEXT[])) "
        "ORDER BY coalesce(p.settled_at_ms, 9223372036854775807), p.file_id, p.line_no LIMIT 1) AS s"
    )
)
_GOT = compiled(
    text(
        "SELECT i.item, (SELECT t.line_id FROM "
        f"{_L} AS t WHERE t.file_id = split_part(i.partner, '/', 3) "
        "AND t.line_no = CAST(nullif(split_part(i.partner, '/', 2), '') AS INT8)) AS line_id "
        f"FROM unnest(CAST(:items AS TEXT[])) AS u (id) JOIN {_I} AS i ON i.item = u.id "
        f"JOIN {_R} AS r ON r.run_id = i.run_id || '' AND r.kind = 'nightly' AND r.psp = :psp AND r.period <> :period "
        f"AND r.state = 'DONE' WHERE NOT EXISTS ({_NEWER}) AND EXISTS (SELECT 1 FROM {_F} AS f WHERE f.state = 'ACCEPTED' "
        "AND f.file_id = CASE WHEN i.partner <> '' THEN split_part(i.partner, '/', 3) ELSE "
        f"(SELECT m.file_id FROM {MISMATCHES.fullname} AS m WHERE m.mismatch_id = i.mismatch_id AND m.kind = 'ambiguous') END)"
    )
)
_DISPUTED = compiled(
    text(
        f"SELECT t.*, EXISTS (SELECT 1 FROM {_I} AS i JOIN {_R} AS r ON r.run_id = i.run_id AND r.kind = 'nightly' "
        f"AND r.state = 'DONE' WHERE i.item = {_ITEM_OF_LINE} AND i.state = 'EXPLAINED' AND NOT EXISTS ({_NEWER})) "
        f"AS is_explained FROM unnest(CAST(:references AS TEXT[])) AS u (id) JOIN {_L} AS t ON t.reference = u.id {_ACCEPTED} "
        "WHERE NOT (t.file_id = ANY(CAST(:files AS TEXT[]))) AND t.category IN ('fee', 'dispute') "
        "ORDER BY t.reference, t.line_id"
    )
)
_UNJUDGED = compiled(
    text(
        f"SELECT t.* FROM unnest(CAST(:references AS TEXT[])) AS u (id) JOIN {_L} AS t ON t.reference = u.id {_ACCEPTED} "
        "WHERE NOT (t.file_id = ANY(CAST(:files AS TEXT[]))) "
        f"AND NOT EXISTS (SELECT 1 FROM {_I} AS i JOIN {_R} AS r ON r.run_id = i.run_id AND r.state = 'DONE' "
        f"WHERE i.item = {_ITEM_OF_LINE}) AND coalesce((SELECT r.state FROM {_R} AS r WHERE r.kind = 'nightly' "
        "AND r.psp = f.psp AND r.period = f.day ORDER BY r.attempt DESC LIMIT 1), '') <> 'FAILED'"
    )
)
