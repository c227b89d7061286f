# ruff: noqa: S608 - statements here are made of names of ours
"""What differs between two runs: the same files by other rules, or a corrected file by the same.

Whatever both runs looked at is found in both by one name: a line by the PSP's id of it, which a corrected file keeps whatever
becomes of its place, everything else by its item. What a run made of one name are all its outcomes together: a line's own, that
of its fee where it is in a case of its own, and those of each time a file lists it. An outcome is the state, and of a mismatch
its kind, class, values and proposal as that run had them: the case itself is told anew by every run that meets it.

Invariant: each name is looked at once, in the order of the database, and no more than a chunk of them is in memory.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text

from zerosum.domain.discrepancy import Kind
from zerosum.domain.money import Money
from zerosum.domain.reconcile_judgement import told as money_told
from zerosum.readers import Page
from zerosum.reconciling import Difference
from zerosum.store.database import Database
from zerosum.store.reconciliation.table import ITEMS, LINES, MISMATCHES, RUNS
from zerosum.store.statement import text_array
from zerosum.store.wire import compiled

CHUNK_ITEMS = 5_000

CHUNKS_MAX = 10
"""Chunks a call looks at: 10 x 5,000 names, so that it ends in time where two runs of a large day agree."""

_LINE = "line"
_PARTS = ("ledger", _LINE, "order", "wallet")
"""How names begin, in the order in which they are told."""

Names = Mapping[str, Sequence[str]]
"""What is told of by one name -> its items, of either run."""


async def compare(database: Database, before: str, after: str, rows_max: int, position: str) -> Page[Difference]:
    """Up to `rows_max` names behind `position` whose outcomes differ. A page may hold none and yet not be the last.

    Raises Unavailable.
    """
    runs = (before, after)
    files = [file_id for (file_id,) in await database.look(_FILES.call({"runs": text_array(runs)}))]
    at = position or f"{_PARTS[0]}/"
    found: list[Difference] = []
    for _ in range(CHUNKS_MAX):
        names, at = await _chunk(database, runs, files, at)
        outcomes = await _outcomes(database, runs, [item for items in names.values() for item in items])
        for name, items in names.items():
            told = [_together(outcomes[run], items) for run in runs]
            if told[0] != told[1]:
                found.append(Difference(name, *told))
            if len(found) == rows_max:
                return Page(found, name)
        if not at:
            break
    return Page(found, at)


async def _chunk(database: Database, runs: Sequence[str], files: Sequence[str], at: str) -> tuple[Names, str]:
    """The next names behind `at`, in order, and where to go on; "" = the end, or a position of nobody's."""
    part, _, after = at.partition("/")
    if part not in _PARTS:
        return {}, ""
    names: dict[str, list[str]] = {}
    values = {"rows": CHUNK_ITEMS, "after": after, "files": text_array(files)}
    if part == _LINE:
        rows = await database.look(_LINES.call(values))
        for line_id, number, file_id in rows:
            names.setdefault(f"{_LINE}/{line_id}", []).extend(f"{what}/{number}/{file_id}" for what in (_LINE, "fee"))
    else:
        values |= {"runs": text_array(runs), "after": f"{part}/{after}", "end": f"{part}0"}  # 0 comes behind /
        rows = await database.look(_OTHERS.call(values))
        names = {item: [item] for (item,) in rows}
    if len(rows) >= CHUNK_ITEMS:
        return names, list(names)[-1]
    following = _PARTS[_PARTS.index(part) + 1 :]
    return names, f"{following[0]}/" if following else ""


async def _outcomes(database: Database, runs: Sequence[str], items: Sequence[str]) -> dict[str, dict[str, str]]:
    """Run -> item -> what the run made of it."""
    found: dict[str, dict[str, str]] = {run: {} for run in runs}
    rows = await database.look(_OUTCOMES.call({"runs": text_array(runs), "items": text_array(items)}))
    for row in rows.by_name():
        found[row["run_id"]][row["item"]] = _told(row["state"], json.loads(row["found"]) if row["found"] else row)
    return found


