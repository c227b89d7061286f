"""Finance's queue as its doors see it: cases by page, one case with its acts, the acts of people, and how old it all is.

Invariant: an act is recorded with its effect in one commit, under the person's own key, or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zerosum.domain.case import Asked, CaseState, Proposal
from zerosum.domain.discrepancy import Action, Class, Posting
from zerosum.domain.money import Money
from zerosum.domain.refusal import Refusal
from zerosum.readers import Page

MACHINE = "reconciler"
"""The actor of the machine's acts."""

BANDS_HOURS: tuple[tuple[int, int], ...] = ((0, 24), (24, 72), (72, 168), (168, 720), (720, 0))
"""Ages of open cases, [from, to) in hours, 0 = without end: today, three days, a week, a month, older."""


@dataclass(frozen=True, slots=True)
class MismatchRow:
    """A case as stored. `money`: at stake, positive came to us. `ours`, `theirs`: both values of `field`, as text."""

    mismatch_id: str
    kind: str
    group: Class
    state: CaseState
    psp: str
    tenant: str
    checkout_id: str
    order_id: str
    line_id: str
    file_id: str
    field: str
    ours: str
    theirs: str
    likely_cause: str
    action: Action
    money: Money
    assignee: str
    opened_at_ms: int
    closed_at_ms: int | None
    first_run: str
    last_run: str


@dataclass(frozen=True, slots=True)
class ActRow:
    """An act as recorded. `detail`: JSON."""

    number: int
    act: str
    actor: str
    detail: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CaseView:
    """One case whole. `proposal`: what is proposed, or was approved; None before, and after a rejection.

    `follows`: what the machine's proposal moves besides its postings, in words; "" where nothing does.
    """

    row: MismatchRow
    dry_run: tuple[Posting, ...]
    proposal: Proposal | None
    acts: Sequence[ActRow]
    follows: str = ""


@dataclass(frozen=True, slots=True)
class MismatchFilter:
    """What a list asks for; "" and None are no condition. `state` None = all that are not closed."""

    state: CaseState | None = None
    group: Class | None = None
    kind: str = ""
    assignee: str = ""
    psp: str = ""
    order_id: str = ""
    older_than_ms: int = 0


@dataclass(frozen=True, slots=True)
class Acted:
    """The case after an act. `is_replay`: this very act was recorded before; nothing was done now."""

    view: CaseView
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Band:
    """Open cases of one age and class."""

    from_hours: int
    to_hours: int
    group: Class
    cases: int


@dataclass(frozen=True, slots=True)
class Suspense:
    """What stands in suspense in one currency, all tenants and the house together; both amounts are positive.

    `came`: money that the PSP has for us and that has no home yet. `went`: what the PSP took, and nobody bears yet. `parts`:
    the payment orders (or cases of none) that it is of. `oldest_ms`: for how long the oldest of those parts has stood.
    """

    came: Money
    went: Money
    parts: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Ageing:
    """How old the open cases are. `overdue`: those past the limit asked about.

    `suspense`: what stands there, by currency. A case that was written off is closed, and its money is here until it is gone.
    """

    bands: Sequence[Band]
    oldest_ms: int
    overdue: int
    suspense: Sequence[Suspense] = ()


class FinanceQueue(Protocol):
    """The queue. Every method raises Unavailable when the database is away."""

    async def mismatches(self, wanted: MismatchFilter, rows_max: int, after: str) -> Page[MismatchRow]:
        """Cases, oldest first. Raises MalformedPosition."""
        ...

    async def case(self, mismatch_id: str) -> CaseView | None:
        """One case with its acts."""
        ...

    async def act(self, mismatch_id: str, asked: Asked, *, by: str, key: str) -> Acted | Refusal | None:
        """Does what a person asks, once per (case, key). None: there is no such case.

        Money may move after an approval: what is to be posted is recorded in the same commit and sent afterwards. Refuses
        KEY_REUSED (the key is another act's) and what `domain.case.decide` refuses; nothing is recorded then.
        """
        ...

    async def ageing(self, overdue_after_ms: int) -> Ageing:
        """Open cases by age and class, and what stands in suspense."""
        ...
