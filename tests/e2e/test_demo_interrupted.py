"""Ctrl-C in the middle of `zerosum demo`, and `zerosum up` on what it left. README: "Ctrl-C in a demo does the same"."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.process import family, naming, survivors
from tests.e2e.system import ROOT, START_WITHIN_S, RunningSystem
from tests.tie import tied

pytestmark = pytest.mark.e2e

SMALL = ("--tps", "8", "--seconds", "3", "--seed", "12", "--no-kills")
INTERRUPTED = 130
SENT_MIN = 8
"""Of the second half's 24 checkouts: the PSP drops answers, so that some are answered then and others are not."""


def test_ctrl_c_in_a_demo_leaves_no_process_behind_and_up_goes_on_from_its_data(own: RunningSystem) -> None:
    """I24, and the audit: what buyers were told before, in the journal of the load that was cut short, still holds."""
    printed = own.folder / "demo.log"
    with printed.open("wb") as out:
        demo = subprocess.Popen(
            tied("-m", "servers.cli", "demo", *SMALL), cwd=ROOT, env={**own.environment(), "COLUMNS": "100"}, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        until(
            "the faults are met",
            lambda: demo.poll() is not None or _sent(own.data) >= SENT_MIN,
            within_s=2 * START_WITHIN_S,
        )
        assert demo.poll() is None, printed.read_text(errors="replace")[-2_000:]
        members = family(demo.pid)
        locusts = {pid for pid, name in survivors(members).items() if "locust" in name}
        demo.send_signal(signal.SIGINT)
        status = demo.wait(60.0)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()

    assert status == INTERRUPTED, printed.read_text(errors="replace")[-2_000:]
    assert "everything is stopped and the data is kept" in printed.read_text()
    assert locusts
    assert survivors(members) == {}
    assert naming(str(own.folder)) == {}
    assert not (own.data / "run.json").exists()

    own.start()
    checkout = new_checkout("after")
    with Caller(own) as caller:
        caller.pay(checkout)
        assert settled(own, caller, checkout) == once("12.50")
        until("the demo's backlog is finished", lambda: caller.open_todos() == 0)
    audited = _audit(own)
    assert audited.returncode == 0, audited.stdout[-4_000:]
    held = {
        each["id"] for each in json.loads(audited.stdout)["verdicts"] if each["outcome"] == "held" and each["examined"]
    }
    assert held >= {"I3", "I4", "I24"}


def _sent(data: Path) -> int:
    """Checkouts that the load with faults has sent, by its own count; 0 before there is one."""
    for status in data.glob("runs/*/status-checkouts-50.json"):
        return int(json.loads(status.read_text())["sent"])
    return 0


def _audit(system: RunningSystem) -> subprocess.CompletedProcess[str]:
    """`zerosum audit` of what runs, with the journal of the load that was cut short."""
    return subprocess.run(
        tied("-m", "servers.cli", "audit", "--json"), cwd=ROOT, env=system.environment(), capture_output=True, text=True,
        timeout=60.0, check=False,
    )  # fmt: skip
