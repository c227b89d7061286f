"""What an adapter knows beyond `errors.py`: whether the PSP answered at all. The breaker and the limiter live by it.

    NotSent             no connection: the PSP is away
    └── TurnedAway      it answered, and would not take the request (401, 403, 429): it is not away
    OutcomeUnknown      no answer, or a 5xx
    └── Unsettled       it answered, but nothing follows from the answer (409, `idempotency_error`, not understood)

Invariant: these narrow who is to blame, never what may have happened to the money: callers need only the classes above.
"""

from zerosum.errors import NotSent, OutcomeUnknown


class TurnedAway(NotSent):
    """The PSP answered that it will not take the request. No money moved by it."""


class Unsettled(OutcomeUnknown):
    """The PSP answered, and the answer settles nothing. Money may have moved."""
