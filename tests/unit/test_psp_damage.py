"""Planted damage: each is on record and really in the file, and nothing else is touched."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.psp import settlement_file
from simulator.psp.damage import KINDS, Payouts, Plan, damage
from simulator.psp.damage_file import FILE_KINDS, TRUE, is_later_waiting, write_damaged, write_spoiled
from simulator.psp.settlement import AT, COLUMNS, Row
from simulator.psp.settlement_file import Head
from simulator.psp.stripe.currency import major_units, minor_units

DAY_MS = 86_400_000
HEAD = Head(from_ms=0, to_ms=DAY_MS, created_ms=DAY_MS)
NEXT_DAY = Head(from_ms=DAY_MS, to_ms=2 * DAY_MS, created_ms=2 * DAY_MS)
CLASSES = {"automatic", "manual", "unclassified", "expected"}


def charge(number: int, *, currency: str = "usd", gross: int = 1_000, is_paid: bool = True) -> Row:
    """A charge line as the simulator writes it, with the contract's fee."""
    fee = min(gross, (gross * 290 + 5_000) // 10_000 + 30)
    cells = {
        "automatic_payout_id": f"po_{currency}" if is_paid else "",
        "automatic_payout_effective_at_utc": "1970-01-02 00:00:00" if is_paid else "",
        "balance_transaction_id": f"txn_{number}", "created_utc": "1970-01-01 10:00:00",
        "available_on_utc": "1970-01-03 10:00:00", "currency": currency, "gross": major_units(gross, currency),
        "fee": major_units(fee, currency), "net": major_units(gross - fee, currency), "reporting_category": "charge",
        "source_id": f"ch_{number}", "customer_facing_amount": major_units(gross, currency),
        "customer_facing_currency": currency, "charge_id": f"ch_{number}", "payment_intent_id": f"pi_{number}",
        "charge_created_utc": "1970-01-01 10:00:00", "payment_method_type": "card", "payment_metadata[tenant]": "acme",
        "payment_metadata[checkout_id]": f"chk-{number // 2}", "payment_metadata[payment_order_id]": f"po-{number}",
    }  # fmt: skip
    return [cells.get(column, "") for column in COLUMNS]


def charges(count: int) -> list[Row]:
    currencies = ("usd", "jpy", "kwd", "eur")
    return [charge(n, currency=currencies[n % 4], gross=2 + n * 37) for n in range(count)]


def cell(row: Row, name: str) -> str:
    return row[AT[name]]


amounts = st.tuples(st.sampled_from(["usd", "eur", "jpy", "kwd"]), st.integers(1, 10**9))


@pytest.mark.slow
@given(lines=st.lists(amounts, max_size=40), seed=st.integers(), rate=st.floats(0, 1), is_paid=st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_damage_is_on_record_and_all_else_is_untouched(
    lines: list[tuple[str, int]], seed: int, rate: float, is_paid: bool
) -> None:
    """The records alone tell which lines are gone, new or other; every line besides is a true one, byte for byte."""
    true = {f"txn_{n}": charge(n, currency=c, gross=g, is_paid=is_paid) for n, (c, g) in enumerate(lines)}
    payouts = Payouts({c: (f"po_{c}", "1970-01-02 00:00:00") for c, _ in lines} if is_paid else {})

    steps = list(damage(true.values(), Plan(seed=seed, rate=rate), payouts))
    rows = [row for step in steps for row in step.rows]
    records = [step.record for step in steps if step.record]

    assert Counter(cell(row, "balance_transaction_id") for row in rows) == ids_told(true, records)
    changed = {record["lines"][0]: record for record in records if record["field"] != "line"}
    new = {record["damaged"] for record in records if record["field"] == "line"}
    for row in rows:
        id_ = cell(row, "balance_transaction_id")
        assert_adds_up(row, is_paid=is_paid)
        if id_ in changed:
            check_change(changed[id_], true[id_], row)
        else:
            assert id_ in new - set(true) or row == true[id_]
    assert all(record["expected"]["class"] in CLASSES for record in records)


def ids_told(true: dict[str, Row], records: list[dict[str, Any]]) -> Counter[str]:
    """Which lines the file has, made from the true ones and the records alone."""
    ids = Counter(list(true))
    for record in records:
        if record["field"] == "line":
            ids[record["true"] or record["damaged"]] += -1 if record["true"] else 1
    return +ids


def check_change(record: dict[str, Any], before: Row, after: Row) -> None:
    """What a record says of a changed line is what was there, what is there, and all of it."""
    changes = {name: [old, new] for name, old, new in zip(COLUMNS, before, after, strict=True) if old != new}
    assert record["cells"] == changes
    assert [record["true"], record["damaged"]] == changes[record["field"]]


def assert_adds_up(row: Row, *, is_paid: bool) -> None:
    currency = cell(row, "currency")
    gross, fee, net = (minor_units(cell(row, name), currency) for name in ("gross", "fee", "net"))
    assert gross - fee == net
    assert bool(cell(row, "automatic_payout_id")) == is_paid
    assert len(row) == len(COLUMNS)


def test_the_same_seed_damages_alike_and_another_one_otherwise() -> None:
    """A demo that failed is run again by its seed."""

    def records(seed: int) -> list[Any]:
        return [step.record for step in damage(charges(300), Plan(seed=seed, rate=0.1), Payouts({}))]

    assert records(1) == records(1)
    assert records(1) != records(2)


def test_all_kinds_come_in_even_shares_and_the_share_is_the_rate() -> None:
    """4,000 lines at 5 %: 200 damages within four standard deviations, each of the kinds an eighteenth of them."""
    found = Counter(
        step.record["kind"]
        for step in damage(charges(4_000), Plan(seed=1, rate=0.05), Payouts({}))
        if step.record is not None
    )

    assert abs(found.total() - 200) < 4 * 13.8
    assert set(found) == set(KINDS)
    assert max(found.values()) - min(found.values()) <= 1


def test_an_unknown_charge_has_an_amount_that_no_order_has() -> None:
    """Else a matcher could pair it by amount and day with the order of a missing line, and both would be silent."""
    rows = charges(500)
    plan = Plan(seed=3, rate=0.2, kinds=("extra_line", "missing_line"))
    steps = [step for step in damage(rows, plan, Payouts({})) if step.record]
    unknown = [step.rows[0] for step in steps if step.record and step.record["kind"] == "extra_line"]

    known = {(cell(row, "currency"), cell(row, "gross")) for row in rows}
    new = [(cell(row, "currency"), cell(row, "gross")) for row in unknown]
    assert len(new) == len(set(new)) > 20
    assert known.isdisjoint(new)


def test_only_charge_lines_that_may_be_spoiled_are() -> None:
    """A payment with a refund is left alone: two causes in one payment would have no one expected class."""
    rows = charges(100)
    steps = list(damage(rows, Plan(seed=1, rate=1), Payouts({}), lambda row: cell(row, "payment_intent_id") == "pi_7"))

    assert len([step for step in steps if step.record]) == 1
    assert [step.rows[0] for step in steps if not step.record][:6] == rows[:6]


@pytest.mark.parametrize("plan", [{"rate": 1.1}, {"rate": -0.1}, {"rate": 0.1, "kinds": ("lost",)}])
def test_a_plan_that_makes_no_sense_is_refused(plan: dict[str, Any]) -> None:
    """A misspelt kind would plant nothing and prove nothing."""
    with pytest.raises(ValueError, match=r"share|unknown damage"):
        Plan(seed=1, **plan)


# ---- the file ------------------------------------------------------------------------------------------------------


def true_file(folder: Path, rows: list[Row], head: Head = HEAD) -> dict[str, Any]:
    return settlement_file.write(folder / TRUE, rows, head)


def lines_of(manifest: dict[str, Any]) -> list[bytes]:
    return Path(manifest["path"]).read_bytes().splitlines(keepends=True)


def log_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(manifest["damage_log"]).read_bytes().splitlines()]


def test_a_damaged_file_keeps_its_control_totals_and_every_other_byte(tmp_path: Path) -> None:
    """Manifest, sums and payouts hold, so the file is accepted; lines that the log does not name are the true ones."""
    true = true_file(tmp_path, charges(400))
    damaged = write_damaged(tmp_path, true, HEAD, Plan(seed=1, rate=0.2))
    log, rows = log_of(damaged), list(csv.DictReader(Path(damaged["path"]).read_text().splitlines()))

    touched = {line for record in log for line in record["lines"]}
    assert Counter(record["kind"] for record in log) == damaged["damage"]
    assert set(damaged["damage"]) == set(KINDS)
    assert damaged["sha256"] == sha256(Path(damaged["path"]).read_bytes()).hexdigest()
    assert damaged["rows"] == len(rows)
    assert payout_sums(rows) == dict.fromkeys((each["id"] for each in damaged["payouts"]), 0)
    assert untouched(true, touched) == untouched(damaged, touched)
    assert json.loads(Path(true["manifest_path"]).read_bytes())["sha256"] == true["sha256"]


def payout_sums(rows: list[dict[str, str]]) -> dict[str, int]:
    left: Counter[str] = Counter()
    for row in rows:
        left[row["automatic_payout_id"]] += minor_units(row["net"], row["currency"])
    return dict(left)


def untouched(manifest: dict[str, Any], touched: set[str]) -> list[bytes]:
    """Lines but for those on record, for what stands beside (ids of its own) and for the payouts."""
    return [
        line for line in lines_of(manifest) if b",payout," not in line and line.split(b",")[2].decode() not in touched
    ]


def test_a_line_shifted_to_the_next_day_stands_in_the_next_file_once(tmp_path: Path) -> None:
    """Out of its own file, into the payout of the next period's; a re-issue of that period has it too, a third has not."""
    plan, clean = Plan(seed=5, rate=0.1, kinds=("day_shift",)), Plan(seed=5, rate=0)
    first = write_damaged(tmp_path, true_file(tmp_path, charges(100)), HEAD, plan)
    shifted = sorted(record["lines"][0] for record in log_of(first))
    is_waiting = is_later_waiting(tmp_path, NEXT_DAY)
    true = true_file(tmp_path, [charge(900, currency="eur")], NEXT_DAY)

    second, again = (write_damaged(tmp_path, true, NEXT_DAY, clean) for _ in range(2))
    third = Head(from_ms=2 * DAY_MS, to_ms=3 * DAY_MS, created_ms=3 * DAY_MS)

    rows = list(csv.DictReader(Path(second["path"]).read_text().splitlines()))
    assert len(shifted) > 3
    assert is_waiting
    assert sorted(row["balance_transaction_id"] for row in rows if row["reporting_category"] == "charge") == sorted(
        [*shifted, "txn_900"]
    )
    assert {row["automatic_payout_id"] for row in rows if row["currency"] == "eur"} == {"po_eur"}
    assert again == second
    assert not is_later_waiting(tmp_path, third)


def test_a_true_report_after_a_damaged_one_is_its_correction(tmp_path: Path) -> None:
    """What the PSP delivers then is version 2 of the same period, as a corrected re-issue is."""
    rows = charges(50)
    damaged = write_damaged(tmp_path, true_file(tmp_path, rows), HEAD, Plan(seed=1, rate=0.3))

    corrected = settlement_file.write(tmp_path, rows, HEAD)

    assert (corrected["version"], corrected["replaces"]) == (2, damaged["file"])


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_damage_of_the_file_itself_breaks_a_control_total(tmp_path: Path, kind: str) -> None:
    """Hash, bytes, rows, a payout's sum or the encoding: at least one does not hold, and the truth is as it was."""
    true = true_file(tmp_path, charges(20))
    before = Path(true["path"]).read_bytes()
    spoiled = write_spoiled(tmp_path, true, kind, seed=4)
    content = Path(spoiled["path"]).read_bytes()
    (record,) = log_of(spoiled)

    assert broken_controls(content, json.loads(Path(spoiled["manifest_path"]).read_bytes()))
    assert broken_controls(before, true) == []
    assert (record["kind"], record["expected"]["class"]) == (kind, "refused")
    assert Path(true["path"]).read_bytes() == before


def broken_controls(content: bytes, manifest: dict[str, Any]) -> list[str]:
    broken = ["sha256"] if sha256(content).hexdigest() != manifest["sha256"] else []
    try:
        rows = list(csv.DictReader(content.decode().splitlines()))
    except UnicodeDecodeError:
        return [*broken, "encoding"]
    broken += ["rows"] if len(rows) != manifest["rows"] else []
    whole = [row for row in rows if row["net"]]
    return broken + (["payouts"] if any(payout_sums(whole).values()) else [])


def test_a_file_in_which_there_is_nothing_to_spoil_is_refused(tmp_path: Path) -> None:
    """Planted damage that is none would pass for damage that was not found."""
    true = true_file(tmp_path, [charge(1, is_paid=False)])

    with pytest.raises(ValueError, match="nothing that could be other_payout"):
        write_spoiled(tmp_path, true, "other_payout", seed=1)
    with pytest.raises(ValueError, match="unknown damage"):
        write_spoiled(tmp_path, true, "torn", seed=1)

    assert list(tmp_path.glob("*.csv*")) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_damaged_rows(tmp_path: Path) -> None:
    """Five times the rows take the same memory at the peak, but for a tenth."""
    few, many = (peak_bytes(tmp_path / str(count), count) for count in (1_000, 5_000))

    assert many < few * 1.1


def peak_bytes(folder: Path, count: int) -> int:
    def rows() -> Iterator[Row]:
        return (charge(number) for number in range(count))

    true = settlement_file.write(folder / TRUE, rows(), HEAD)
    tracemalloc.start()
    write_damaged(folder, true, HEAD, Plan(seed=1, rate=0.01))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
