"""`zerosum audit` where nothing of ours runs on the data folder: on a database that is named, with what else is named."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from servers.child import free_port
from servers.cli import main
from servers.keys import make_keys, read_key
from servers.run_file import run_file_of
from simulator.audit.damage import plant
from tests.integration.audit_case import Case

WAITS = ["I9"]
"""The pending order of the good world waits for its buyer, and its clock stands still."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that is not there yet, as on a machine where nothing of ours ever ran."""
    folder = tmp_path / "data"
    monkeypatch.setenv("ZEROSUM_DATA_DIR", str(folder))
    monkeypatch.setenv("ZEROSUM_IN_FLIGHT_ALERT_MS", str(10**15))
    for name in ("ZEROSUM_DATABASE_URL", "ZEROSUM_AUDITOR_DATABASE_URL", "PSP_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return folder


def _audited(*words: str) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(main, ["audit", "--json", *words])
    return result.exit_code, json.loads(result.stdout or "{}"), result.stderr


def _not_checked(report: dict[str, Any]) -> set[str]:
    return {verdict["id"] for verdict in report["verdicts"] if verdict["outcome"] == "not checked"}


@pytest.fixture
def psp(case: Case, data: Path) -> Iterator[str]:
    """A PSP that tells its book to whoever has the admin token of the data folder."""
    make_keys(data)
    token = read_key(data, "psp_admin_token")

    class Book(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = (self.path, self.headers["Authorization"]) == ("/_admin/truth", f"Bearer {token}")
            self.send_response(200 if is_known else 403)
            self.end_headers()
            self.wfile.write(b"".join(case.truth) if is_known else b"")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Book)
    serving = Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_database_alone_is_audited_and_what_needs_more_is_not_checked(case: Case, data: Path) -> None:
    """A deployment on containers, or one server: no run.json, no simulator, no journal."""
    status, report, _ = _audited("--database-url", case.url)

    assert (status, report["violated"]) == (1, WAITS)
    assert _not_checked(report) == {"I3", "I4", "I6", "I10", "I12", "I22", "I24", "SETTLEMENT"}


def test_the_url_may_come_from_the_settings(case: Case, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in a command line is seen by everybody on the machine."""
    monkeypatch.setenv("ZEROSUM_AUDITOR_DATABASE_URL", case.url)

    status, report, _ = _audited()

    assert (status, report["violated"]) == (1, WAITS)


def test_the_simulators_book_and_a_buyers_journal_are_joined_where_they_are_named(case: Case, psp: str) -> None:
    """Only what came in a settlement file is left unchecked."""
    status, report, _ = _audited("--database-url", case.url, "--psp-url", psp, "--journal", str(case.journal))

    assert (status, report["violated"]) == (1, WAITS)
    assert _not_checked(report) == {"I12", "SETTLEMENT"}


def test_damage_is_seen_without_a_system(case: Case, data: Path) -> None:
    """Verifies the tests above: it is that database which is looked at."""
    plant(case.url, "lose-posting")

    status, report, _ = _audited("--database-url", case.url)

    assert status == 1
    assert "POSTINGS" in report["violated"]


def test_the_run_file_of_a_system_is_not_joined_to_a_database_that_is_named(case: Case, data: Path) -> None:
    """Its simulator knows nothing of that database's orders."""
    data.mkdir()
    run_file_of(data).write_text("{")

    status, report, _ = _audited("--database-url", case.url)

    assert (status, report["violated"]) == (1, WAITS)


def test_where_nothing_runs_and_nothing_is_named_it_says_what_to_name(data: Path) -> None:
    """One line, status 2: nothing was judged."""
    status, _, said = _audited()

    told = f"nothing runs on {data}: start it with `zerosum up`, or name a database as the auditor's role"
    assert (status, said) == (2, f"zerosum: {told}: ZEROSUM_AUDITOR_DATABASE_URL or --database-url\n")


def test_a_report_of_yesterday_is_not_told_for_what_could_not_be_judged(data: Path) -> None:
    """With --json the file was shown that lay there, whoever had written it."""
    data.mkdir()
    (data / "audit.json").write_text('{"is_clean": true}')

    status, report, said = _audited("--database-url", f"postgresql://auditor:hunter2@127.0.0.1:{free_port()}/none")

    assert (status, report) == (2, {})
    assert said.startswith("NOT AUDITED: the database is away")
    assert "hunter2" not in said
