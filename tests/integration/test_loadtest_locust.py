"""Locust end to end, in its own process, against a rude stub in another: counts only, nothing is timed."""

import subprocess
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

from loadtest.journal import read_journal
from loadtest.outcome import Outcome
from loadtest.run import EXIT_BROKEN, EXIT_CLEAN, LoadEnd, LoadOptions, LoadProcess, run_load
from loadtest.sample import read_samples
from tests.integration.stub_process import Stub


def _options(stub: Stub, folder: Path, profile: str, *, tps: float, seconds: float) -> LoadOptions:
    token = folder / "token"
    token.write_text("a.b.c")
    return LoadOptions(
        target=stub.target,
        profile=profile,
        token_file=token,
        tenant="acme",
        journal=folder / "journal.jsonl",
        samples=folder / "samples.jsonl",
        status=folder / "status.json",
        log=folder / "locust.log",
        seconds=seconds,
        tps=tps,
        pacing="constant",
        run_id="test",
    )


def _run(options: LoadOptions) -> LoadEnd:
    end = run_load(options)
    assert options.log is not None
    assert end.exit_status == EXIT_CLEAN, options.log.read_text()
    return end


def _replies(journal: Path) -> dict[str, set[str]]:
    """Key -> the hashes of everything it was told."""
    replies: dict[str, set[str]] = defaultdict(set)
    for record in read_journal(journal):
        if record["kind"] == "answer" and record["result"] == "ok":
            replies[record["key"]].add(record["reply_sha256"])
    return replies


@pytest.mark.slow
def test_copies_of_a_click_over_two_channels_get_one_effect_and_one_reply(stub: Stub, tmp_path: Path) -> None:
    """C1: 12 copies at once; busy answers and lost answers are retried under the same key until each has its reply."""
    options = _options(stub, tmp_path, "duplicate-clicks", tps=4.0, seconds=1.0)
    end = _run(options)
    records = read_journal(options.journal)
    calls = [record["call"] for record in records if record["kind"] == "intent"]
    answers = [record["call"] for record in records if record["kind"] == "answer"]

    assert (end.status.sent, end.status.ok, end.status.disagreements, end.status.in_flight) == (48, 48, 0, 0)
    assert sorted(stub.executed()) == [f"co-rtests1n{number}" for number in (1, 2, 3, 4)]
    assert [len(told) for told in _replies(options.journal).values()] == [1, 1, 1, 1]
    assert len(calls) == len(set(calls)) == end.status.tries > 48
    assert sorted(calls) == sorted(answers)


@pytest.mark.slow
def test_a_steady_load_views_twice_for_each_submit_and_samples_every_journey(stub: Stub, tmp_path: Path) -> None:
    """Two reads to one write; every lost answer is found again under its key."""
    options = _options(stub, tmp_path, "steady-50", tps=30.0, seconds=1.0)
    end = _run(options)
    outcomes = [sample.outcome for sample in read_samples(options.samples)]

    assert (outcomes.count(Outcome.FINAL), outcomes.count(Outcome.READ)) == (10, 20)
    assert (end.status.ok, end.status.views, end.status.is_finished) == (10, 20, True)
    assert len(stub.executed()) == len(set(stub.executed())) == 10


@pytest.mark.slow
def test_a_retry_storm_has_one_effect_for_each_checkout(stub: Stub, tmp_path: Path) -> None:
    """C4: short deadlines, the same key again at once."""
    _run(_options(stub, tmp_path, "retry-storm", tps=10.0, seconds=1.0))

    assert len(stub.executed()) == len(set(stub.executed())) == 10


@pytest.mark.slow
def test_a_load_that_is_cut_short_ends_and_leaves_a_readable_journal(stub: Stub, tmp_path: Path) -> None:
    """Ctrl-C at any time: no process stays, calls without an answer are unknown."""
    options = _options(stub, tmp_path, "checkouts-50", tps=50.0, seconds=600.0)
    with LoadProcess(options) as load:
        while load.poll() is None and load.status().sent == 0:
            with suppress(subprocess.TimeoutExpired):
                load.wait(0.05)
        load.stop()

        assert load.poll() is not None
    kinds = [record["kind"] for record in read_journal(options.journal)]
    assert kinds.count("intent") >= kinds.count("answer") > 0


@pytest.mark.slow
def test_a_load_whose_token_cannot_be_read_ends_and_says_why(stub: Stub, tmp_path: Path) -> None:
    """Locust would begin it again, at once and for ever."""
    options = _options(stub, tmp_path, "steady-10", tps=10.0, seconds=1.0)
    options.token_file.unlink()

    end = run_load(options)

    assert options.log is not None
    assert end.exit_status == EXIT_BROKEN
    assert f"No such file or directory: '{options.token_file}'" in options.log.read_text()
    assert stub.executed() == []
