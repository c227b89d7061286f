"""The certificate: what was asked for, what became of it, how quickly, and whether every source agrees.

Built from the audit's report as it stands in its JSON, from the load's own samples, and from facts of the run. It judges
nothing by itself but this: what was not looked at is not proved. Invariant: clean means that payments were made, that no
invariant is violated, and that nothing is doubled, lost, stuck or told in two ways.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from loadtest.journeys import CREATE
from loadtest.outcome import Outcome
from loadtest.planted import Reconciled
from loadtest.sample import Percentiles, Sample, percentiles

PENDING_SHARE_MAX: Final = 0.001
"""Answers without a final outcome, without faults: below 0.1 % (issue 2, figures)."""
EXECUTING_AT_KILL_MIN: Final = 20
"""Orders in the middle of a charge when their shard is killed, for the kill to mean something (issue 2, demo)."""


class State(StrEnum):
    """What became of one invariant, in the audit's words."""

    HELD = "held"
    VIOLATED = "violated"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Example:
    """One thing that is wrong: whose, what, and the two values that should have been equal."""

    subject: str
    problem: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Invariant:
    """One statement of the audit. `examined`: how much it looked at. `count`: how many things are wrong."""

    id: str
    statement: str
    state: State
    examined: int
    count: int
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the run, in epoch milliseconds. `has_faults`: the PSP misbehaved on purpose."""

    name: str
    from_ms: int
    until_ms: int
    has_faults: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something done to the system at an instant: a kill, a return."""

    t_ms: int
    label: str


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """Latencies of the journeys that began in a phase. Submits count with final outcomes only, the others are beside them.

    `rate_per_s`: final answers a second of the phase. `pending_share`: of all answers that were OK.
    """

    phase: Phase
    submits: Percentiles
    views: Percentiles
    rate_per_s: float
    pending: int
    unanswered: int

    @property
    def pending_share(self) -> float:
        """Answers that carried no final outcome, from 0 to 1."""
        told = self.submits.count + self.pending
        return self.pending / told if told else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the run knows beside the audit. None: not measured.

    `average_batch`: turns a commit. `disagreements`: copies of one click that were told different things.
    `executing_at_kill`: orders of the killed shard that were EXECUTING. `faults_injected`: the PSP's own counts.
    `reconciled`: what became of the damaged settlement file. `undone`: what the run was to do or to reach, and did not.
    """

    seed: int
    command: str
    settings: Mapping[str, str] = field(default_factory=dict)
    faults_injected: Mapping[str, int] = field(default_factory=dict)
    average_batch: float | None = None
    memory_mb: float | None = None
    executing_at_kill: int | None = None
    drained_ms: int | None = None
    disagreements: int = 0
    reconciled: Reconciled | None = None
    undone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The verdict and its figures. `reasons`: why it is not clean; empty when it is."""

    intents: int
    orders: int
    effects: int
    doubles: int
    losses: int
    unknown: int
    dead_letters: int
    stuck: int
    orders_by_status: Mapping[str, int]
    invariants: tuple[Invariant, ...]
    phases: tuple[PhaseFigures, ...]
    events: tuple[Event, ...]
    facts: Facts
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """CLEAN or NOT CLEAN."""
        return "CLEAN" if self.is_clean else "NOT CLEAN"


def certify(
    *,
    audit: Mapping[str, Any],
    samples: Iterable[Sample],
    phases: Sequence[Phase],
    events: Sequence[Event] = (),
    facts: Facts,
    do_dead_letters_count: bool = True,
) -> Certificate:
    """Builds the certificate. `audit`: the document of `simulator.audit`. `do_dead_letters_count`: a dead letter is stuck."""
    totals = audit["totals"]
    invariants = tuple(_invariant(verdict) for verdict in audit["verdicts"])
    kept = list(samples)
    figures = tuple(_figures(phase, kept) for phase in phases)
    return Certificate(
        intents=totals["intents"] or 0,
        orders=totals["orders"],
        effects=totals["effects"] or 0,
        doubles=totals["doubles"],
        losses=totals["losses"],
        unknown=totals["unknown_attempts"],
        dead_letters=totals["dead_letters"],
        stuck=totals["stuck"],
        orders_by_status=dict(totals["orders_by_status"]),
        invariants=invariants,
        phases=figures,
        events=tuple(events),
        facts=facts,
        reasons=tuple(_reasons(audit, invariants, facts, do_dead_letters_count)),
        warnings=tuple(_warnings(invariants, figures, facts)),
    )


