"""How the PSP simulator behaves under a bench, by name: a table, and what of a checkout's latency is the PSP's own.

A charge is two calls to the PSP, prepare and confirm, one after the other (design section 4); a delay is of each. Pure.

Invariant: the PSP's own time is known from the table alone, so what is left of a latency is ours.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from loadtest.sample import percentile
from simulator.psp.faults import Rates, log_normal

P95_LIMIT_MS: Final = 300.0
"""The specification's own: 95 of 100 checkouts within 300 ms."""

CALLS_A_CHARGE: Final = 2
_DRAWS: Final = 10_000
"""Checkouts drawn to know the percentiles of the sum of two delays: their p95 is then known to 2 %."""


@dataclass(frozen=True, slots=True)
class PspProfile:
    """One way to answer. `rates`: of the simulator's faults, as its admin API takes them."""

    name: str
    summary: str
    rates: Mapping[str, float] = field(default_factory=dict)

    def own_ms(self, share: float, *, orders: int = 1) -> float:
        """What `share` (0 < share <= 1) of the checkouts take at the PSP at the most, in ms; their orders go side by side."""
        return _own_ms(self.name, share, orders)

    def p95_limit_ms(self, *, orders: int = 1) -> float:
        """What 95 of 100 checkouts are held to: 300 ms, and where the PSP takes those by itself, 300 ms above the PSP's own."""
        own_ms = self.own_ms(0.95, orders=orders)
        return P95_LIMIT_MS if own_ms < P95_LIMIT_MS else own_ms + P95_LIMIT_MS


@cache
def _own_ms(name: str, share: float, orders: int) -> float:
    rates, chance = Rates.parse(PSP_PROFILES[name].rates), random.Random("psp profile")
    told = (
        max(sum(_delay_ms(rates, chance) for _ in range(CALLS_A_CHARGE)) for _ in range(orders)) for _ in range(_DRAWS)
    )
    return float(percentile(sorted(told), share))


def _delay_ms(rates: Rates, chance: random.Random) -> int:
    even_ms = chance.randint(rates.delay_ms_min, rates.delay_ms_max)
    if not rates.delay_ms_p50:
        return even_ms
    return even_ms + log_normal(rates.delay_ms_p50, rates.delay_ms_p99, chance.uniform(1e-9, 1 - 1e-9))


_ALL = (
    PspProfile("zero", "answers at once"),
    PspProfile("fixed-100ms", "each call takes 100 ms", {"delay_ms_min": 100, "delay_ms_max": 100}),
    PspProfile(
        "masonx",
        "each call takes a log-normal time, p50 120 ms and p99 380 ms; 7 calls of 1,000 go wrong",
        {
            "delay_ms_p50": 120, "delay_ms_p99": 380, "drop_request": 0.001, "drop_response": 0.001,
            "rate_limit_429": 0.001, "error_before": 0.001, "error_after": 0.001, "error_gateway": 0.002,
        },
    ),
)  # fmt: skip

PSP_PROFILES: Final[Mapping[str, PspProfile]] = {profile.name: profile for profile in _ALL}
"""Every profile by its name. Source: speed.md "The bench"."""
