"""The demo's settlement: delivered by the real simulator, compared with the product's tables in a real database."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest import reconciliation
from loadtest.probe import Psp
from loadtest.reconciliation import Delivered, deliver, reconcile
from simulator.audit.match import CLASSES
from simulator.psp.damage import KINDS
from tests.integration.audit_case import Case
from tests.integration.audit_money import NOW_MS
from tests.integration.psp_process import ADMIN_TOKEN, PspProcess
from tests.integration.reconciliation_world import ID, PLANTED, Reconciled
from zerosum.settings import Settings


async def test_a_small_demo_has_every_kind_of_damage_in_its_file(tmp_path: Path) -> None:
    """40 charges at 1 % would be none at all; the truth for the audit is whole and undamaged."""
    with PspProcess(tmp_path / "psp") as process:
        async with process.client() as sdk:
            for number in range(40):
                params: Any = {"amount": 1_000 + number, "currency": "usd", "payment_method": "pm_card_visa"}
                params |= {"confirm": True, "allowed_payment_method_types": ["card"]}
                params |= {"metadata": {"payment_order_id": f"po-{number}", "tenant": "acme", "checkout_id": "chk-1"}}
                await sdk.v1.payment_intents.create_async(params, options={"idempotency_key": f"po-{number}"})
        delivered = deliver(Psp(process.url, ADMIN_TOKEN), seed=3)

    true, spoiled = lines_of(delivered.truth), lines_of(delivered.path)
    assert len({record["kind"] for record in delivered.records}) >= len(KINDS) - 2
    assert delivered.manifest.exists()
    assert len([line for line in true if ",charge," in line]) == 40
    assert true != spoiled


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def records(reconciled: Reconciled) -> list[dict[str, Any]]:
    """What the damage log would say of the delivered file of the audit's world."""
    planted = [(line.kind, line.cells[ID], line.order) for line in reconciled.lines if line.kind]
    planted += [(kind, f"txn_{order}", order) for order, kind in reconciled.kinds.items() if kind == "missing_line"]
    return [
        {
            "kind": kind, "lines": [line], "payment_order_id": order,
            "expected": {"mismatch": kind, "class": CLASSES[kind], "until_due": CLASSES[kind]},
        }
        for kind, line, order in planted
    ]  # fmt: skip


@pytest.fixture
def delivered(case: Case, reconciled: Reconciled) -> Delivered:
    return Delivered(
        path=case.delivered, manifest=case.delivered, day="2026-11-26", from_ms=NOW_MS, truth=case.settlement,
        records=tuple(records(reconciled)),
    )  # fmt: skip


def answer(folder: Path, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python as it answers to `-m servers.cli`: notes what it was asked and ends with this status."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\nexit {status}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))


def test_planted_and_found_are_compared_over_the_last_run(
    case: Case, delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import and run are asked for in this order; then each planted damage has its case and no case is left over."""
    answer(case.folder, 0, monkeypatch)
    settings = Settings(data_dir=case.folder, auditor_database_url=case.url)

    found = reconcile(settings, delivered, case.folder)

    asked = (case.folder / "asked").read_text().splitlines()
    assert [line.split()[2:4] for line in asked] == [["reconcile", "import"], ["reconcile", "run"]]
    assert found.judgement is not None
    assert {each.kind for each in found.judgement.kinds} == set(PLANTED)
    assert found.judgement.holds
    assert 0 < found.explained < found.items


def test_cases_of_earlier_files_are_no_false_alarms(
    case: Case, delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second demo on the same day is judged by what it planted; what the first one left in the queue stays there."""
    answer(case.folder, 0, monkeypatch)
    settings = Settings(data_dir=case.folder, auditor_database_url=case.url)
    case.execute("UPDATE reconciliation.mismatches SET file_id = 'earlier'")
    case.execute("UPDATE payment.payment_orders SET created_at_ms = created_at_ms - 1")

    found = reconcile(settings, delivered, case.folder)

    assert found.judgement is not None
    assert (found.judgement.false_alarms, found.judgement.missed) == ((), found.judgement.planted)


def test_a_reconciliation_that_ends_badly_is_a_reason(
    case: Case, delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compared then: what an earlier run left would pass for an answer."""
    answer(case.folder, 1, monkeypatch)

    found = reconcile(Settings(data_dir=case.folder, auditor_database_url=case.url), delivered, case.folder)

    assert found.judgement is None
    assert "`zerosum reconcile import` ended with 1" in found.trouble
    assert json.dumps(list(found.reasons)).count("reconcile.log") == 1
    assert reconciliation.DAMAGE_RATE == 0.01
