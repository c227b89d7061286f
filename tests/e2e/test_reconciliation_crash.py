"""The reconciler dies at named points with a settlement file in its folder: the file, its run and its postings are there once.

Method: an order to die is placed, the file comes with its manifest, the process dies at the pass, and what has replaced it ends
the story. A failure names the case; it is run again by its own name.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.chaos.case import RECONCILER_CASES
from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.process import is_alive
from tests.e2e.system import RunningSystem
from zerosum.crash import Point, Process

pytestmark = pytest.mark.e2e

CLEARING, BANK = "psp:stripe:clearing:USD", "bank:in_transit:USD"


@pytest.mark.parametrize(
    ("row", "process", "point", "detail", "nth"),
    [case[:5] for case in RECONCILER_CASES],
    ids=["-".join(map(str, case[:5])) for case in RECONCILER_CASES],
)
def test_death_at_a_point_is_gone_on_from_and_every_line_is_settled_once(
    system: RunningSystem, caller: Caller, row: str, process: Process, point: Point, detail: str, nth: int
) -> None:
    """P31, O1: a repeated step is the same step; what was sent and not recorded is sent again under its key."""
    checkout = new_checkout(f"{row}-{nth}")
    caller.submit(checkout)
    assert settled(system, caller, checkout) == once("12.50")
    order_id = checkout.payment_orders[0].payment_order_id
    report = json.loads(system.psp("POST", "settlement", {}))
    fired = system.order_crash(process, point, detail=detail, nth=nth)

    put_into_inbox(system, report)
    until(f"the reconciler has died at {point}", fired.exists)
    dead = int(until("its last word", fired.read_text))
    until("it is gone", lambda: not is_alive(dead))
    file_id = until("the file is accepted, run and posted", lambda: ended(system, report["sha256"]), within_s=120)

    lines = system.query(
        "SELECT line_no, reference FROM reconciliation.lines WHERE file_id = %s ORDER BY line_no", file_id
    )
    assert [number for number, _ in lines] == list(range(1, len(lines) + 1))
    assert len(lines) == report["rows"]
    assert [reference for _, reference in lines].count(order_id) == 1
    assert matched(system, file_id, order_id) == [("MATCHED",)]
    assert posted(system, file_id) == settled_by(report)


def put_into_inbox(system: RunningSystem, report: dict[str, Any]) -> None:
    """The file first, its manifest last."""
    inbox = system.data / "settlement" / "inbox" / "stripe"
    until("the reconciler has made its folder", inbox.is_dir)
    for name in ("path", "manifest_path"):
        path = Path(report[name])
        half = inbox / f".{path.name}"
        half.write_bytes(path.read_bytes())
        half.rename(inbox / path.name)


def ended(system: RunningSystem, sha256: str) -> str | None:
    """The file's id, once its day has run over it and nothing of it waits to be sent."""
    newest = (
        "SELECT f.file_id FROM reconciliation.files AS f JOIN reconciliation.runs AS r ON r.kind = 'nightly' "
        "AND r.psp = f.psp AND r.period = f.day AND r.state = 'DONE' AND r.started_at_ms >= f.decided_at_ms "
        "WHERE f.file_id = %s AND f.state = 'ACCEPTED'"
    )
    waiting = "SELECT count(*) FROM reconciliation.deliveries WHERE state = 'OPEN'"
    found = system.query(newest, sha256)
    return str(found[0][0]) if found and system.query(waiting) == [(0,)] else None


def matched(system: RunningSystem, file_id: str, order_id: str) -> list[tuple[Any, ...]]:
    """What the newest run says of the order's line."""
    return system.query(
        "SELECT i.state FROM reconciliation.lines AS t JOIN reconciliation.items AS i "
        "ON i.item = 'line/' || t.line_no::text || '/' || t.file_id WHERE t.file_id = %s AND t.reference = %s "
        "AND i.run_id = (SELECT run_id FROM reconciliation.runs WHERE kind = 'nightly' AND state = 'DONE' "
        "ORDER BY started_at_ms DESC LIMIT 1)", file_id, order_id,
    )  # fmt: skip


def posted(system: RunningSystem, file_id: str) -> dict[str, int]:
    """Minor units on the two accounts that the file's journals moved."""
    rows = system.query(
        "SELECT e.account, sum(e.amount_minor)::bigint FROM ledger.entries AS e JOIN reconciliation.deliveries AS d "
        "ON d.key = e.journal_id AND d.tenant = e.tenant WHERE d.run_id = %s GROUP BY e.account", f"settle/{file_id}",
    )  # fmt: skip
    found = {str(account): int(minor) for account, minor in rows}
    return {account: found.get(account, 0) for account in (CLEARING, BANK)}


def settled_by(report: dict[str, Any]) -> dict[str, int]:
    """What they must be by the PSP's own file: gross leaves clearing, net goes to the bank; a payout row moves neither."""
    with Path(report["path"]).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["reporting_category"] != "payout"]
    gross, net = (sum(int(row[name].replace(".", "")) for row in rows) for name in ("gross", "net"))
    return {CLEARING: -gross, BANK: net}
