"""Every kind of to-do has a budget, waits stay in bounds, and budgets end before harm. Source: failures.md rows S2, S6, P33."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.domain.identity import OrderId
from zerosum.domain.retry import (
    BUDGETS,
    Budget,
    backoff_ceiling_ms,
    backoff_ms,
    due_after_ms,
    is_spent,
    parse_retry_after,
    poll_after_ms,
)
from zerosum.domain.todo import PSP_KINDS, Todo, TodoKind, TodoState
from zerosum.errors import Bug
from zerosum.limits import (
    BACKOFF_BASE_MS,
    BACKOFF_CAP_MS,
    PEER_TRIES_MAX,
    PSP_TIMEOUT_MS,
    RETRY_AFTER_CAP_MS,
    TRIES_MAX,
    UNKNOWN_BUDGET_MARGIN_MS,
)

DAY_MS = 24 * 3_600 * 1_000
NOW_MS = 1_800_000_000_000

tries_seen = st.integers(1, 5_000)
chance = st.integers(0, 999_999)
bases = st.integers(1, 10_000)
caps = st.integers(1, 3_600_000)


def todo(kind: TodoKind, *, tries: int = 0, created_at_ms: int = NOW_MS) -> Todo:
    return Todo("t", kind, OrderId("o"), 1, tries, created_at_ms, TodoState.OPEN, "", created_at_ms)


def test_every_kind_of_todo_has_a_budget() -> None:
    assert set(TodoKind) == set(BUDGETS)


def test_what_may_have_moved_money_is_bounded_by_the_horizon_and_never_by_tries() -> None:
    assert {Budget(tries_max=None, ends_with_horizon=True)} == {BUDGETS[kind] for kind in PSP_KINDS}
    assert {kind for kind, budget in BUDGETS.items() if budget.ends_with_horizon} == PSP_KINDS


@pytest.mark.parametrize("kind", sorted(PSP_KINDS))
def test_an_operation_is_spent_a_margin_before_the_psp_may_forget_its_key(kind: TodoKind) -> None:
    tried = todo(kind, tries=10**6)
    last_ms = NOW_MS + DAY_MS - UNKNOWN_BUDGET_MARGIN_MS

    assert not is_spent(tried, last_ms - 1, DAY_MS)
    assert is_spent(tried, last_ms, DAY_MS)


def test_the_margin_is_longer_than_a_request_may_take() -> None:
    assert UNKNOWN_BUDGET_MARGIN_MS > PSP_TIMEOUT_MS


def test_a_horizon_shorter_than_the_margin_sends_nothing() -> None:
    assert is_spent(todo(TodoKind.PREPARE), NOW_MS, UNKNOWN_BUDGET_MARGIN_MS)


@pytest.mark.parametrize(
    ("kind", "tries_max"),
    [
        (TodoKind.ASSESS_RISK, TRIES_MAX),
        (TodoKind.CREDIT_WALLET, PEER_TRIES_MAX),
        (TodoKind.POST_JOURNAL, PEER_TRIES_MAX),
        (TodoKind.POST_SUSPENSE, PEER_TRIES_MAX),
        (TodoKind.CLEAR_SUSPENSE, PEER_TRIES_MAX),
    ],
)
def test_other_todos_are_spent_by_tries_whatever_their_age(kind: TodoKind, tries_max: int) -> None:
    assert not is_spent(todo(kind, tries=tries_max - 1), NOW_MS + 365 * DAY_MS, DAY_MS)
    assert is_spent(todo(kind, tries=tries_max), NOW_MS, DAY_MS)


def test_an_answer_is_never_spent() -> None:
    assert not is_spent(todo(TodoKind.ANSWER, tries=10**9), NOW_MS + 365 * DAY_MS, DAY_MS)


def test_a_replay_by_an_operator_gives_a_new_budget() -> None:
    dead = todo(TodoKind.CREDIT_WALLET, tries=PEER_TRIES_MAX)

    assert is_spent(dead, NOW_MS, DAY_MS)
    assert not is_spent(replace(dead, tries=0, created_at_ms=NOW_MS), NOW_MS, DAY_MS)


def test_the_ceiling_doubles_from_the_base_to_the_cap() -> None:
    ceilings = [backoff_ceiling_ms(tries, base_ms=BACKOFF_BASE_MS, cap_ms=BACKOFF_CAP_MS) for tries in range(1, 12)]

    assert ceilings == [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]


@given(tries_seen, bases, caps)
def test_the_ceiling_never_falls_and_never_passes_the_cap(tries: int, base_ms: int, cap_ms: int) -> None:
    now_ms, next_ms = (backoff_ceiling_ms(n, base_ms=base_ms, cap_ms=cap_ms) for n in (tries, tries + 1))

    assert now_ms <= next_ms <= cap_ms


@given(tries_seen, chance, bases, caps)
def test_a_wait_lies_between_nothing_and_its_ceiling(tries: int, jitter_ppm: int, base_ms: int, cap_ms: int) -> None:
    wait_ms = backoff_ms(tries, jitter_ppm, base_ms=base_ms, cap_ms=cap_ms)

    assert 0 <= wait_ms < backoff_ceiling_ms(tries, base_ms=base_ms, cap_ms=cap_ms)


def test_full_jitter_spreads_over_the_whole_ceiling() -> None:
    waits = [backoff_ms(4, jitter_ppm, base_ms=100, cap_ms=30_000) for jitter_ppm in (0, 250_000, 500_000, 999_999)]

    assert waits == [0, 200, 400, 799]


@pytest.mark.parametrize("jitter_ppm", [-1, 1_000_000])
def test_chance_out_of_its_range_is_a_bug(jitter_ppm: int) -> None:
    with pytest.raises(Bug):
        backoff_ms(1, jitter_ppm, base_ms=100, cap_ms=30_000)


@given(tries_seen, chance, st.integers(-(10**12), 10**12))
def test_what_was_asked_is_waited_at_least_and_within_the_cap(tries: int, jitter_ppm: int, asked_ms: int) -> None:
    wait_ms = due_after_ms(tries, jitter_ppm, asked_ms, base_ms=BACKOFF_BASE_MS, cap_ms=BACKOFF_CAP_MS)

    assert wait_ms >= min(max(asked_ms, 0), RETRY_AFTER_CAP_MS)
    assert wait_ms < RETRY_AFTER_CAP_MS + BACKOFF_CAP_MS


def test_those_turned_away_together_do_not_come_back_together() -> None:
    waits = {due_after_ms(3, ppm, 5_000, base_ms=100, cap_ms=30_000) for ppm in range(0, 1_000_000, 10_000)}

    assert len(waits) == 100
    assert min(waits) == 5_000


def test_a_pending_order_is_asked_for_after_1_2_4_up_to_60_minutes() -> None:
    assert [poll_after_ms(polls) // 60_000 for polls in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert poll_after_ms(10**9) == 3_600_000


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        ("0", 0), ("1", 1_000), ("30", 30_000), (" 5 ", 5_000), ("007", 7_000), ("60", 60_000),
        ("61", 60_000), ("86400", 60_000), ("9" * 5_000, 60_000), ("0" * 5_000, 0),
        ("-1", 0), ("-99999999999", 0), ("+5", 0), ("1.5", 0), ("1e3", 0), ("", 0), (" ", 0), ("soon", 0), ("NaN", 0),
        ("\u0663", 0), ("\uff13", 0), ("5 seconds", 0), ("5, 5", 0), ("\x005", 0),
        ("Mon, 99 Foo 2026 99:99:99 GMT", 0), ("Mon, 06 Nov 99999999 08:49:37 GMT", 0), ("Mon, " + "9" * 27, 0),
    ],
)  # fmt: skip
def test_retry_after_in_seconds_is_obeyed_within_the_cap_and_nonsense_asks_for_nothing(
    header: str, wait_ms: int
) -> None:
    assert parse_retry_after(header, NOW_MS) == wait_ms


@pytest.mark.parametrize(
    "header", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_every_form_of_http_date_is_read(header: str) -> None:
    """The three forms of RFC 9110 section 5.6.7."""
    then_ms = 784_111_777_000

    assert parse_retry_after(header, then_ms - 7_000) == 7_000
    assert parse_retry_after(header, then_ms) == 0
    assert parse_retry_after(header, then_ms + DAY_MS) == 0
    assert parse_retry_after(header, then_ms - DAY_MS) == RETRY_AFTER_CAP_MS


@given(st.integers(-100_000, 100_000))
def test_a_date_asks_for_the_time_until_it(after_s: int) -> None:
    now = datetime(2026, 11, 20, 12, 30, 45, tzinfo=UTC)
    header = format_datetime(now + timedelta(seconds=after_s), usegmt=True)

    wait_ms = parse_retry_after(header, int(now.timestamp()) * 1_000)
    assert wait_ms == min(max(after_s * 1_000, 0), RETRY_AFTER_CAP_MS)


@given(st.one_of(st.text(), st.from_regex(r"\A(Mon|Tue|Sunday),? [ -~]{18,32}\Z"), st.from_regex(r"\A-?[0-9]+\Z")))
def test_any_header_is_a_wait_between_nothing_and_the_cap(header: str) -> None:
    assert 0 <= parse_retry_after(header, NOW_MS) <= RETRY_AFTER_CAP_MS
