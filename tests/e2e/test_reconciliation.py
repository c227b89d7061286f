"""A settlement file with something wrong in it, from the PSP's folder to the ledger, by the commands finance types."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.system import ROOT, RunningSystem

pytestmark = pytest.mark.e2e


class Finance:
    """One person at the command line."""

    def __init__(self, system: RunningSystem, person: str) -> None:
        self._system = system
        self._person = person

    def type(self, *words: str) -> Any:
        """What the command says, as JSON. It must succeed."""
        ended = self.try_to(*words)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def try_to(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The command's end."""
        command = [sys.executable, "-m", "servers.cli", *words, "--as", self._person, "--json"]
        return subprocess.run(
            command, cwd=ROOT, env=self._system.environment(), capture_output=True, text=True, timeout=120, check=False
        )


def test_our_own_services_agree_when_they_are_at_rest(system: RunningSystem, caller: Caller) -> None:
    """Issue 4, point 3: no false alarm over real books, and no act of the machine on them."""
    checkout = new_checkout("inside")
    caller.submit(checkout)
    assert settled(system, caller, checkout) == once("12.50")

    run = Finance(system, "ada").type("reconcile", "run", "--inside", "--again")

    assert (run["state"], run["explained"], run["mismatches"]) == ("DONE", "100.0000 %", 0)
    assert run["movements"] > 0


def test_a_planted_charge_is_found_proposed_approved_by_another_and_posted_once(
    system: RunningSystem, caller: Caller
) -> None:
    """Issue 4: the line nobody ordered is a case; two people write it off; the ledger has it once; every act is there."""
    ada, ben = Finance(system, "ada"), Finance(system, "ben")
    system.psp("POST", "settlement", {})  # what earlier tests have paid belongs to a file of its own
    checkout = new_checkout("settled")
    for each in (checkout, new_checkout("beside"), new_checkout("beside")):
        caller.submit(each)
        assert settled(system, caller, each) == once("12.50")
    report = json.loads(
        system.psp("POST", "settlement", {"damage_rate": 1.0, "damage_seed": 4, "damage_kinds": ["extra_line"]})
    )
    planted = {line for log in _lines(report["damage_log"]) for line in log["lines"]}

    (file,) = ada.type("reconcile", "import", report["path"])
    (again,) = ada.type("reconcile", "import", report["path"])
    run = ada.type("reconcile", "run", "--day", file["day"])
    cases = ada.type("mismatches", "list", "--kind", "unknown_charge")

    assert (file["state"], file["known"], again["known"]) == ("ACCEPTED", "no", "yes")
    assert run["state"] == "DONE"
    assert len(planted) == 3
    shown = [ada.type("mismatches", "show", case["id"]) for case in cases]
    assert {case["mismatch"]["line_id"] for case in shown} == planted

    chosen = shown[0]["mismatch"]["mismatch_id"]
    ada.type("mismatches", "propose", chosen, "write-off", "--reason", "the PSP confirmed it", "--key", "p-1")
    own = ada.try_to("mismatches", "approve", chosen, "--yes")
    ben.type("mismatches", "approve", chosen, "--yes", "--key", "a-1")
    ended = until("the write-off is in the ledger", lambda: _written_off(ben, chosen), within_s=60)

    assert own.returncode == 1
    assert "FOUR_EYES" in own.stderr
    dry_run = [(side["account"], side["money"]["amount"]) for side in ended["dry_run"]]
    assert _posted(system, chosen) == sorted(dry_run)
    assert [(act["act"], act["actor"]) for act in ended["acts"]] == [
        ("propose", "ada"), ("approve", "ben"), ("write_off", "reconciler"),
    ]  # fmt: skip
    assert settled(system, caller, checkout) == once("12.50")
    inside = ada.type("reconcile", "run", "--inside", "--again")
    assert (inside["state"], inside["explained"]) == ("DONE", "100.0000 %")


def test_a_reconciler_that_is_killed_comes_back_and_what_it_was_asked_for_is_done_once(
    system: RunningSystem, caller: Caller
) -> None:
    """Rows P31, R3: the process dies with a run asked for; another one makes it, under the same attempt."""
    caller.pay(new_checkout("killed"))
    ada = Finance(system, "ada")
    report = json.loads(system.psp("POST", "settlement", {}))
    (file,) = ada.type("reconcile", "import", report["path"])
    (before,) = system.live_shard_pids("reconciliation").values()
    os.kill(before, signal.SIGKILL)

    def ran() -> Any:
        ended = ada.try_to("reconcile", "run", "--day", file["day"])
        return json.loads(ended.stdout) if ended.returncode == 0 else None

    run = until("the run is made", ran, within_s=120)
    (after,) = system.live_shard_pids("reconciliation").values()

    assert run["state"] == "DONE"
    assert after != before
    attempts = system.query(
        "SELECT attempt, count(*) FROM reconciliation.runs WHERE kind = 'nightly' AND period = %s GROUP BY attempt",
        file["day"],
    )
    assert [count for _, count in attempts] == [1] * len(attempts)


def test_a_file_in_the_watched_folder_is_taken_and_a_broken_one_put_aside(
    system: RunningSystem, caller: Caller
) -> None:
    """Row L10: cut off, it is refused whole, with its reason beside it; nothing of it counts."""
    caller.pay(new_checkout("inbox"))
    report = json.loads(system.psp("POST", "settlement", {"damage_file": "truncated", "damage_seed": 1}))
    inbox = system.data / "settlement" / "inbox" / "stripe"
    until("the reconciler has made its folder", inbox.is_dir, within_s=60)
    for name in ("path", "manifest_path"):
        path = Path(report[name])
        (inbox / path.name).write_bytes(path.read_bytes())
    refused = system.data / "settlement" / "refused"
    until("it is put aside", lambda: refused.is_dir() and list(refused.glob("*.reason.txt")), within_s=60)

    assert list(inbox.iterdir()) == []
    files = Finance(system, "ada").type("reconcile", "files")
    assert [file["state"] for file in files if file["name"] == Path(report["path"]).name] == ["REFUSED"]


def _lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def _written_off(finance: Finance, mismatch_id: str) -> Any:
    """The case, once it is closed."""
    case = finance.type("mismatches", "show", mismatch_id)
    return case if case["mismatch"]["state"] == "MISMATCH_STATE_WRITTEN_OFF" else None


def _posted(system: RunningSystem, mismatch_id: str) -> list[tuple[str, str]]:
    """The entries of every journal that the case made, in major units."""
    rows = system.query(
        "SELECT e.account, e.amount_minor FROM ledger.entries AS e JOIN reconciliation.deliveries AS d "
        "ON d.key = e.journal_id WHERE d.mismatch_id = %s", mismatch_id,
    )  # fmt: skip
    return sorted(
        (account, f"{'-' if minor < 0 else ''}{abs(minor) // 100}.{abs(minor) % 100:02}") for account, minor in rows
    )
