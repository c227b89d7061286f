# ruff: noqa: S608 - statements here are made of names of ours
"""Cases whose premise is gone: a run closes those that have become right, and opens again those that people posted for.

    missing line         a line of its movement came, or this run knows what became of the movement
    booked by now        by our own books, or by a case of the payment service: see `home`
    not seen any more    the run that saw it last was done again, by other rules or a corrected file, and does not
    not what is off      what people posted for it is not what the newest file says is off (a clearing account's case: never,
                         its money is what is off now)

Where nobody posted anything for it, it closes, with an act that says why. Where people did, their posting is what is off now:
the case is open again with no money of its own, and what it proposes is to take the posting back.

Invariant: nothing closes alone that money may still move for, or has moved for: a case on its way or approved waits for its
outcome, and what two people posted only two people take back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from zerosum.domain.case import CLOSED, POSTED, Act, CaseState, still_to_post
from zerosum.domain.discrepancy import Action, Kind, rule_of
from zerosum.domain.journal import clearing_account
from zerosum.domain.reconcile_item import State
from zerosum.reconciling import RunRow
from zerosum.store.database import Database
from zerosum.store.mapping import Row, canonical_json
from zerosum.store.reconciliation.home import HOME_OF_ALL, LINE_WAS_A_CASE, posted_of
from zerosum.store.reconciliation.home import POSTED as BODIES
from zerosum.store.reconciliation.record import LAST_ACT, act_row, close_alone
from zerosum.store.reconciliation.table import ACTS, DELIVERIES, FILES, ITEMS, MISMATCHES, RUNS
from zerosum.store.session import Session
from zerosum.store.statement import insert, text_array
from zerosum.store.wire import Call, compiled

PAGE_CASES = 200
"""Cases of a step; each is looked at by a few keys."""

_POSTED_FOR = "posted for"
_STAGES = (str(CaseState.OPEN), str(CaseState.PROPOSED), _POSTED_FOR)
"""Open cases, those that somebody has proposed upon, and then the closed ones that people posted for: so many as people do."""


@dataclass(frozen=True, slots=True)
class Right:
    """A case whose premise is gone, and why. `is_off`: it is not gone, and what was posted for it is not what is off."""

    mismatch_id: str
    why: str
    is_off: bool = False


async def find_settled(
    database: Database, run: RunRow, at: Sequence[Any] | None
) -> tuple[list[Right], list[Any] | None]:
    """What is right among a page of cases behind `at`, and where to go on; None = the end. Reads only."""
    number, key, *stages = at or (0, "")
    stage = stages[0] if stages else _STAGES[0]
    query = _CLOSED_ONES if stage == _POSTED_FOR else _OPEN
    values = {
        "run_id": run.run_id, "psp": run.key.psp, "state": stage, "opened_at_ms": number, "after": key,
        "rows": PAGE_CASES,
    }  # fmt: skip
    rows = (await database.look(query.call(values))).by_name()
    right = [found for row in rows if row["mismatch_id"] and (found := _right(row)) is not None]
    if len(rows) == PAGE_CASES:
        return right, [rows[-1]["opened_at_ms"] or 0, rows[-1]["position"], stage]
    following = _STAGES[_STAGES.index(stage) + 1 :]
    return right, [0, "", following[0]] if following else None


def _right(row: Row) -> Right | None:
    if row["why"]:
        return Right(row["mismatch_id"], row["why"])
    is_posted_for = row["state"] in CLOSED and row["command"] and row["kind"] != Kind.CLEARING_NOT_OPEN_ITEMS
    if not is_posted_for:
        return None
    account = clearing_account(row["psp"], row["currency"])
    off_minor = sum(side.amount_minor for side in posted_of(row["kind"], row["posted"]) if side.account == account)
    return Right(row["mismatch_id"], _NOT_WHAT_IS_OFF, is_off=True) if off_minor != row["amount_minor"] else None


_NOT_WHAT_IS_OFF = "what was posted for it is not what is off"


async def close_settled(session: Session, run_id: str, right: Sequence[Right], now_ms: int) -> None:
    """Closes them where they are open or proposed upon, and opens those again that people posted for. No money moves."""
    if not right:
        return
    (still,) = (await session.send([_STILL.call({"ids": text_array([each.mismatch_id for each in right])})])).all()
    by_id = {each.mismatch_id: each for each in right}
    calls = [call for row in still.by_name() for call in _become_right(session, row, run_id, by_id, now_ms)]
    if calls:
        (await session.send(calls)).all()


def _become_right(session: Session, row: Row, run_id: str, by_id: Mapping[str, Right], now_ms: int) -> Iterator[Call]:
    found, is_closed = by_id[row["mismatch_id"]], row["state"] in CLOSED
    is_posted_for = bool(still_to_post((), posted_of(row["kind"], row["posted"])))
    if not (is_posted_for or is_closed or found.is_off):
        yield from close_alone(session, [row], run_id, found.why, now_ms)
    elif is_closed if found.is_off else is_posted_for and not _is_told(row):
        act = Act.SEE_AGAIN if row["state"] == CaseState.OPEN else Act.REOPEN
        detail = {"run": run_id, "why": found.why}
        yield session.call(insert(ACTS), [act_row(row["mismatch_id"], row["acts"] + 1, act, detail, now_ms)])
        yield _REOPEN.call({"mismatch_id": row["mismatch_id"], **_told_anew(row, found)})


def _is_told(row: Row) -> bool:
    """Whether a case says already that nothing is off but what was posted for it: then it is people's, as they left it."""
    return bool(row["amount_minor"] == 0 and row["proposal"] == _taking_back(row))


