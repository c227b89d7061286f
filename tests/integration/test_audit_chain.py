"""I18 on a real database: one flipped byte is named, a cut and a rewritten log are seen against exported heads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

import simulator
from simulator.audit.chain import main
from simulator.audit.check_chain import verify_chains
from simulator.audit.check_log import APPEND_ONLY, LOGGED
from simulator.audit.database import SERVICES, Database, open_database, plain_url
from simulator.audit.finding import Finding, Findings, SourceBroken
from simulator.audit.heads import Heads, export_heads, read_heads
from tests.integration.audit_case import Case
from zerosum.ports import SlotHead
from zerosum.store.chain import next_head

REPOSITORY = Path(simulator.__file__).parents[1]

COVERED = [(service, table) for service in SERVICES for table in ("slot_log", *LOGGED[service])]
"""Every kind of row that a chain covers."""


def verified(connection: psycopg.Connection[Any], heads: Heads | None = None) -> Findings:
    """Verify inside a transaction that has tampered and not committed."""
    found = Findings()
    verify_chains(Database(connection), heads or Heads(), found)
    return found


def flipped(connection: psycopg.Connection[Any], table: str, column: str) -> str:
    """An expression for the column with one bit turned over, in its own type; numbers then clash with no other row."""
    schema, _, name = table.partition(".")
    (kind,) = connection.execute(
        "SELECT data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s AND column_name = %s",
        (schema, name, column),
    ).fetchone() or ("",)
    return {
        "bytea": f"set_byte({column}, 0, get_byte({column}, 0) # 1)",
        "text": f"overlay({column} placing chr(ascii({column}) # 1) from 1 for 1)",
    }.get(kind, f"{column} # 1024")


@pytest.mark.parametrize("order", ["ASC", "DESC"])
@pytest.mark.parametrize(("service", "table"), COVERED)
def test_one_flipped_byte_in_any_column_of_any_covered_row_is_found_and_named(
    case: Case, service: str, table: str, order: str
) -> None:
    """By a superuser past the triggers: one finding, with service, slot, seq and table; first commits and last ones."""
    name = f"{service}.{table}"
    key, columns = APPEND_ONLY[name]
    with psycopg.connect(plain_url(case.url)) as connection:
        connection.execute("SET session_replication_role = replica")
        for column in columns:
            where = " AND ".join(f"t.{part} = one.{part}" for part in key)
            at = connection.execute(
                f"WITH one AS (SELECT {', '.join(key)} FROM {name} WHERE length({column}::text) > 0"  # noqa: S608 (names of ours)
                f" ORDER BY seq {order} LIMIT 1) UPDATE {name} t SET {column} = {flipped(connection, name, column)}"
                f" FROM one WHERE {where} RETURNING t.slot, t.seq".encode()
            ).fetchone()
            if at is None:
                continue  # a column that is empty in every row has no byte
            found = verified(connection)
            connection.rollback()
            connection.execute("SET session_replication_role = replica")

            assert [self_named(each) for each in found.examples] == [f"slot {service}:{at[0]} at seq {at[1]}"], column
            assert name in found.examples[0].subject, column


def self_named(finding: Finding) -> str:
    return finding.subject.partition(", table")[0]


def test_a_changed_hash_is_told_from_a_changed_row(case: Case) -> None:
    """The next commit was chained to one of the two; at the end of a log its row in slots was."""
    problems = {}
    with psycopg.connect(plain_url(case.url)) as connection:
        for order in ("ASC", "DESC"):
            place = f"(slot, seq) IN (SELECT slot, seq FROM payment.slot_log ORDER BY seq {order} LIMIT 1)"  # noqa: S608 (names of ours)
            for table, change in (("slot_log", "hash = set_byte(hash, 5, 0)"), ("history", "status = 'GONE'")):
                connection.execute("SET session_replication_role = replica")
                connection.execute(f"UPDATE payment.{table} SET {change} WHERE {place}".encode())  # noqa: S608 (names of ours)
                (finding,) = verified(connection).examples
                problems[(order, table)] = (finding.problem, finding.subject.partition("table ")[2])
                connection.rollback()

    changed, other = "its hash was changed", "its hash is not that of its rows"
    assert {key: problem for key, (problem, _) in problems.items()} == {
        ("ASC", "slot_log"): changed, ("ASC", "history"): other,
        ("DESC", "slot_log"): changed, ("DESC", "history"): other,
    }  # fmt: skip
    assert problems[("ASC", "slot_log")][1] == "payment.slot_log"
    assert problems[("ASC", "history")][1].startswith("payment.history")


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM wallet.entries WHERE seq = 1", "not that of its rows"),
        ("DELETE FROM ledger.slot_log WHERE seq = 2", "comes after a gap"),
        ("DELETE FROM ledger.slot_log WHERE seq = 2", "has rows of no commit"),
        ("UPDATE payment.slots SET seq = seq - 1", "is not the end of its log"),
        ("DELETE FROM payment.slots", "is not the end of its log"),
        ("DELETE FROM wallet.slot_log; DELETE FROM wallet.entries", "is not the end of its log"),
        ("INSERT INTO payment.refusals SELECT slot, seq, ord + 100, tenant, method, key, fingerprint, reason, at_ms"
         " FROM payment.refusals", "not that of its rows"),
    ],
)  # fmt: skip
def test_rows_that_are_gone_or_too_many_are_found(case: Case, statement: str, problem: str) -> None:
    """A chain covers that nothing is missing and nothing was put in between."""
    case.tamper(statement)

    with open_database(case.url) as database:
        found = Findings()
        verify_chains(database, Heads(), found)

    assert any(problem in each.problem for each in found.examples), found.examples


# ---- heads outside the database ------------------------------------------------------------------------------------


def export(case: Case) -> tuple[int, Findings]:
    found = Findings()
    with open_database(case.url) as database:
        return export_heads(database, case.folder / "heads.jsonl", found), found


def against_heads(case: Case) -> list[str]:
    found = Findings()
    with open_database(case.url) as database:
        verify_chains(database, read_heads(case.folder / "heads.jsonl"), found)
    return [f"{each.subject}: {each.problem}" for each in found.examples]


CUT = (
    "CREATE TEMP TABLE cut AS SELECT slot, max(seq) AS seq FROM payment.slot_log GROUP BY slot",
    "DELETE FROM payment.history t USING cut WHERE t.slot = cut.slot AND t.seq = cut.seq",
    "DELETE FROM payment.refusals t USING cut WHERE t.slot = cut.slot AND t.seq = cut.seq",
    "DELETE FROM payment.slot_log t USING cut WHERE t.slot = cut.slot AND t.seq = cut.seq",
    "UPDATE payment.slots s SET seq = l.seq, hash = l.hash FROM payment.slot_log l, cut"
    " WHERE s.slot = cut.slot AND l.slot = cut.slot AND l.seq = cut.seq - 1",
)
"""The last commit of every slot, gone without a trace: what is left verifies by itself."""


def test_a_tail_that_was_cut_is_seen_only_against_exported_heads(case: Case) -> None:
    """The shortened chain holds; the head that was exported is gone, and its slot and seq are named."""
    count, _ = export(case)
    case.tamper(*CUT)

    problems = against_heads(case)
    by_itself = case.audit().violated
    report = case.audit(heads=read_heads(case.folder / "heads.jsonl"))

    assert count > 4
    assert "I18" not in by_itself
    assert "I18" in report.violated
    assert len(problems) == 4
    assert all("payment.slot_log: was exported and is gone" in problem for problem in problems)


def test_a_log_that_was_rewritten_whole_is_seen_only_against_exported_heads(case: Case) -> None:
    """Somebody changes one order's history and makes every hash anew; the exported head stands for the old ones."""
    export(case)
    rewrite(case)

    problems = against_heads(case)

    assert case.audit().violated == ()
    assert len(problems) == 1
    assert "slot payment:1" in problems[0]
    assert "its log was rewritten" in problems[0]


