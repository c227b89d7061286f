# ruff: noqa: S608 - statements here are made of names of ours
"""The book of runs: who works on which, how far it is, and what it found.

A run is claimed by a row: whoever inserts it, or finds its lease over and raises its epoch, works on it; everybody else hears
that it is being done. Each step commits its rows together with the run's progress, fenced by the epoch, so that a run that
died goes on behind its last step and a holder that was taken over commits nothing more.

Invariant: one run per (kind, psp, period, attempt), and every row of it was written under its present epoch or an earlier one.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import text

from zerosum.errors import SerializationConflict, Superseded
from zerosum.limits import RECONCILE_LEASE_MS
from zerosum.reconciling import SCHEDULE, RunKey, RunKind, RunRow, RunState, Summary
from zerosum.store import statement
from zerosum.store.database import Database
from zerosum.store.loading import CLOCK
from zerosum.store.mapping import Row, canonical_json
from zerosum.store.reconciliation.table import RUNS
from zerosum.store.session import Session
from zerosum.store.statement import text_array
from zerosum.store.wire import compiled

RULES = "4"
"""The version of the rules a run goes by: raised with every change of what a line or a movement ends as, which a test sees by a
sample of both. The fee contract and the deadline of lines are a deployment's, and not in it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a run, until another one takes it over. `progress`: where to go on; {} at the beginning."""

    run: RunRow
    epoch: int
    now_ms: int
    progress: Mapping[str, Any] = field(default_factory=dict)

    def at(self, progress: Mapping[str, Any]) -> "Claim":
        """The same right, further on."""
        return replace(self, progress=progress)


