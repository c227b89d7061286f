"""Settlement reports as the PSP writes them, for tests: rows by column, a manifest that holds, and ways to spoil both."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_control import Controls, Manifest
from zerosum.psp.stripe.settlement import COLUMNS, read_lines
from zerosum.psp.stripe.settlement_manifest import REPORT_TYPE, read_manifest

Row = dict[str, str]
HEADING = (*COLUMNS, "description")


def row(number: int = 1, **cells: str) -> Row:
    """A charge of 100.00 EUR, fee 3.20. Cells by column; "order" stands for the reference's long name."""
    told = {
        "automatic_payout_id": "po_1", "balance_transaction_id": f"txn_{number}", "created_utc": "2026-11-26 12:00:00",
        "currency": "eur", "gross": "100.00", "fee": "3.20", "net": "96.80", "reporting_category": "charge",
        "payment_intent_id": f"pi_{number}", "payment_metadata[tenant]": "t", "payment_metadata[checkout_id]": f"c{number}",
        "payment_metadata[payment_order_id]": f"o{number}", "refund_metadata[refund_key]": "", "description": "",
    }  # fmt: skip
    return {**told, **cells}


def payout_row(amount: str, name: str = "po_1", **cells: str) -> Row:
    """What went to the bank; `amount` is negative."""
    nothing = dict.fromkeys((name for name in COLUMNS if "metadata" in name or "intent" in name), "")
    told = {"automatic_payout_id": name, "gross": amount, "fee": "0.00", "net": amount, "reporting_category": "payout"}
    return row(0, **{**nothing, **told, "balance_transaction_id": f"txn_{name}", **cells})


def report(rows: Sequence[Row], heading: Sequence[str] = HEADING) -> bytes:
    """The file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, heading, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def three_rows() -> list[Row]:
    """Two charges, a refund with its key, and the payout of them: 96.80 + 96.80 - 100.00 = 93.60."""
    refunded = {"gross": "-100.00", "fee": "0.00", "net": "-100.00", "reporting_category": "refund"}
    return [
        row(1),
        row(2),
        row(3, **refunded, **{"refund_metadata[refund_key]": "refund-1-a"}),
        payout_row("-93.60"),
    ]


def manifest(content: bytes, rows: Sequence[Row], /, **changed: Any) -> bytes:
    """The manifest that holds for these rows (all EUR), with changed entries."""
    sums = dict.fromkeys(("gross", "fee", "net"), 0)
    payouts: defaultdict[str, int] = defaultdict(int)
    for each in rows:
        if each["reporting_category"] != "payout":
            for name in sums:
                sums[name] += _cents(each[name])
            payouts[each["automatic_payout_id"]] += _cents(each["net"])
    told: Mapping[str, Any] = {
        "report_type": REPORT_TYPE,
        "rows": len(rows),
        "sums": {"eur": {name: _text(minor) for name, minor in sums.items()}},
        "payouts": [{"id": name, "currency": "eur", "amount": _text(minor)} for name, minor in payouts.items()],
        "sha256": sha256(content).hexdigest(),
        "version": 1,
        "period": {"from_ms": 0, "to_ms": 86_400_000},
    }
    return json.dumps({**told, **changed}).encode()


def read(content: bytes) -> tuple[list[Line], Refusal | None, Controls]:
    """(lines, the refusal that ended them, controls)."""
    controls = Controls()
    found = list(read_lines(io.BytesIO(content), controls))
    refused = found.pop() if found and isinstance(found[-1], Refusal) else None
    lines = [each for each in found if isinstance(each, Line)]
    assert len(lines) == len(found)
    return lines, refused if isinstance(refused, Refusal) else None, controls


def judge(content: bytes, told: bytes | None) -> Refusal | None:
    """Why a file is not taken; None where it is. `told`: its manifest."""
    _, refused, controls = read(content)
    holds = read_manifest(told) if told is not None else None
    if isinstance(holds, Refusal):
        return holds
    return refused or controls.check(holds if isinstance(holds, Manifest) else None)


def _cents(text: str) -> int:
    return int(text.replace(".", ""))


def _text(minor: int) -> str:
    sign = "-" if minor < 0 else ""
    return f"{sign}{abs(minor) // 100}.{abs(minor) % 100:02d}"
