"""When a reconciliation is due: a pure function of the clock, the schedule, what has run and which files are there.

    nightly   a day of a PSP is due when its file is there, or when the file should have been; and once more when a file came
              or was replaced after the run had begun, however long ago the day was: accepting a re-issue took back what the
              version before it had settled, and only a run settles the new one
    inside    the present period of our own services; those that were missed are not made up for, since a run looks at now

Invariant: what is due and has run is due no more; a day that was missed stays due as far back as the schedule catches up, one
with a file that no run has seen for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from zerosum.reconciling import RunKey, RunKind

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """`due_after_ms`: how long after the end of its day a file is due. `catch_up_days`: how many days are looked back.

    `inside_every_hours`: 1 to 24, counted from midnight UTC.
    """

    psps: tuple[str, ...]
    due_after_ms: int
    catch_up_days: int
    inside_every_hours: int


@dataclass(frozen=True, slots=True)
class Due:
    """A run to be made. `is_again`: it has run, and a file came since."""

    key: RunKey
    is_again: bool = False


def due_runs(
    now_ms: int, schedule: Schedule, *, ran: Mapping[RunKey, int], came: Mapping[tuple[str, str], int]
) -> tuple[Due, ...]:
    """What is to be run now, oldest day first, the inside last.

    `ran`: of each key that has run to its end, when its newest attempt began. `came`: of each (PSP, day) with an accepted
    file, when the newest was accepted. Milliseconds, UTC.
    """
    today = datetime.fromtimestamp(now_ms / 1_000, UTC).date()
    due: list[Due] = []
    for psp in schedule.psps:
        for day in _days(today, psp, schedule, ran, came):
            key = RunKey(RunKind.NIGHTLY, psp, day.isoformat())
            file_ms = came.get((psp, key.period))
            if key in ran:
                if file_ms is not None and file_ms > ran[key]:
                    due.append(Due(key, is_again=True))
            elif file_ms is not None or now_ms >= _due_ms(day, schedule):
                due.append(Due(key))
    inside = RunKey(RunKind.INSIDE, "", _hour(now_ms, schedule.inside_every_hours))
    return (*sorted(due, key=lambda one: one.key.period), *(() if inside in ran else (Due(inside),)))


def _days(
    today: date, psp: str, schedule: Schedule, ran: Mapping[RunKey, int], came: Mapping[tuple[str, str], int]
) -> list[date]:
    """Days to look at: from the first that is known of this PSP, at most as far back as is caught up, up to today; and those
    before with a file. Such a day without one stays as it is: nobody has asked for it."""
    known = [key.period for key in ran if key.kind is RunKind.NIGHTLY and key.psp == psp]
    known += [day for of, day in came if of == psp]
    yesterday = today - timedelta(days=1)
    first = min([yesterday, *(date.fromisoformat(day) for day in known)])
    first = max(first, today - timedelta(days=schedule.catch_up_days))
    before = [date.fromisoformat(day) for of, day in came if of == psp and day < first.isoformat()]
    return [*sorted(before), *(first + timedelta(days=number) for number in range((today - first).days + 1))]


def _due_ms(day: date, schedule: Schedule) -> int:
    """When the file of a day should be there."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(midnight.timestamp()) * 1_000 + DAY_MS + schedule.due_after_ms


def _hour(now_ms: int, every_hours: int) -> str:
    """The period of our own services that holds this instant, named by its first hour."""
    now = datetime.fromtimestamp(now_ms / 1_000, UTC)
    return now.replace(hour=now.hour - now.hour % every_hours).strftime("%Y-%m-%dT%H")
