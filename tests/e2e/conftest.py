"""One real system for most tests of this folder, a caller who finds it at rest, and one of its own for who must end it.

Invariant: a test begins when nothing of an earlier one is under way, so that what it counts is its own, and beside a system of
one's own no other runs.
"""

from collections.abc import Iterator
from urllib.error import URLError

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.system import RunningSystem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those who share a system first: it is started once, and ended before others are."""
    items.sort(key=lambda item: "whole" not in getattr(item, "fixturenames", ()))


class Shared:
    """The system that most tests share: started when one asks for it, ended when one wants the machine for itself."""

    def __init__(self) -> None:
        self._running: RunningSystem | None = None

    def running(self) -> RunningSystem:
        """The system, up."""
        if self._running is None:
            self._running = RunningSystem()
            self._running.start()
        return self._running

    def end(self) -> None:
        """Ends it if there is one."""
        ending, self._running = self._running, None
        if ending is not None:
            ending.end()


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """None runs yet."""
    shared = Shared()
    try:
        yield shared
    finally:
        shared.end()


@pytest.fixture
def whole(shared: Shared) -> RunningSystem:
    """The system, started once."""
    return shared.running()


@pytest.fixture
def alone(shared: Shared) -> None:
    """No other system runs."""
    shared.end()


@pytest.fixture
def own(alone: None) -> Iterator[RunningSystem]:
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