def _told(state: str, found: Mapping[str, Any]) -> str:
    """An outcome as people read it. `found`: what was said to be wrong, its kind None where nothing was."""
    if not found["kind"]:
        return state
    parts = [] if found["kind"] in _OF_PLACES else [_values(found)]
    proposal = json.loads(found["proposal"])
    sides = [f"{account} {money_told(Money(minor, currency))}" for account, minor, currency in proposal["postings"]]
    parts.append(f"proposed {proposal['action']}{': ' if sides else ''}{', '.join(sides)}")
    return f"{state} {found['kind']} ({found['class']}): {'; '.join(parts)}"


_OF_PLACES = frozenset({Kind.DUPLICATE_LINE})
"""Kinds whose values are places in a file, which are others in the corrected one."""


def _values(found: Mapping[str, Any]) -> str:
    ours, theirs = (found[side] or "(nothing)" for side in ("ours", "theirs"))
    at_stake = money_told(Money(found["amount_minor"], found["currency"]))
    return f"{found['field']} {ours} by our books, {theirs} by the other side; at stake: {at_stake}"


def _together(outcomes: Mapping[str, str], items: Sequence[str]) -> str:
    """In one order, wherever the file has them; "" where the run has none of these."""
    return " | ".join(sorted(outcomes[item] for item in items if item in outcomes))


# ---- statements ----------------------------------------------------------------------------------------------------

_FILES = compiled(
    text(
        f"SELECT DISTINCT f.file_id FROM {RUNS.fullname} AS r CROSS JOIN LATERAL "
        "json_array_elements_text(CAST(r.progress AS JSON) -> 'files') AS f (file_id) "
        "WHERE r.run_id = ANY(CAST(:runs AS TEXT[]))"
    )
)
_LINES = compiled(
    text(
        "SELECT t.line_id, t.line_no, t.file_id FROM (SELECT DISTINCT s.line_id FROM (SELECT p.line_id "
        "FROM unnest(CAST(:files AS TEXT[])) AS f (file_id) CROSS JOIN LATERAL ("
        f"SELECT x.line_id FROM {LINES.fullname} AS x WHERE x.file_id = f.file_id AND x.line_id > :after "
        "AND x.line_id <> '' ORDER BY x.line_id LIMIT CAST(:rows AS INT8)) AS p ORDER BY p.line_id "
        f"LIMIT CAST(:rows AS INT8)) AS s) AS u JOIN {LINES.fullname} AS t ON t.line_id = u.line_id "
        "AND t.file_id || '' = ANY(CAST(:files AS TEXT[])) ORDER BY t.line_id, t.file_id, t.line_no"
    )
)
"""Every line of the page's ids, however often the files list it: at least as many as the page asked for, or it is the last."""
_OTHERS = compiled(
    text(
        "SELECT p.item FROM unnest(CAST(:runs AS TEXT[])) AS r (run_id) CROSS JOIN LATERAL ("
        f"SELECT i.item FROM {ITEMS.fullname} AS i WHERE i.run_id = r.run_id AND i.item > :after AND i.item < :end "
        "ORDER BY i.item LIMIT CAST(:rows AS INT8)) AS p ORDER BY p.item LIMIT CAST(:rows AS INT8)"
    )
)
"""What both runs have comes twice: so many rows as are asked for, or it is the last page."""
_OUTCOMES = compiled(
    text(
        "SELECT i.run_id, i.item, i.state, i.found, m.kind, m.class, m.field, m.ours, m.theirs, m.amount_minor, m.currency, "
        "m.proposal FROM unnest(CAST(:runs AS TEXT[])) AS r (run_id) CROSS JOIN unnest(CAST(:items AS TEXT[])) AS u (item) "
        f"JOIN {ITEMS.fullname} AS i ON i.run_id = r.run_id AND i.item = u.item LEFT JOIN {MISMATCHES.fullname} AS m "
        "ON m.mismatch_id = i.mismatch_id AND i.found = ''"
    )
)
"""Of runs before revision 0005, which kept nothing with the item, the case as it is now."""