def _told_anew(row: Row, found: Right) -> Row:
    """The columns of a case that is open again; where its premise is gone it has no money of its own any more."""
    if found.is_off:
        names = ("amount_minor", "theirs", "likely_cause", "proposal")
        return {name: row[name] for name in names}
    return {"amount_minor": 0, "theirs": found.why, "likely_cause": _IS_OFF_NOW, "proposal": _taking_back(row)}


_IS_OFF_NOW = "what people posted for it is all that is off now: take it back"


def _taking_back(row: Row) -> str:
    """A dry run of nothing: less what was posted before, it is what takes that back."""
    action = rule_of(Kind(row["kind"])).action
    wanted = action if action in POSTED else Action.WRITE_OFF_TO_SUSPENSE
    return canonical_json({"action": wanted, "postings": [], "command": ""})


# ---- why -----------------------------------------------------------------------------------------------------------

_R = RUNS.fullname
_NEWER = (
    f"EXISTS (SELECT 1 FROM {_R} AS n WHERE n.kind = r.kind AND n.psp = r.psp AND n.period = r.period "
    "AND n.attempt > r.attempt AND (n.state = 'DONE' OR n.run_id = CAST(:run_id AS TEXT)))"
)
"""The period of `r` was run again since: what `r` found is no more."""

_CAME = (
    f"EXISTS (SELECT 1 FROM {ITEMS.fullname} AS i JOIN {_R} AS r ON r.run_id = i.run_id AND r.kind = 'nightly' "
    "AND r.psp || '' = m.psp AND (r.state = 'DONE' OR r.run_id = CAST(:run_id AS TEXT)) "
    f"JOIN {FILES.fullname} AS f ON f.file_id = split_part(i.partner, '/', 3) AND f.state || '' = 'ACCEPTED' "
    f"WHERE i.item = m.movement AND i.partner <> '' AND NOT {_NEWER})"
)
"""A line of this very movement, in a file that counts, by the newest run of its day."""

