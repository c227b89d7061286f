"""The settlement file on the disk: streamed rows, a row for each payout, and a manifest with the control totals.

The file is CSV (RFC 4180, UTF-8, line feeds, a heading). Behind the movements stands one row for each payout, category
`payout`, whose net is minus the sum of the net of its other rows, so that all rows of a payout add up to zero. The
manifest `<name>.manifest.json` tells

    file, report_type, created, period {from, to, from_ms, to_ms}     what this is; the period is [from, to) in UTC
    version, replaces     1, 2, .. of the reports of one period, and the file of the version before, or null
    rows                  of the file, payout rows included, the heading not
    sums                  currency -> gross, fee, net of all rows BUT the payout rows
    payouts               [{id, currency, amount, effective_at}], amount = the sum of net of the payout's other rows
    bytes, sha256         of the file

The invariant: both files appear whole or not at all, the manifest last; memory does not grow with the rows.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final

from simulator.psp.ids import derive
from simulator.psp.settlement import AT, COLUMNS, Row, utc
from simulator.psp.stripe.currency import major_units, minor_units

Document = dict[str, Any]

REPORT_TYPE: Final = "payout_reconciliation.itemized.5"
PAYOUT: Final = "payout"
_AMOUNTS: Final = ("gross", "fee", "net")
# Rows of about 400 bytes: 100 kB are made and written at a time.
_ROWS_A_PIECE: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a report is of: the period [from, to) and when it is written, in ms UTC."""

    from_ms: int
    to_ms: int
    created_ms: int


@dataclass(slots=True)
class _Payout:
    currency: str
    effective_at: str
    net_minor: int = 0


@dataclass(slots=True)
class Totals:
    """What the rows add up to so far. `sums`: currency -> [gross, fee, net] in minor units, payout rows left out."""

    rows: int = 0
    sums: dict[str, list[int]] = field(default_factory=dict)
    payouts: dict[str, _Payout] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count one movement. Raises ValueError where a payout has a second currency or an amount is none."""
        currency = row[AT["currency"]]
        amounts = [minor_units(row[AT[name]], currency) for name in _AMOUNTS]
        total = self.sums.setdefault(currency, [0, 0, 0])
        for at, amount in enumerate(amounts):
            total[at] += amount
        if name := row[AT["automatic_payout_id"]]:
            effective_at = row[AT["automatic_payout_effective_at_utc"]]
            payout = self.payouts.setdefault(name, _Payout(currency, effective_at))
            if payout.currency != currency:
                raise ValueError(f"{name} is in {payout.currency} and holds a movement in {currency}")
            payout.net_minor += amounts[2]
        self.rows += 1

    def payout_rows(self) -> Iterator[Row]:
        """Yield the row of each payout, in the order in which they came."""
        for name, payout in self.payouts.items():
            amount = major_units(-payout.net_minor, payout.currency)
            cells = {
                "automatic_payout_id": name,
                "automatic_payout_effective_at_utc": payout.effective_at,
                "balance_transaction_id": derive("txn", name),
                "created_utc": payout.effective_at,
                "available_on_utc": payout.effective_at,
                "currency": payout.currency,
                "gross": amount,
                "fee": major_units(0, payout.currency),
                "net": amount,
                "reporting_category": PAYOUT,
                "source_id": name,
            }
            yield [cells.get(column, "") for column in COLUMNS]

    def to_document(self) -> Document:
        """Return the manifest's control totals: rows, sums and payouts."""
        return {
            "rows": self.rows + len(self.payouts),
            "sums": {
                currency: dict(zip(_AMOUNTS, (major_units(each, currency) for each in total), strict=True))
                for currency, total in sorted(self.sums.items())
            },
            "payouts": [
                {
                    "id": name,
                    "currency": payout.currency,
                    "amount": major_units(payout.net_minor, payout.currency),
                    "effective_at": payout.effective_at,
                }
                for name, payout in self.payouts.items()
            ],
        }


def write(folder: Path, movements: Iterable[Row], head: Head) -> Document:
    """Write the file and its manifest; return the manifest with `path` and `manifest_path`.

    A second report of the same period with the same content is the first one again; with other content it is the next
    version, and replaces the one before. Raises OSError, ValueError where the rows do not hold; nothing appears then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{head.from_ms}_{head.to_ms}.csv.tmp"
    try:
        with beside.open("wb") as file:
            totals, digest, size = _write_rows(file, movements)
            file.flush()
            os.fsync(file.fileno())
        earlier = versions(folder, head)
        if earlier and earlier[-1]["sha256"] == digest:
            return _with_paths(folder, earlier[-1])
        version = earlier[-1]["version"] + 1 if earlier else 1
        name = f"payout_reconciliation_{head.from_ms}_{head.to_ms}_v{version}"
        manifest: Document = {
            "file": f"{name}.csv",
            "report_type": REPORT_TYPE,
            "created": utc(head.created_ms),
            "period": {
                "from": utc(head.from_ms), "to": utc(head.to_ms), "from_ms": head.from_ms, "to_ms": head.to_ms,
            },
            "version": version,
            "replaces": earlier[-1]["file"] if earlier else None,
            **totals.to_document(),
            "bytes": size,
            "sha256": digest,
        }  # fmt: skip
        beside.replace(folder / manifest["file"])
    finally:
        beside.unlink(missing_ok=True)
    write_whole(folder / f"{name}.manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
    return _with_paths(folder, manifest)


def read_movements(path: Path) -> Iterator[Row]:
    """Yield the rows of a file that `write` made, without the payout rows. Raises OSError."""
    with path.open(encoding="utf-8", newline="") as lines:
        cells = csv.reader(lines)
        next(cells)
        for row in cells:
            if row[AT["reporting_category"]] != PAYOUT:
                yield row


def versions(folder: Path, head: Head) -> list[Document]:
    """Return the manifests of the period's reports in the folder, the newest last."""
    found = (json.loads(path.read_bytes()) for path in folder.glob(f"*_{head.from_ms}_{head.to_ms}_v*.manifest.json"))
    return sorted(found, key=lambda manifest: int(manifest["version"]))


def write_whole(path: Path, content: bytes) -> None:
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


def _write_rows(file: BinaryIO, movements: Iterable[Row]) -> tuple[Totals, str, int]:
    """Write heading, movements and payout rows; return what they add up to, the hash and the bytes."""
    totals, digest, size = Totals(), sha256(), 0
    for piece in _pieces(_all_rows(movements, totals)):
        file.write(piece)
        digest.update(piece)
        size += len(piece)
    return totals, digest.hexdigest(), size


def _all_rows(movements: Iterable[Row], totals: Totals) -> Iterator[Row]:
    yield list(COLUMNS)
    for row in movements:
        totals.add(row)
        yield row
    yield from totals.payout_rows()


def _pieces(rows: Iterable[Row]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, row in enumerate(rows, 1):
        writer.writerow(row)
        if number % _ROWS_A_PIECE == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _with_paths(folder: Path, manifest: Document) -> Document:
    path = folder / manifest["file"]
    return {**manifest, "path": str(path), "manifest_path": str(path.with_name(f"{path.stem}.manifest.json"))}
