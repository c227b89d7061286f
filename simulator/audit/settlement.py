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

PAYOUT: Final = "payout"


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One movement of the PSP's balance in ISO minor units. `category`: charge, refund, ..; `payout`: its id, or ""."""

    id: str
    category: str
    payout: str
    intent: str
    tenant: str
    reference: str
    refund_key: str
    currency: str
    gross_minor: int
    fee_minor: int
    net_minor: int


@dataclass(slots=True)
class SettlementFile:
    """One file as it stands. `rows`: every line but the heading, payouts too. `problems`: what of its controls does not hold.

    `period`, `version`: as its manifest tells them. `sums`: of all rows but payouts. A file that cannot be read to its end
    has a problem that says so, and the rows until then.
    """

    name: str
    sha256: str
    period: tuple[int, int]
    version: int
    rows: list[SettlementRow] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    is_readable: bool = True

    def note(self, what: str, expected: object, found: object) -> None:
        """One more thing that does not hold."""
        self.problems.append((what, str(expected), str(found)))


@dataclass(slots=True)
class Settlement:
    """All files together. `problems`: (file, what does not hold, expected, found)."""

    rows: dict[str, SettlementRow] = field(default_factory=dict)
    files: int = 0
    problems: list[tuple[str, str, str, str]] = field(default_factory=list)


def read_settlement(paths: Iterable[Path]) -> Settlement:
    """Read files, or the newest versions of a folder. Raises SourceBroken where there is nothing to read."""
    settlement = Settlement()
    for path in _files(paths):
        settlement.files += 1
        file = _read(path)
        if not file.is_readable:
            raise SourceBroken(f"settlement file {path} cannot be read: {file.problems[-1][2]}")
        settlement.problems += [(file.name, *problem) for problem in file.problems]
        for row in file.rows:
            if row.category != PAYOUT and (earlier := settlement.rows.setdefault(row.id, row)) != row:
                settlement.problems.append(
                    (file.name, f"{row.id}: two files tell it differently", str(earlier), str(row))
                )
    if not settlement.files:
        raise SourceBroken("there is no settlement file where one was named")
    return settlement


def read_delivered(paths: Iterable[Path]) -> list[SettlementFile]:
    """Read files, or all versions of a folder, as they were handed to the product: by period, then version.

    What does not hold of one is among its problems. Raises SourceBroken where there is nothing to read.
    """
    files = [_read(each) for path in paths for each in (sorted(path.glob("*.csv")) if path.is_dir() else [path])]
    if not files:
        raise SourceBroken("there is no settlement file where one was named")
    return sorted(files, key=lambda file: (file.period, file.version))


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


def _read(path: Path) -> SettlementFile:
    """Read one file with its manifest. Raises SourceBroken where one of the two is away."""
    try:
        content, manifest = path.read_bytes(), _manifest(path)
    except (OSError, ValueError) as error:
        raise SourceBroken(f"settlement file {path} cannot be read: {error!r}") from error
    period = manifest.get("period", {})
    bounds = (int(period.get("from_ms", 0)), int(period.get("to_ms", 0)))
    file = SettlementFile(path.name, sha256(content).hexdigest(), bounds, int(manifest.get("version", 1)))
    try:
        for cells in csv.DictReader(io.StringIO(content.decode("utf-8"))):
            file.rows.append(_row(cells))
        _check(file, manifest)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:  # cells of a torn row are None
        file.is_readable = False
        file.note("the file cannot be read to its end", "a file in this form", repr(error))
    return file


def _check(file: SettlementFile, manifest: dict[str, Any]) -> None:
    """Compare a file with its manifest, and each payout with its rows."""
    sums = {name: Counter[str]() for name in ("gross", "fee", "net")}
    left: Counter[tuple[str, str]] = Counter()
    paid: Counter[tuple[str, str]] = Counter()
    for row in file.rows:
        if row.gross_minor - row.fee_minor != row.net_minor:
            file.note(f"{row.id}: net is not gross less fee", row.gross_minor - row.fee_minor, row.net_minor)
        if row.category == PAYOUT:
            paid[(row.payout, row.currency)] -= row.net_minor
            continue
        left[(row.payout, row.currency)] += row.net_minor
        for name, amount in (("gross", row.gross_minor), ("fee", row.fee_minor), ("net", row.net_minor)):
            sums[name][row.currency] += amount
    for (payout, currency), net in left.items():
        if payout and paid[(payout, currency)] != net:
            file.note(f"{payout} is not the sum of its rows", net, paid[(payout, currency)])
    if manifest["sha256"] != file.sha256:
        file.note("the file is not the one its manifest names", manifest["sha256"], file.sha256)
    if manifest["rows"] != len(file.rows):
        file.note("rows are missing or too many", manifest["rows"], len(file.rows))
    for name, found in sums.items():
        said = {
            currency.upper(): from_decimal(totals[name], currency.upper())
            for currency, totals in manifest["sums"].items()
        }
        if said != dict(found):
            file.note(f"the sums of {name} do not hold", said, dict(found))


def _row(cells: dict[str, str]) -> SettlementRow:
    currency = cells["currency"].upper()
    return SettlementRow(
        id=cells["balance_transaction_id"],
        category=cells["reporting_category"],
        payout=cells.get("automatic_payout_id", ""),
        intent=cells["payment_intent_id"],
        tenant=cells.get("payment_metadata[tenant]", ""),
        reference=cells["payment_metadata[payment_order_id]"],
        refund_key=cells.get("refund_metadata[refund_key]", ""),
        currency=currency,
        gross_minor=from_decimal(cells["gross"], currency),
        fee_minor=from_decimal(cells["fee"], currency),
        net_minor=from_decimal(cells["net"], currency),
    )