class RunBook:
    """Runs as rows."""

    def __init__(self, database: Database, lease_ms: int = RECONCILE_LEASE_MS) -> None:
        self.database = database
        self._lease_ms = lease_ms

    async def claim(
        self, key: RunKey, holder: str, *, is_again: bool, asked_by: str = SCHEDULE
    ) -> Claim | RunRow | None:
        """The right to work on the newest attempt; its row where it is over; None where another holder is alive at it."""

        async def work(session: Session) -> Claim | RunRow | None:
            clock, rows = (await session.send([CLOCK, _NEWEST.call(_values(key))])).all()
            now_ms, newest = clock[0][0], rows.by_name()[0] if rows else None
            if newest is None or (newest["state"] != RunState.RUNNING and is_again):
                attempt = newest["attempt"] + 1 if newest else 1
                return await self._begin(session, key, {"holder": holder, "asked_by": asked_by}, attempt, now_ms)
            if newest["state"] != RunState.RUNNING:
                return run_of(newest)
            if newest["lease_until_ms"] > now_ms:
                return None
            return await self._take_over(session, newest, holder, now_ms)

        return await self.database.write_again(work)

    async def step(
        self,
        claim: Claim,
        progress: Mapping[str, Any],
        work: Callable[[Session, int], Awaitable[None]] | None = None,
    ) -> Claim:
        """Commits what `work` writes (it is handed the clock) together with the progress. Raises Superseded, Unavailable."""
        values = {"run_id": claim.run.run_id, "epoch": claim.epoch, "lease_ms": self._lease_ms}

        async def commit(session: Session) -> None:
            clock, moved = (
                await session.send([CLOCK, _STEP.call({**values, "progress": canonical_json(progress)})])
            ).all()
            if not moved:
                await session.rollback()
                raise Superseded(f"another holder works on run {claim.run.run_id}")
            if work is not None:
                await work(session, clock[0][0])

        await self.database.write_again(commit)
        return claim.at(progress)

    async def finish(self, claim: Claim, state: RunState, summary: Summary) -> RunRow:
        """Ends the run; a second time it changes nothing. Raises Superseded, Unavailable."""
        values = {
            "run_id": claim.run.run_id, "epoch": claim.epoch, "state": state, "summary": summary_text(summary),
        }  # fmt: skip

        async def work(session: Session) -> RunRow:
            _, rows = (await session.send([_FINISH.call(values), _GET.call(values)])).all()
            row = rows.by_name()[0]
            if row["state"] == RunState.RUNNING or row["epoch"] != claim.epoch:
                await session.rollback()
                raise Superseded(f"another holder works on run {claim.run.run_id}")
            return run_of(row)

        return await self.database.write_again(work)

    async def get(self, run_id: str) -> RunRow | None:
        """One run."""
        rows = (await self.database.look(_GET.call({"run_id": run_id}))).by_name()
        return run_of(rows[0]) if rows else None

    async def list(self, kind: RunKind | None, rows_max: int, after: str) -> Sequence[RunRow]:
        """Newest first. `after`: the run_id of the last row of the page before."""
        values = {"kinds": text_array([kind] if kind else list(RunKind)), "rows": rows_max, "after": after}
        query = _NEXT_PAGE if after else _FIRST_PAGE
        return [run_of(row) for row in (await self.database.look(query.call(values))).by_name()]

    async def newest(self, keys: Collection[RunKey]) -> Sequence[RunRow]:
        """The newest attempt of each of these."""
        values = {name: text_array([getattr(key, name) for key in keys]) for name in ("kind", "psp", "period")}
        rows = (await self.database.look(_NEWEST_OF.call(values))).by_name() if keys else []
        return [run_of(row) for row in rows]

    async def failed(self) -> Sequence[RunRow]:
        """Runs that FAILED and nobody has made good: by a later attempt that is DONE, of the inside by a later period's too."""
        return [run_of(row) for row in (await self.database.look(_FAILED.call())).by_name()]

    async def last_before(self, key: RunKey) -> Mapping[str, Any] | None:
        """The row of the newest DONE run of an earlier period, by column name."""
        rows = (await self.database.look(_LAST.call(_values(key)))).by_name()
        return rows[0] if rows else None

    async def ended_since(self, key: RunKey, last: Mapping[str, Any]) -> Sequence[str]:
        """The newest DONE attempts of earlier periods that ended when `last` (see `last_before`) had begun, oldest period
        first: old days run again, which `last` could not go on from."""
        values = {**_values(key), "last": last["run_id"], "since_ms": last["started_at_ms"]}
        return [run_id for (run_id,) in await self.database.look(_ENDED_SINCE.call(values))]

    async def first_attempt(self, key: RunKey) -> Mapping[str, Any] | None:
        """The row of attempt 1 of the period, by column name."""
        rows = (await self.database.look(_FIRST.call(_values(key)))).by_name()
        return rows[0] if rows else None

    async def next_after(self, key: RunKey) -> Mapping[str, Any] | None:
        """The row of the first attempt of the next later period that has one, by column name."""
        rows = (await self.database.look(_LATER.call(_values(key)))).by_name()
        return rows[0] if rows else None

    async def _begin(self, session: Session, key: RunKey, whose: Mapping[str, str], attempt: int, now_ms: int) -> Claim:
        """`whose`: its holder, and who asked for it."""
        row: Row = {
            "run_id": "-".join(part for part in (key.kind, key.psp, key.period, str(attempt)) if part), **_values(key), **whose,
            "attempt": attempt, "rules": RULES, "state": RunState.RUNNING, "epoch": 1,
            "lease_until_ms": now_ms + self._lease_ms, "progress": "{}", "summary": "{}", "started_at_ms": now_ms,
            "ended_at_ms": None,
        }  # fmt: skip
        (taken,) = (await session.send([session.call(statement.insert(RUNS), [row])])).all()
        if not taken:
            await session.rollback()
            raise SerializationConflict("another holder began this run at the same moment")
        return Claim(run_of(row), 1, now_ms)

    async def _take_over(self, session: Session, row: Mapping[str, Any], holder: str, now_ms: int) -> Claim:
        values = {
            "run_id": row["run_id"], "epoch": row["epoch"], "holder": holder, "until_ms": now_ms + self._lease_ms,
        }  # fmt: skip
        (taken,) = (await session.send([_TAKE_OVER.call(values)])).all()
        if not taken:
            await session.rollback()
            raise SerializationConflict("another holder took this run over at the same moment")
        return Claim(run_of({**row, "holder": holder}), row["epoch"] + 1, now_ms, json.loads(row["progress"]))


# ---- rows ----------------------------------------------------------------------------------------------------------


def _values(key: RunKey) -> dict[str, Any]:
    return {"kind": key.kind, "psp": key.psp, "period": key.period}


def run_of(row: Mapping[str, Any]) -> RunRow:
    """The run a row stands for."""
    return RunRow(
        run_id=row["run_id"], key=RunKey(RunKind(row["kind"]), row["psp"], row["period"]), attempt=row["attempt"],
        rules=row["rules"], state=RunState(row["state"]), holder=row["holder"], summary=_summary_of(row["summary"]),
        started_at_ms=row["started_at_ms"], ended_at_ms=row["ended_at_ms"], asked_by=row["asked_by"],
    )  # fmt: skip


def summary_text(summary: Summary) -> str:
    """A summary as JSON."""
    return canonical_json({
        "lines": summary.lines, "movements": summary.movements, "by_state": dict(summary.by_state),
        "by_class": dict(summary.by_class), "by_kind": dict(summary.by_kind), "explained_ppm": summary.explained_ppm,
        "files": list(summary.files), "reason": summary.reason,
    })  # fmt: skip


