"""Every failure of ours, named by what the caller may believe afterwards.

A business "no" is not here: it is a `Refusal`, returned and never raised. A "no" from a PSP is a report.

    ZerosumError
    ├── Misconfigured          the process must not start; nothing was done
    ├── Bug                    an invariant is broken; the entity is quarantined
    ├── Retryable              try again with the same key
    │   ├── Unavailable        a database, shard or peer is away
    │   ├── Overloaded         a mailbox or an admission limit is full; nothing was done
    │   ├── SerializationConflict  the database refused this order of things (40001, 40P01); nothing was committed
    │   ├── ConflictBudget     it kept refusing; nothing was committed
    │   └── CommitAmbiguous    the commit may or may not have happened; the command rows decide
    ├── RowsRefused            some row of the batch cannot be stored (SQLSTATE 22, 23, lock timeout); nothing was committed
    ├── Superseded             a newer copy owns these slots; this one must end
    └── PspTrouble             a call to a PSP or peer did not bring an answer to believe
        ├── NotSent            the request provably never left: no money moved by it
        └── OutcomeUnknown     the request may have been executed: money may have moved
            └── StoredFailure  and the other side replays its stored failure to this key: ask, the key brings no more

Invariant: exceptions take one positional message, so that they survive pickling between processes.
"""


class ZerosumError(Exception):
    """The root of every failure we raise on purpose."""


class Misconfigured(ZerosumError):
    """A setting, a secret or the database is not fit for money. Raised before anything is served."""


class Bug(ZerosumError):
    """Something that cannot happen did. The entity concerned is quarantined; nothing more is written for it."""


class Retryable(ZerosumError):
    """Nothing final is known or done; the same request under the same key is safe."""


class Unavailable(Retryable):
    """A database, shard or peer did not answer. An effect may have been recorded; ask again with the same key."""


class Overloaded(Retryable):
    """A bounded queue is full. Nothing was recorded."""


class SerializationConflict(Retryable):
    """The database aborted the transaction to keep it serializable (40001, 40P01). Nothing was committed."""


class ConflictBudget(Retryable):
    """The budget of retries after SerializationConflict is used up. Nothing was committed."""


class CommitAmbiguous(Retryable):
    """The connection ended at COMMIT. The same commands must be run again; their rows decide."""


class RowsRefused(ZerosumError):
    """The database refuses some row of the batch (SQLSTATE class 22 or 23). Nothing was committed."""


class RowHeld(RowsRefused):
    """Some row of the batch is held by a transaction that does not end. Nothing was committed; the row itself is fine."""


class Superseded(ZerosumError):
    """A newer copy of this shard owns its slots. Nothing was committed; this copy exits for good."""


class PspTrouble(ZerosumError):
    """A call to a PSP or a peer brought no answer that may be believed.

    `retry_after_ms` is what the other side asked for (0 = nothing), already capped.
    """

    def __init__(self, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message, retry_after_ms)
        self.message = message
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return self.message


class NotSent(PspTrouble):
    """The request provably never reached the other side, or was turned away unread. No money moved by it."""


class OutcomeUnknown(PspTrouble):
    """The request may have been executed. Money may have moved."""


class StoredFailure(OutcomeUnknown):
    """The PSP replays a stored 5xx to this key. Money may have moved; the same key will never bring another answer."""
