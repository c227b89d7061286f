"""The judgement of `zerosum bench reconcile`: it must see what was missed, misjudged or made up."""

from typing import Any

import pytest

from loadtest.bench_reconcile import Case, judge


def record(kind: str, mismatch: str, group: str, line: str, order: str = "o1") -> dict[str, Any]:
    """A record of the damage's log."""
    return {
        "kind": kind, "lines": [line], "payment_order_id": order, "expected": {"mismatch": mismatch, "class": group},
    }  # fmt: skip


WRONG_FEE = record("wrong_fee", "wrong_fee", "manual", "txn_1")
DAY_SHIFT = record("day_shift", "", "expected", "txn_2", "o2")
MISSING = record("missing_line", "missing_line", "manual", "txn_3", "o3")
FOUND: list[Case] = [("wrong_fee", "manual", "txn_1", "o1"), ("missing_line", "manual", "", "o3")]


def test_everything_found_in_its_class_and_nothing_else_holds() -> None:
    """A line by its id, a missing line by its order, a day shift by nothing being left of it."""
    judged = judge(FOUND, [WRONG_FEE, DAY_SHIFT, MISSING])

    assert judged.holds
    assert judged.planted == {"wrong_fee": 1, "day_shift": 1, "missing_line": 1}


@pytest.mark.parametrize(
    ("cases", "why"),
    [
        (FOUND[:1], "missed"),
        ([("wrong_fee", "unclassified", "txn_1", "o1"), FOUND[1]], "in another class"),
        ([("wrong_amount", "manual", "txn_1", "o1"), FOUND[1]], "of another kind"),
        ([*FOUND, ("unknown_charge", "unclassified", "txn_9", "")], "a false alarm"),
        ([*FOUND, ("missing_line", "manual", "", "o2")], "a day shift that did not close"),
        ([("wrong_fee", "manual", "txn_8", "o1"), FOUND[1]], "about another line"),
    ],
)
def test_whatever_is_missed_misjudged_or_made_up_does_not_hold(cases: list[Case], why: str) -> None:
    """100 % found, 100 % in the right class, 0 false alarms: no less."""
    assert not judge(cases, [WRONG_FEE, DAY_SHIFT, MISSING]).holds, why


def test_one_case_does_not_answer_for_two_damages() -> None:
    """Two lines of one kind want two cases."""
    other = record("wrong_fee", "wrong_fee", "manual", "txn_7")

    assert not judge(FOUND, [WRONG_FEE, other, MISSING]).holds