def _summary_of(told: str) -> Summary:
    found = json.loads(told)
    if not found:
        return Summary()
    counted = {name: tuple(sorted(found[name].items())) for name in ("by_state", "by_class", "by_kind")}
    return Summary(**{**found, **counted, "files": tuple(found["files"])})


# ---- statements ----------------------------------------------------------------------------------------------------

_R = RUNS.fullname
_OF_PERIOD = f"SELECT * FROM {_R} WHERE kind = :kind AND psp = :psp AND period"
_CLOCK_MS = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS INT8)"

_NEWEST = compiled(text(f"{_OF_PERIOD} = :period ORDER BY attempt DESC LIMIT 1"))
_NEWEST_OF = compiled(
    text(
        "SELECT n.* FROM unnest(CAST(:kind AS TEXT[]), CAST(:psp AS TEXT[]), CAST(:period AS TEXT[])) "
        f"AS u (kind, psp, period) CROSS JOIN LATERAL (SELECT * FROM {_R} AS r WHERE r.kind = u.kind AND r.psp = u.psp "
        "AND r.period = u.period ORDER BY r.attempt DESC LIMIT 1) AS n"
    )
)
_FIRST = compiled(text(f"{_OF_PERIOD} = :period AND attempt = 1"))
_LAST = compiled(text(f"{_OF_PERIOD} < :period AND state = 'DONE' ORDER BY period DESC, attempt DESC LIMIT 1"))
_ENDED_SINCE = compiled(
    text(
        f"SELECT r.run_id FROM {_R} AS r WHERE r.kind = :kind AND r.psp = :psp AND r.period < :period AND r.state = 'DONE' "
        "AND r.ended_at_ms >= CAST(:since_ms AS INT8) AND r.run_id <> :last AND NOT EXISTS (SELECT 1 "
        f"FROM {_R} AS n WHERE n.kind = r.kind AND n.psp = r.psp AND n.period = r.period AND n.attempt > r.attempt "
        "AND n.state = 'DONE') ORDER BY r.period"
    )
)
_LATER = compiled(text(f"{_OF_PERIOD} > :period ORDER BY period, attempt LIMIT 1"))
_FAILED = compiled(
    text(
        f"SELECT r.* FROM {_R} AS r WHERE r.state = 'FAILED' AND NOT EXISTS (SELECT 1 FROM {_R} AS n WHERE n.kind = r.kind "
        "AND n.psp = r.psp AND n.state = 'DONE' AND (n.period = r.period AND n.attempt > r.attempt "
        "OR r.kind = 'inside' AND n.period > r.period)) ORDER BY r.started_at_ms"
    )
)
_GET = compiled(text(f"SELECT * FROM {_R} WHERE run_id = :run_id"))


def _page(start: str, more: str, where: str) -> str:
    """Each kind's first rows by index, then merged."""
    inner = (
        f"SELECT * FROM {_R} AS t WHERE t.kind = k.kind AND t.started_at_ms > 0{more} "
        "ORDER BY t.started_at_ms DESC, t.run_id DESC LIMIT CAST(:rows AS INT8)"
    )
    return (
        f"SELECT p.* FROM {start}unnest(CAST(:kinds AS TEXT[])) AS k (kind) CROSS JOIN LATERAL ({inner}) AS p {where}"
        "ORDER BY p.started_at_ms DESC, p.run_id DESC LIMIT CAST(:rows AS INT8)"
    )


_FIRST_PAGE = compiled(text(_page("", "", "")))
_NEXT_PAGE = compiled(
    text(
        _page(
            f"{_R} AS a CROSS JOIN ",
            " AND t.started_at_ms <= a.started_at_ms AND (t.started_at_ms, t.run_id) < (a.started_at_ms, a.run_id)",
            "WHERE a.run_id = CAST(:after AS TEXT) ",
        )
    )
)
_STEP = compiled(
    text(
        f"UPDATE {_R} SET progress = :progress, lease_until_ms = {_CLOCK_MS} + CAST(:lease_ms AS INT8) "
        "WHERE run_id = :run_id AND epoch = CAST(:epoch AS INT8) AND state = 'RUNNING' RETURNING run_id"
    )
)
_TAKE_OVER = compiled(
    text(
        f"UPDATE {_R} SET epoch = epoch + 1, holder = :holder, lease_until_ms = CAST(:until_ms AS INT8) "
        "WHERE run_id = :run_id AND epoch = CAST(:epoch AS INT8) AND state = 'RUNNING' RETURNING run_id"
    )
)
_FINISH = compiled(
    text(
        f"UPDATE {_R} SET state = :state, summary = :summary, ended_at_ms = {_CLOCK_MS} "
        "WHERE run_id = :run_id AND epoch = CAST(:epoch AS INT8) AND state = 'RUNNING'"
    )
)
