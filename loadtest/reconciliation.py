"""The demo's settlement: the PSP delivers a damaged file, the product reconciles it as finance would, and both are compared.

The product is asked by its own command line; what it found is read from its tables as the auditor reads them.
Invariant: a reconciliation that did not end is a reason against the certificate, never a missing table.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psycopg

from loadtest.planted import Case, Reconciled, judge
from loadtest.probe import Psp
from servers.wiring import database_url
from zerosum.settings import Settings, environment_with

DAMAGE_RATE: Final = 0.01
"""One line in a hundred is spoiled (issue 4, point 9)."""

DAMAGES_MIN: Final = 36
"""In a small demo more: so many are drawn on average that each of the eighteen kinds comes about twice."""

IN_THE_BOOKS_AFTER_MS: Final = 15_000
"""A run reads orders that are so old at its begin; younger ones are the next day's."""

COMMAND_LIMIT_S: Final = 300.0
"""A file of 100,000 lines is imported and judged in a minute; a demo's has some thousands."""

_AT_LAST_RUN: Final = (
    " FROM reconciliation.items i LEFT JOIN reconciliation.mismatches m ON m.mismatch_id = i.mismatch_id"
    " WHERE i.run_id = (SELECT run_id FROM reconciliation.runs WHERE kind = 'nightly' AND state = 'DONE'"
    " ORDER BY ended_at_ms DESC LIMIT 1)"
)
_CASES: Final = (
    f"SELECT DISTINCT m.kind, m.class, m.line_id, m.payment_order_id {_AT_LAST_RUN} AND i.state = 'MISMATCH'"  # noqa: S608 - constants
    " AND (m.file_id = %s OR (m.line_id = '' AND EXISTS (SELECT 1 FROM payment.payment_orders o WHERE o.tenant = m.tenant"
    " AND o.payment_order_id = m.payment_order_id AND o.created_at_ms >= %s)))"
)
"""Cases of the delivered file, and of orders of its period that have no line: earlier demos have left theirs."""
_WAITING: Final = "SELECT i.item" + _AT_LAST_RUN + " AND i.state = 'EXPECTED'"
_YOUNG: Final = (
    "SELECT payment_order_id FROM payment.payment_orders WHERE created_at_ms >= %s + (SELECT min(r.started_at_ms)"
    " FROM reconciliation.runs r JOIN (SELECT psp, period FROM reconciliation.runs WHERE kind = 'nightly' AND state = 'DONE'"
    " ORDER BY ended_at_ms DESC LIMIT 1) AS last ON r.psp = last.psp AND r.period = last.period WHERE r.kind = 'nightly')"
)
"""Orders that the last day's first run did not read yet: they are the next day's, and waited for too."""
_SHARE: Final = "SELECT count(*), count(*) FILTER (WHERE i.state <> 'MISMATCH')" + _AT_LAST_RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The PSP's files: what it delivers, the whole truth for the audit, and what was done to the first, by its log.

    `day`: whose file it is, "2026-11-26". `from_ms`: where its period begins.
    """

    path: Path
    manifest: Path
    day: str
    from_ms: int
    truth: Path
    records: tuple[dict[str, Any], ...]


def deliver(psp: Psp, *, seed: int) -> Delivered:
    """Has the PSP pay out, write the truth and deliver the damaged file."""
    rate = min(1.0, max(DAMAGE_RATE, DAMAGES_MIN / max(psp.charges(), 1)))
    told = psp.settle_damaged(rate=rate, seed=seed)
    log = Path(told["damage_log"]).read_text(encoding="utf-8")
    return Delivered(
        path=Path(told["path"]), manifest=Path(told["manifest_path"]), day=_day_of(told["period"]["to_ms"] - 1),
        from_ms=told["period"]["from_ms"],
        truth=psp.settle(), records=tuple(json.loads(line) for line in log.splitlines()),
    )  # fmt: skip


def reconcile(settings: Settings, delivered: Delivered, folder: Path) -> Reconciled:
    """Imports the file, runs its day, and compares. What the commands say goes to `reconcile.log` in the run's folder."""
    began_s = time.monotonic()
    for arguments in (
        ("import", str(delivered.path), "--manifest", str(delivered.manifest)),
        ("run", "--day", delivered.day, "--again"),
    ):
        status = _command(settings, arguments, folder / "reconcile.log")
        if status:
            trouble = f"`zerosum reconcile {arguments[0]}` ended with {status}; see {folder / 'reconcile.log'}"
            return Reconciled(judgement=None, trouble=trouble)
    return _compare(database_url(settings, "auditor"), delivered, round((time.monotonic() - began_s) * 1_000))


def _command(settings: Settings, arguments: tuple[str, ...], log: Path) -> int:
    """One `zerosum reconcile` command against the running system; its exit status."""
    environment = environment_with(settings, os.environ)
    with log.open("ab") as said:
        return subprocess.run(
            [sys.executable, "-m", "servers.cli", "reconcile", *arguments, "--as", "demo"], env=environment, stdout=said,
            stderr=said, timeout=COMMAND_LIMIT_S, check=False,
        ).returncode  # fmt: skip


def _compare(url: str, delivered: Delivered, ms: int) -> Reconciled:
    with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5) as connection:
        about = (sha256(delivered.path.read_bytes()).hexdigest(), delivered.from_ms)
        cases = [Case(*row) for row in connection.execute(_CASES.encode(), about)]
        waiting = {item.rpartition("/")[2] for (item,) in connection.execute(_WAITING.encode())}
        waiting |= {order for (order,) in connection.execute(_YOUNG.encode(), [-IN_THE_BOOKS_AFTER_MS])}
        items, explained = connection.execute(_SHARE.encode()).fetchone() or (0, 0)
    return Reconciled(judgement=judge(delivered.records, cases, waiting), items=items, explained=explained, ms=ms)


def _day_of(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_ms // 1_000))
