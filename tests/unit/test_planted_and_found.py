"""What the simulator plants, the product finds: every damage in its class, no false alarm; and the judge is no yes-man."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.planted import Case, judge
from simulator.psp import settlement_file
from simulator.psp.damage import KINDS, Payouts, Plan, damage
from simulator.psp.damage_file import FILE_KINDS, TRUE, write_spoiled
from simulator.psp.settlement import AT, ORDER, Row
from simulator.psp.stripe.currency import minor_units
from tests.unit.test_psp_damage import HEAD, charge
from zerosum.domain.discrepancy import RULES, Kind
from zerosum.domain.fee_contract import STRIPE
from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Item, Movement, MovementKind, Rules, Standing, State
from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_control import Controls
from zerosum.psp.stripe.settlement import read_lines
from zerosum.psp.stripe.settlement_manifest import read_manifest

DAY_MS = 86_400_000
PAID_AT = "1970-01-02 00:00:00"
CURRENCIES = ("usd", "jpy", "kwd", "eur")
NOT_DUE = Rules(now_ms=DAY_MS, due_after_ms=3 * DAY_MS, contract=STRIPE)
OVERDUE = replace(NOT_DUE, now_ms=10 * DAY_MS)


def true_rows(count: int) -> list[Row]:
    """Charges of few amounts, so that many orders share amount and day."""
    return [charge(n, currency=CURRENCIES[n % 4], gross=1_000 + n % 7 * 100) for n in range(count)]


def movement(row: Row) -> Movement:
    """The order behind a true line, as our books hold it."""
    currency = row[AT["currency"]]
    return Movement(
        kind=MovementKind.CHARGE, number=1, tenant=Tenant("acme"),
        checkout_id=CheckoutId(row[AT["payment_metadata[checkout_id]"]]), order_id=OrderId(row[AT[ORDER]]), psp="stripe",
        object_id=row[AT["payment_intent_id"]], refund_key="",
        money=Money(minor_units(row[AT["gross"]], currency), currency.upper()), at_ms=36_000_000, standing=Standing.SETTLED,
        buyer="b", seller="s",
    )  # fmt: skip


def read(manifest: Mapping[str, Any]) -> tuple[list[Line | Refusal], Refusal | None]:
    """The lines as the product's parser reads them, and what its controls say."""
    controls, told = Controls(), read_manifest(Path(manifest["manifest_path"]).read_bytes())
    assert not isinstance(told, Refusal)
    with Path(manifest["path"]).open("rb") as file:
        lines = list(read_lines(file, controls))
    return lines, controls.check(told)


def reconciled(folder: Path, *, count: int, rate: float, rules: Rules) -> tuple[list[dict[str, Any]], tuple[Item, ...]]:
    """Damage, write, parse, match: the records and what the product's rules make of the lines."""
    rows = true_rows(count)
    steps = list(damage(rows, Plan(seed=1, rate=rate), Payouts({each: (f"po_{each}", PAID_AT) for each in CURRENCIES})))
    manifest = settlement_file.write(folder, (row for step in steps for row in step.rows), HEAD)
    lines, refused = read(manifest)
    assert refused is None
    kept = [replace(line, file_id="file") for line in lines if isinstance(line, Line)]
    assert len(kept) == len(lines)
    return [step.record for step in steps if step.record], reconcile(kept, [movement(row) for row in rows], rules)


def cases_of(items: tuple[Item, ...]) -> list[Case]:
    found = {item.discrepancy.id: item.discrepancy for item in items if item.discrepancy}
    return [Case(each.kind, RULES[each.kind].group, each.line_id, each.order_id) for each in found.values()]


@pytest.mark.slow
@pytest.mark.parametrize(("rules", "group"), [(NOT_DUE, "expected"), (OVERDUE, "manual")], ids=["not due", "overdue"])
def test_every_planted_damage_is_found_in_its_class_and_nothing_else(tmp_path: Path, rules: Rules, group: str) -> None:
    """L1 to L9, from the PSP's file through the product's parser and matching, among orders that look alike."""
    records, items = reconciled(tmp_path, count=2_000, rate=0.2, rules=rules)
    waiting = {item.movement.order_id for item in items if item.movement and item.state is State.EXPECTED}

    cases = [case for case in cases_of(items) if not (group == "manual" and is_shifted(case, records))]
    judged = judge(records, cases, waiting | shifted(records))

    assert {each.kind for each in judged.kinds} == set(KINDS)
    assert (judged.missed, judged.false_alarms, judged.planted) == (0, (), len(records))
    assert next(each.group for each in judged.kinds if each.kind == "missing_line") == group


