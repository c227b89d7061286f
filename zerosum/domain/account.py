"""Closing an account: what wallet and ledger are told, and what they remember of it. One owner's money in one currency.

A closed account takes no new money; nothing of what it holds moves by closing it. What it took can still be taken back,
and given back again where that turns out wrong: those are corrections of facts, and facts are never refused.

Invariant: an account is closed once, for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from zerosum.domain.identity import Key, Tenant, fingerprint_of
from zerosum.domain.refusal import Reason, Refusal


@dataclass(frozen=True, slots=True)
class CloseAccount:
    """Take no new money for this owner in this currency any more. `key`: the caller's idempotency key.

    `closed_by`: who asks, from the verified token. `reason`: UPPER_SNAKE_CASE, for the record.
    """

    tenant: Tenant
    key: Key
    owner: str
    currency: str
    closed_by: str
    reason: str

    def fingerprint(self) -> str:
        """A versioned hash over parsed fields: tells a repeated request from another one. Who asks is not part of it."""
        return fingerprint_of(self.owner, self.currency, self.reason)


@dataclass(frozen=True, slots=True)
class Closure:
    """That an account is closed. `version`: of its wallet or owner when it was."""

    version: int
    closed_by: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AccountClosed:
    """The account takes no new money from now on."""

    currency: str
    closed_by: str
    reason: str


NO_NEW_MONEY = Refusal(Reason.ACCOUNT_CLOSED, "owner", "the account is closed and takes no new money")


def closed(event: AccountClosed, version: int, now_ms: int) -> Closure:
    """What is remembered of the event."""
    return Closure(version, event.closed_by, event.reason, now_ms)


def with_closure(
    closures: Mapping[str, Closure], event: AccountClosed, version: int, now_ms: int
) -> dict[str, Closure]:
    """An owner's closed accounts by currency, with this one."""
    return {**closures, event.currency: closed(event, version, now_ms)}
