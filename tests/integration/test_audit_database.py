"""The auditor on a real database: clean on a world where all went well, red on every planted damage."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import simulator
from simulator.audit.damage import DAMAGE, double_charge, plant
from simulator.audit.database import open_database
from simulator.audit.evidence import Evidence
from simulator.audit.format import answer_line, intent_line
from simulator.audit.report import Outcome, audit
from tests.integration.audit_case import PATIENT, Case
from tests.integration.audit_world import TENANT

REPOSITORY = Path(simulator.__file__).parents[1]


def test_audit_of_a_world_where_all_went_well_is_clean(case: Case) -> None:
    """Every invariant is checked, every one holds, and none of them looked at nothing."""
    report = case.audit(replace(PATIENT, digests=case.folder / "digests"))

    assert report.violated == ()
    assert {Outcome.HELD} == {verdict.outcome for verdict in report.verdicts}
    assert [verdict.id for verdict in report.verdicts if verdict.examined == 0] == []
    assert report.totals.intents == 12
    assert report.totals.unknown == 12
    assert (report.totals.doubles, report.totals.losses, report.totals.stuck) == (0, 0, 0)
    assert report.totals.mismatches_by_kind == {"late_charge": 1}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_planted_damage_violates_its_invariants(case: Case, name: str) -> None:
    """Each damage breaks what it says it breaks, with examples that name the two values."""
    options = replace(PATIENT, digests=case.folder / "digests")
    case.audit(options)

    plant(case.url, name)
    report = case.audit(options)

    assert set(DAMAGE[name].violates) <= set(report.violated)
    broken = [verdict for verdict in report.verdicts if verdict.id in DAMAGE[name].violates]
    assert all(verdict.count >= len(verdict.examples) > 0 for verdict in broken)
    assert all(each.subject and each.expected != each.found for verdict in broken for each in verdict.examples)


def test_every_invariant_has_a_damage_that_breaks_it(case: Case) -> None:
    """The table of damage covers the table of checks: a check that nothing can break proves nothing."""
    checks = {verdict.id for verdict in case.audit().verdicts}

    assert checks == {invariant for damage in DAMAGE.values() for invariant in damage.violates}


def test_second_charge_in_the_book_is_a_double(case: Case) -> None:
    """I3, I4, I22: money that the PSP took twice for one order."""
    report = replace(case, truth=list(double_charge(case.truth))).audit()

    assert {"I3", "I4", "I22"} == set(report.violated)
    assert report.totals.doubles == 1


def test_charge_for_no_order_of_ours_is_a_loss(case: Case) -> None:
    """I3: the one-sided set of the book."""
    lines = [line.replace(b"po-000001", b"po-unknown") for line in case.truth]

    report = replace(case, truth=lines).audit()

    assert "I3" in report.violated
    assert report.totals.losses >= 1


def test_late_charge_that_was_not_given_back_is_found(case: Case) -> None:
    """I3: a case for finance explains a charge only together with its refund."""
    lines = [json.loads(line) for line in case.truth]
    for line in lines:
        line.update({"amount_refunded": 0} if line.get("amount_refunded") else {})

    report = replace(case, truth=[json.dumps(line).encode() for line in lines]).audit()

    assert {"I3", "I22"} == set(report.violated)


def test_dead_letter_counts_as_stuck_only_where_asked(case: Case) -> None:
    """I9: a dead letter is a named queue; the demo is stricter."""
    case.execute(
        "UPDATE payment.todos SET state = 'DEAD', reason = 'BUDGET_SPENT' WHERE todo_id = 'confirm/1/po-000001'"
    )

    lenient = case.audit()
    strict = case.audit(replace(PATIENT, do_dead_letters_count=True))

    assert (lenient.violated, lenient.totals.dead_letters) == ((), 1)
    assert (strict.violated, strict.totals.stuck) == (("I9",), 1)


def test_order_in_flight_is_stuck_only_past_the_limit(case: Case) -> None:
    """I9: under load the limit is minutes, after the drain it is nothing."""
    case.execute("UPDATE payment.todos SET state = 'OPEN' WHERE todo_id = 'confirm/1/po-000001'")

    under_load = case.audit(replace(PATIENT, in_flight_limit_ms=10**15))
    drained = case.audit()

    assert under_load.violated == ()
    assert drained.violated == ("I9",)


def test_rows_that_changed_are_reported_again_by_the_next_run(case: Case) -> None:
    """I11: the digest file is kept as it was until the rows are."""
    options = replace(PATIENT, digests=case.folder / "digests")
    case.audit(options)
    plant(case.url, "rewrite-history")

    first, second = case.audit(options), case.audit(options)

    assert "I11" in first.violated
    assert "I11" in second.violated


def test_new_rows_do_not_disturb_the_digests(case: Case) -> None:
    """I11: run N is a subset of run N + 1."""
    options = replace(PATIENT, digests=case.folder / "digests")
    case.audit(options)
    case.execute("INSERT INTO payment.commands SELECT slot, tenant, method, key || '-2', fingerprint, entity_id, outcome,"
                 " at_ms FROM payment.commands")  # fmt: skip

    assert case.audit(options).violated == ()


def test_role_that_may_change_history_is_found(case: Case) -> None:
    """I11: whoever could rewrite the record is as bad as one who did."""
    case.execute("GRANT USAGE ON SCHEMA payment TO payment; GRANT UPDATE ON payment.history TO payment")

    assert case.audit().violated == ("I11",)


def test_planted_secret_is_found_in_columns_and_logs(case: Case) -> None:
    """I20: canaries count everywhere, card numbers in logs too; neither is printed whole."""
    log = case.folder / "server.log"
    log.write_text("2026-11-28T10:00:00Z paid 10.00 at_ms=1790000000000\npan=4242-4242-4242-4242\nkey whsec_canary_1\n")

    report = case.audit(replace(PATIENT, canaries=("whsec_canary_1",)), logs=(case.folder / "server.log",))

    (verdict,) = (verdict for verdict in report.verdicts if verdict.id == "I20")
    assert [each.found for each in verdict.examples] == ["424242..4242", "whsec_.."]


def test_two_answers_of_one_key_must_be_the_same(case: Case) -> None:
    """I6: a reply is fixed for ever."""
    journal = case.journal.read_bytes()
    line = intent_line(
        tenant=TENANT, checkout_id="chk-0", fingerprint="f", orders=(), sent_ms=1, call="late", key="chk-0"
    )
    case.journal.write_bytes(
        journal + line + answer_line(call="late", key="chk-0", code="OK", reply_sha256="ab", answered_ms=2)
    )

    assert "I6" in case.audit().violated


def test_refused_request_must_not_have_an_effect(case: Case) -> None:
    """I6: no fail has an effect."""
    lines = case.journal.read_bytes().splitlines(keepends=True)
    refused = [line for line in lines if b'"chk-0"' not in line]
    refused.append(
        intent_line(
            tenant=TENANT, checkout_id="chk-0", fingerprint="f", orders=(), sent_ms=1, call="refused", key="chk-0"
        )
    )
    refused.append(answer_line(call="refused", key="chk-0", code="INVALID_ARGUMENT", answered_ms=2))
    case.journal.write_bytes(b"".join(refused))

    assert case.audit().violated == ("I6",)


def test_settlement_file_that_was_cut_does_not_hold(case: Case) -> None:
    """The manifest tells rows, sums and hash; a missing line is also an order that was never settled."""
    lines = case.settlement.read_text().splitlines(keepends=True)
    case.settlement.write_text("".join(lines[:1] + lines[2:]))

    report = case.audit()

    (verdict,) = (verdict for verdict in report.verdicts if verdict.id == "SETTLEMENT")
    assert report.violated == ("SETTLEMENT",)
    assert {"rows are missing or too many", "is SUCCESS and was never settled"} <= {
        each.problem for each in verdict.examples
    }


def test_without_a_source_its_checks_are_not_checked(case: Case) -> None:
    """Never "held" without having looked."""
    with open_database(case.url) as database:
        report = audit(Evidence(database=database, options=PATIENT))

    not_checked = {verdict.id for verdict in report.verdicts if verdict.outcome is Outcome.NOT_CHECKED}
    assert {"I3", "I4", "I6", "I10", "I12", "I22", "I24", "SETTLEMENT"} == not_checked


def test_auditor_needs_no_more_than_to_read(case: Case, audit_server: str) -> None:
    """The role auditor sees all schemas and may change none."""
    case.execute(
        "GRANT USAGE ON SCHEMA payment, wallet, ledger, reconciliation TO auditor;"
        "GRANT SELECT ON ALL TABLES IN SCHEMA payment, wallet, ledger, reconciliation TO auditor;"
        "ALTER ROLE auditor PASSWORD 'for-this-test'"
    )
    place = audit_server.partition("@")[2].rpartition("/")[0]

    report = replace(case, url=f"postgresql://auditor:for-this-test@{place}/{case.url.rpartition('/')[2]}").audit()

    assert report.violated == ()


@pytest.fixture
def command(case: Case) -> Callable[..., subprocess.CompletedProcess[str]]:
    truth = case.folder / "truth.jsonl"
    truth.write_bytes(b"".join(case.truth))

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = ["--database-url", case.url, "--psp-truth", str(truth), "--journal", str(case.journal)]
        arguments += ["--settlement", str(case.settlement), "--pending-limit-ms", str(10**15), *more]
        environment = {"PATH": os.environ["PATH"], "COLUMNS": "160"}
        return subprocess.run(
            [sys.executable, "-m", "simulator.audit", *arguments], cwd=REPOSITORY, env=environment, check=False,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return run


def test_command_exits_zero_only_when_clean(
    case: Case, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """0 clean, 1 violated, 2 not audited; the JSON report says the same."""
    report = case.folder / "out.json"
    clean = command("--json", str(report))
    said = json.loads(report.read_text())
    plant(case.url, "lose-posting")
    damaged = command("--json", str(report))
    blind = command("--psp-truth", str(case.folder / "none"))

    assert (clean.returncode, said["is_clean"]) == (0, True)
    assert "CLEAN" in clean.stdout
    assert damaged.returncode == 1
    assert "NOT CLEAN" in damaged.stdout
    assert "POSTINGS" in json.loads(report.read_text())["violated"]
    assert blind.returncode == 2
    assert "NOT AUDITED" in blind.stdout
