"""The simulator's settlement report: rows, payouts, control totals, days, versions; whole or not at all."""

from __future__ import annotations

import csv
import json
import tracemalloc
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from simulator.psp import settlement, settlement_file
from simulator.psp.change import Change
from simulator.psp.settlement import COLUMNS, Row, day_of
from simulator.psp.settlement_file import Head
from simulator.psp.stripe.currency import major_units, minor_units
from tests.unit.psp_engine import START_MS, Psp

HEAD = Head(from_ms=1_000, to_ms=2_000, created_ms=3_000)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1_234, "usd", "12.34"),
        (-5, "usd", "-0.05"),
        (500, "jpy", "500"),
        (-500, "jpy", "-500"),
        (1_005, "kwd", "1.005"),
    ],
)
def test_amounts_are_shown_in_major_units_and_read_back(amount: int, currency: str, text: str) -> None:
    """Decimal strings with exactly the currency's decimals."""
    assert major_units(amount, currency) == text
    assert minor_units(text, currency) == amount


@pytest.mark.parametrize(
    "text", ["", "-", "1", "1.5", "1.005", "+1.00", "1e2.00", "\u0661.00", " 1.00", ".50", "1.00\n"]
)
def test_other_forms_of_an_amount_are_refused(text: str) -> None:
    """Else a sum could be made of what no reader understands."""
    with pytest.raises(ValueError, match="no amount of usd"):
        minor_units(text, "usd")


def psp_with_payments() -> Psp:
    """Four charges in three currencies, and a part of the last one given back."""
    psp = Psp()
    for order, currency in (("order-1", "usd"), ("order-2", "jpy"), ("order-3", "kwd"), ("order-4", "usd")):
        more = {"metadata[tenant]": "acme", "metadata[checkout_id]": "chk-1"}
        intent = psp.prepare(order, currency=currency, **more)
        psp.confirm(intent["id"], f"confirm {order}")
    psp.post("/v1/refunds", {"payment_intent": intent["id"], "amount": "250", "metadata[refund_key]": "r-1"}, key="r")
    return psp


def settle(psp: Psp, folder: Path, report: settlement.Settlement | None = None, *, pay_out: bool = True) -> Any:
    """Do what the admin route does: book the payouts, then write the file."""
    account = psp.engine.account
    report = report or settlement.settle_new(account, psp.now_ms)
    for payout, ids in settlement.payouts_due(report, account).items() if pay_out else ():
        extra = {"payout": payout, "balance_transactions": ids, "until_ms": report.to_ms}
        account.apply(Change(at_ms=psp.now_ms, operation="payout", extra=extra))
    head = Head(from_ms=report.from_ms, to_ms=report.to_ms, created_ms=psp.now_ms)
    return settlement_file.write(folder, settlement.rows(report, account), head)


def read(manifest: dict[str, Any]) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(manifest["path"]).read_text(encoding="utf-8").splitlines()))


def test_a_settlement_file_adds_up_and_its_manifest_proves_it(tmp_path: Path) -> None:
    """Rows, sums per currency, bytes and hash agree with the file; refunds are negative and bring no fee."""
    manifest = settle(psp_with_payments(), tmp_path)
    content, rows = Path(manifest["path"]).read_bytes(), read(manifest)

    assert manifest["rows"] == len(rows) == 5 + 3
    assert (manifest["bytes"], manifest["sha256"]) == (len(content), sha256(content).hexdigest())
    assert manifest["sums"] == {
        "jpy": {"gross": "1000", "fee": "59", "net": "941"},
        "kwd": {"gross": "1.000", "fee": "0.059", "net": "0.941"},
        "usd": {"gross": "17.50", "fee": "1.18", "net": "16.32"},
    }
    refund = rows[4]
    assert [refund[name] for name in ("reporting_category", "gross", "fee", "net")] == [
        "refund", "-2.50", "0.00", "-2.50",
    ]  # fmt: skip
    assert (refund["payment_metadata[payment_order_id]"], refund["refund_metadata[refund_key]"]) == ("order-4", "r-1")
    assert (rows[0]["payment_metadata[tenant]"], rows[0]["payment_metadata[checkout_id]"]) == ("acme", "chk-1")
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".csv", ".json"]


def test_the_rows_of_a_payout_add_up_to_zero(tmp_path: Path) -> None:
    """The payout row is minus the net of its other rows; one payout for each currency; the manifest has the amounts."""
    manifest = settle(psp_with_payments(), tmp_path)
    rows = sorted(read(manifest), key=lambda row: row["automatic_payout_id"])

    left = {
        payout: sum(minor_units(row["net"], row["currency"]) for row in its_rows)
        for payout, its_rows in groupby(rows, key=lambda row: row["automatic_payout_id"])
    }
    assert left == {each["id"]: 0 for each in manifest["payouts"]}
    assert [(each["currency"], each["amount"]) for each in manifest["payouts"]] == [
        ("usd", "16.32"), ("jpy", "941"), ("kwd", "0.941"),
    ]  # fmt: skip


