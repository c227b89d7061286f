"""The judgement of `zerosum bench reconcile`: it must see what was missed, misjudged or made up."""

from typing import Any

import pytest

from loadtest.planted import Case, Judgement, judge


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