def _invariant(verdict: Mapping[str, Any]) -> Invariant:
    examples = tuple(
        Example(str(each["subject"]), str(each["problem"]), str(each["expected"]), str(each["found"]))
        for each in verdict["examples"]
    )
    return Invariant(
        id=str(verdict["id"]),
        statement=str(verdict["statement"]),
        state=State(verdict["outcome"]),
        examined=int(verdict["examined"]),
        count=int(verdict["count"]),
        examples=examples,
        notes=tuple(str(note) for note in verdict["notes"]),
    )


def _reasons(
    audit: Mapping[str, Any], invariants: Sequence[Invariant], facts: Facts, do_dead_letters_count: bool
) -> Iterable[str]:
    """Everything that speaks against clean, the worst first."""
    totals = audit["totals"]
    violated = [each.id for each in invariants if each.state is State.VIOLATED]
    if violated:
        yield f"violated: {', '.join(violated)}"
    elif not audit["is_clean"]:
        yield "the audit is not clean"
    if not any(each.state is State.HELD for each in invariants):
        yield "no invariant was checked: nothing is proved"
    if not totals["intents"] or not totals["effects"]:
        yield "no payment was made: nothing is proved"
    for name, words in (("doubles", "charged or posted twice"), ("losses", "lost"), ("stuck", "stuck")):
        if totals[name]:
            yield f"{totals[name]:,} {words}"
    if do_dead_letters_count and totals["dead_letters"]:
        yield f"{totals['dead_letters']:,} dead letters, which count as stuck"
    if totals["unknown_attempts"]:
        yield f"{totals['unknown_attempts']:,} attempts whose money is unknown"
    if facts.disagreements:
        yield f"{facts.disagreements:,} clicks whose copies were told different things"
    yield from facts.undone
    if facts.reconciled is not None:
        yield from facts.reconciled.reasons


def _warnings(invariants: Sequence[Invariant], figures: Sequence[PhaseFigures], facts: Facts) -> Iterable[str]:
    """What a reader should know although it breaks no promise about money."""
    unchecked = [each.id for each in invariants if each.state is State.NOT_CHECKED]
    if unchecked:
        yield f"not checked, for want of a source: {', '.join(unchecked)}"
    if facts.executing_at_kill is not None and facts.executing_at_kill < EXECUTING_AT_KILL_MIN:
        yield f"the shard was killed with {facts.executing_at_kill} orders EXECUTING, not with {EXECUTING_AT_KILL_MIN} or more"
    for each in figures:
        if each.unanswered:
            yield f"{each.phase.name}: {each.unanswered:,} submits got no answer in time; the audit tells what became of them"
        if not each.phase.has_faults and each.pending_share >= PENDING_SHARE_MAX:
            yield f"{each.phase.name}: {each.pending_share:.2%} of the answers were pending, without faults"


def _figures(phase: Phase, samples: Sequence[Sample]) -> PhaseFigures:
    """A journey belongs to the phase in which it was meant to begin, however late it ended."""
    begun = [each for each in samples if phase.from_ms <= each.t_ms - each.latency_ms < phase.until_ms]
    submits = [each for each in begun if each.name == CREATE]
    final = [each.latency_ms for each in submits if each.outcome is Outcome.FINAL]
    seconds = max(0.001, (phase.until_ms - phase.from_ms) / 1_000)
    return PhaseFigures(
        phase=phase,
        submits=percentiles(final),
        views=percentiles(each.latency_ms for each in begun if each.outcome is Outcome.READ),
        rate_per_s=len(final) / seconds,
        pending=sum(each.outcome is Outcome.PENDING for each in submits),
        unanswered=sum(each.outcome is Outcome.UNKNOWN for each in submits),
    )
