"""The verdict: what held, what did not, what was not looked at, and the totals a certificate prints.

Invariant: clean means that every check that was made held, and that each source that was named could be read.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from simulator.audit.checks import CHECKS, Check
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Finding, Findings, Harm


class Outcome(StrEnum):
    """What became of one check."""

    HELD = "held"
    VIOLATED = "violated"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One invariant. `count`: how many things are wrong; `examples`: the first of them."""

    id: str
    statement: str
    outcome: Outcome
    examined: int
    count: int
    by_harm: dict[str, int]
    examples: tuple[Finding, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The certificate's figures. Those of a source that was not given are None.

    `intents`: checkouts the caller wrote down; `effects`: captured charges in the PSP's book; `doubles`, `losses`,
    `stuck`: the most that any one check counts, as several see the same harm; `unknown`: calls that ended without an
    outcome; `unknown_attempts`: attempts the product itself holds as UNKNOWN.
    """

    intents: int | None
    calls: int | None
    calls_ok: int | None
    calls_failed: int | None
    unknown: int | None
    torn_lines: int | None
    effects: int | None
    orders: int
    orders_by_status: dict[str, int]
    doubles: int
    losses: int
    stuck: int
    unknown_attempts: int
    dead_letters: int
    open_todos: int
    mismatches_by_kind: dict[str, int]
    mismatches_open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """Everything one audit has to say."""

    verdicts: tuple[Verdict, ...]
    totals: Totals
    database_now_ms: int
    elapsed_ms: int
    format: int = field(default=1)

    @property
    def is_clean(self) -> bool:
        """Nothing is violated."""
        return not self.violated

    @property
    def violated(self) -> tuple[str, ...]:
        """Ids of the invariants that do not hold."""
        return tuple(verdict.id for verdict in self.verdicts if verdict.outcome is Outcome.VIOLATED)

    def to_json(self) -> str:
        """The report as an indented JSON document; also `is_clean` and `violated`."""
        return json.dumps({"is_clean": self.is_clean, "violated": self.violated, **asdict(self)}, indent=2)


def audit(evidence: Evidence) -> AuditReport:
    """Make every check for which the sources are there."""
    begun = time.monotonic()
    verdicts = tuple(_judge(check, evidence) for check in CHECKS)
    return AuditReport(
        verdicts=verdicts,
        totals=_totals(evidence, verdicts),
        database_now_ms=evidence.database.now_ms,
        elapsed_ms=round((time.monotonic() - begun) * 1_000),
    )


def _judge(check: Check, evidence: Evidence) -> Verdict:
    missing = [source for source in check.needs if getattr(evidence, source) is None]
    found = Findings()
    if missing:
        found.notes.append(f"no {' and no '.join(missing)} was given")
        outcome = Outcome.NOT_CHECKED
    else:
        check.function(evidence, found)
        outcome = Outcome.VIOLATED if found.count else Outcome.HELD
    return Verdict(
        check.id, check.statement, outcome, found.examined, found.count,
        {harm.value: number for harm, number in found.by_harm.items()}, tuple(found.examples), tuple(found.notes),
    )  # fmt: skip


def _totals(evidence: Evidence, verdicts: tuple[Verdict, ...]) -> Totals:
    database, client = evidence.database, evidence.client
    results = client.results() if client else {}
    statuses: dict[str, int] = {}
    for row in database.orders.values():
        statuses[row.status] = statuses.get(row.status, 0) + 1
    kinds: dict[str, int] = {}
    for case in database.mismatches:
        kinds[case.kind] = kinds.get(case.kind, 0) + 1
    harmed = {harm: max(verdict.by_harm.get(harm.value, 0) for verdict in verdicts) for harm in Harm}
    return Totals(
        intents=len(client.checkouts) if client else None,
        calls=len(client.calls) if client else None,
        calls_ok=results.get("ok", 0) if client else None,
        calls_failed=results.get("fail", 0) if client else None,
        unknown=results.get("unknown", 0) if client else None,
        torn_lines=client.torn_lines if client else None,
        effects=len(evidence.book.charges) if evidence.book else None,
        orders=len(database.orders),
        orders_by_status=statuses,
        doubles=harmed[Harm.DOUBLE],
        losses=harmed[Harm.LOSS],
        stuck=harmed[Harm.STUCK],
        unknown_attempts=database.number("SELECT count(*) FROM payment.attempts WHERE state = 'UNKNOWN'"),
        dead_letters=database.number("SELECT count(*) FROM payment.todos WHERE state = 'DEAD'"),
        open_todos=database.number("SELECT count(*) FROM payment.todos WHERE state = 'OPEN'"),
        mismatches_by_kind=kinds,
        mismatches_open=sum(case.state == "OPEN" for case in database.mismatches),
    )