_KNOWN_HERE = (
    f"EXISTS (SELECT 1 FROM {ITEMS.fullname} AS i WHERE i.run_id = CAST(:run_id AS TEXT) AND i.item = m.movement "
    f"AND i.mismatch_id || '' <> m.mismatch_id AND i.state <> '{State.EXPECTED}')"
)
"""Explained, or in another case. Not yet due by other rules is no answer: the next run may have begun without it."""

_NOT_SEEN = f"EXISTS (SELECT 1 FROM {_R} AS r WHERE r.run_id = m.last_run AND r.kind = 'nightly' AND {_NEWER})"

_WHY = (
    f"CASE WHEN m.kind = '{Kind.MISSING_LINE}' THEN CASE WHEN m.movement = '' THEN '' WHEN {_CAME} THEN 'a line came' "
    f"WHEN {LINE_WAS_A_CASE} THEN 'its line came before we knew of it, and is a case of its own' "
    f"WHEN {_KNOWN_HERE} THEN 'this run knows what became of it' ELSE '' END "
    f"WHEN {_NOT_SEEN} THEN 'not seen any more' ELSE {HOME_OF_ALL} END"
)
"""A case that was opened before cases knew their movement stays people's where the movement is what it is about."""

# ---- statements ----------------------------------------------------------------------------------------------------

_M, _A = MISMATCHES.fullname, ACTS.fullname
_FACTS = "m.mismatch_id, m.kind, m.state, m.psp, m.amount_minor, m.currency, m.opened_at_ms"
_COLUMNS = f"{_FACTS}, {_WHY} AS why, {BODIES} AS posted"

_OPEN = compiled(
    text(
        f"SELECT {_COLUMNS}, m.mismatch_id AS position, '' AS command FROM {_M} AS m WHERE m.state = :state "
        "AND (m.opened_at_ms, m.mismatch_id) > (CAST(:opened_at_ms AS INT8), CAST(:after AS TEXT)) AND m.psp = :psp "
        "ORDER BY m.opened_at_ms, m.mismatch_id LIMIT CAST(:rows AS INT8)"
    )
)
"""A page by `mismatches_by_state`. FIXING and APPROVED wait for what was sent."""

_CLOSED_ONES = compiled(
    text(
        f"SELECT {_COLUMNS}, d.key AS position, COALESCE((SELECT CAST(a.detail AS JSON) ->> 'command' FROM {_A} AS a "
        "WHERE a.mismatch_id = m.mismatch_id AND a.act IN ('close_alone', 'settle', 'write_off') "
        f"ORDER BY a.number DESC LIMIT 1), '') AS command FROM {DELIVERIES.fullname} AS d "
        f"LEFT JOIN {_M} AS m ON m.mismatch_id = d.mismatch_id AND m.psp = :psp "
        "AND m.state || '' IN ('RESOLVED', 'WRITTEN_OFF') "
        "WHERE d.run_id = '' AND d.key > CAST(:after AS TEXT) ORDER BY d.key LIMIT CAST(:rows AS INT8)"
    )
)
"""People's deliveries have no run: a page by `deliveries_by_run`, and each one's case by its key. `command`: of the act that
closed the case; "" = it posted nothing."""

_STILL = compiled(
    text(
        f"SELECT m.mismatch_id, m.kind, m.state, m.amount_minor, m.theirs, m.likely_cause, m.proposal, {BODIES} AS posted, "
        f"{LAST_ACT} AS acts FROM {_M} AS m "
        "WHERE m.mismatch_id = ANY(CAST(:ids AS TEXT[])) AND m.state || '' IN ('OPEN', 'PROPOSED', 'RESOLVED', 'WRITTEN_OFF')"
    )
)
_REOPEN = compiled(
    text(
        f"UPDATE {_M} SET state = 'OPEN', proposed_by = '', closed_at_ms = NULL, version = version + 1, theirs = :theirs, "
        "amount_minor = CAST(:amount_minor AS INT8), likely_cause = :likely_cause, proposal = :proposal "
        "WHERE mismatch_id = :mismatch_id"
    )
)
