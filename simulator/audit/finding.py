"""What a check brings back: how much it looked at, and what is wrong, with examples.

Invariant: every finding is counted, though only the first few are kept, so that memory does not grow with the damage.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

EXAMPLES_MAX: Final = 20
"""As many as fit on a screen; the counts tell the rest."""


class Harm(StrEnum):
    """What a finding means to the money."""

    DOUBLE = "double"
    """Charged, credited or posted more than once."""
    LOSS = "loss"
    """Taken or promised, and not on record."""
    STUCK = "stuck"
    """Still open, and nothing will close it."""
    WRONG = "wrong"
    """Everything else: two records that disagree, a rule that was broken."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: whose, what, and the two values that should have been equal."""

    subject: str
    problem: str
    expected: str
    found: str
    harm: Harm

    def as_json(self) -> dict[str, str]:
        """The finding as plain data."""
        return asdict(self)


@dataclass(slots=True)
class Findings:
    """What one check has found so far. `examined`: rows, lines or calls it looked at."""

    examined: int = 0
    by_harm: Counter[Harm] = field(default_factory=Counter)
    examples: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many things are wrong."""
        return sum(self.by_harm.values())

    def add(
        self, subject: str, problem: str, *, expected: object = "", found: object = "", harm: Harm = Harm.WRONG
    ) -> None:
        """Count one more finding, and keep it while there is room."""
        self.by_harm[harm] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(Finding(subject, problem, str(expected), str(found), harm))


class SourceBroken(Exception):
    """A source cannot be believed as it is: cut off, damaged, or away. Nothing may be concluded from it."""
