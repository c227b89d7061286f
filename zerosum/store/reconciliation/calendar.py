# ruff: noqa: S608 - statements here are made of names of ours
"""The calendar of settlement files: a row a day that one is due, made ahead; a file that does not come is noticed once.

After downtime the days between are made too, so that none is forgotten. Source: failures.md L11.

Invariant: an alarm is in the database before anybody is told, and a day is alarmed once, whoever asks.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text

from zerosum.reconciling import LateFile
from zerosum.store.database import Database
from zerosum.store.loading import CLOCK
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.table import EXPECTED_FILES
from zerosum.store.session import Session
from zerosum.store.statement import insert, text_array
from zerosum.store.wire import compiled

DAY_MS = 86_400_000
AHEAD_DAYS = 1
CATCH_UP_DAYS_MAX = 400
"""More than a year of downtime is a new beginning."""


class Calendar:
    """The files that are due."""

    def __init__(self, database: Database, psps: Sequence[str], due_after_ms: int) -> None:
        """`psps`: whose files come daily. `due_after_ms`: how long after the end of its day (UTC) a file may take."""
        self._database = database
        self._psps = tuple(psps)
        self._due_after_ms = due_after_ms

    async def late(self) -> Sequence[LateFile]:
        """Makes the days ahead, and brings every file that is due and not there, oldest first; the new ones are marked."""

        async def work(session: Session) -> list[LateFile]:
            clock, known = (await session.send([CLOCK, _LAST_DAYS])).all()
            now_ms, last = clock[0][0], {str(psp): str(day) for psp, day in known}
            rows = [row for psp in self._psps for row in self._days(psp, last.get(psp), now_ms)]
            calls = [session.call(insert(EXPECTED_FILES), rows)] if rows else []
            values = {"now_ms": now_ms, "psps": text_array(self._psps)}
            *_, late, _ = (await session.send([*calls, _LATE.call(values), _ALARM.call(values)])).all()
            return [LateFile(psp, day, due_at_ms, is_new) for psp, day, due_at_ms, is_new in late]

        return await self._database.write_again(work)

    def _days(self, psp: str, last: str | None, now_ms: int) -> list[Row]:
        today = datetime.fromtimestamp(now_ms / 1_000, UTC).date()
        first = date.fromisoformat(last) + timedelta(1) if last else today
        first = max(first, today - timedelta(CATCH_UP_DAYS_MAX))
        count = (today + timedelta(AHEAD_DAYS) - first).days + 1
        return [self._day(psp, first + timedelta(number)) for number in range(max(count, 0))]

    def _day(self, psp: str, day: date) -> Row:
        begins_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
        due_at_ms = begins_ms + DAY_MS + self._due_after_ms
        return {"psp": psp, "day": day.isoformat(), "due_at_ms": due_at_ms, "file_id": "", "alarmed_at_ms": None}


_E = EXPECTED_FILES.fullname
_IS_LATE = "psp = ANY(CAST(:psps AS TEXT[])) AND file_id = '' AND due_at_ms > 0 AND due_at_ms <= CAST(:now_ms AS INT8)"

_LAST_DAYS = compiled(text(f"SELECT psp, max(day) FROM {_E} WHERE due_at_ms > 0 GROUP BY psp")).call()
_LATE = compiled(
    text(f"SELECT psp, day, due_at_ms, alarmed_at_ms IS NULL FROM {_E} WHERE {_IS_LATE} ORDER BY day, psp LIMIT 1000")
)
_ALARM = compiled(
    text(f"UPDATE {_E} SET alarmed_at_ms = CAST(:now_ms AS INT8) WHERE {_IS_LATE} AND alarmed_at_ms IS NULL")
)
