"""Finance's queue in SQL: lists of cases, and the acts of people, each with its effect in one commit.

An act's key is stored as "person/<key>", so that no caller's key is ever taken for the machine's.

Invariant: a case moves by compare-and-swap on its version, with its act beside it; what is to be posted goes into
`deliveries` in the same transaction, under a key made from the case and the proposal, and nobody is called within it.
"""

import json
from typing import Any

from sqlalchemy import text

from zerosum.domain.case import (
    ACT_OF,
    CLOSED,
    POSTED,
    Act,
    Approve,
    Asked,
    Assign,
    CaseState,
    Comment,
    Decided,
    Proposal,
    Propose,
    Reject,
    decide,
)
from zerosum.domain.discrepancy import Class
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import SerializationConflict
from zerosum.finance_queue import (
    BANDS_HOURS,
    Acted,
    Ageing,
    Band,
    CaseView,
    MismatchFilter,
    MismatchRow,
)
from zerosum.readers import Page
from zerosum.store.database import Database
from zerosum.store.loading import CLOCK
from zerosum.store.mapping import Row
from zerosum.store.paging import PARTS, after_parameters, beyond, page, position_of
from zerosum.store.reconciliation.delivery import case_delivery
from zerosum.store.reconciliation.home import HOME
from zerosum.store.reconciliation.home import POSTED as BODIES
from zerosum.store.reconciliation.record import act_row
from zerosum.store.reconciliation.suspense import in_suspense
from zerosum.store.reconciliation.table import ACTS, DELIVERIES
from zerosum.store.reconciliation.view import case_of, next_number, row_of, shown, view
from zerosum.store.session import Session
from zerosum.store.statement import insert, int_array, text_array
from zerosum.store.wire import Call, compiled

ACTS_MAX = 1_000
"""The newest acts shown of one case: people leave some ten, a run that sees it again none."""

_HOUR_MS = 3_600_000
_OPEN_STATES = [state for state in CaseState if state not in CLOSED]


