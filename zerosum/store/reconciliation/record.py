# ruff: noqa: S608 - statements here are made of names of ours
"""What a step of a run found, as rows: its items, the cases they open or meet again, and the automatic fixes.

A case is opened once, under an id made from what it is about; met again it only learns of the newest run; one that had closed
alone is opened again. A case of class AUTOMATIC goes on its way at once: its command is in the outbox in the same commit,
under the key that command has always had (failures.md P32).

Invariant: written twice, these rows are the same rows; every move of a case has an act beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from zerosum.domain.case import Act, CaseState
from zerosum.domain.discrepancy import Action, Class, Discrepancy, Kind
from zerosum.domain.money import Money
from zerosum.domain.reconcile_item import Item, MatchedBy, State
from zerosum.domain.reconcile_judgement import told
from zerosum.domain.settlement import Line
from zerosum.finance_queue import MACHINE
from zerosum.store.mapping import Row, canonical_json
from zerosum.store.reconciliation.delivery import delivery_row
from zerosum.store.reconciliation.table import ACTS, DELIVERIES, ITEMS, MISMATCHES
from zerosum.store.session import Session
from zerosum.store.statement import insert, text_array, update
from zerosum.store.wire import Call, compiled


@dataclass(frozen=True, slots=True)
class Found:
    """A discrepancy, and the automatic fix that goes into the outbox with it: kind and body; None where people decide."""

    case: Discrepancy
    fix: tuple[str, Mapping[str, Any]] | None = None


async def record(session: Session, run_id: str, items: Sequence[Item], now_ms: int) -> None:
    """Writes items with their cases and fixes. No money moves: what is to be sent is in the outbox."""
    rows = [row for item in items for row in _item_rows(run_id, item)]
    found = [Found(item.discrepancy, _fix_of(item)) for item in items if item.discrepancy is not None]
    found += [Found(item.fee) for item in items if item.fee is not None]
    await record_rows(session, run_id, rows, found, now_ms)


def _fix_of(item: Item) -> tuple[str, Mapping[str, Any]] | None:
    found, line = item.discrepancy, item.line
    if found is None or line is None or (found.group, found.proposal.action) != _IS_TOLD:
        return None
    return "report", _report(found, line)


_IS_TOLD = (Class.AUTOMATIC, Action.REPORT_TO_PAYMENT)


async def record_rows(session: Session, run_id: str, rows: Sequence[Row], found: Sequence[Found], now_ms: int) -> None:
    """The same of rows that are made already."""
    calls = [session.call(insert(ITEMS), rows)] if rows else []
    by_id: dict[str, Found] = {each.case.id: each for each in found}
    if by_id:
        calls.append(_KNOWN.call({"ids": text_array(sorted(by_id))}))
    if not calls:
        return
    *_, known = (await session.send(calls)).all()
    if by_id:
        cases = {row["mismatch_id"]: row for row in known.by_name()}
        await _open_cases(session, run_id, [each for key, each in by_id.items() if key not in cases], now_ms)
        await _meet_again(session, run_id, list(cases.values()), by_id, now_ms)


async def _open_cases(session: Session, run_id: str, every: Sequence[Found], now_ms: int) -> None:
    """Opens a case for each, and sends those that have a fix on their way."""
    mismatches, acts, deliveries = [], [], []
    for each in every:
        found, state = each.case, CaseState.OPEN
        if each.fix is not None:
            state = CaseState.FIXING
            acts.append(act_row(found.id, 1, Act.FIX, {"run": run_id, "command": found.proposal.command}, now_ms))
            kind, body = each.fix
            deliveries.append(delivery_row(found.proposal.command, kind, found.tenant, found.id, run_id, body, now_ms))
        elif (found.group, found.proposal.action) == (Class.AUTOMATIC, Action.NONE):
            state = CaseState.RESOLVED
            acts.append(act_row(found.id, 1, Act.CLOSE_ALONE, {"run": run_id, "why": found.likely_cause}, now_ms))
        mismatches.append(_case_row(run_id, found, state, now_ms))
    written = ((MISMATCHES, mismatches), (ACTS, acts), (DELIVERIES, deliveries))
    calls = [session.call(insert(table), rows) for table, rows in written if rows]
    if deliveries:
        calls.append(_SEND_AGAIN.call({
            "keys": text_array([row["key"] for row in deliveries]), "now_ms": now_ms,
            "cases": text_array([row["mismatch_id"] for row in deliveries]),
        }))  # fmt: skip
    if calls:
        (await session.send(calls)).all()


async def _meet_again(
    session: Session, run_id: str, cases: Sequence[Row], found: Mapping[str, Found], now_ms: int
) -> None:
    """Cases that were there: told of the run; opened again where they did not hold, or are not as somebody proposed upon; those
    that are open told as they are now."""
    if not cases:
        return
    again = [case for case in cases if _is_open_again(case, found[case["mismatch_id"]].case)]
    ids = [case["mismatch_id"] for case in again]
    calls = [_SEEN.call({"ids": text_array([case["mismatch_id"] for case in cases]), "run_id": run_id})]
    if again:
        acts = [
            act_row(case["mismatch_id"], case["acts"] + 1, Act.REOPEN, {"run": run_id, "was": _was(case)}, now_ms)
            for case in again
        ]
        calls += [_REOPEN.call({"ids": text_array(ids)}), session.call(insert(ACTS), acts)]
    ids += [case["mismatch_id"] for case in cases if case["state"] in _TOLD_ANEW]
    if ids:
        rows = [_case_row(run_id, found[name].case, CaseState.OPEN, now_ms) for name in ids]
        calls.append(session.call(update(MISMATCHES, _NOT_TOLD_ANEW), rows))
    (await session.send(calls)).all()


_TOLD_ANEW = frozenset({CaseState.OPEN, CaseState.APPROVED})
"""What was approved is in its act and in the outbox: where the case is another by then, the next night opens it again."""


def _was(case: Row) -> str:
    """What a case had told until now, as people read it."""
    return told(Money(case["amount_minor"], case["currency"]))


def _is_open_again(case: Row, found: Discrepancy) -> bool:
    """Whether a case that was closed, or proposed upon, is so no more, now that it is met again.

    What one person proposed is what another is shown: where a corrected file tells another amount, the proposal is gone. What
    two people have settled is settled only as it stood: another amount is another matter. Of a case of an account, unlike one
    of a line or a posting, what was written off is in the account: met again, it is not.
    """
    is_other = (case["amount_minor"], case["currency"]) != (found.money.amount_minor, found.money.currency)
    if case["state"] == CaseState.PROPOSED:
        return bool(is_other or case["proposal"] != proposal_text(found))
    if found.kind is Kind.CLEARING_NOT_OPEN_ITEMS:
        return case["closed_by"] in _OF_AN_ACCOUNT or (case["closed_by"] is not None and is_other)
    if case["closed_by"] in _REOPENED[case["class"]]:
        return bool(case["action"] != Action.NONE)
    return bool(case["closed_by"] is not None and is_other)


_OF_AN_ACCOUNT = frozenset({Act.CLOSE_ALONE, Act.WRITE_OFF})

_NOT_TOLD_ANEW = frozenset(
    {"kind", "class", "state", "version", "assignee", "proposed_by", "opened_at_ms", "closed_at_ms", "first_run"}
)
"""A corrected file may tell another amount of the same line: the case follows until two people have agreed."""

_REOPENED: Mapping[str, frozenset[str]] = {
    Class.AUTOMATIC: frozenset({Act.CLOSE_ALONE, Act.SETTLE}),
    Class.MANUAL: frozenset({Act.CLOSE_ALONE}),
    Class.UNCLASSIFIED: frozenset({Act.CLOSE_ALONE}),
}
"""Class -> what did not hold, where the case is met again as it was. What two people settled is settled: its line stays."""


def close_alone(session: Session, cases: Sequence[Row], run_id: str, why: str, now_ms: int) -> list[Call]:
    """The calls that close cases which a run found settled. Each row has `mismatch_id` and `acts`."""
    acts = [
        act_row(case["mismatch_id"], case["acts"] + 1, Act.CLOSE_ALONE, {"run": run_id, "why": why}, now_ms)
        for case in cases
    ]
    ids = text_array([case["mismatch_id"] for case in cases])
    return [_CLOSE.call({"ids": ids, "now_ms": now_ms}), session.call(insert(ACTS), acts)]


# ---- rows ----------------------------------------------------------------------------------------------------------


def _item_rows(run_id: str, item: Item) -> Iterable[Row]:
    line = item.line.item if item.line is not None else ""
    movement = item.movement.item if item.movement is not None else ""
    for name, partner in ((line, movement), (movement, line)):
        if name:
            yield {
                "run_id": run_id, "item": name, "partner": partner, "state": item.state, "matched_by": item.matched_by,
                "mismatch_id": item.discrepancy.id if item.discrepancy is not None else "",
                "found": found_text(item.discrepancy),
            }  # fmt: skip
    if item.line is not None and item.fee is not None:
        yield {
            "run_id": run_id, "item": item.line.fee_item, "partner": line, "state": State.MISMATCH,
            "matched_by": MatchedBy.NOTHING, "mismatch_id": item.fee.id, "found": found_text(item.fee),
        }  # fmt: skip


def _case_row(run_id: str, found: Discrepancy, state: CaseState, now_ms: int) -> Row:
    return {
        "mismatch_id": found.id, "kind": found.kind, "class": found.group, "state": state, "version": 1,
        "psp": found.psp, "tenant": found.tenant, "checkout_id": found.checkout_id, "payment_order_id": found.order_id,
        "line_id": found.line_id, "file_id": found.file_id, "field": found.field, "ours": found.ours,
        "theirs": found.theirs, "likely_cause": found.likely_cause, "proposal": proposal_text(found),
        "amount_minor": found.money.amount_minor, "currency": found.money.currency, "assignee": "", "proposed_by": "",
        "opened_at_ms": now_ms, "closed_at_ms": now_ms if state is CaseState.RESOLVED else None,
        "first_run": run_id, "last_run": run_id, "movement": found.movement,
    }  # fmt: skip


def found_text(found: Discrepancy | None) -> str:
    """What a run says of an item, as JSON in the words of the case's columns; "" where it found nothing. It stays as it is,
    while the case is told anew by every run that meets it."""
    if found is None:
        return ""
    return canonical_json({
        "kind": found.kind, "class": found.group, "field": found.field, "ours": found.ours, "theirs": found.theirs,
        "amount_minor": found.money.amount_minor, "currency": found.money.currency, "proposal": proposal_text(found),
    })  # fmt: skip


def proposal_text(found: Discrepancy) -> str:
    """The dry run as JSON."""
    proposal = found.proposal
    postings = [[side.account, side.amount_minor, side.currency] for side in proposal.postings]
    follows = {"follows": proposal.follows} if proposal.follows else {}
    return canonical_json({"action": proposal.action, "postings": postings, "command": proposal.command, **follows})


def act_row(
    mismatch_id: str, number: int, act: Act, detail: Mapping[str, Any], now_ms: int, *, by: str = MACHINE, key: str = ""
) -> Row:
    """An act. `by`: whose. `key`: "" = its number: a step of the machine that is written again writes the same act."""
    return {
        "mismatch_id": mismatch_id, "number": number, "act": act, "actor": by, "act_key": key or f"{MACHINE}/{number}",
        "detail": canonical_json(dict(detail)), "at_ms": now_ms,
    }  # fmt: skip


def _report(found: Discrepancy, line: Line) -> Mapping[str, Any]:
    """A line to be told to the payment service, as the outbox keeps it."""
    return {
        "psp": line.psp, "number": line.number, "id": line.id, "category": line.category, "object_id": line.object_id,
        "tenant": found.tenant, "checkout_id": found.checkout_id, "reference": line.reference,
        "refund_key": line.refund_key, "amount_minor": line.gross.amount_minor, "currency": line.gross.currency,
        "fee_minor": line.fee_minor, "net_minor": line.net_minor, "created_at_ms": line.created_at_ms,
        "payout_id": line.payout_id, "file_id": line.file_id, "order_id": found.order_id,
    }  # fmt: skip


# ---- statements ----------------------------------------------------------------------------------------------------

_M, _A = MISMATCHES.fullname, ACTS.fullname
LAST_ACT = f"(SELECT coalesce(max(a.number), 0) FROM {_A} AS a WHERE a.mismatch_id = m.mismatch_id)"
"""The number of the newest act of case `m`; the next one's is one more."""
_OF_IDS = "mismatch_id = ANY(CAST(:ids AS TEXT[]))"

