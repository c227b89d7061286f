"""I12 on a real database: every line and order in exactly one class, and the right one; whatever is silent is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.audit.book import read_book
from simulator.audit.database import open_database
from simulator.audit.finding import Finding, SourceBroken
from simulator.audit.match import CLASSES, FREE, OWN, match_lines
from simulator.audit.settlement import read_delivered
from tests.integration.audit_case import Case
from tests.integration.audit_money import NOW_MS
from tests.integration.reconciliation_world import PLANTED, Reconciled


def findings(case: Case) -> list[Finding]:
    """What I12 finds; nothing else may be violated."""
    report = case.audit()
    assert set(report.violated) <= {"I12"}
    (verdict,) = (verdict for verdict in report.verdicts if verdict.id == "I12")
    assert verdict.examined > 0
    return list(verdict.examples)


def test_a_right_reconciliation_of_a_file_with_every_damage_holds(case: Case) -> None:
    """A mismatch that is on record is no finding: what the PSP did wrong is told, each in its class."""
    assert findings(case) == []


def test_the_auditors_own_matching_gives_every_line_its_word(case: Case, reconciled: Reconciled) -> None:
    """Against what was planted, without a look at the product's rows."""
    with open_database(case.url) as database:
        matched = match_lines(read_delivered([case.delivered]), database, read_book(case.truth))

    words = [word for _, word in sorted(matched.words.items())]
    assert words == [told.kind or OWN for told in reconciled.lines]
    assert set(PLANTED) - {"missing_line"} == set(words) - {OWN, FREE}


def test_every_planted_kind_has_a_class(reconciled: Reconciled) -> None:
    """And the classes that nobody plants are those of orders that the product mends, or of what nobody can tell."""
    assert set(CLASSES) - set(PLANTED) == {"unresolved_order", "late_charge", "ambiguous"}


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM reconciliation.items WHERE item LIKE 'line/1/%'", "is in no class"),
        ("DELETE FROM reconciliation.items WHERE item LIKE 'order/%/po-000001'", "is in no class"),
        ("DELETE FROM reconciliation.items WHERE item LIKE 'order/refund/%'", "is in no class"),
        ("UPDATE reconciliation.items SET state = 'MISMATCH' WHERE item LIKE 'line/1/%'", "is in another class"),
        ("UPDATE reconciliation.items SET state = 'MATCHED', mismatch_id = '' WHERE mismatch_id <> ''", "is in another class"),
        ("UPDATE reconciliation.mismatches SET kind = 'wrong_fee' WHERE kind = 'wrong_amount'", "is in another class"),
        ("UPDATE reconciliation.mismatches SET class = 'automatic' WHERE kind = 'wrong_amount'", "and in another class"),
        ("DELETE FROM reconciliation.mismatches WHERE kind = 'unknown_fee'", "is in another class"),
        ("UPDATE reconciliation.runs SET state = 'RUNNING'", "no finished run has it"),
        ("UPDATE reconciliation.items SET item = replace(item, 'line/3/', 'line/999/') WHERE item LIKE 'line/3/%'",
         "not in its file"),
        ("UPDATE reconciliation.items SET state = 'MATCHED' WHERE mismatch_id IN"
         " (SELECT mismatch_id FROM reconciliation.mismatches WHERE kind = 'missing_line')", "has no line"),
        ("UPDATE reconciliation.files SET state = 'REFUSED'", "is recorded otherwise"),
        ("UPDATE reconciliation.files SET state = 'REFUSED'", "was refused and has lines"),
        ("DELETE FROM reconciliation.files", "is recorded otherwise"),
        ("UPDATE reconciliation.files SET lines = lines - 1", "has another number of lines"),
        ("UPDATE reconciliation.lines SET gross_minor = gross_minor + 1 WHERE line_no = 2", "is stored otherwise"),
        ("DELETE FROM reconciliation.lines WHERE line_no = 2", "is stored otherwise"),
        ("UPDATE reconciliation.lines SET line_no = 999 WHERE line_no = 2", "not in the file"),
    ],
)  # fmt: skip
def test_what_a_reconciliation_left_out_or_got_wrong_is_found(case: Case, statement: str, problem: str) -> None:
    """Left out silently, in another class, judged from other lines, or never finished."""
    case.execute(statement)

    found = findings(case)

    assert any(problem in each.problem for each in found), found
    assert all(each.expected != each.found for each in found)