class SqlFinanceQueue:
    """Implements `finance_queue.FinanceQueue`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def mismatches(self, wanted: MismatchFilter, rows_max: int, after: str) -> Page[MismatchRow]:
        """Cases, oldest first: each state's first rows by index, then merged. Raises MalformedPosition."""
        position = position_of("mismatches", after)
        states = [wanted.state] if wanted.state else _OPEN_STATES
        values: dict[str, Any] = {
            "states": text_array(states), "class": wanted.group or "", "kind": wanted.kind, "assignee": wanted.assignee,
            "psp": wanted.psp, "order_id": wanted.order_id, "older_ms": wanted.older_than_ms, "rows": rows_max + 1,
        }  # fmt: skip
        values |= after_parameters(position or ())
        query = _FIRST_PAGE if position is None else _NEXT_PAGE
        rows = [row_of(row) for row in (await self._database.look(query.call(values))).by_name()]
        return page(rows, rows_max, "mismatches", lambda row: (row.opened_at_ms, row.mismatch_id))

    async def case(self, mismatch_id: str) -> CaseView | None:
        """One case with its acts, in one snapshot."""

        async def read(session: Session) -> CaseView | None:
            found, acts = await _load(session, mismatch_id)
            return view(found, acts) if found is not None else None

        return await self._database.read(read)

    async def act(self, mismatch_id: str, asked: Asked, *, by: str, key: str) -> Acted | Refusal | None:
        """Does what a person asks, once. Again whole when its commit was ambiguous: the key decides."""

        async def work(session: Session) -> Acted | Refusal | None:
            found, acts = await _load(session, mismatch_id)
            if found is None:
                return None
            known = await _known(session, mismatch_id, key)
            if known is not None:
                is_same = (known["act"], known["actor"], _asked_of(known)) == (_act_of(asked), by, _told(asked))
                return Acted(view(found, acts), True) if is_same else _KEY_REUSED
            decided = decide(case_of(found, acts), asked, by=by)
            if isinstance(decided, Refusal):
                return decided
            if decided.to_deliver is not None and not await _deliver(session, found, decided.to_deliver):
                return _NOTHING_WAITS
            return Acted(await _record(session, found, acts, decided, asked=asked, by=by, key=key), False)

        return await self._database.write_again(work)

    async def ageing(self, overdue_after_ms: int) -> Ageing:
        """Open cases by age and class: one look over the states that are not closed, and one at suspense."""
        values: dict[str, Any] = {
            "states": text_array(_OPEN_STATES),
            "from_ms": int_array(low * _HOUR_MS for low, _ in BANDS_HOURS),
            "to_ms": int_array(high * _HOUR_MS or 2**62 for _, high in BANDS_HOURS),
        }
        bands = [
            Band(int(row["from_ms"]) // _HOUR_MS, _to_hours(row["to_ms"]), Class(row["class"]), int(row["cases"]))
            for row in (await self._database.look(_BANDS.call(values))).by_name()
        ]
        ((oldest_ms, overdue),) = await self._database.look(
            _OLDEST.call({"states": values["states"], "overdue_ms": overdue_after_ms})
        )
        return Ageing(bands, int(oldest_ms), int(overdue), await in_suspense(self._database))


_NOTHING_WAITS = Refusal(Reason.NOTHING_TO_POST, "", "what the machine had sent is done, or is on its way already")
_KEY_REUSED = Refusal(Reason.KEY_REUSED, "idempotency_key", "the key is that of another act on this case")

# ---- one act -------------------------------------------------------------------------------------------------------


async def _load(session: Session, mismatch_id: str) -> tuple[Row | None, list[Row]]:
    """The row of a case and its newest acts, in order."""
    one = {"mismatch_id": mismatch_id}
    found, acts = (await session.send([_CASE.call(one), _ACTS.call({**one, "rows": ACTS_MAX})])).all()
    return next(iter(found.by_name()), None), acts.by_name()[::-1]


async def _known(session: Session, mismatch_id: str, key: str) -> Row | None:
    """The act that a person has done under this key."""
    (acts,) = (await session.send([_ACT.call({"mismatch_id": mismatch_id, "act_key": _person_key(key)})])).all()
    return next(iter(acts.by_name()), None)


async def _deliver(session: Session, found: Row, proposal: Proposal) -> bool:
    """Records what is to be posted; for the machine's own commands, gives the one that was given up a new budget.

    False: there is nothing to be sent again. Raises SerializationConflict where somebody was faster.
    """
    ((now_ms,),) = (await session.send([CLOCK])).all()[0]
    if proposal.action in POSTED:
        new = case_delivery(found, proposal, now_ms)
        (taken,) = (await session.send([session.call(insert(DELIVERIES), [new])])).all()
        if len(taken) != 1:
            raise SerializationConflict("another act on this case came first")
        return True
    command = json.loads(found["proposal"])["command"]
    (again,) = (await session.send([_AGAIN.call({"key": command, "now_ms": now_ms})])).all()
    return len(again) == 1


async def _record(
    session: Session, found: Row, acts: list[Row], decided: Decided, *, asked: Asked, by: str, key: str
) -> CaseView:
    """Writes the act and the case. Raises SerializationConflict where somebody was faster."""
    ((now_ms,),) = (await session.send([CLOCK])).all()[0]
    case, number = decided.case, next_number(acts)
    told: dict[str, Any] = {"asked": _told(asked)}
    if isinstance(asked, Propose):
        told["proposal"] = shown(case.proposal)
    mismatch_id = found["mismatch_id"]
    new_acts = [act_row(mismatch_id, number, _act_of(asked), told, now_ms, by=by, key=_person_key(key))]
    if decided.is_settled:
        why = {"why": "nothing is to be posted"}
        new_acts.append(act_row(mismatch_id, number + 1, Act.SETTLE, why, now_ms))
    moved: Row = {
        **found, "state": case.state, "assignee": case.assignee,
        "proposed_by": case.proposal.by if case.proposal and case.state is CaseState.PROPOSED else "",
        "closed_at_ms": now_ms if case.state in CLOSED and found["closed_at_ms"] is None else found["closed_at_ms"],
    }  # fmt: skip
    calls: list[tuple[Call, int]] = [
        (_MOVE.call({name: moved[name] for name in _MOVE_NAMES}), 1),
        (session.call(insert(ACTS), new_acts), len(new_acts)),
    ]
    replies = (await session.send([call for call, _ in calls])).all()
    if any(len(reply) != rows for reply, (_, rows) in zip(replies, calls, strict=True)):
        raise SerializationConflict("another act on this case came first")
    return view(moved, [*acts, *new_acts])


def _act_of(asked: Asked) -> Act:
    return ACT_OF[type(asked)]


def _person_key(key: str) -> str:
    return f"person/{key}"


def _told(asked: Asked) -> dict[str, Any]:
    """What was asked, as JSON keeps it: told again, it is the same act."""
    match asked:
        case Assign(assignee):
            return {"assignee": assignee}
        case Comment(said):
            return {"text": said}
        case Propose(resolution, reason):
            return {"resolution": str(resolution), "reason": reason}
        case Approve(proposal_number):
            return {"proposal_number": proposal_number}
        case Reject(reason):
            return {"reason": reason}


def _asked_of(act: Row) -> object:
    return json.loads(act["detail"]).get("asked")


def _to_hours(to_ms: int) -> int:
    return 0 if to_ms == 2**62 else int(to_ms) // _HOUR_MS


# ---- statements ----------------------------------------------------------------------------------------------------

_NOW = "CAST(floor(extract(epoch FROM now()) * 1000) AS INT8)"


def _page(more: str) -> str:
    inner = (
        "SELECT * FROM reconciliation.mismatches AS t WHERE t.state = s.state "  # noqa: S608 - our own text
        "AND (CAST(:class AS TEXT) = '' OR t.class = CAST(:class AS TEXT)) "
        "AND (CAST(:kind AS TEXT) = '' OR t.kind = CAST(:kind AS TEXT)) "
        "AND (CAST(:assignee AS TEXT) = '' OR t.assignee = CAST(:assignee AS TEXT)) "
        "AND (CAST(:psp AS TEXT) = '' OR t.psp = CAST(:psp AS TEXT)) "
        "AND (CAST(:order_id AS TEXT) = '' OR t.payment_order_id = CAST(:order_id AS TEXT)) "
        f"AND t.opened_at_ms <= {_NOW} - CAST(:older_ms AS INT8){more} "
        "ORDER BY t.opened_at_ms, t.mismatch_id LIMIT CAST(:rows AS INT8)"
    )
    return (
        f"SELECT p.* FROM unnest(CAST(:states AS TEXT[])) AS s (state) CROSS JOIN LATERAL ({inner}) AS p "  # noqa: S608 - our own text
        "ORDER BY p.opened_at_ms, p.mismatch_id LIMIT CAST(:rows AS INT8)"
    )


_FIRST_PAGE = compiled(text(_page("")))
_NEXT_PAGE = compiled(
    text(
        _page(
            f" AND t.opened_at_ms >= CAST(:after_0 AS INT8) "
            f"AND {beyond(('t.opened_at_ms', 't.mismatch_id'), PARTS['mismatches'])}"
        )
    )
)
_CASE = compiled(
    text(
        f"SELECT m.*, {HOME} AS home, {BODIES} AS posted FROM reconciliation.mismatches AS m "  # noqa: S608 - our own text
        "WHERE m.mismatch_id = :mismatch_id"
    )
)
"""With what an approval must know of this very moment: who has booked the money by now, and what was posted for it before."""
_ACTS = compiled(
    text(
        "SELECT * FROM reconciliation.acts WHERE mismatch_id = :mismatch_id ORDER BY number DESC LIMIT CAST(:rows AS INT8)"
    )
)
_ACT = compiled(text("SELECT * FROM reconciliation.acts WHERE mismatch_id = :mismatch_id AND act_key = :act_key"))
_MOVE_NAMES = ("mismatch_id", "version", "state", "assignee", "proposed_by", "closed_at_ms")
_MOVE = compiled(
    text(
        "UPDATE reconciliation.mismatches SET version = version + 1, state = :state, assignee = :assignee, "
        "proposed_by = :proposed_by, closed_at_ms = CAST(:closed_at_ms AS INT8) "
        "WHERE mismatch_id = :mismatch_id AND version = CAST(:version AS INT8) RETURNING mismatch_id"
    )
)
_AGAIN = compiled(
    text(
        "UPDATE reconciliation.deliveries SET state = 'OPEN', tries = 0, due_at_ms = CAST(:now_ms AS INT8) "
        "WHERE key = :key AND state = 'DEAD' RETURNING key"
    )
)
_BANDS = compiled(
    text(
        "SELECT b.from_ms, b.to_ms, t.class, count(*) AS cases "  # noqa: S608 - our own text
        "FROM unnest(CAST(:from_ms AS INT8[]), CAST(:to_ms AS INT8[])) AS b (from_ms, to_ms) "
        "JOIN reconciliation.mismatches AS t ON t.state = ANY(CAST(:states AS TEXT[])) "
        f"AND {_NOW} - t.opened_at_ms >= b.from_ms AND {_NOW} - t.opened_at_ms < b.to_ms "
        "GROUP BY b.from_ms, b.to_ms, t.class ORDER BY b.from_ms, t.class"
    )
)
_OLDEST = compiled(
    text(
        f"SELECT COALESCE(max({_NOW} - opened_at_ms), 0), "  # noqa: S608 - our own text
        f"count(CASE WHEN {_NOW} - opened_at_ms > CAST(:overdue_ms AS INT8) THEN 1 END) "
        "FROM reconciliation.mismatches WHERE state = ANY(CAST(:states AS TEXT[]))"
    )
)
