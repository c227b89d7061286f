"""How many calls of one kind a server works on at once, and how many of them may be one tenant's.

A tenant that calls alone may have every place. From the moment another one calls, admitted or not, a tenant gets no new place
while it has half of them, until it has been alone for a minute: so nobody finds a server full for longer than the calls of
one other take to end. Source: failures.md security point 5, "per tenant".

Invariant: no more is taken than there is, and what is taken is given back once.
"""

from collections import Counter
from collections.abc import Callable

from zerosum.domain.identity import Tenant

ALONE_AFTER_S = 60.0
"""A minute without calls of others: four of the longest calls, 14 s each, so that who comes back as told is still known."""


class Places:
    """The places of one kind of calls. `clock`: monotonic seconds."""

    def __init__(self, places_max: int, clock: Callable[[], float]) -> None:
        self.places_max = places_max
        self._share_max = max(1, places_max // 2)
        self._clock = clock
        self._taken: Counter[Tenant] = Counter()
        self._asked_s: dict[Tenant, float] = {}

    def take(self, tenant: Tenant) -> bool:
        """Takes a place, if there is one for this tenant."""
        is_alone = self._is_alone(tenant)
        is_full = self._taken.total() >= self.places_max
        if is_full or (self._taken[tenant] >= self._share_max and not is_alone):
            return False
        self._taken[tenant] += 1
        return True

    def give_back(self, tenant: Tenant) -> None:
        """Its call has ended."""
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]

    def _is_alone(self, tenant: Tenant) -> bool:
        """Whether nobody else asked of late; remembers that this one did."""
        now_s = self._clock()
        self._asked_s.pop(tenant, None)
        self._asked_s[tenant] = now_s  # behind all others: the oldest comes first
        while now_s - self._asked_s[oldest := next(iter(self._asked_s))] > ALONE_AFTER_S:
            del self._asked_s[oldest]
        return len(self._asked_s) == 1
