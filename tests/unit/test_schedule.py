"""When a reconciliation is due. Source: issue 4, point 6; row P28: a pure function of the calendar."""

from datetime import UTC, datetime

import pytest

from actors.schedule import Due, Schedule, due_runs
from zerosum.reconciling import RunKey, RunKind

SIX_HOURS_MS = 6 * 3_600_000
SCHEDULE = Schedule(psps=("stripe",), due_after_ms=SIX_HOURS_MS, catch_up_days=7, inside_every_hours=1)


def at(text: str) -> int:
    """An instant, UTC, in milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def day(period: str, psp: str = "stripe") -> RunKey:
    """The key of a day."""
    return RunKey(RunKind.NIGHTLY, psp, period)


def hour(period: str) -> RunKey:
    """The key of an hour."""
    return RunKey(RunKind.INSIDE, "", period)


def nightly(
    now: str, ran: dict[RunKey, int] | None = None, came: dict[tuple[str, str], int] | None = None
) -> list[Due]:
    """What is due of the nightly runs."""
    due = due_runs(at(now), SCHEDULE, ran=ran or {}, came=came or {})
    return [one for one in due if one.key.kind is RunKind.NIGHTLY]


def test_a_day_is_due_when_its_file_should_be_there_and_not_before() -> None:
    assert nightly("2026-11-26T05:59") == []
    assert nightly("2026-11-26T06:00") == [Due(day("2026-11-25"))]


def test_a_file_that_is_there_makes_its_day_due_at_once() -> None:
    """Also the day that is not over: a PSP may close it early."""
    came = {("stripe", "2026-11-25"): at("2026-11-26T00:10"), ("stripe", "2026-11-26"): at("2026-11-26T00:20")}

    assert nightly("2026-11-26T00:30", came=came) == [Due(day("2026-11-25")), Due(day("2026-11-26"))]


def test_what_has_run_is_due_no_more() -> None:
    assert nightly("2026-11-26T07:00", ran={day("2026-11-25"): at("2026-11-26T06:00")}) == []


def test_a_file_that_came_after_the_run_makes_the_day_due_again() -> None:
    """A late file, or a corrected one: the next attempt. One that was there when the run began does not."""
    ran = {day("2026-11-25"): at("2026-11-26T06:00")}
    before, after = (
        {("stripe", "2026-11-25"): at("2026-11-26T05:00")},
        {("stripe", "2026-11-25"): at("2026-11-26T09:00")},
    )

    assert nightly("2026-11-26T10:00", ran, before) == []
    assert nightly("2026-11-26T10:00", ran, after) == [Due(day("2026-11-25"), is_again=True)]


def test_days_missed_in_a_downtime_are_caught_up_oldest_first() -> None:
    """Three days down: each day once; nothing before the first day that is known."""
    ran = {day("2026-11-21"): at("2026-11-22T06:00")}

    assert [one.key.period for one in nightly("2026-11-26T07:00", ran)] == [
        "2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25",
    ]  # fmt: skip


def test_catching_up_ends_where_the_schedule_says() -> None:
    ran = {day("2026-10-01"): at("2026-10-02T06:00")}

    assert next(one.key.period for one in nightly("2026-11-26T07:00", ran)) == "2026-11-19"


def test_a_day_older_than_is_caught_up_is_due_while_its_file_is_newer_than_its_run() -> None:
    """Accepting a re-issue took back what the version before it had settled: nobody else settles the new one."""
    old, ran = "2026-10-01", {day("2026-10-01"): at("2026-10-02T06:00"), day("2026-11-25"): at("2026-11-26T06:00")}
    came = {("stripe", old): at("2026-11-26T09:00"), ("stripe", "2026-09-01"): at("2026-11-26T09:00")}
    days = [day(f"2026-11-{number}") for number in range(19, 25)]

    due = nightly("2026-11-26T10:00", ran, came)

    assert due == [Due(day("2026-09-01")), Due(day(old), is_again=True), *map(Due, days)]
    assert nightly("2026-11-26T10:00", {**ran, day(old): at("2026-11-26T09:30")}, came) == [due[0], *due[2:]]


def test_a_new_house_begins_with_yesterday() -> None:
    """A first start makes no runs of days before there was anything."""
    assert [one.key.period for one in nightly("2026-11-26T07:00")] == ["2026-11-25"]


def test_each_psp_has_days_of_its_own() -> None:
    schedule = Schedule(("adyen", "stripe"), SIX_HOURS_MS, 7, 1)
    due = due_runs(at("2026-11-26T07:00"), schedule, ran={day("2026-11-25", "adyen"): at("2026-11-26T06:00")}, came={})

    assert [one.key for one in due] == [day("2026-11-25"), hour("2026-11-26T07")]


@pytest.mark.parametrize(
    ("every_hours", "now", "expected"),
    [
        (1, "2026-11-26T07:59", "2026-11-26T07"),
        (6, "2026-11-26T07:59", "2026-11-26T06"),
        (24, "2026-11-26T23:59", "2026-11-26T00"),
    ],
)
def test_the_inside_is_due_once_a_period_and_missed_ones_are_not_made_up_for(
    every_hours: int, now: str, expected: str
) -> None:
    schedule = Schedule((), SIX_HOURS_MS, 7, every_hours)
    ran = {hour("2026-11-20T00"): at("2026-11-20T00:00")}

    assert due_runs(at(now), schedule, ran=ran, came={}) == (Due(hour(expected)),)
    assert due_runs(at(now), schedule, ran={hour(expected): at(now)}, came={}) == ()


def test_month_and_year_ends_are_days_like_any() -> None:
    ran = {day("2027-12-30"): at("2027-12-31T06:00")}

    assert [one.key.period for one in nightly("2028-01-02T07:00", ran)] == ["2027-12-31", "2028-01-01"]
