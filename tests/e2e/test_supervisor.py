"""The life of `zerosum up`: what ends with it, what is kept, what it goes on from. Each test has a system of its own."""

import json
import os
import signal
from urllib.request import urlopen

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.process import family, survivors
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e


def test_killed_supervisor_takes_everything_with_it_and_the_next_one_goes_on_and_stops_cleanly(
    own: RunningSystem,
) -> None:
    """I24; Ctrl-C. One story, as a start takes long: up, paid, SIGKILL, up again on the same data, a child killed, SIGINT.

    The second start is at another address of this machine: whatever looks for a server looks where it was told to listen.
    """
    before, after = new_checkout("before"), new_checkout("after")
    own.start()
    with Caller(own) as caller:
        first = caller.pay(before)
        assert settled(own, caller, before) == once("12.50")
    members = family(own.pid("supervisor"))

    own.signal(signal.SIGKILL)
    assert own.wait() == -signal.SIGKILL
    until("its whole family has ended", lambda: not survivors(members))

    own.move_to("127.0.0.2")
    own.start()
    pages = own.run_file()["metrics"]
    assert {name: page.partition("//")[2].partition(":")[0] for name, page in pages.items()} == dict.fromkeys(
        ("payment", "wallet", "ledger", "reconciliation", "edge"), "127.0.0.2"
    )
    assert b"zerosum_grpc_calls_total" in urlopen(pages["edge"], timeout=10).read()  # noqa: S310 - our own loopback address
    with Caller(own) as caller:
        assert caller.pay(before).body == first.body
        assert settled(own, caller, before) == once("12.50")
        own.kill("edge")
        caller.pay(after)
        assert settled(own, caller, after) == once("12.50")
    members = family(own.pid("supervisor"))

    own.signal(signal.SIGINT)
    assert own.wait() == 0
    assert survivors(members) == {}
    assert not (own.data / "run.json").exists()
    assert "stopped; the data is kept" in own.last_words()
    told = [json.loads(line) for line in (own.data / "logs" / "supervisor.log").read_text().splitlines()]
    assert {(line["event"], line["child"], line["service"]) for line in told} == {("child ended", "edge", "supervisor")}
    assert "child ended" not in own.last_words()


def test_ctrl_c_during_the_start_leaves_no_process_behind(own: RunningSystem) -> None:
    """A start can be given up at any time."""
    own.begin()
    supervisor = own.begun_pid()
    until("the database runs", (own.data / "postgres" / "cluster" / "postmaster.pid").exists)
    until("the Ray head is being started", lambda: "Ray head" in own.last_words())
    members = family(supervisor)

    os.kill(supervisor, signal.SIGINT)

    assert own.wait() == 0
    assert survivors(members) == {}
