"""`zerosum ledger`: what is asked of the auditor's program, and that the system runs on whatever it answers."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from servers import heads
from servers.cli import main
from zerosum.settings import Settings

AUDITOR = "postgresql://auditor:secret@127.0.0.1:1/none"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, auditor_database_url=AUDITOR)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the auditor's place, which notes how it was called and does what `answer` says."""
    path = tmp_path / "program.py"
    monkeypatch.setattr(heads, "_command", lambda act, more: [sys.executable, str(path), act, *more])
    return path


def answer(program: Path, status: int, say: str) -> None:
    program.write_text(
        "import json, os, sys\n"
        "call = {'argv': sys.argv[1:], 'url': os.environ['ZEROSUM_AUDITOR_DATABASE_URL']}\n"
        f"open({str(program.with_name('call.json'))!r}, 'w').write(json.dumps(call))\n"
        f"print({say!r})\nsys.exit({status})\n"
    )


def hang(program: Path) -> None:
    program.write_text("import signal\nsignal.pause()\n")


def test_verify_takes_the_exported_heads_of_the_data_folder(settings: Settings, program: Path) -> None:
    """The URL with its password is in the environment, not in the command line; the status is the program's."""
    answer(program, 1, "DOES NOT HOLD")
    heads.heads_path(settings).write_text("")

    status = heads.verify_record(settings, None, as_json=True)

    call = json.loads(program.with_name("call.json").read_text())
    assert status == 1
    assert call == {"argv": ["verify", "--heads", str(heads.heads_path(settings)), "--json"], "url": AUDITOR}


def test_verify_without_heads_says_what_it_cannot_see(
    settings: Settings, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never "holds" without having said that a log rewritten whole would hold too."""
    answer(program, 0, "HOLDS")

    status = heads.verify_record(settings, None, as_json=False)

    assert status == 0
    assert json.loads(program.with_name("call.json").read_text())["argv"] == ["verify"]
    assert "no heads were exported" in capsys.readouterr().out


def test_heads_that_are_named_and_not_there_are_a_mistake(tmp_path: Path) -> None:
    """Else a misspelt file would verify less than was asked for."""
    ended = CliRunner().invoke(
        main, ["ledger", "verify", "--data-dir", str(tmp_path), "--heads", str(tmp_path / "none.jsonl")]
    )

    assert ended.exit_code == 2


@pytest.mark.parametrize(
    ("status", "say", "logged"),
    [
        (0, "HOLDS", []),
        (1, "slot ledger:3 at seq 2: was exported and is gone", ["THE RECORD WAS CHANGED"]),
        (2, "NOT VERIFIED: away", ["heads cannot be exported"]),
    ],
)
async def test_an_export_beside_the_running_system_logs_what_is_wrong_and_never_raises(
    settings: Settings, program: Path, status: int, say: str, logged: list[str]
) -> None:
    """The supervisor exports every hour; a changed record is an alert, a database that is away only an hour lost."""
    answer(program, status, say)

    with capture_logs() as lines:
        await heads.export_once(settings)

    assert [line["event"] for line in lines] == logged
    assert all(say in json.dumps(line) for line in lines)


async def test_an_export_that_hangs_is_ended(
    settings: Settings, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing the supervisor starts outlives it."""
    monkeypatch.setattr(heads, "EXPORT_LIMIT_S", 0.01)
    hang(program)

    with capture_logs() as lines:
        await asyncio.wait_for(heads.export_once(settings), 10)

    assert [line["reason"] for line in lines] == ["not done in time"]


async def test_a_deployment_without_an_auditor_runs_on(tmp_path: Path) -> None:
    """With a database of one's own and no auditor's role the heads are not exported, and the log says why."""
    with capture_logs() as lines:
        await heads.export_once(Settings(data_dir=tmp_path, database_url="postgresql://admin@127.0.0.1:1/none"))

    assert [line["event"] for line in lines] == ["heads cannot be exported"]
