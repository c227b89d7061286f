# ruff: noqa: S608 - statements here are made of names of ours
"""What differs between two runs of a day: the same files by other rules, or a corrected file by the same.

Invariant: each item is looked at once, in order, and no more of them than a chunk of either run is in memory.
"""

from collections.abc import Sequence

from sqlalchemy import text

from zerosum.reconciling import Difference
from zerosum.store.database import Database
from zerosum.store.reconciliation.table import ITEMS, MISMATCHES
from zerosum.store.wire import compiled

CHUNK_ITEMS = 5_000


async def compare(database: Database, before: str, after: str, rows_max: int, from_item: str) -> Sequence[Difference]:
    """The first `rows_max` items behind `from_item` whose outcome differs. Raises Unavailable."""
    found: list[Difference] = []
    at: str | None = from_item
    while at is not None and len(found) < rows_max:
        left, right = await _items(database, before, at), await _items(database, after, at)
        ends = [max(side) for side in (left, right) if len(side) == CHUNK_ITEMS]
        at = min(ends) if ends else None
        for item in sorted(left.keys() | right.keys()):
            if at is None or item <= at:
                found += _difference(item, left.get(item, ""), right.get(item, ""))
    return found[:rows_max]


def _difference(item: str, before: str, after: str) -> list[Difference]:
    return [Difference(item, before, after)] if before != after else []


async def _items(database: Database, run_id: str, after: str) -> dict[str, str]:
    rows = await database.look(_OUTCOMES.call({"run_id": run_id, "after": after, "rows": CHUNK_ITEMS}))
    return {item: f"{state} {kind}" if kind else state for item, state, kind in rows}


_OUTCOMES = compiled(
    text(
        f"SELECT i.item, i.state, m.kind FROM {ITEMS.fullname} AS i LEFT JOIN {MISMATCHES.fullname} AS m "
        "ON m.mismatch_id = i.mismatch_id WHERE i.run_id = :run_id AND i.item > :after "
        "ORDER BY i.item LIMIT CAST(:rows AS INT8)"
    )
)
