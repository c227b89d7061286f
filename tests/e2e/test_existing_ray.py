"""`zerosum up` beside a Ray cluster that was there before and stays (`ZEROSUM_RAY_ADDRESS`). It is joined, used and left."""

import signal
from collections.abc import Iterator

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.process import family, survivors
from tests.e2e.ray_head import RayHead
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e

HOSTED = ("payment", "wallet", "ledger", "reconciliation")


@pytest.fixture
def head(alone: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayHead]:
    """An operator's cluster, whose token the shell names; no other system runs."""
    head = RayHead()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
    try:
        head.start()
        yield head
    finally:
        head.end()


@pytest.fixture
def joined(head: RayHead) -> Iterator[RunningSystem]:
    """A system that is to join it."""
    system = RunningSystem(ray_address=head.address)
    try:
        yield system
    finally:
        system.end()


def test_a_ray_cluster_that_is_there_is_joined_with_its_own_token_and_left_without_shards(
    head: RayHead, joined: RunningSystem
) -> None:
    """README, Ray. No head of ours is started; what we put into theirs ends with us, and they go on."""
    checkout = new_checkout("joined")
    joined.start()
    with Caller(joined) as caller:
        caller.pay(checkout)
        assert settled(joined, caller, checkout) == once("12.50")
    shards = {pid for service in HOSTED for pid in joined.shard_pids(service).values()}
    ours = family(joined.pid("supervisor"))

    assert "ray" not in joined.run_file()["pids"]
    assert not (joined.data / "keys" / "ray.token").exists()
    assert len(shards) == joined.settings.checkout_shards + 3
    assert (shards - head.processes(), shards & ours) == (set(), set())

    joined.signal(signal.SIGINT)
    assert joined.wait() == 0
    assert survivors(ours) == {}
    until("no shard of ours is left in their cluster", lambda: not survivors(shards))
    assert head.processes()
