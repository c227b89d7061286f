# ruff: noqa: S608 - statements here are made of names of ours
"""What a pass leaves to the next one, as rows: which pass a line goes to, by which group, and what takes it out again.

Invariant: a line is left to one pass at a time; whoever takes it out has an item of it, or leaves it to a later one.
"""

from collections.abc import Sequence

from sqlalchemy import text

from zerosum.domain.money import Money
from zerosum.domain.settlement import Category, Line
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.line import Groups
from zerosum.store.reconciliation.table import LEFTOVERS
from zerosum.store.statement import int_array, text_array
from zerosum.store.wire import Call, compiled


def leftover_rows(run_id: str, phase: str, lines: Sequence[Line]) -> list[Row]:
    """The rows that leave lines to the pass which follows this phase."""
    return [_row(run_id, line, *_next_pass(phase, line)) for line in lines]


def used_leftovers(run_id: str, number: int, groups: Groups) -> Call | None:
    """What takes these lines out of what was left to the pass of that number; None where that is nothing."""
    used = [(name, line) for name, lines in groups for line in lines]
    if number == 1 or not used:
        return None
    return _USED.call({
        "run_id": run_id, "pass": number, "groups": text_array([name for name, _ in used]),
        "files": text_array([line.file_id for _, line in used]), "numbers": int_array(line.number for _, line in used),
    })  # fmt: skip


def amount_group(money: Money) -> str:
    """The group of pass 3 that money is in: its sign does not count."""
    return f"{money.currency}/{abs(money.amount_minor)}"


def unsigned(money: Money) -> Money:
    """The money of a movement, as a line of it tells it."""
    return Money(abs(money.amount_minor), money.currency)


def _next_pass(phase: str, line: Line) -> tuple[int, str]:
    """To which pass a line goes that this phase left, and the group it is in there."""
    if phase == "objects" and line.reference:
        return 2, line.reference
    if phase == "objects" and not line.object_id and line.category in (Category.CHARGE, Category.REFUND):
        return 3, amount_group(line.gross)
    return 4, ""


def _row(run_id: str, line: Line, number: int, group: str) -> Row:
    return {"run_id": run_id, "pass": number, "grp": group, "file_id": line.file_id, "line_no": line.number}


# ---- statements ----------------------------------------------------------------------------------------------------

_USED = compiled(
    text(
        f"DELETE FROM {LEFTOVERS.fullname} AS r USING unnest(CAST(:groups AS TEXT[]), CAST(:files AS TEXT[]), "
        "CAST(:numbers AS INT8[])) AS u (grp, file_id, line_no) WHERE r.run_id = :run_id "
        "AND r.pass = CAST(:pass AS INT4) AND r.grp = u.grp AND r.file_id = u.file_id AND r.line_no = u.line_no"
    )
)
