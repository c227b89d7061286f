"""An API call as data: what came in, what is to go out, and the ticket in between."""

from __future__ import annotations

from typing import NamedTuple

from simulator.psp.faults import NO_FAULT, Decision
from simulator.psp.stripe.operations import Route
from simulator.psp.stripe.wire import Form

Headers = tuple[tuple[str, str], ...]


class Call(NamedTuple):
    """One API request. `body` and `query` are still encoded as a form."""

    method: str
    path: str
    query: str = ""
    body: str = ""
    authorization: str = ""
    key: str | None = None


class Answer(NamedTuple):
    """What goes back over the wire."""

    status: int
    body: bytes
    headers: Headers = ()


class Plan(NamedTuple):
    """What the caller is to see, after `delay_ms`: an answer, or None for a connection closed without one."""

    answer: Answer | None
    delay_ms: int = 0
    operation: str = ""


class Ticket(NamedTuple):
    """A call that is allowed to execute once `wait_ms` has passed. `scope` is None without a key."""

    call: Call
    where: Route
    form: Form
    request_id: str
    scope: str | None
    fingerprint: str
    decision: Decision = NO_FAULT

    @property
    def wait_ms(self) -> int:
        """The way there is half of the drawn delay."""
        return self.decision.delay_ms // 2
