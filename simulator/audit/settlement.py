"""The PSP's settlement files (Stripe's payout reconciliation columns) and their manifests.

A file counts only with its manifest `<name>.manifest.json` beside it; of a folder, the newest version of each period.
Rows of category `payout` tell what left for the bank: minus the sum of the net of the payout's other rows. Invariant: rows
are read as they stand; what does not hold about a file is kept as a problem, never repaired.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from simulator.audit.finding import SourceBroken
from simulator.audit.money import from_decimal

_PAYOUT: Final = "payout"


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One movement of the PSP's balance in ISO minor units. `category`: charge, refund, ..; `payout`: its id, or ""."""

    id: str
    category: str
    payout: str
    intent: str
    reference: str
    currency: str
    gross_minor: int
    fee_minor: int
    net_minor: int


@dataclass(slots=True)
class Settlement:
    """All files together. `problems`: (file, what does not hold, expected, found)."""

    rows: dict[str, SettlementRow] = field(default_factory=dict)
    files: int = 0
    problems: list[tuple[str, str, str, str]] = field(default_factory=list)


def read_settlement(paths: Iterable[Path]) -> Settlement:
    """Read files, or every file of a folder. Raises SourceBroken where there is nothing to read."""
    settlement = Settlement()
    for path in _files(paths):
        settlement.files += 1
        try:
            _read_file(path, settlement)
        except (OSError, ValueError, KeyError) as error:
            raise SourceBroken(f"settlement file {path} cannot be read: {error!r}") from error
    if not settlement.files:
        raise SourceBroken("there is no settlement file where one was named")
    return settlement


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from _newest(path) if path.is_dir() else [path]


def _newest(folder: Path) -> list[Path]:
    """The files of a folder, of several versions of one period the last."""
    kept: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*.csv")):
        manifest = _manifest(path) if _manifest_path(path).exists() else {}
        period = json.dumps(manifest.get("period", path.name), sort_keys=True)
        version = int(manifest.get("version", 1))
        if version >= kept.get(period, (0, path))[0]:
            kept[period] = (version, path)
    return sorted(path for _, path in kept.values())


def _manifest_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.manifest.json")


def _manifest(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(_manifest_path(path).read_bytes())
    return manifest


def _read_file(path: Path, settlement: Settlement) -> None:
    content, manifest = path.read_bytes(), _manifest(path)
    rows, sums = 0, {name: Counter[str]() for name in ("gross", "fee", "net")}
    left: Counter[tuple[str, str]] = Counter()
    paid: Counter[tuple[str, str]] = Counter()
    for cells in csv.DictReader(io.StringIO(content.decode("utf-8"))):
        rows += 1
        row = _row(cells)
        if row.gross_minor - row.fee_minor != row.net_minor:
            _problem(
                settlement, path, f"{row.id}: net is not gross less fee", row.gross_minor - row.fee_minor, row.net_minor
            )
        if row.category == _PAYOUT:
            paid[(row.payout, row.currency)] -= row.net_minor
            continue
        left[(row.payout, row.currency)] += row.net_minor
        for name, amount in (("gross", row.gross_minor), ("fee", row.fee_minor), ("net", row.net_minor)):
            sums[name][row.currency] += amount
        earlier = settlement.rows.setdefault(row.id, row)
        if earlier != row:
            _problem(settlement, path, f"{row.id}: two files tell it differently", earlier, row)
    for (payout, currency), net in left.items():
        if payout and paid[(payout, currency)] != net:
            _problem(settlement, path, f"{payout} is not the sum of its rows", net, paid[(payout, currency)])
    if manifest["sha256"] != (digest := sha256(content).hexdigest()):
        _problem(settlement, path, "the file is not the one its manifest names", manifest["sha256"], digest)
    if manifest["rows"] != rows:
        _problem(settlement, path, "rows are missing or too many", manifest["rows"], rows)
    for name, found in sums.items():
        said = {
            currency.upper(): from_decimal(totals[name], currency.upper())
            for currency, totals in manifest["sums"].items()
        }
        if said != dict(found):
            _problem(settlement, path, f"the sums of {name} do not hold", said, dict(found))


def _row(cells: dict[str, str]) -> SettlementRow:
    currency = cells["currency"].upper()
    return SettlementRow(
        id=cells["balance_transaction_id"],
        category=cells["reporting_category"],
        payout=cells.get("automatic_payout_id", ""),
        intent=cells["payment_intent_id"],
        reference=cells["payment_metadata[payment_order_id]"],
        currency=currency,
        gross_minor=from_decimal(cells["gross"], currency),
        fee_minor=from_decimal(cells["fee"], currency),
        net_minor=from_decimal(cells["net"], currency),
    )


def _problem(settlement: Settlement, path: Path, what: str, expected: object, found: object) -> None:
    settlement.problems.append((path.name, what, str(expected), str(found)))
