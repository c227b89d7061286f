"""A fee beside another case: nobody who decides the first one looks at it, so that it is a case of its own. L6."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.reconcile_sample import RULES, charge, found_by, line, refund, refund_line
from zerosum.domain.discrepancy import Kind
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Item, Movement, Standing
from zerosum.domain.settlement import Category, Line
from zerosum.domain.settlement_posting import Settled, settled


def fee_cases(items: Sequence[Item]) -> list[tuple[Kind | None, Money]]:
    """What each fee that is a case of its own stands beside, and what is off."""
    return [
        (item.discrepancy.kind if item.discrepancy else None, item.fee.money) for item in items if item.fee is not None
    ]


@pytest.mark.parametrize(
    ("kind", "lines", "movements"),
    [
        (Kind.UNRESOLVED_ORDER, [line(fee_minor=370)], [charge(standing=Standing.IN_FLIGHT)]),
        (Kind.LATE_CHARGE, [line(fee_minor=370)], [charge(standing=Standing.GIVEN_UP)]),
        (Kind.WRONG_REFERENCE, [line(fee_minor=370, reference="o9")], [charge()]),
        (Kind.WRONG_PSP_ID, [line(fee_minor=370, object_id="pi_x")], [charge()]),
        (Kind.UNKNOWN_CHARGE, [line(fee_minor=370)], []),
        (Kind.DUPLICATE_CHARGE, [line(), line(fee_minor=370, number=2, id="txn_second")], [charge()]),
    ],
)
def test_a_charges_other_fee_is_a_case_beside_whatever_else_is_the_matter(
    kind: Kind, lines: list[Line], movements: list[Movement]
) -> None:
    """3.70 was kept where the contract says 3.20; the contract's is believed and the rest waits in clearing."""
    items = reconcile(lines, movements, RULES)

    assert fee_cases(items) == [(kind, Money(-50, "EUR"))]
    parts = [part for item in items if (part := settled(item)) is not None]
    assert Settled("EUR", 9_630, 320) in parts


def test_a_refund_that_cost_something_is_a_fee_case_too() -> None:
    items = reconcile([refund_line(fee_minor=25)], [refund(standing=Standing.IN_FLIGHT)], RULES)

    assert fee_cases(items) == [(Kind.UNRESOLVED_ORDER, Money(-25, "EUR"))]


@pytest.mark.parametrize(
    ("category", "amount_minor", "fee_minor", "off_minor"),
    [
        (Category.DISPUTE, -10_000, 0, 0),
        (Category.DISPUTE, -10_000, 1_500, 0),
        (Category.DISPUTE, -10_000, 50_000, -48_500),
        (Category.DISPUTE_REVERSAL, 10_000, 0, 0),
        (Category.DISPUTE_REVERSAL, 10_000, -1_500, 0),
        (Category.DISPUTE_REVERSAL, 10_000, 1_500, -1_500),
        (Category.PARTIAL_CAPTURE_REVERSAL, -4_000, 0, 0),
        (Category.PARTIAL_CAPTURE_REVERSAL, -4_000, 1_500, -1_500),
    ],
)
@pytest.mark.parametrize("movements", [[charge()], []], ids=["of ours", "unknown"])
def test_a_dispute_costs_its_fee_or_nothing_and_whatever_else_is_asked_is_not_believed(
    category: Category, amount_minor: int, fee_minor: int, off_minor: int, movements: list[Movement]
) -> None:
    """The contract names a fee of each dispute, which a file tells with the dispute or as a row of its own; one that is won
    may bring it back. What clearing is off by is the case."""
    told = line(category=category, amount_minor=amount_minor, fee_minor=fee_minor, id="txn_dp")
    (item,) = (item for item in reconcile([told], movements, RULES) if item.line)

    part = settled(item)

    assert (item.fee.money.amount_minor if item.fee else 0) == off_minor
    assert part == Settled("EUR", amount_minor - fee_minor, fee_minor + off_minor)


def test_the_fee_of_a_wrong_amount_may_be_that_of_the_amount_that_was_charged() -> None:
    """100.00 were charged and 90.00 settled: 3.20 as well as 2.91 is the contract's, and 5.00 is neither."""
    for fee_minor, cases in ((320, []), (291, []), (500, [(Kind.WRONG_AMOUNT, Money(-209, "EUR"))])):
        items = reconcile([line(amount_minor=9_000, fee_minor=fee_minor)], [charge()], RULES)

        assert fee_cases(items) == cases, fee_minor


def test_where_the_fee_is_all_that_is_wrong_or_nothing_settles_it_is_no_second_case() -> None:
    twice = [line(fee_minor=370), line(fee_minor=370, number=2)]
    dispute = line(category=Category.DISPUTE, amount_minor=-10_000, fee_minor=1_500, id="txn_dp", number=3)

    assert fee_cases(reconcile([*twice, dispute], [charge()], RULES)) == []


@pytest.mark.parametrize(
    ("disputes", "changed", "explained"),
    [
        ([], {}, 0),
        ([{}], {}, 1),
        ([{}, {"id": "txn_dp2", "number": 3}], {}, 2),
        ([{"fee_minor": 1_500}], {}, 0),
        ([{"object_id": "pi_other"}], {}, 0),
        ([{"category": Category.DISPUTE_REVERSAL}], {}, 0),
        ([{}], {"reference": "o9"}, 0),
        ([{}], {"tenant": "u"}, 0),
    ],
)
def test_each_dispute_without_a_fee_of_its_own_explains_one_fee_row(
    disputes: list[dict[str, Any]], changed: dict[str, Any], explained: int
) -> None:
    """Three rows of 15.00: what has no dispute is a fee that nobody agreed to, however well it fits the contract."""
    rows = [
        line(**{"amount_minor": -1_500, "id": f"txn_fee{number}", "number": number, "category": Category.FEE, "fee_minor": 0,
                **changed})
        for number in (7, 8, 9)
    ]  # fmt: skip
    told = [
        line(
            **{
                "amount_minor": -10_000,
                "id": "txn_dp",
                "number": 2,
                "category": Category.DISPUTE,
                "fee_minor": 0,
                **each,
            }
        )
        for each in disputes
    ]

    states = Counter(state for _, _, state in found_by([line(), *told, *rows], [charge()]))

    assert (states["EXPLAINED"], states["unknown_fee"]) == (explained, 3 - explained)
