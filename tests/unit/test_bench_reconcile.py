"""The judgement of `zerosum bench reconcile`: it must see what was missed, misjudged or made up."""

from typing import Any

import pytest

from loadtest.bench.reconcile import promises
from loadtest.planted import Case, Judgement, KindFound, judge


def record(kind: str, mismatch: str, group: str, line: str, order: str = "o1") -> dict[str, Any]:
    """A record of the damage's log."""
    return {
        "kind": kind, "lines": [line], "payment_order_id": order,
        "expected": {"mismatch": mismatch, "class": group, "until_due": group},
    }  # fmt: skip


WRONG_FEE = record("wrong_fee", "wrong_fee", "manual", "txn_1")
DAY_SHIFT = record("day_shift", "", "expected", "txn_2", "o2")
MISSING = record("missing_line", "missing_line", "manual", "txn_3", "o3")
FOUND = [Case("wrong_fee", "manual", "txn_1", "o1"), Case("missing_line", "manual", "", "o3")]


def judged_at_the_end(cases: list[Case], *records: dict[str, Any]) -> Judgement:
    """When the next day's file has come."""
    return judge(records, cases, is_over=True)


def test_everything_found_in_its_class_and_nothing_else_holds() -> None:
    """A line by its id, a missing line by its order, a day shift by nothing being left of it."""
    judged = judged_at_the_end(FOUND, WRONG_FEE, DAY_SHIFT, MISSING)

    assert judged.holds
    assert {each.kind: each.planted for each in judged.kinds} == {"wrong_fee": 1, "day_shift": 1, "missing_line": 1}


@pytest.mark.parametrize(
    ("cases", "why"),
    [
        (FOUND[:1], "missed"),
        ([Case("wrong_fee", "unclassified", "txn_1", "o1"), FOUND[1]], "in another class"),
        ([Case("wrong_amount", "manual", "txn_1", "o1"), FOUND[1]], "of another kind"),
        ([*FOUND, Case("unknown_charge", "unclassified", "txn_9", "")], "a false alarm"),
        ([*FOUND, Case("missing_line", "manual", "", "o2")], "a day shift that did not close"),
        ([Case("wrong_fee", "manual", "txn_8", "o1"), FOUND[1]], "about another line"),
    ],
)
def test_whatever_is_missed_misjudged_or_made_up_does_not_hold(cases: list[Case], why: str) -> None:
    """100 % found, 100 % in the right class, 0 false alarms: no less."""
    assert not judged_at_the_end(cases, WRONG_FEE, DAY_SHIFT, MISSING).holds, why


def test_one_case_does_not_answer_for_two_damages() -> None:
    """Two lines of one kind want two cases."""
    other = record("wrong_fee", "wrong_fee", "manual", "txn_7")

    assert not judged_at_the_end(FOUND, WRONG_FEE, other, MISSING).holds


def broken(kinds: int, *, lines: int, seconds: float = 60.0, memory_mb: float = 300.0) -> list[str]:
    """The promises that a run with so many kinds of damage, all found, does not keep."""
    told = {"tasks": [{"import_s": 0.0, "run_s": seconds}], "memory_mb": memory_mb}
    judged = Judgement(tuple(KindFound(f"kind {number}", 1, 1, 1, "manual") for number in range(kinds)), ())
    return [name for name, _, holds in promises(told, judged, lines=lines) if not holds]


def test_a_file_in_which_nothing_was_planted_proves_nothing() -> None:
    """`--damage 0` is not a run that held."""
    assert broken(0, lines=1_000) == ["kinds of damage"]


def test_ten_kinds_a_minute_and_300_mb_are_promised_of_the_judged_size() -> None:
    """A smaller file may have fewer kinds, a larger one may take longer; memory is flat at any size."""
    assert broken(10, lines=100_000) == []
    assert broken(9, lines=100_000, seconds=60.1) == ["kinds of damage", "seconds"]
    assert broken(9, lines=99_999) == []
    assert broken(10, lines=1_000_000, seconds=900.0, memory_mb=300.1) == ["peak memory"]
