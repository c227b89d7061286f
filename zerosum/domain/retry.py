"""When a thing is tried again, and when it is not: the one table of the house.

A to-do that brought no result waits `due_after_ms` and runs again while its budget lasts: in time where the outcome may be
unknown (the PSP's horizon less a margin), in tries elsewhere. Over budget it becomes a dead letter *before* it runs, the
state of the money untouched. What follows from a trouble is the table `AFTER`; who does it is `checkout.py`. Source: design
section 3 "To-dos", failures.md rows S2, S6, P33.

Invariant: everything is integer arithmetic over what is handed in, chance and clock included, so that a replay waits alike.
"""

import re
from calendar import timegm
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from zerosum.domain.message import Trouble
from zerosum.domain.todo import Todo, TodoKind
from zerosum.errors import Bug
from zerosum.limits import (
    PEER_TRIES_MAX,
    POLL_BASE_MS,
    POLL_CAP_MS,
    RETRY_AFTER_CAP_MS,
    TRIES_MAX,
    UNKNOWN_BUDGET_MARGIN_MS,
)

# ---- whether -------------------------------------------------------------------------------------------------------


class AfterTrouble(StrEnum):
    """What follows from a run that brought no result."""

    AGAIN = "again"
    """The to-do waits, and runs again while its budget lasts: under the key it has, whether that run sends or asks."""
    ANEW = "anew"
    """Its operation is abandoned, and the next number of it goes, under a key of its own."""
    NEVER = "never"
    """It does not run again: the refusal is part of a story (`reversal.py` knows which are), or it is a dead letter."""


_OF_ANY_KIND: Final[dict[Trouble, AfterTrouble]] = {
    Trouble.NOT_SENT: AfterTrouble.AGAIN,
    Trouble.OUTCOME_UNKNOWN: AfterTrouble.AGAIN,  # under the same key, or by asking: never under a new one
    Trouble.STORED_FAILURE: AfterTrouble.AGAIN,  # the key brings no more, but asking does; a refund does both in turn
    Trouble.REFUSED: AfterTrouble.NEVER,
}
_OF_ONE_KIND: Final[dict[tuple[Trouble, TodoKind], AfterTrouble]] = {
    (Trouble.STORED_FAILURE, TodoKind.PREPARE): AfterTrouble.ANEW,  # nothing to ask about, and no money moves by it
}

AFTER: Final[dict[tuple[Trouble, TodoKind], AfterTrouble]] = {
    (trouble, kind): _OF_ONE_KIND.get((trouble, kind), after)
    for trouble, after in _OF_ANY_KIND.items()
    for kind in TodoKind
}
"""Total over Trouble and TodoKind. Which runs send and which ask does not hang on the trouble: see `effect.py`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a kind of to-do is tried. None and False: no such bound; all of them: never spent.

    `tries_max`: runs that may begin. `ends_with_horizon`: it ends `UNKNOWN_BUDGET_MARGIN_MS` before the PSP may forget keys.
    """

    tries_max: int | None
    ends_with_horizon: bool


_UNTIL_HORIZON = Budget(tries_max=None, ends_with_horizon=True)
_PEER = Budget(tries_max=PEER_TRIES_MAX, ends_with_horizon=False)

BUDGETS: dict[TodoKind, Budget] = {
    TodoKind.PREPARE: _UNTIL_HORIZON,
    TodoKind.CONFIRM: _UNTIL_HORIZON,
    TodoKind.CANCEL: _UNTIL_HORIZON,
    TodoKind.REFUND: _UNTIL_HORIZON,
    TodoKind.ASSESS_RISK: Budget(tries_max=TRIES_MAX, ends_with_horizon=False),
    TodoKind.CREDIT_WALLET: _PEER,
    TodoKind.POST_JOURNAL: _PEER,
    TodoKind.POST_SUSPENSE: _PEER,
    TodoKind.CLEAR_SUSPENSE: _PEER,
    TodoKind.DEBIT_WALLET: _PEER,
    TodoKind.RETURN_WALLET: _PEER,
    TodoKind.POST_REFUND: _PEER,
    TodoKind.ANSWER: Budget(tries_max=None, ends_with_horizon=False),
}
"""Total over TodoKind."""


