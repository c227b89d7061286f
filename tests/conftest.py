"""How two processes share the tests (`make test`, pytest-xdist): whole systems in one of them, in their order, file by file the
rest in the other, and in both once the systems are done.

Invariant: no two systems run at the same time. One waits half of its time and needs two cores for the other half: two of them
would only wait for one another, at the limits of recovery that the tests hold.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

SYSTEMS = ("tests/e2e/", "tests/chaos/")
"""Folders whose tests start the whole system: one unit of work together."""


class Lanes(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """xdist's units of work are files; here the systems are one, and as `make test` names them first, it is begun first."""

    def _split_scope(self, nodeid: str) -> str:
        """The unit that a test belongs to."""
        return "systems" if nodeid.startswith(SYSTEMS) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """Whatever `--dist` says."""
    return Lanes(config, log)
