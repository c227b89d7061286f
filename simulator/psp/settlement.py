"""The settlement file: the columns of Stripe's payout reconciliation report, and a manifest beside it.

Columns are a selection of `payout_reconciliation.itemized.5` (docs.stripe.com/reports/report-types/
payout-reconciliation), under Stripe's names. Amounts are decimal strings in major units; a refund's are negative. One
row per balance transaction; net = gross - fee. The invariant: both files appear whole or not at all, the manifest last.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from simulator.psp.account import Account
from simulator.psp.ids import derive
from simulator.psp.stripe.currency import major_units
from simulator.psp.stripe.objects import BalanceTransaction

COLUMNS: Final = (
    "automatic_payout_id",
    "automatic_payout_effective_at_utc",
    "balance_transaction_id",
    "created_utc",
    "available_on_utc",
    "currency",
    "gross",
    "fee",
    "net",
    "reporting_category",
    "source_id",
    "description",
    "customer_facing_amount",
    "customer_facing_currency",
    "charge_id",
    "payment_intent_id",
    "charge_created_utc",
    "payment_method_type",
    "payment_metadata[payment_order_id]",
    "refund_metadata[refund_key]",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One report: its rows' balance transactions, the period [from, to) and the pay-out it makes, if any."""

    movements: tuple[BalanceTransaction, ...]
    from_ms: int
    to_ms: int
    payout: str | None


def settle_new(account: Account, now_ms: int) -> Settlement:
    """Return everything that is in no pay-out yet, as a new pay-out."""
    movements = tuple(each for each in account.balance.values() if each.id not in account.payout_of)
    from_ms = max(account.payouts.values(), default=0)
    return Settlement(movements=movements, from_ms=from_ms, to_ms=now_ms, payout=derive("po", now_ms, len(movements)))


def settle_again(account: Account, from_ms: int, to_ms: int) -> Settlement:
    """Return the report of a period once more, without paying anything out."""
    movements = tuple(each for each in account.balance.values() if from_ms <= each.created_ms < to_ms)
    return Settlement(movements=movements, from_ms=from_ms, to_ms=to_ms, payout=None)


def rows(settlement: Settlement, account: Account) -> Iterator[list[str]]:
    """Yield the cells of each row, in the order of `COLUMNS`."""
    for each in settlement.movements:
        charge = account.charges[each.charge]
        intent = account.intents[each.intent]
        refund = account.refunds.get(each.source)
        payout = settlement.payout or account.payout_of.get(each.id, "")
        paid_ms = settlement.to_ms if settlement.payout else account.payouts.get(payout)
        yield [
            payout,
            _utc(paid_ms),
            each.id,
            _utc(each.created_ms),
            _utc(each.available_on_ms),
            each.currency,
            major_units(each.amount, each.currency),
            major_units(each.fee, each.currency),
            major_units(each.net, each.currency),
            each.type,
            each.source,
            charge.description or "",
            major_units(each.amount, each.currency),
            each.currency,
            each.charge,
            each.intent,
            _utc(charge.created_ms),
            "card",
            intent.metadata.get("payment_order_id", ""),
            refund.metadata.get("refund_key", "") if refund else "",
        ]


def write(folder: Path, settlement: Settlement, account: Account) -> dict[str, Any]:
    """Write the file and its manifest; return the manifest with the `path` of the file. Raises OSError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(settlement, account))
    content = text.getvalue().encode()
    digest = sha256(content).hexdigest()
    name = f"payout_reconciliation_{settlement.to_ms}_{digest[:8]}"
    manifest = {
        "file": f"{name}.csv",
        "report_type": "payout_reconciliation.itemized.5",
        "rows": len(settlement.movements),
        "sums": sums(settlement),
        "sha256": digest,
        "payout": settlement.payout,
        "period": {"from": _utc(settlement.from_ms), "to": _utc(settlement.to_ms)},
        "created": _utc(settlement.to_ms),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(folder / f"{name}.csv", content)
    _write_whole(folder / f"{name}.manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
    return {**manifest, "path": str(folder / f"{name}.csv"), "manifest_path": str(folder / f"{name}.manifest.json")}


def sums(settlement: Settlement) -> dict[str, dict[str, str]]:
    """Return gross, fee and net per currency, as the file shows them."""
    totals: dict[str, list[int]] = {}
    for each in settlement.movements:
        total = totals.setdefault(each.currency, [0, 0, 0])
        for at, amount in enumerate((each.amount, each.fee, each.net)):
            total[at] += amount
    return {
        currency: dict(zip(("gross", "fee", "net"), (major_units(each, currency) for each in total), strict=True))
        for currency, total in sorted(totals.items())
    }


def _utc(at_ms: int | None) -> str:
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside, sync, rename, sync the folder: a reader sees all of it or nothing."""
    beside = path.with_suffix(path.suffix + ".tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