def is_spent(todo: Todo, now_ms: int, horizon_ms: int) -> bool:
    """Whether the to-do's budget is used up, asked before a run begins: then it dies instead of running.

    `horizon_ms`: how long the PSP remembers a key. `now_ms`: the database's clock, as `created_at_ms` is.
    """
    budget = BUDGETS[todo.kind]
    if budget.tries_max is not None and todo.tries >= budget.tries_max:
        return True
    return budget.ends_with_horizon and now_ms - todo.created_at_ms >= horizon_ms - UNKNOWN_BUDGET_MARGIN_MS


# ---- when ----------------------------------------------------------------------------------------------------------

_DOUBLINGS_MAX = 32
"""2^32 x any base is beyond every cap; the shift stays small however often something was tried."""

_PPM = 1_000_000


def backoff_ms(tries: int, jitter_ppm: int, *, base_ms: int, cap_ms: int) -> int:
    """The wait after the run number `tries` (1, 2, ..): full jitter below an exponential ceiling.

    The ceiling is `base_ms` doubled with each run after the first, at most `cap_ms`; `jitter_ppm` (0 to 999,999) picks the
    part of it that is waited, so the result is at least 0 and below the ceiling. Raises Bug for chance out of its range.
    """
    if not 0 <= jitter_ppm < _PPM:
        raise Bug("jitter_ppm is out of range")
    return backoff_ceiling_ms(tries, base_ms=base_ms, cap_ms=cap_ms) * jitter_ppm // _PPM


def backoff_ceiling_ms(tries: int, *, base_ms: int, cap_ms: int) -> int:
    """The longest wait after the run number `tries`. Never falls as tries rise, never above `cap_ms`."""
    doublings = min(max(tries - 1, 0), _DOUBLINGS_MAX)
    return min(base_ms << doublings, cap_ms)


def due_after_ms(tries: int, jitter_ppm: int, retry_after_ms: int, *, base_ms: int, cap_ms: int) -> int:
    """The wait before the next run: what the other side asked for, and the back-off on top.

    On top, not instead: all who were turned away together were told the same time, and must not come back together.
    What was asked counts from 0 (nothing, or a negative figure) to `RETRY_AFTER_CAP_MS`.
    """
    asked_ms = min(max(retry_after_ms, 0), RETRY_AFTER_CAP_MS)
    return asked_ms + backoff_ms(tries, jitter_ppm, base_ms=base_ms, cap_ms=cap_ms)


def poll_after_ms(polls: int) -> int:
    """The wait before a pending order is asked for again, after `polls` answers: 1, 2, 4 .. 60 minutes. Row S6."""
    return min(POLL_BASE_MS << min(max(polls, 0), _DOUBLINGS_MAX), POLL_CAP_MS)


# ---- what the other side asks for ----------------------------------------------------------------------------------

_SECONDS = re.compile(r"[0-9]+", re.ASCII)
_DATE = re.compile(r"(Mon|Tues?|Wed(nes)?|Thu(rs)?|Fri|Sat(ur)?|Sun)(day)?,? [ -~]{18,32}", re.ASCII)
"""The outside of an HTTP-date: a weekday, then 18 characters or more ("06-Nov-94 08:49:37 GMT" and its kin)."""


def parse_retry_after(header: str, now_ms: int) -> int:
    """A Retry-After header as a wait in milliseconds, 0 to `RETRY_AFTER_CAP_MS`. Raises nothing. Row S2.

    Seconds or an HTTP-date, as RFC 9110 section 10.2.3 has them. A date that is past, a negative or fractional number and
    anything else that is neither count as nothing asked; what is absurdly far away counts as the cap.
    """
    text = header.strip()
    if _SECONDS.fullmatch(text):
        # More digits than the cap has are the cap: int() of a whole header of digits is neither needed nor cheap.
        digits = text.lstrip("0")
        return RETRY_AFTER_CAP_MS if len(digits) > len(str(RETRY_AFTER_CAP_MS)) else _capped(int(digits or "0") * 1_000)
    if not _DATE.fullmatch(text):
        return 0
    try:
        at_s = timegm(parsedate_to_datetime(text).utctimetuple())
    except (ValueError, TypeError, IndexError, OverflowError):  # what the parser raises for what is not a date
        return 0
    return _capped(at_s * 1_000 - now_ms)


def _capped(wait_ms: int) -> int:
    return min(max(wait_ms, 0), RETRY_AFTER_CAP_MS)