def shifted(records: list[dict[str, Any]]) -> set[str]:
    """Orders whose line comes with the next day's file."""
    return {record["payment_order_id"] for record in records if record["kind"] == "day_shift"}


def is_shifted(case: Case, records: list[dict[str, Any]]) -> bool:
    """Without the next file a shifted line is a missing one, once it is overdue."""
    return case.kind == Kind.MISSING_LINE and case.order_id in shifted(records)


def test_without_damage_nothing_is_found(tmp_path: Path) -> None:
    """No false alarm on the truth."""
    records, items = reconciled(tmp_path, count=400, rate=0.0, rules=OVERDUE)

    assert (records, cases_of(items)) == ([], [])


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_every_damage_of_the_file_itself_is_refused_whole(tmp_path: Path, kind: str) -> None:
    """L10: cut off, altered, in another encoding, with a payout that does not add up."""
    true = settlement_file.write(tmp_path / TRUE, true_rows(40), HEAD)

    lines, refused = read(write_spoiled(tmp_path, true, kind, seed=1))

    assert refused or any(isinstance(line, Refusal) for line in lines)


def test_expected_kinds_and_classes_are_words_of_the_product() -> None:
    """Written twice, by hand, on purpose: when one of the two changes, somebody must say why."""
    planted = {kind.mismatch: kind.group for kind in KINDS.values() if kind.mismatch}

    assert planted == {str(kind): str(RULES[kind].group) for kind in Kind if kind in planted}


# ---- the judge -----------------------------------------------------------------------------------------------------

RECORDS: list[dict[str, Any]] = [
    {"kind": "wrong_fee", "lines": ["txn_1"], "payment_order_id": "po-1",
     "expected": {"mismatch": "wrong_fee", "class": "manual", "until_due": "manual"}},
    {"kind": "missing_line", "lines": ["txn_2"], "payment_order_id": "po-2",
     "expected": {"mismatch": "missing_line", "class": "manual", "until_due": "expected"}},
]  # fmt: skip
FOUND = (Case("wrong_fee", "manual", "txn_1", "po-1"), Case("missing_line", "manual", "", "po-2"))


def _without(number: int) -> Callable[[list[Case]], None]:
    return lambda cases: cases.__delitem__(number)


def _other(number: int, **fields: str) -> Callable[[list[Case]], None]:
    return lambda cases: cases.__setitem__(number, cases[number]._replace(**fields))


@pytest.mark.parametrize(
    ("spoil", "missed", "alarms"),
    [
        (lambda _: None, 0, 0),
        (_without(0), 1, 0),
        (_without(1), 1, 0),
        (_other(0, group="automatic"), 1, 0),
        (_other(0, kind="wrong_amount"), 1, 1),
        (_other(0, line_id="txn_9"), 1, 1),
        (_other(1, order_id="po-9"), 1, 1),
        (lambda cases: cases.append(Case("wrong_fee", "manual", "txn_3", "po-3")), 0, 1),
    ],
)
def test_what_is_not_found_or_found_otherwise_is_told(
    spoil: Callable[[list[Case]], None], missed: int, alarms: int
) -> None:
    """Each way in which planted and found can differ."""
    cases = list(FOUND)
    spoil(cases)

    judged = judge(RECORDS, cases)

    assert (judged.missed, len(judged.false_alarms), judged.holds) == (missed, alarms, not missed and not alarms)


def test_a_line_that_may_still_come_is_found_as_expected() -> None:
    """Only what the log says may wait: an order that waits does not excuse a wrong fee."""
    judged = judge(RECORDS, (), waiting={"po-1", "po-2"})

    assert [(each.kind, each.in_class, each.group) for each in judged.kinds] == [
        ("missing_line", 1, "expected"), ("wrong_fee", 0, "expected"),
    ]  # fmt: skip


def test_nothing_planted_proves_nothing() -> None:
    """An empty log does not hold."""
    assert not judge((), ()).holds
