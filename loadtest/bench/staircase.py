"""Steps up until a rate is not held; the knee is the last one that is held for longer. Pure: whoever climbs hands in the step.

Invariant: a knee is a rate that was held at least twice, once as a step and once for long.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from loadtest.bench.sample_file import Call, Ending, Kind
from loadtest.sample import NO_SAMPLES, Percentiles, percentiles

STEP: Final = 1.25
FINAL_SHARE: Final = 0.97
"""Of the checkouts offered so many must have their final answer: the others are pending, which only a faulty PSP excuses."""

DRAIN_LIMIT_S: Final = 5.0
"""What nobody waits for (postings to wallet and ledger) may lag behind the answers so long; more is a backlog that grows."""

DOWN_MAX: Final = 12
"""From the first step down, where even that is not held: 12 steps are a fourteenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rate, offered for some seconds. Of checkouts alone: `offered`, `taken_on`, rates and `latency`.

    `endings`: how many calls ended so, checkouts, and reads that failed, which do not hold a rate either. `reads`: latencies of
    reads beside them. `added`: the latency without the PSP's own time. `late_p95_ms`: how late the generator itself sent.
    `drained_s`: from the last answer until nothing was owed any more. `cpu_ms`: CPU a checkout that was taken on, by process.
    `average_batch`: turns a commit of the checkout shards.
    """

    offered_per_s: float
    seconds: float
    limit_ms: float
    offered: int
    latency: Percentiles
    reads: Percentiles
    endings: Mapping[Ending, int]
    late_p95_ms: float
    drained_s: float = 0.0
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    average_batch: float | None = None
    is_long: bool = False
    added: Percentiles = NO_SAMPLES

    @property
    def final_per_s(self) -> float:
        """Checkouts a second whose answer was final."""
        return self.endings.get(Ending.FINAL, 0) / self.seconds

    @property
    def taken_on(self) -> int:
        """Checkouts that were acknowledged: final, or still under way."""
        return self.endings.get(Ending.FINAL, 0) + self.endings.get(Ending.PENDING, 0)

    @property
    def not_held(self) -> str:
        """Why the rate was not held, "" = it was."""
        for ending in (Ending.UNKNOWN, Ending.SHED, Ending.REFUSED):
            if count := self.endings.get(ending, 0):
                return f"{count} {ending.name.lower()}"
        if self.latency.p95_ms is None or self.latency.p95_ms > self.limit_ms:
            return f"p95 above {self.limit_ms:.0f} ms"
        if self.endings.get(Ending.FINAL, 0) < FINAL_SHARE * self.offered:
            return "too few final"
        return f"backlog of {self.drained_s:.0f} s" if self.drained_s > DRAIN_LIMIT_S else ""


def step_of(
    calls: tuple[Call, ...], *, offered_per_s: float, seconds: float, limit_ms: float, is_long: bool = False
) -> Step:
    """A step's figures from its samples. Latency is of final answers; whatever failed is an ending, not a latency."""
    checkouts = [call for call in calls if call.kind is Kind.CHECKOUT]
    endings: dict[Ending, int] = {}
    for call in calls:  # a read that fails is as much an error as a checkout
        if call.kind is Kind.CHECKOUT or call.ending is not Ending.READ:
            endings[call.ending] = endings.get(call.ending, 0) + 1
    late = percentiles(call.late_us / 1_000 for call in calls)
    return Step(
        offered_per_s=offered_per_s, seconds=seconds, limit_ms=limit_ms, offered=len(checkouts),
        latency=percentiles(call.latency_us / 1_000 for call in checkouts if call.ending is Ending.FINAL),
        reads=percentiles(call.latency_us / 1_000 for call in calls if call.ending is Ending.READ),
        endings=endings, late_p95_ms=late.p95_ms or 0.0, is_long=is_long,
    )  # fmt: skip


def cpu_a_checkout(step: Step, spent_ms: Mapping[str, float]) -> dict[str, float]:
    """CPU by process over the checkouts of the step that were taken on; processes that took none are left out.

    To turn a caller away costs little, and is no checkout: over all that was offered, a step past the knee would look cheap.
    """
    return {name: ms / max(step.taken_on, 1) for name, ms in sorted(spent_ms.items()) if ms}


@dataclass(frozen=True, slots=True)
class Climb:
    """One way up. `knee_per_s`: the rate that was held for long; None: not even the lowest that was tried.

    `below`: steps that were offered afterwards, for long, at rates below the knee.
    """

    steps: tuple[Step, ...]
    knee_per_s: float | None
    below: tuple[Step, ...] = ()


Try = Callable[[float, bool], Awaitable[Step]]
"""Offers a rate; True: for long."""


async def climb(offer: Try, from_per_s: float) -> Climb:
    """Up by a quarter until a rate is not held, then the last held one for long; down again where that is not held."""
    steps: list[Step] = []
    held = await _last_held(offer, from_per_s, steps)
    while held is not None:
        steps.append(await offer(held, True))
        if not steps[-1].not_held:
            return Climb(tuple(steps), held)
        held = _next_lower(held, from_per_s)
    return Climb(tuple(steps), None)


async def _last_held(offer: Try, from_per_s: float, steps: list[Step]) -> float | None:
    """The highest rate held for a step; down from the first where that is not held, else up."""
    rate = from_per_s
    steps.append(await offer(rate, False))
    if steps[-1].not_held:
        for _ in range(DOWN_MAX):
            rate /= STEP
            steps.append(await offer(rate, False))
            if not steps[-1].not_held:
                return rate
        return None
    while not steps[-1].not_held:
        rate *= STEP
        steps.append(await offer(rate, False))
    return rate / STEP


def _next_lower(rate: float, from_per_s: float) -> float | None:
    lower = rate / STEP
    return lower if lower > from_per_s / STEP ** (DOWN_MAX + 1) else None
