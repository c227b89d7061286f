"""What an answer lets the client believe, and when it asks again. Status codes are their gRPC names.

Pure. Invariant: `fail` is only said of a try that executed nothing, now or later; whatever else is not OK is `unknown`,
and is asked again under the same key or not at all. Source: design section 8; the codes are those of the audit's format.
"""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OK: Final = "OK"

REFUSALS: Final = frozenset(
    {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED"}
)
"""A "no" that says that nothing was executed by this request."""


class Result(StrEnum):
    """The three-way split of a client's history."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How a buyer's journey ended. Latency and rate of the certificate count FINAL alone."""

    FINAL = "final"  # OK, and every order is SUCCESS, FAILED or CANCELED
    PENDING = "pending"  # OK, but some order is still under way
    REFUSED = "refused"
    UNKNOWN = "unknown"  # the budget ended without an answer, or a refusal came after a try that may have been executed
    READ = "read"  # a view that was answered: it changes nothing and settles nothing
    UNREAD = "unread"  # a view that was not


FINAL_STATUSES: Final = frozenset({"SUCCESS", "FAILED", "CANCELED"})


def result_of(code: str) -> Result:
    """What one reply says about its own try."""
    if code == OK:
        return Result.OK
    return Result.FAIL if code in REFUSALS else Result.UNKNOWN


def may_retry(code: str) -> bool:
    """Whether the same request is worth sending again under the same key: neither an answer nor a refusal."""
    return code != OK and code not in REFUSALS


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often a buyer tries. All times in milliseconds.

    `deadline_ms`: of one try. `budget_ms`: of the journey, from its first try. `is_patient`: exponential back-off with full
    jitter, and RetryInfo obeyed; else every retry waits `base_ms` only.
    """

    deadline_ms: int = 15_000
    budget_ms: int = 120_000
    base_ms: int = 50
    cap_ms: int = 2_000
    is_patient: bool = True

    def delay_ms(self, tries: int, hint_ms: int, chance: random.Random) -> float:
        """How long to wait after the `tries`-th try (from 1). `hint_ms`: RetryInfo, 0 = none; a hint is a minimum."""
        if not self.is_patient:
            return float(self.base_ms)
        ceiling = min(self.cap_ms, self.base_ms * 2 ** min(tries - 1, 16))
        return hint_ms + chance.uniform(0.0, ceiling)
