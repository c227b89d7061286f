"""The one source of chance of a world, and whether there is still trouble.

Invariant: every draw comes from the seed; once it `is_over` nothing bad happens any more.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from simulator.world.mix import Mix

EPOCH_MS: Final = 1_700_000_000_000
"""The true time at which every world begins."""

_CALM_S: Final = 0.002
"""A message's way once all is well: enough for the order of arrivals to be drawn."""

_WAYS: Final = 4
"""Different lengths of ways. What arrives at one instant shares a batch, as it does where a commit takes its time."""


@dataclass(slots=True)
class Weather:
    """Trouble as the mix has it, until it `is_over`."""

    seed: int
    mix: Mix
    is_over: bool = True
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(f"story {self.seed}")

    def hits(self, percent: int) -> bool:
        """Whether a fault of this rate strikes now."""
        return percent > 0 and not self.is_over and self.random.random() * 100 < percent

    def way_s(self) -> float:
        """The time a message takes, one way, in quarters of the longest: messages coincide, and a draw says which is first."""
        longest_s = _CALM_S if self.is_over else max(_CALM_S, self.mix.latency_ms_max / 1_000)
        return int(self.random.random() * _WAYS) * longest_s / _WAYS

    def notice_s(self) -> float:
        """The time until somebody notices that a connection is gone."""
        return self.random.choice((0.001, 0.05, 2.0)) * self.random.random()