_KNOWN = compiled(
    text(
        "SELECT m.mismatch_id, m.state, m.class, m.amount_minor, m.currency, m.proposal, "
        "CAST(m.proposal AS JSON) ->> 'action' AS action, "
        f"{LAST_ACT} AS acts, "
        "CASE WHEN m.state IN ('RESOLVED', 'WRITTEN_OFF') THEN "
        f"(SELECT a.act FROM {_A} AS a WHERE a.mismatch_id = m.mismatch_id AND a.act IN "
        "('close_alone', 'settle', 'write_off') ORDER BY a.number DESC LIMIT 1) END AS closed_by "
        f"FROM {_M} AS m WHERE m.{_OF_IDS}"
    )
)
_SEND_AGAIN = compiled(
    text(
        f"UPDATE {DELIVERIES.fullname} AS d SET state = 'OPEN', tries = 0, due_at_ms = CAST(:now_ms AS INT8), "
        "mismatch_id = u.mismatch_id FROM unnest(CAST(:keys AS TEXT[]), CAST(:cases AS TEXT[])) AS u (key, mismatch_id) "
        "WHERE d.key = u.key AND d.state <> 'OPEN'"
    )
)
"""A case that is new and whose command was sent before: sent again under its key, it does what is still to be done."""

_SEEN = compiled(text(f"UPDATE {_M} SET last_run = :run_id WHERE {_OF_IDS}"))
_REOPEN = compiled(
    text(
        f"UPDATE {_M} SET state = 'OPEN', proposed_by = '', closed_at_ms = NULL, version = version + 1 WHERE {_OF_IDS}"
    )
)
_CLOSE = compiled(
    text(
        f"UPDATE {_M} SET state = 'RESOLVED', closed_at_ms = CAST(:now_ms AS INT8), version = version + 1 WHERE {_OF_IDS}"
    )
)
