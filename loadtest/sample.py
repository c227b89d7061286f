"""Latency samples of journeys, the percentiles over them, and the live counters of a running load.

A journey's latency runs from the instant it was *meant* to begin to its last answer, so a system that stalls is charged
for the queue it causes (no coordinated omission). Instants are epoch milliseconds, durations milliseconds.
Invariant: a journey is counted once, by how it ended; tries are counted apart.
"""

import json
import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TextIO

from loadtest.outcome import OK, Outcome

WINDOW_MS: Final = 5_000
"""The live percentiles look back this far: long enough for 80 submits at steady-50, short enough to show a kill."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished journey. `t_ms`: when it ended. `code`: of its last reply. `tries`: requests it took."""

    t_ms: int
    name: str
    latency_ms: float
    code: str
    outcome: Outcome
    tries: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of `count` latencies; None where there are none."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


NO_SAMPLES: Final = Percentiles(0, None, None, None, None)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values: the smallest that at least `share` (0 < share <= 1) of them reach.

    A value that occurred, never one between two. Raises ValueError when there are none.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles(values: Iterable[float]) -> Percentiles:
    """p50, p95, p99 and the worst."""
    ordered = sorted(values)
    if not ordered:
        return NO_SAMPLES
    p50, p95, p99 = (percentile(ordered, share) for share in (0.50, 0.95, 0.99))
    return Percentiles(len(ordered), p50, p95, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Status:
    """Live counters, as the status file holds them. Journeys unless said otherwise; percentiles are of submits with a final
    outcome in the last 5 s. `disagreements`: copies of one click that were
    told different things."""

    at_ms: int = 0
    elapsed_ms: int = 0
    is_finished: bool = False
    sent: int = 0
    answered: int = 0
    in_flight: int = 0
    ok: int = 0
    pending: int = 0
    failed: int = 0
    unknown: int = 0
    views: int = 0
    views_failed: int = 0
    tries: int = 0
    retries: int = 0
    replayed: int = 0
    disagreements: int = 0
    orders_sent: int = 0
    orders_success: int = 0
    orders_failed: int = 0
    rate_per_s: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    codes: dict[str, int] = field(default_factory=dict)


class Meter:
    """Counts what happens, writes samples, tells the status. Not thread-safe: one thread of greenlets."""

    def __init__(self, samples: TextIO | None, *, started_ms: float) -> None:
        """`samples`: where each finished journey is written, or nowhere."""
        self._samples = samples
        self._started_ms = started_ms
        self._counts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._recent: deque[Sample] = deque()
        self._is_finished = False

    def began(self, *, orders: int = 0) -> None:
        """A journey begins; `orders` it asks to be paid (0 = a view, or a copy of a click already counted)."""
        self._counts["sent"] += 1
        self._counts["orders_sent"] += orders

    def tried(self, code: str, *, tries: int, is_replay: bool) -> None:
        """One reply arrived; it was the `tries`-th of its journey."""
        self._codes[code] += 1
        self._counts["replayed"] += is_replay
        self._counts["tries"] += 1
        self._counts["retries"] += tries > 1

    def ended(self, sample: Sample) -> None:
        """A journey is over."""
        self._counts[sample.outcome.value] += 1
        self._counts["answered"] += sample.outcome not in (Outcome.UNKNOWN, Outcome.UNREAD)
        self._counts["ended"] += 1
        self._recent.append(sample)
        if self._samples is not None:
            self._samples.write(sample_line(sample))

    def told(self, statuses: Iterable[str]) -> None:
        """A click was answered with these statuses of its orders; told once for all its copies."""
        counts = Counter(statuses)
        self._counts["orders_success"] += counts["SUCCESS"]
        self._counts["orders_failed"] += counts["FAILED"] + counts["CANCELED"]

    def disagreed(self) -> None:
        """Copies of one click were told different things."""
        self._counts["disagreements"] += 1

    def finish(self) -> None:
        """No more journeys will begin or end."""
        self._is_finished = True

    def flush(self) -> None:
        """Hands the samples so far to the operating system."""
        if self._samples is not None:
            self._samples.flush()

    def status(self, now_ms: float) -> Status:
        """The counters as they stand."""
        while self._recent and self._recent[0].t_ms < now_ms - WINDOW_MS:
            self._recent.popleft()
        settled = [sample.latency_ms for sample in self._recent if sample.outcome is Outcome.FINAL]
        live = percentiles(settled)
        span_ms = max(1.0, min(WINDOW_MS, now_ms - self._started_ms))
        counts = self._counts
        return Status(
            at_ms=round(now_ms),
            elapsed_ms=round(now_ms - self._started_ms),
            is_finished=self._is_finished,
            sent=counts["sent"],
            answered=counts["answered"],
            in_flight=counts["sent"] - counts["ended"],
            ok=counts["final"],
            pending=counts["pending"],
            failed=counts["refused"],
            unknown=counts["unknown"],
            views=counts["read"],
            views_failed=counts["unread"],
            tries=counts["tries"],
            retries=counts["retries"],
            replayed=counts["replayed"],
            disagreements=counts["disagreements"],
            orders_sent=counts["orders_sent"],
            orders_success=counts["orders_success"],
            orders_failed=counts["orders_failed"],
            rate_per_s=round(1_000.0 * len(self._recent) / span_ms, 1),
            p50_ms=live.p50_ms,
            p95_ms=live.p95_ms,
            p99_ms=live.p99_ms,
            codes={code: count for code, count in sorted(self._codes.items()) if code != OK},
        )


def sample_line(sample: Sample) -> str:
    """One line of the samples file."""
    record = {
        "t_ms": sample.t_ms,
        "name": sample.name,
        "latency_ms": round(sample.latency_ms, 3),
        "code": sample.code,
        "outcome": sample.outcome.value,
        "tries": sample.tries,
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def read_samples(path: Path) -> list[Sample]:
    """Every whole sample of a file, in the order written; a torn last line is left out."""
    samples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        samples.append(
            Sample(
                t_ms=int(record["t_ms"]),
                name=str(record["name"]),
                latency_ms=float(record["latency_ms"]),
                code=str(record["code"]),
                outcome=Outcome(record["outcome"]),
                tries=int(record["tries"]),
            )
        )
    return samples


def write_status(path: Path, status: Status) -> None:
    """Replaces the status file whole, so that a reader never sees half of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(asdict(status)), encoding="utf-8")
    os.replace(fresh, path)


def read_status(path: Path) -> Status | None:
    """The last status written; None before the first. Fields unknown to this version are left out."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Status(**{name: value for name, value in record.items() if name in Status.__dataclass_fields__})
