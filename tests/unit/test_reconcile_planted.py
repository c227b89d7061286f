"""What the simulator plants is what reconciliation finds, no more and no less. Source: issue 4, points 2 and 9.

Method: the simulator writes a true file and a damaged one with its log; the parser reads it, matching judges it against the
movements that the true file was made from. Neither side shares code with the other.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.psp import settlement_file
from simulator.psp.damage import KINDS, Plan
from simulator.psp.damage_file import FILE_KINDS, write_damaged, write_spoiled
from simulator.psp.settlement import COLUMNS, Row
from simulator.psp.settlement_file import Head
from simulator.psp.stripe.currency import major_units
from tests.unit.reconcile_sample import DAY_MS
from tests.unit.reconcile_sample import charge as movement
from tests.unit.settlement_sample import judge, read
from zerosum.domain.discrepancy import Discrepancy, Kind
from zerosum.domain.fee_contract import STRIPE, charge_fee_minor
from zerosum.domain.identity import CheckoutId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Item, Movement, Rules, State

pytestmark = pytest.mark.slow

HEAD = Head(from_ms=0, to_ms=DAY_MS, created_ms=DAY_MS)
NOT_DUE = Rules(now_ms=DAY_MS, due_after_ms=3 * DAY_MS, contract=STRIPE)
DUE = replace(NOT_DUE, now_ms=9 * DAY_MS)

CURRENCIES = ("usd", "jpy", "kwd", "eur")
CHARGES = [(number, CURRENCIES[number % 4], 2 + number * 37) for number in range(600)]


def row(number: int, currency: str, gross: int) -> Row:
    """A charge line as the simulator writes it."""
    fee = charge_fee_minor(STRIPE, Money(gross, currency.upper()))
    cells = {
        "automatic_payout_id": f"po_{currency}", "automatic_payout_effective_at_utc": "1970-01-02 00:00:00",
        "balance_transaction_id": f"txn_{number}", "created_utc": "1970-01-01 10:00:00", "currency": currency,
        "gross": major_units(gross, currency), "fee": major_units(fee, currency),
        "net": major_units(gross - fee, currency), "reporting_category": "charge", "payment_method_type": "card",
        "payment_intent_id": f"pi_o{number}", "payment_metadata[tenant]": "t",
        "payment_metadata[checkout_id]": f"c{number // 2}", "payment_metadata[payment_order_id]": f"o{number}",
    }  # fmt: skip
    return [cells.get(column, "") for column in COLUMNS]


def movements() -> list[Movement]:
    """What our own books say of the same charges."""
    return [
        movement(
            f"o{number}", gross, currency.upper(), tenant=Tenant("t"), checkout_id=CheckoutId(f"c{number // 2}"),
            at_ms=10 * 3_600_000,
        )
        for number, currency, gross in CHARGES
    ]  # fmt: skip


def true_file(folder: Path) -> dict[str, Any]:
    return settlement_file.write(folder / "true", (row(*each) for each in CHARGES), HEAD)


def planted(folder: Path, seed: int) -> tuple[bytes, list[dict[str, Any]]]:
    """(the damaged file, the log of what was done to it); its control totals hold."""
    damaged = write_damaged(folder, true_file(folder), HEAD, Plan(seed=seed, rate=0.25))
    content = Path(damaged["path"]).read_bytes()
    assert judge(content, Path(damaged["manifest_path"]).read_bytes()) is None
    assert judge(content, None) is None
    return content, [json.loads(line) for line in Path(damaged["damage_log"]).read_text().splitlines()]


def cases_of(items: tuple[Item, ...]) -> dict[str, Discrepancy]:
    return {item.discrepancy.id: item.discrepancy for item in items if item.discrepancy}


def told(items: tuple[Item, ...]) -> Counter[tuple[str, str, str]]:
    """(kind, class, line or, where one is missing, order) of each case."""
    return Counter((case.kind, case.group, case.line_id or case.order_id) for case in cases_of(items).values())


def expected(record: dict[str, Any], group: str) -> tuple[str, str, str]:
    """The same of a record of damage; a second charge and what was added are told by the new line."""
    what = record["damaged"] if record["field"] == "line" and record["damaged"] else record["lines"][0]
    is_missing = record["field"] == "line" and not record["damaged"]
    return record["expected"]["mismatch"], group, record["payment_order_id"] if is_missing else what


@pytest.mark.parametrize("seed", range(5))
def test_every_damage_is_found_in_its_class_and_nothing_else_is(tmp_path: Path, seed: int) -> None:
    """At 25 % damage of all kinds: found = planted, once what is missing is due. A shifted line that never comes is missing."""
    content, records = planted(tmp_path, seed)

    found = told(reconcile(read(content)[0], movements(), DUE))

    shifted = [record for record in records if record["kind"] == "day_shift"]
    asked = [expected(record, record["expected"]["class"]) for record in records if record["kind"] != "day_shift"]
    assert {record["kind"] for record in records} == set(KINDS)
    assert found == Counter([*asked, *(("missing_line", "manual", each["payment_order_id"]) for each in shifted)])


def test_before_the_deadline_what_is_missing_is_expected_and_no_case(tmp_path: Path) -> None:
    content, records = planted(tmp_path, 1)

    items = reconcile(read(content)[0], movements(), NOT_DUE)

    absent = {each["payment_order_id"] for each in records if each["expected"]["until_due"] == "expected"}
    assert {item.movement.order_id for item in items if item.movement and item.state is State.EXPECTED} == absent
    assert Kind.MISSING_LINE not in {case.kind for case in cases_of(items).values()}


def test_what_was_shifted_into_the_next_file_matches_there_and_leaves_no_case(tmp_path: Path) -> None:
    """L8: a cut-off between two nights. The second file has nothing of its own."""
    content, records = planted(tmp_path, 1)
    waiting = [
        item.movement
        for item in reconcile(read(content)[0], movements(), NOT_DUE)
        if item.movement and item.state is State.EXPECTED
    ]
    next_day = Head(from_ms=DAY_MS, to_ms=2 * DAY_MS, created_ms=2 * DAY_MS)
    true = settlement_file.write(tmp_path / "true", iter(()), next_day)
    second = write_damaged(tmp_path, true, next_day, Plan(seed=1, rate=0))
    later, refused, _ = read(Path(second["path"]).read_bytes())

    found = reconcile(later, waiting, replace(NOT_DUE, now_ms=2 * DAY_MS))

    shifted = {record["payment_order_id"] for record in records if record["kind"] == "day_shift"}
    assert (refused, judge(Path(second["path"]).read_bytes(), Path(second["manifest_path"]).read_bytes())) == (
        None,
        None,
    )
    assert {item.movement.order_id for item in found if item.movement and item.state is State.MATCHED} == shifted
    assert cases_of(found) == {}


def test_a_true_file_has_no_case_at_all(tmp_path: Path) -> None:
    """0 false alarms: the payouts are explained, everything else matches."""
    content = Path(true_file(tmp_path)["path"]).read_bytes()

    states = Counter(item.state for item in reconcile(read(content)[0], movements(), DUE))

    assert states == {State.MATCHED: len(CHARGES), State.EXPLAINED: len(CURRENCIES)}


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_a_file_that_is_spoiled_as_a_whole_is_refused_whole(tmp_path: Path, kind: str) -> None:
    spoiled = write_spoiled(tmp_path, true_file(tmp_path), kind, seed=4)

    assert judge(Path(spoiled["path"]).read_bytes(), Path(spoiled["manifest_path"]).read_bytes()) is not None
