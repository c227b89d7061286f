"""The profiles: who asks for what, how often and how patiently. A table, nothing else.

Invariant: a profile fixes arrivals, never answers; a slow system is asked as often as a quick one.
"""

from dataclasses import dataclass

from loadtest.shape import MIX, ONE_CURRENCY, Shape


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to load the system. `tps` counts arrivals a second, reads and writes together; a copy is no arrival.

    `views_per_submit`: reads for each write. `copies`: how many times each click is sent at once. `deadline_ms`: of one
    try. `is_patient`: backs off and obeys RetryInfo; else the same key is sent again almost at once.
    """

    name: str
    summary: str
    tps: float
    shape: Shape
    views_per_submit: int = 0
    copies: int = 1
    deadline_ms: int = 15_000
    is_patient: bool = True


_BASKETS = Shape(orders_min=1, orders_max=5, sellers=1_000, hot_share=0.1, currencies=MIX)
_SINGLE = Shape(orders_min=1, orders_max=1, sellers=1_000, hot_share=0.0, currencies=ONE_CURRENCY)

_ALL = (
    Profile("steady-10", "1 million a day: 10 requests/s, two reads to a write", 10.0, _BASKETS, views_per_submit=2),
    Profile("steady-50", "5 million a day: 33.3 views/s, 16.7 submits/s", 50.0, _BASKETS, views_per_submit=2),
    Profile("checkouts-50", "50 checkouts/s of 1 to 5 orders, some to one hot seller", 50.0, _BASKETS),
    Profile(
        "hot-seller",
        "one-order checkouts, every one to the same seller and currency",
        50.0,
        Shape(orders_min=1, orders_max=1, sellers=1_000, hot_share=1.0, currencies=ONE_CURRENCY),
    ),
    Profile("duplicate-clicks", "every click sent 12 times at once over two channels", 5.0, _BASKETS, copies=12),
    # 40 ms is shorter than prepare + confirm at a PSP that answers in 5 to 80 ms, so most first tries are given up.
    Profile(
        "retry-storm", "40 ms deadlines, the same key again at once", 20.0, _BASKETS, deadline_ms=40, is_patient=False
    ),
    Profile("knee", "one-order checkouts spread over 1,000 sellers at the rate asked for", 100.0, _SINGLE),
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in _ALL}
"""Every profile by its name."""