def test_a_payout_of_refunds_alone_is_taken_from_the_bank(tmp_path: Path) -> None:
    """More given back than taken: the payout row is positive, and its amount negative."""
    psp = psp_with_payments()
    settle(psp, tmp_path)
    intent = next(iter(psp.engine.account.intents))
    psp.post("/v1/refunds", {"payment_intent": intent}, key="r2")

    manifest = settle(psp, tmp_path)

    assert [row["net"] for row in read(manifest)] == ["-10.00", "10.00"]
    assert manifest["payouts"][0]["amount"] == "-10.00"


def test_a_day_begins_at_midnight_utc_and_ends_before_the_next(tmp_path: Path) -> None:
    """A movement of the day's first millisecond is of that day, one of the next day's first is not."""
    from_ms, to_ms = day_of("2027-01-15")
    psp = Psp()
    for order, at_ms in (("before", from_ms - 1), ("first", from_ms), ("last", to_ms - 1), ("after", to_ms)):
        psp.now_ms = at_ms
        psp.confirm(psp.prepare(order)["id"], f"confirm {order}")

    manifest = settle(psp, tmp_path, settlement.settle_period(psp.engine.account, from_ms, to_ms))

    orders = [row["payment_metadata[payment_order_id]"] for row in read(manifest)]
    assert orders == ["first", "last", ""]
    assert manifest["period"]["from"] == "2027-01-15 00:00:00"
    assert manifest["period"]["to"] == "2027-01-16 00:00:00"


def test_a_period_that_cuts_a_payout_or_has_no_length_is_refused(tmp_path: Path) -> None:
    """A half of a payout could not be checked against its amount."""
    psp = Psp()
    for order in ("order-1", "order-2"):
        psp.confirm(psp.prepare(order)["id"], f"confirm {order}")
        psp.advance(1_000)
    settle(psp, tmp_path)

    with pytest.raises(ValueError, match="cuts"):
        settlement.settle_period(psp.engine.account, START_MS, START_MS + 1)
    with pytest.raises(ValueError, match="ends before"):
        settlement.settle_period(psp.engine.account, 5, 5)


def test_a_report_again_is_the_same_file_and_a_corrected_one_is_its_next_version(tmp_path: Path) -> None:
    """A late movement of the period makes version 2, which names what it replaces; version 1 stays."""
    psp = psp_with_payments()
    period = (START_MS, START_MS + 1_000)

    def of_period() -> settlement.Settlement:
        return settlement.settle_period(psp.engine.account, *period)

    first = settle(psp, tmp_path, of_period())
    again = settle(psp, tmp_path, of_period())
    psp.confirm(psp.prepare("order-5")["id"], "confirm order-5")
    corrected = settle(psp, tmp_path, of_period())

    assert again == first
    assert (corrected["version"], corrected["replaces"]) == (2, first["file"])
    assert len(read(corrected)) == len(read(first)) + 2  # the movement and its payout
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == [first["file"], corrected["file"]]


def test_rows_that_do_not_hold_leave_no_file(tmp_path: Path) -> None:
    """A payout in two currencies, halfway through: neither file nor manifest nor remains."""
    rows = [movement(1, "usd"), movement(2, "eur")]

    with pytest.raises(ValueError, match="holds a movement in eur"):
        settlement_file.write(tmp_path, rows, HEAD)

    assert list(tmp_path.iterdir()) == []


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    """Commas, quotes, line breaks and other alphabets in a description; payout rows are left out."""
    rows = [
        movement(number, "usd", description=text) for number, text in enumerate(['a,"b"', "two\nlines", "Zoë 東京"])
    ]

    manifest = settlement_file.write(tmp_path, rows, HEAD)

    assert list(settlement_file.read_movements(Path(manifest["path"]))) == rows
    assert json.loads(Path(manifest["manifest_path"]).read_bytes())["rows"] == 4


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Five times the rows, written and read again, take the same memory at the peak, but for a tenth."""
    few, many = (peak_bytes(tmp_path, rows) for rows in (1_000, 5_000))

    assert many < few * 1.1


def peak_bytes(folder: Path, rows: int) -> int:
    head = Head(from_ms=0, to_ms=rows, created_ms=rows)
    tracemalloc.start()
    manifest = settlement_file.write(folder, (movement(number, "usd") for number in range(rows)), head)
    assert sum(1 for _ in settlement_file.read_movements(Path(manifest["path"]))) == rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def movement(number: int, currency: str, **more: str) -> Row:
    cells = {
        "automatic_payout_id": "po_1", "balance_transaction_id": f"txn_{number:020}", "currency": currency,
        "gross": "10.00", "fee": "0.59", "net": "9.41", "reporting_category": "charge", "source_id": f"ch_{number:020}",
        "payment_intent_id": f"pi_{number:020}", "payment_metadata[payment_order_id]": f"order-{number:020}",
        "description": "x" * 80,
    } | more  # fmt: skip
    return [cells.get(column, "") for column in COLUMNS]
