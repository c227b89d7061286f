"""One real system for all tests of this folder, a caller who finds it at rest, and one of its own for who must end it.

Invariant: a test begins when nothing of an earlier one is under way, so that what it counts is its own.
"""

from collections.abc import Iterator
from urllib.error import URLError

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.system import RunningSystem


@pytest.fixture(scope="session")
def whole() -> Iterator[RunningSystem]:
    """The system, started once."""
    system = RunningSystem()
    try:
        system.start()
        yield system
    finally:
        system.end()


@pytest.fixture
def own() -> Iterator[RunningSystem]:
    """A system that the test may end in any way."""
    system = RunningSystem()
    try:
        yield system
    finally:
        system.end()


@pytest.fixture
def system(whole: RunningSystem) -> Iterator[RunningSystem]:
    """The system at rest, without faults, holds or orders to crash."""
    with Caller(whole) as caller:
        until("the system is at rest", lambda: _is_at_rest(whole, caller))
    yield whole
    assert whole.settings.crash_dir is not None
    for order in whole.settings.crash_dir.glob("*@*"):
        order.unlink(missing_ok=True)
    whole.release()


@pytest.fixture
def caller(system: RunningSystem) -> Iterator[Caller]:
    """The tenant "demo"."""
    with Caller(system) as caller:
        yield caller


def _is_at_rest(system: RunningSystem, caller: Caller) -> bool:
    """Every shard serves, every effect is finished, every webhook is delivered."""
    try:
        webhooks = system.psp_stats()["webhooks"]
    except (URLError, ConnectionError, TimeoutError):
        return False
    if webhooks.get("pending") or caller.open_todos():
        return False
    return bool(system.live_shard_pids("payment")) and caller.pay(new_checkout("probe")).code == "OK"
