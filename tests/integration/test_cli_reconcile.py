"""`zerosum reconcile` and `zerosum mismatches` as a finance person types them, against the door over fakes."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner, Result

from servers.call import HOUSE, Role
from servers.cli import main
from servers.finance_view import age, explained
from tests.integration.reconciliation_fakes import CONTENT, DAY, RUN, VIEW, FakeFiles, FakeQueue, FakeRuns, servicer
from tests.integration.server_process import serving
from tests.unit.server_fakes import token
from zerosum.domain.case import Approve, Assign, Comment, Propose, Reject, Resolution
from zerosum.domain.refusal import Reason, Refusal
from zerosum.finance_queue import Acted
from zerosum.reconciling import RunKey, RunKind, RunState


class Desk:
    """A server over fakes, and commands typed against it."""

    def __init__(self) -> None:
        self.files, self.runs, self.queue = FakeFiles(), FakeRuns(RUN), FakeQueue(Acted(VIEW, is_replay=False))

    async def type(self, *words: object, keyboard: str = "") -> Result:
        """The command's outcome."""
        return await asyncio.to_thread(CliRunner().invoke, main, [str(word) for word in words], input=keyboard)


def document(typed: Result) -> Any:
    """The JSON a command printed: the server of the same process logs its calls before it."""
    lines = typed.stdout.splitlines()
    return json.loads("\n".join(lines[next(at for at, line in enumerate(lines) if line in ("[", "{")) :]))


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A running server, and ada at it."""
    made = Desk()
    own_token = tmp_path / "token.jwt"
    own_token.write_text(token(Role.FINANCE, HOUSE, "ada"))
    monkeypatch.setenv("ZEROSUM_TOKEN_FILE", str(own_token))
    monkeypatch.setenv("ZEROSUM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "240")
    parts: dict[str, Any] = {"files": made.files, "runs": made.runs, "queue": made.queue}
    async with serving(servicer(tmp_path, **parts)) as (_, server):
        monkeypatch.setenv("ZEROSUM_RECONCILIATION_ADDRESS", f"127.0.0.1:{server.port}")
        yield made


@pytest.mark.parametrize("name", ["day.manifest.json", "day.csv.manifest.json"])
async def test_import_sends_the_file_with_the_manifest_beside_it(desk: Desk, tmp_path: Path, name: str) -> None:
    file = tmp_path / "day.csv"
    file.write_bytes(CONTENT)
    (tmp_path / name).write_text('{"rows": 1000}')
    typed = await desk.type("reconcile", "import", file, "--json")
    (row,) = document(typed)

    ((content, told),) = desk.files.taken
    assert typed.exit_code == 0
    assert (content, told.manifest, told.received_by, told.name) == (CONTENT, '{"rows": 1000}', "ada", "day.csv")
    assert (row["state"], row["known"]) == ("ACCEPTED", "no")


async def test_a_large_file_goes_in_pieces_and_arrives_whole(desk: Desk, tmp_path: Path) -> None:
    """More than one chunk, and more than one gRPC message may hold."""
    file = tmp_path / "large.csv"
    file.write_bytes(CONTENT * 500)
    typed = await desk.type("reconcile", "import", file)

    assert typed.exit_code == 0
    assert desk.files.taken[0][0] == CONTENT * 500


async def test_run_shows_figures_and_waits_for_the_end(desk: Desk) -> None:
    desk.runs.answer = replace(RUN, state=RunState.RUNNING, ended_at_ms=None)
    typed = await desk.type("reconcile", "run", "--day", DAY, "--json")

    assert typed.exit_code == 0
    assert desk.runs.asked == [(RunKey(RunKind.NIGHTLY, "stripe", DAY), False)]
    told = document(typed)
    assert (told["state"], told["explained"], told["kind unknown_charge"]) == ("DONE", "80.0000 %", 1)


async def test_run_inside_is_of_the_present_hour(desk: Desk) -> None:
    typed = await desk.type("reconcile", "run", "--inside")

    assert typed.exit_code == 0
    assert desk.runs.asked == [(RunKey(RunKind.INSIDE, "", f"{DAY}T22"), False)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["reconcile", "run"], "say --day"),
        (["reconcile", "run", "--day", DAY, "--inside"], "say --day"),
        (
            ["reconcile", "run", "--day", "2026-13-45"],
            "--day: a day is YYYY-MM-DD, such as 2026-11-26, and not '2026-13-45'",
        ),
        (["reconcile", "run", "--day", "20261126"], "and not '20261126'"),
        (
            ["mismatches", "list", "--state", "odd"],
            "--state: there is no state 'odd'; there are open, fixing, proposed",
        ),
        (["mismatches", "list", "--class", "odd"], "--class: there is no class 'odd'; there are automatic, manual"),
        (
            ["mismatches", "list", "--kind", "odd"],
            "--kind: there is no kind 'odd'; there are unresolved_order, late_charge",
        ),
        (["mismatches", "list", "--older-than-hours", "99999999999999999999"], "--older-than-hours"),
        (["mismatches", "propose", "m-1", "shrug", "--reason", "r"], "how: there is no way 'shrug'"),
    ],
)
async def test_a_word_that_is_none_is_told_with_those_that_are(desk: Desk, words: list[str], says: str) -> None:
    typed = await desk.type(*words)

    assert typed.exit_code == 2
    assert says in typed.stderr
    assert desk.queue.acts == []


async def test_the_future_is_refused_with_the_servers_own_words(desk: Desk) -> None:
    typed = await desk.type("reconcile", "run", "--day", "2999-01-01")

    assert typed.exit_code == 1
    assert "MALFORMED" in typed.stderr
    assert "period: it has not begun" in typed.stderr


async def test_lists_show_major_units_and_ids_that_can_be_copied_back(desk: Desk) -> None:
    listed = await desk.type("mismatches", "list")
    shown = await desk.type("mismatches", "show", "m-1")

    assert "12.50 USD" in listed.stdout
    assert listed.exit_code == shown.exit_code == 0
    assert "the bank says so" not in listed.stdout
    for part in ("psp:stripe:clearing:USD", "-12.50 USD", "Proposal 1 of ada", "a backup", "takes pending"):
        assert part in shown.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["assign", "m-1", "ben"], Assign("ben")),
        (["assign", "m-1"], Assign("")),
        (["comment", "m-1", "called the bank"], Comment("called the bank")),
        (["propose", "m-1", "write-off", "--reason", "r"], Propose(Resolution.WRITE_OFF, "r")),
        (["propose", "m-1", "as-proposed", "--reason", "r"], Propose(Resolution.AS_PROPOSED, "r")),
        (["propose", "m-1", "close", "--reason", "r"], Propose(Resolution.CLOSE, "r")),
        (["reject", "m-1", "--reason", "r"], Reject("r")),
        (["approve", "m-1", "--yes"], Approve(1)),
    ],
)
async def test_each_act_reaches_the_queue_once_under_the_key_that_was_given(
    desk: Desk, words: list[str], expected: object
) -> None:
    typed = await desk.type("mismatches", *words, "--key", "k-1")

    assert typed.exit_code == 0
    assert desk.queue.acts == [("m-1", expected, "ada", "k-1")]


@pytest.mark.parametrize(("keyboard", "acts"), [("y\n", 1), ("n\n", 0)])
async def test_approve_shows_what_it_posts_and_asks(desk: Desk, keyboard: str, acts: int) -> None:
    """Nobody approves what was not on the screen."""
    typed = await desk.type("mismatches", "approve", "m-1", keyboard=keyboard)

    assert "suspense:USD" in typed.stdout
    assert typed.stdout.index("suspense:USD") < typed.stdout.index("Approve?")
    assert len(desk.queue.acts) == acts


async def test_a_refused_approval_says_why_in_one_line(desk: Desk) -> None:
    desk.queue.answer = Refusal(Reason.FOUR_EYES, "", "whoever proposed it cannot approve it")
    typed = await desk.type("mismatches", "approve", "m-1", "--yes")

    assert typed.exit_code == 1
    assert typed.stderr.strip() == "zerosum: FOUR_EYES: whoever proposed it cannot approve it"


async def test_ageing_shows_what_stands_in_suspense_and_for_how_long(desk: Desk) -> None:
    shown = await desk.type("mismatches", "ageing")
    rows = document(await desk.type("mismatches", "ageing", "--json"))

    assert all(cell in shown.stdout for cell in ("12.50 USD", "700 JPY", "2 d 7 h", "1 h"))
    assert rows[1:] == [
        {"suspense": "USD", "came": "12.50 USD", "went": "0.00 USD", "of": 1, "oldest": "2 d 7 h"},
        {"suspense": "JPY", "came": "0 JPY", "went": "700 JPY", "of": 2, "oldest": "1 h"},
    ]


async def test_ageing_runs_files_and_differences_are_shown(desk: Desk) -> None:
    ageing = await desk.type("mismatches", "ageing")
    runs = await desk.type("reconcile", "runs")
    files = await desk.type("reconcile", "files")
    diff = await desk.type("reconcile", "diff", RUN.run_id, RUN.run_id)

    assert [typed.exit_code for typed in (ageing, runs, files, diff)] == [0, 0, 0, 0]
    assert "0 h to 1 d" in ageing.stdout
    assert RUN.run_id in runs.stdout
    assert ("asked by" in runs.stdout, RUN.asked_by in runs.stdout) == (True, True)
    assert "day.csv" in files.stdout
    assert "wrong_fee" in diff.stdout


async def test_nobody_there_is_one_line_and_not_a_trace(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSUM_RECONCILIATION_ADDRESS", "127.0.0.1:1")
    typed = await desk.type("mismatches", "list")

    assert typed.exit_code == 1
    assert len(typed.stderr.strip().splitlines()) == 1


def test_ages_and_shares_are_cut_never_rounded_up() -> None:
    """A share that is not all of it never reads 100 %."""
    assert [age(Timestamp(seconds=0), seconds) for seconds in (59, 3_599, 3_600, 86_400, 273_600)] == [
        "0 min", "59 min", "1 h", "1 d", "3 d 4 h",
    ]  # fmt: skip
    assert (explained(999_999), explained(1_000_000)) == ("99.9999 %", "100.0000 %")