def test_an_order_whose_line_may_still_come_is_expected(case: Case) -> None:
    """Not yet due, or shifted over the cut-off: no exception, and no finding."""
    case.execute(
        "UPDATE reconciliation.items SET state = 'EXPECTED', mismatch_id = '' WHERE mismatch_id IN"
        " (SELECT mismatch_id FROM reconciliation.mismatches WHERE kind = 'missing_line')"
    )

    assert findings(case) == []


def test_an_order_that_is_younger_than_its_days_run_belongs_to_the_next(case: Case) -> None:
    """A commit may follow its turn by seconds: what is that young when a run begins, no run of that day need have."""
    case.execute("DELETE FROM reconciliation.items WHERE item LIKE 'order/%' AND mismatch_id LIKE 'case-po%'")
    begin_run(case, NOW_MS + 15_000)
    young = findings(case)
    begin_run(case, NOW_MS + 15_001)

    assert young == []
    assert [each.problem for each in findings(case)] == ["is in no class"]


def begin_run(case: Case, at_ms: int) -> None:
    case.execute(f"UPDATE reconciliation.runs SET started_at_ms = {at_ms}")  # noqa: S608 (a number)


def test_an_order_that_was_mended_since_is_no_finding(case: Case) -> None:
    """The line resolved an order that was in flight: its item tells what was, and order and line agree by now."""
    case.execute(
        "UPDATE reconciliation.mismatches SET mismatch_id = 'mended', kind = 'unresolved_order', class = 'automatic',"
        " state = 'RESOLVED' WHERE kind = 'missing_line';"
        "UPDATE reconciliation.items SET state = 'EXPECTED', mismatch_id = '' WHERE mismatch_id NOT IN"
        " (SELECT mismatch_id FROM reconciliation.mismatches) AND mismatch_id <> '';"
        "UPDATE reconciliation.items SET state = 'MISMATCH', mismatch_id = 'mended'"
        " WHERE item LIKE 'line/1/%' OR item LIKE 'order/%/po-000001'"
    )

    assert findings(case) == []


def test_the_last_attempt_of_a_run_counts(case: Case) -> None:
    """A day that was reconciled again with other rules stands as it was judged last."""
    case.execute(
        "INSERT INTO reconciliation.runs SELECT 'run-2', kind, psp, period, 2, rules, state, holder, epoch, lease_until_ms,"
        " progress, summary, started_at_ms, ended_at_ms FROM reconciliation.runs"
    )

    assert any("is in no class" in each.problem for each in findings(case))


def test_a_later_night_that_meets_an_order_with_its_line_says_nothing_new_of_it(case: Case) -> None:
    """A refund brings the order back to a night of its own: what paired it with its line is what counts."""
    case.execute(
        "INSERT INTO reconciliation.runs SELECT 'run-later', kind, psp, period || '+', 1, rules, state, holder, epoch,"
        " lease_until_ms, progress, summary, started_at_ms, ended_at_ms FROM reconciliation.runs WHERE kind = 'nightly';"
        "INSERT INTO reconciliation.items SELECT 'run-later', item, '', 'EXPLAINED', '', '' FROM reconciliation.items"
        " WHERE item LIKE 'order/%' AND partner <> ''"
    )

    assert findings(case) == []


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:-40], lambda content: content.replace(b"usd", b"us\xff", 1)],
    ids=["cut", "Latin-1"],
)
def test_a_file_that_does_not_hold_must_be_refused(case: Case, spoil: Callable[[bytes], bytes]) -> None:
    """Handed over damaged as a file: accepted is wrong, and so is never having noted it."""
    spoiled = case.folder / "spoiled" / "payout.csv"
    spoiled.parent.mkdir()
    spoiled.write_bytes(spoil(case.delivered.read_bytes()))
    spoiled.with_name("payout.manifest.json").write_bytes(case.delivered.with_name("payout.manifest.json").read_bytes())
    (file,) = read_delivered([spoiled])
    before = replace(case, delivered=spoiled).audit()
    case.execute(
        f"UPDATE reconciliation.files SET file_id = '{file.sha256}', state = 'REFUSED', lines = 0;"  # noqa: S608 (a hash)
        "DELETE FROM reconciliation.lines; DELETE FROM reconciliation.items"
    )
    after = replace(case, delivered=spoiled).audit()

    assert "I12" in before.violated
    assert "I12" not in after.violated


def test_a_delivered_file_without_its_manifest_is_no_source(tmp_path: Path) -> None:
    """Nothing may be concluded from what was not there to be read."""
    (tmp_path / "payout.csv").write_text("balance_transaction_id\n")

    with pytest.raises(SourceBroken):
        read_delivered([tmp_path])
    with pytest.raises(SourceBroken):
        read_delivered([tmp_path / "none"])
