# ruff: noqa: S608 - statements here are made of names of ours
"""Movements that were set aside and are of no use any more: settled ones of this night, and what old nights have left.

A run begins with what the newest DONE run of an earlier period left. Whatever period from `before` on is run, or run again,
that is the newest one before `before`, or a later one: what older ones left is never read again. It begins also with what an
old day left that was run again after that one had begun: so a run is of use until one that began after its end is as old.

Invariant: a run that any day still kept may begin with is never touched.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from sqlalchemy import text

from zerosum.domain.reconcile_item import Movement
from zerosum.store.database import Database
from zerosum.store.reconciliation.line import PAGE_LINES
from zerosum.store.reconciliation.table import MOVEMENTS, RUNS
from zerosum.store.statement import int_array, text_array
from zerosum.store.wire import Call, compiled


def put_away(run_id: str, movements: Sequence[Movement]) -> Call:
    """What takes these movements out of what the run has set aside."""
    return _PUT_AWAY.call({
        "run_id": run_id, "objects": text_array([each.object_id for each in movements]),
        "tenants": text_array([each.tenant for each in movements]),
        "orders": text_array([each.order_id for each in movements]),
        "kinds": text_array([each.kind for each in movements]), "numbers": int_array(each.number for each in movements),
    })  # fmt: skip


async def oldest_left(database: Database, psp: str, period: str, kept_days: int) -> str | None:
    """The oldest run whose movements are of no use: days are kept for so long before `period`. None: there is none."""
    before = date.fromisoformat(period) - timedelta(days=kept_days)
    rows = await database.look(_OLDEST_LEFT.call({"psp": psp, "before": before.isoformat()}))
    return str(rows[0][0]) if rows else None


def prune_page(run_id: str) -> Call:
    """What takes a page of its movements away. No money, no item and no case is in them."""
    values: dict[str, Any] = {"run_id": run_id, "rows": PAGE_LINES}
    return _PRUNE.call(values)


# ---- statements ----------------------------------------------------------------------------------------------------

_R, _M = RUNS.fullname, MOVEMENTS.fullname
_KEY = "psp_object_id, tenant, payment_order_id, kind, number"

_PUT_AWAY = compiled(
    text(
        f"DELETE FROM {_M} AS m USING unnest(CAST(:objects AS TEXT[]), CAST(:tenants AS TEXT[]), "
        "CAST(:orders AS TEXT[]), CAST(:kinds AS TEXT[]), CAST(:numbers AS INT4[])) AS u (object, tenant, id, kind, number) "
        "WHERE m.run_id = :run_id AND m.psp_object_id = u.object AND m.tenant = u.tenant AND m.payment_order_id = u.id "
        "AND m.kind = u.kind AND m.number = u.number"
    )
)
_OLDEST_LEFT = compiled(
    text(
        f"SELECT r.run_id FROM {_R} AS r WHERE r.kind = 'nightly' AND r.psp = :psp AND r.period < :before "
        "AND r.state <> 'RUNNING' "
        f"AND EXISTS (SELECT 1 FROM {_R} AS n WHERE n.kind = 'nightly' AND n.psp = r.psp AND n.period > r.period "
        "AND n.period < :before AND n.state = 'DONE' AND n.started_at_ms >= r.ended_at_ms) "
        f"AND EXISTS (SELECT 1 FROM {_M} AS m WHERE m.run_id = r.run_id) "
        "ORDER BY r.period, r.attempt LIMIT 1"
    )
)
_PRUNE = compiled(
    text(
        f"DELETE FROM {_M} AS m USING (SELECT {_KEY} FROM {_M} WHERE run_id = :run_id ORDER BY {_KEY} "
        "LIMIT CAST(:rows AS INT8)) AS u WHERE m.run_id = :run_id AND m.psp_object_id = u.psp_object_id "
        "AND m.tenant = u.tenant AND m.payment_order_id = u.payment_order_id AND m.kind = u.kind AND m.number = u.number"
    )
)
