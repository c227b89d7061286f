"""What one scenario has shown: the rows of failures.md it is for, its facts, and what speaks against it.

Invariant: a scenario that could not be carried out here says so and why; it never passes for one that held.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from loadtest.chaos.wait import TROUBLE, reason_of


@dataclass(slots=True, kw_only=True)
class Scenario:
    """`facts`: what was seen, in order. `recovery_s`: from the end of the harm to the next final reply. `impossible`: why it
    could not be carried out on this machine, "" = it was. `wrong`: "" = nothing."""

    rows: str
    title: str
    facts: list[str] = field(default_factory=list)
    recovery_s: float | None = None
    impossible: str = ""
    wrong: str = ""


Told = TypeVar("Told", bound=Scenario)


async def told(scenario: Told, story: Coroutine[Any, Any, None]) -> Told:
    """Carries it out; trouble on the way is what speaks against it."""
    try:
        await story
    except TROUBLE as trouble:
        scenario.wrong = reason_of(trouble)
    return scenario