def rewrite(case: Case) -> None:
    """Change a row of slot 1's history, then make every hash of the slot anew with the product's own function."""
    with psycopg.connect(plain_url(case.url)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE payment.history SET detail = '{}  ' WHERE slot = 1 AND version = 1")
        head = SlotHead(1, 1, 0, bytes(32))
        for seq, at_ms in connection.execute(
            "SELECT seq, at_ms FROM payment.slot_log WHERE slot = 1 ORDER BY seq"
        ).fetchall():
            logged = {table: rows_of(connection, table, seq) for table in ("history", "refusals")}
            head = next_head(head, {table: rows for table, rows in logged.items() if rows}, at_ms)
            place = (head.hash, seq)
            connection.execute("UPDATE payment.slot_log SET hash = %s WHERE slot = 1 AND seq = %s", place)
        connection.execute("UPDATE payment.slots SET hash = %s WHERE slot = 1", (head.hash,))


def rows_of(connection: psycopg.Connection[Any], table: str, seq: int) -> list[dict[str, Any]]:
    names = [column for part in APPEND_ONLY[f"payment.{table}"] for column in part]
    query = f"SELECT {', '.join(names)} FROM payment.{table} WHERE slot = 1 AND seq = {seq} ORDER BY ord"  # noqa: S608 (names of ours)
    return [dict(zip(names, row, strict=True)) for row in connection.execute(query.encode())]


def test_heads_are_appended_only_when_they_moved_and_only_while_the_old_ones_stand(case: Case) -> None:
    """Nothing new, nothing written; a log that was cut is a finding, and the file stays as it was."""
    first, _ = export(case)
    again, _ = export(case)
    before = (case.folder / "heads.jsonl").read_bytes()
    case.tamper(*CUT)
    after_cut, found = export(case)

    assert (first > 4, again, after_cut) == (True, 0, 0)
    assert found.count == 4
    assert (case.folder / "heads.jsonl").read_bytes() == before


def test_a_slot_that_is_gone_whole_is_a_finding_of_the_export(case: Case) -> None:
    """Else the next export would not mention it, and nobody would miss it."""
    export(case)
    case.tamper("DELETE FROM wallet.slot_log", "DELETE FROM wallet.entries", "DELETE FROM wallet.slots")

    _, found = export(case)

    assert {each.problem for each in found.examples} == {"was exported and has no log"}
    assert all("was exported and is gone" in problem for problem in against_heads(case))


def test_a_torn_last_line_is_cut_off_and_the_heads_are_exported_again(case: Case) -> None:
    """An export that was killed in the middle of its write."""
    path = case.folder / "heads.jsonl"
    count, _ = export(case)
    path.write_bytes(path.read_bytes()[:-20])
    torn = read_heads(path).count

    mended, found = export(case)

    assert (torn, mended, found.count) == (count - 1, 1, 0)
    assert read_heads(path).count == count


@pytest.mark.parametrize("line", [b"{}\n", b"nonsense\n", b'{"service":"wallet","slot":1,"seq":1,"hash":"zz"}\n'])
def test_damaged_heads_are_refused(tmp_path: Path, line: bytes) -> None:
    """Heads that cannot be read prove nothing; two that tell one commit differently neither."""
    path = tmp_path / "heads.jsonl"
    path.write_bytes(line)

    with pytest.raises(SourceBroken, match="line 1"):
        read_heads(path)


def test_two_heads_of_one_commit_are_refused(tmp_path: Path) -> None:
    """The file itself was changed."""
    path = tmp_path / "heads.jsonl"
    head = {"service": "wallet", "slot": 1, "seq": 1}
    path.write_text("".join(json.dumps({**head, "hash": hash_}) + "\n" for hash_ in ("aa", "bb")))

    with pytest.raises(SourceBroken, match="line 2"):
        read_heads(path)


def test_command_exits_zero_only_when_every_chain_holds(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """0 holds, 1 a finding with its place on a line, 2 not verified."""
    run = command(case)
    exported, holds = run("export"), run("verify")
    case.tamper("UPDATE ledger.entries SET amount_minor = amount_minor + 1 WHERE slot = 3 AND seq = 2 AND line = 0")
    damaged, blind = run("verify", "--json"), main(["verify", "--database-url", "postgresql://127.0.0.1:1/none"])
    said = json.loads(damaged.stdout)

    assert (exported.returncode, holds.returncode, damaged.returncode, blind) == (0, 0, 1, 2)
    assert holds.stdout.startswith("HOLDS: ")
    assert said["wrong"] == 1
    assert said["findings"][0]["subject"].startswith("slot ledger:3 at seq 2, table ledger.")
    assert capsys.readouterr().out.startswith("NOT VERIFIED")


def command(case: Case) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The program as a process; the URL, which holds a password, comes in its environment."""

    def run(act: str, *more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "ZEROSUM_AUDITOR_DATABASE_URL": case.url}
        argv = [sys.executable, "-m", "simulator.audit.chain", act, "--heads", str(case.folder / "heads.jsonl"), *more]
        return subprocess.run(
            argv, cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True, timeout=60
        )

    return run
