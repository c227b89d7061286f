# ruff: noqa: S608 - statements here are made of names of ours
"""Cases that have become right by themselves, closed by the run that finds them so, with an act that says why.

    missing line         a line of an accepted file carries the order's reference by now
    unresolved order     the order is SUCCESS by now
    late charge          the payment service has its case
    of this very period  an earlier attempt saw it, and this one, by other rules or a corrected file, does not

Invariant: nothing closes alone that money may still move for: a case on its way or approved waits for its outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from zerosum.reconciling import RunRow
from zerosum.store.database import Database
from zerosum.store.reconciliation.record import close_alone
from zerosum.store.reconciliation.table import ACTS, FILES, LINES, MISMATCHES, RUNS
from zerosum.store.session import Session
from zerosum.store.statement import text_array
from zerosum.store.wire import compiled

PAGE_CASES = 200
"""Open cases of a step; each is looked at by a few keys."""


@dataclass(frozen=True, slots=True)
class Right:
    """A case that has become right, and why."""

    mismatch_id: str
    why: str


async def find_settled(
    database: Database, run: RunRow, at: Sequence[Any] | None
) -> tuple[list[Right], list[Any] | None]:
    """What is right among a page of open cases behind `at`, and where to go on; None = the end. Reads only."""
    opened_at_ms, mismatch_id = at or (0, "")
    values = {
        "run_id": run.run_id, "kind": run.key.kind, "psp": run.key.psp, "period": run.key.period,
        "opened_at_ms": opened_at_ms, "mismatch_id": mismatch_id, "rows": PAGE_CASES,
    }  # fmt: skip
    rows = await database.look(_OPEN.call(values))
    right = [Right(found, why) for found, _, why in rows if why]
    return right, [rows[-1][1], rows[-1][0]] if len(rows) == PAGE_CASES else None


async def close_settled(session: Session, run_id: str, right: Sequence[Right], now_ms: int) -> None:
    """Closes them, where they are still open. No money moves."""
    if not right:
        return
    (still,) = (await session.send([_STILL.call({"ids": text_array([each.mismatch_id for each in right])})])).all()
    why = {each.mismatch_id: each.why for each in right}
    calls = [
        call for row in still.by_name() for call in close_alone(session, [row], run_id, why[row["mismatch_id"]], now_ms)
    ]
    if calls:
        (await session.send(calls)).all()


_ORDER_OF_CASE = "o.payment_order_id = m.payment_order_id AND o.tenant = m.tenant"

_OPEN = compiled(
    text(
        "SELECT m.mismatch_id, m.opened_at_ms, CASE "
        f"WHEN m.kind = 'missing_line' AND EXISTS (SELECT 1 FROM {LINES.fullname} AS t JOIN {FILES.fullname} AS f "
        "ON f.file_id = t.file_id || '' AND f.state = 'ACCEPTED' AND f.psp || '' = m.psp "
        "WHERE t.reference = m.payment_order_id AND t.tenant IN ('', m.tenant) "
        "AND t.category = CASE WHEN m.amount_minor < 0 THEN 'charge' ELSE 'refund' END) THEN 'a line came' "
        "WHEN m.kind = 'unresolved_order' AND EXISTS (SELECT 1 FROM payment.payment_orders AS o "
        f"WHERE {_ORDER_OF_CASE} AND o.payment_order_status = 'SUCCESS') THEN 'the order is settled' "
        "WHEN m.kind = 'late_charge' AND EXISTS (SELECT 1 FROM payment.payment_orders AS o JOIN payment.mismatches AS c "
        "ON c.slot = o.slot AND c.tenant = o.tenant AND c.checkout_id = o.checkout_id "
        f"AND c.payment_order_id = o.payment_order_id AND c.kind = 'late_charge' WHERE {_ORDER_OF_CASE}) "
        "THEN 'the payment service has the case' "
        f"WHEN m.last_run <> :run_id AND EXISTS (SELECT 1 FROM {RUNS.fullname} AS r WHERE r.run_id = m.first_run "
        "AND r.kind = :kind AND r.psp = :psp AND r.period = :period) THEN 'not seen any more' ELSE '' END AS why "
        f"FROM {MISMATCHES.fullname} AS m WHERE m.state = 'OPEN' "
        "AND (m.opened_at_ms, m.mismatch_id) > (CAST(:opened_at_ms AS INT8), CAST(:mismatch_id AS TEXT)) "
        "AND (m.psp = :psp OR :kind = 'inside') "
        "ORDER BY m.opened_at_ms, m.mismatch_id LIMIT CAST(:rows AS INT8)"
    )
)
"""A missing charge is told as what the PSP owes us: negative.

A page by `mismatches_by_state`. Cases that are PROPOSED are people's; FIXING and APPROVED wait for what was sent.
"""

_STILL = compiled(
    text(
        f"SELECT m.mismatch_id, (SELECT count(*) FROM {ACTS.fullname} AS a WHERE a.mismatch_id = m.mismatch_id) AS acts "
        f"FROM {MISMATCHES.fullname} AS m WHERE m.mismatch_id = ANY(CAST(:ids AS TEXT[])) AND m.state = 'OPEN'"
    )
)
