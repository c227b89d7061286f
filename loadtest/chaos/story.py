"""What one run of chaos has to tell: the plan, every harm with its recovery, the certificate, and what speaks against it.

Pure. Invariant: clean means that every cell, scenario and strike ended well and that the audit of everything is clean.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from loadtest.certificate import Certificate
from loadtest.chaos.case import FEW, MATRIX, Cell
from loadtest.chaos.monkey import Strike
from loadtest.chaos.result import Result
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.split import SplitBrain
from loadtest.sample import Percentiles, percentiles

POINTS: Final[dict[str, tuple[Cell, ...]]] = {"all": MATRIX, "few": FEW, "none": ()}
"""Which cells a run carries out, by the name a person types."""

REASONS_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. `stop_s`: how long a stopped process stands still; `tps`: checkouts a second under the monkey;
    `disk_full`: on a system of its own."""

    minutes: float
    seed: int
    points: str
    stop_s: float
    tps: float
    split_brain: bool
    lost_ray: bool
    disk_full: bool
    rpc_failures: bool

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells to be carried out."""
        return POINTS[self.points]

    def command(self) -> str:
        """What a person types to see it again."""
        options = [f"--minutes {self.minutes:g}", f"--seed {self.seed}", f"--points {self.points}"]
        options += [f"--stop-seconds {self.stop_s:g}", f"--tps {self.tps:g}"]
        options += [] if self.split_brain else ["--no-split-brain"]
        options += [] if self.lost_ray else ["--no-lost-ray"]
        options += [] if self.disk_full else ["--no-disk-full"]
        options += ["--rpc-failures"] if self.rpc_failures else []
        return "zerosum chaos " + " ".join(options)


@dataclass(slots=True, kw_only=True)
class Story:
    """Grows while the run goes on. `rpc_failures`: calls between Ray's processes that were made to fail, None = not asked for.
    `unfinished`: what the run itself could not do. `stood_still_s`: how long its own process was not run, nor its proxy."""

    plan: Plan
    results: list[Result] = field(default_factory=list)
    splits: list[SplitBrain] = field(default_factory=list)
    scenarios: list[Scenario] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    rpc_failures: int | None = None
    stood_still_s: float = 0.0
    unfinished: list[str] = field(default_factory=list)
    certificate: Certificate | None = None

    @property
    def reasons(self) -> list[str]:
        """Everything that speaks against it; empty = clean."""
        return list(self._reasons())

    def _reasons(self) -> Iterator[str]:
        yield from self.unfinished
        wrong = [f"{each.cell}: {each.wrong}" for each in self.results if not each.is_good]
        wrong += [f"{each.title}: {each.wrong}" for each in (*self.splits, *self.scenarios) if each.wrong]
        wrong += [f"{each.label}: {each.wrong}" for each in self.strikes if each.wrong]
        yield from wrong[:REASONS_MAX]
        if len(wrong) > REASONS_MAX:
            yield f"and {len(wrong) - REASONS_MAX} more"
        if len(self.results) < len(self.plan.cells):
            yield f"{len(self.plan.cells) - len(self.results)} cells were not carried out"
        if self.rpc_failures == 0:
            yield "no call of Ray's was made to fail: nothing is proved of R1"
        if self.certificate is None:
            yield "there was no audit"
        else:
            yield from self.certificate.reasons

    def to_json(self) -> str:
        """Everything but the certificate, which has its own file, as an indented document; also `reasons`."""
        kept = replace(self, certificate=None)
        return json.dumps({"reasons": self.reasons, **asdict(kept)}, indent=1) + "\n"

    def recoveries(self) -> dict[str, Percentiles]:
        """Recovery times in milliseconds by harm and who suffered it, the points first."""
        times: dict[str, list[float]] = {}
        for result in self.results:
            name, _, harm = result.cell.rpartition(" ")
            _note(times, f"{harm} {name.partition('@')[0]} at a point", result.recovery_s)
        for scenario in self.scenarios:
            _note(times, f"{scenario.rows}: {scenario.title}", scenario.recovery_s)
        for strike in self.strikes:
            _note(times, f"{strike.harm} {strike.target}", strike.recovery_s)
        return {name: percentiles(values) for name, values in sorted(times.items())}


def _note(times: dict[str, list[float]], name: str, seconds: float | None) -> None:
    if seconds is not None:
        times.setdefault(name, []).append(seconds * 1_000)


def last_line(reasons: Sequence[str]) -> str:
    """The terminal's last line."""
    return f"NOT CLEAN: {'; '.join(reasons)}" if reasons else "CLEAN"
