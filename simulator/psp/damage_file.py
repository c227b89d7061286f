"""A damaged settlement file beside the true one, and the log of what was done to it.

    <folder>/<report>.csv, .manifest.json           what is delivered: damaged, with control totals that hold
    <folder>/true/<report>.csv, .manifest.json      the truth, written first and kept
    <folder>/true/<report>.damage-<seed>.jsonl      one JSON object for each damage (`damage.py`)
    <folder>/true/later_<period>.jsonl              rows that were shifted out of a period, until the next file has them

Damage of lines leaves the file acceptable, so that matching must find it. `FILE_KINDS` damages the file itself: control
totals, hash or encoding no longer hold, and it must be refused whole.

The invariant: the truth and the log are on the disk before the damaged file appears; memory does not grow with the rows.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final

from simulator.psp import settlement_file
from simulator.psp.damage import Payouts, Plan, damage, place_later
from simulator.psp.settlement import AT, COLUMNS, Row
from simulator.psp.settlement_file import Head, read_movements, write_whole
from simulator.psp.stripe.currency import major_units, minor_units

Document = dict[str, Any]

TRUE: Final = "true"
"""The folder of true files, inside the folder of those that are delivered."""


def write_damaged(
    folder: Path, true: Document, head: Head, plan: Plan, may: Callable[[Row], bool] = lambda _: True
) -> Document:
    """Write the damaged twin of a true file; rows shifted out of an earlier period come in.

    `true`: the manifest with its paths, as `settlement_file.write` returned it. Returns the damaged file's manifest with
    its paths, and `true` (the true file's), `damage_log` (a path), `damage` (kind -> how often). Raises OSError.
    """
    path = Path(true["path"])
    log = path.with_name(f"{path.stem}.damage-{plan.seed}.jsonl")
    spoiler = _Spoiler(true, plan, may, log=log, later=_later_path(path.parent, head))
    manifest = settlement_file.write(folder, spoiler.rows(_take_later(path.parent, head)), head)
    return {**manifest, "true": true, "damage_log": str(log), "damage": dict(spoiler.counts)}


def write_spoiled(folder: Path, true: Document, kind: str, *, seed: int) -> Document:
    """Write a twin of a true file that must be refused whole; the manifest is the true one unless the kind says so.

    Returns what `write_damaged` returns. Raises ValueError for a kind that is not in `FILE_KINDS`, or that finds nothing to
    spoil; OSError.
    """
    if kind not in FILE_KINDS:
        raise ValueError(f"unknown damage {kind!r}; there are {', '.join(FILE_KINDS)}")
    spoil = FILE_KINDS[kind]
    path, digest, size = folder / true["file"], sha256(), 0
    manifest = {name: value for name, value in true.items() if name not in ("path", "manifest_path")}
    log = Path(true["path"]).with_name(f"{path.stem}.damage-{seed}.jsonl")
    expected = {"mismatch": "", "class": "refused", "until_due": "refused"}
    record = {"kind": kind, "file": true["file"], "seed": seed, "expected": expected}
    write_whole(log, json.dumps(record).encode() + b"\n")
    beside = path.with_suffix(".csv.tmp")
    with Path(true["path"]).open("rb") as whole, beside.open("wb") as spoiled:
        for line in spoil.lines(whole, true, seed):
            spoiled.write(line)
            digest.update(line)
            size += len(line)
    if digest.hexdigest() == true["sha256"]:
        beside.unlink()
        raise ValueError(f"this file has nothing that could be {kind}")
    if spoil.is_hash_right:
        manifest |= {"sha256": digest.hexdigest(), "bytes": size}
    beside.replace(path)
    manifest_path = path.with_name(f"{path.stem}.manifest.json")
    write_whole(manifest_path, json.dumps(manifest, indent=2).encode() + b"\n")
    paths = {"path": str(path), "manifest_path": str(manifest_path)}
    return {**manifest, **paths, "true": true, "damage_log": str(log), "damage": {kind: 1}}


def is_later_waiting(folder: Path, head: Head) -> bool:
    """Whether rows shifted out of an earlier period belong into the report of this one."""
    return bool(_later_of(folder / TRUE, head))


# ---- rows that wait for the next file ------------------------------------------------------------------------------


def _later_path(folder: Path, head: Head) -> Path:
    return folder / f"later_{head.from_ms}_{head.to_ms}.jsonl"


def _later_of(folder: Path, head: Head) -> list[Path]:
    """What waits from earlier periods, and what a report of this very period has taken before."""
    taken = sorted(folder.glob(f"later_*.in_{head.from_ms}_{head.to_ms}.jsonl"))
    ends = {path: int(path.stem.rpartition("_")[2]) for path in folder.glob("later_*.jsonl") if ".in_" not in path.name}
    return taken + sorted(path for path, end_ms in ends.items() if end_ms <= head.from_ms)


def _take_later(folder: Path, head: Head) -> list[Path]:
    """Mark what waits as taken by this period, so that no other one has it too."""
    paths = []
    for path in _later_of(folder, head):
        mark = f".in_{head.from_ms}_{head.to_ms}.jsonl"
        paths.append(path if path.name.endswith(mark) else path.rename(path.with_name(f"{path.stem}{mark}")))
    return paths


@dataclass(slots=True)
class _Spoiler:
    """Streams the damaged rows and writes log and shifted rows on the way; both are whole before the last row is out."""

    true: Document
    plan: Plan
    may: Callable[[Row], bool]
    log: Path
    later: Path
    counts: Counter[str] = field(default_factory=Counter)

    def rows(self, brought: list[Path]) -> Iterator[Row]:
        payouts = Payouts({each["currency"]: (each["id"], each["effective_at"]) for each in self.true["payouts"]})
        movements = read_movements(Path(self.true["path"]))
        is_handed_on = any(self.later.parent.glob(f"{self.later.stem}.in_*"))
        with _Lines(self.log, is_kept_empty=True) as log, _Lines(self.later, is_kept_empty=False) as later:
            for path in brought:
                with path.open("rb") as lines:
                    yield from (place_later(json.loads(line), payouts) for line in lines)
            for step in damage(movements, self.plan, payouts, self.may):
                if step.record is not None:
                    self.counts[step.record["kind"]] += 1
                    log.add({**step.record, "file": self.true["file"], "seed": self.plan.seed})
                if step.later is not None and not is_handed_on:
                    later.add(step.later)
                yield from step.rows


class _Lines:
    """A file of JSON lines that appears whole; one that breaks off leaves nothing, an empty one only where it is asked for."""

    def __init__(self, path: Path, *, is_kept_empty: bool) -> None:
        self._path = path
        self._beside = path.with_suffix(path.suffix + ".tmp")
        self._is_kept = is_kept_empty

    def __enter__(self) -> _Lines:
        self._file = self._beside.open("wb")
        return self

    def add(self, document: object) -> None:
        self._file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._is_kept = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if kind is None and self._is_kept:
            self._beside.replace(self._path)
        self._beside.unlink(missing_ok=True)


# ---- damage of the file itself -------------------------------------------------------------------------------------


def _truncated(whole: BinaryIO, true: Document, seed: int) -> Iterator[bytes]:
    """Cut in the middle of a line, in the second half of the file."""
    yield from _first_bytes(whole, true["bytes"] // 2 + seed % 97 + 1)


def _cut_at_a_line(whole: BinaryIO, true: Document, _: int) -> Iterator[bytes]:
    """Cut after a whole line: only the control totals tell."""
    for _line in range(max(1, true["rows"] // 2)):
        yield whole.readline()


def _other_payout(whole: BinaryIO, _true: Document, _: int) -> Iterator[bytes]:
    """The payout rows are of one minor unit more than their rows add up to; the hash is made to fit."""
    for line in whole:
        cells = line.decode().rstrip("\n").split(",")
        if len(cells) == len(COLUMNS) and cells[AT["reporting_category"]] == settlement_file.PAYOUT:
            currency = cells[AT["currency"]]
            for name in ("gross", "net"):
                cells[AT[name]] = major_units(minor_units(cells[AT[name]], currency) - 1, currency)
            yield ",".join(cells).encode() + b"\n"
        else:
            yield line


def _not_utf8(whole: BinaryIO, _true: Document, _: int) -> Iterator[bytes]:
    """One cell is in Latin-1; the hash is made to fit."""
    yield whole.readline()
    yield whole.readline().replace(b",card,", b",caf\xe9,")
    yield from whole


def _altered(whole: BinaryIO, _true: Document, _: int) -> Iterator[bytes]:
    """One row was edited on the way, sums and all are as before: only the hash tells."""
    yield whole.readline()
    yield whole.readline().replace(b",card,", b",card ,")
    yield from whole


@dataclass(frozen=True, slots=True)
class FileKind:
    """What is done to the file's bytes; `is_hash_right`: the manifest is given the spoiled file's hash and size."""

    lines: Callable[[BinaryIO, Document, int], Iterator[bytes]]
    is_hash_right: bool = False


FILE_KINDS: Final[Mapping[str, FileKind]] = {
    "truncated": FileKind(_truncated),
    "cut_at_a_line": FileKind(_cut_at_a_line, is_hash_right=True),
    "other_payout": FileKind(_other_payout, is_hash_right=True),
    "not_utf8": FileKind(_not_utf8, is_hash_right=True),
    "altered": FileKind(_altered),
}
"""Every damage of a whole file there is."""

_BYTES_A_PIECE: Final = 1 << 16


def _first_bytes(whole: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := whole.read(min(size, _BYTES_A_PIECE))):
        yield piece
        size -= len(piece)
