"""A wallet: one owner's money in one currency, by bucket. Credits only, into pending, for now.

Invariant: a bucket is the sum of its entries, and a transfer id makes entries once, for ever.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, fingerprint_of
from zerosum.domain.money import Money


class Bucket(StrEnum):
    """Where an owner's money stands."""

    PENDING = "pending"
    AVAILABLE = "available"
    IN_PAYOUT = "in_payout"
    RECEIVABLE = "receivable"


class TransferKind(StrEnum):
    """What a transfer does."""

    CREDIT_PENDING = "credit_pending"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A command to one wallet: apply this movement, once for ever under `transfer_id`. `money` is positive."""

    tenant: Tenant
    transfer_id: Key
    owner: str
    kind: TransferKind
    money: Money
    order_id: OrderId

    def fingerprint(self) -> str:
        """A versioned hash over parsed fields: tells the same request from another one under the same id."""
        money = self.money
        return fingerprint_of(self.owner, self.kind, str(money.amount_minor), money.currency, self.order_id)


@dataclass(frozen=True, slots=True)
class TransferApplied:
    """A transfer moved `amount_minor` (signed) in `bucket`."""

    transfer_id: Key
    bucket: Bucket
    amount_minor: int
    order_id: OrderId


@dataclass(frozen=True, slots=True)
class Wallet:
    """Balances in minor units. `version` counts the transfers ever applied."""

    key: EntityKey
    owner: str
    currency: str
    version: int
    pending_minor: int
    available_minor: int
    in_payout_minor: int
    receivable_minor: int
    created_at_ms: int
    updated_at_ms: int


def wallet_key(tenant: Tenant, owner: str, currency: str) -> EntityKey:
    """Who takes the turn: "<owner>:<currency>" within the tenant."""
    return EntityKey(tenant, f"{owner}:{currency}")


def empty(transfer: Transfer, now_ms: int) -> Wallet:
    """A wallet opens at its first transfer, with nothing in it."""
    key = wallet_key(transfer.tenant, transfer.owner, transfer.money.currency)
    return Wallet(key, transfer.owner, transfer.money.currency, 0, 0, 0, 0, 0, now_ms, now_ms)


def decide(transfer: Transfer) -> TransferApplied:
    """What the transfer does. A credit is never refused; the caller has made sure that its id is new."""
    match transfer.kind:
        case TransferKind.CREDIT_PENDING:
            return TransferApplied(transfer.transfer_id, Bucket.PENDING, transfer.money.amount_minor, transfer.order_id)


def evolve(wallet: Wallet, event: TransferApplied, now_ms: int) -> Wallet:
    """The wallet after the event; its version rises by one."""
    after = replace(wallet, version=wallet.version + 1, updated_at_ms=now_ms)
    match event.bucket:
        case Bucket.PENDING:
            return replace(after, pending_minor=after.pending_minor + event.amount_minor)
        case Bucket.AVAILABLE:
            return replace(after, available_minor=after.available_minor + event.amount_minor)
        case Bucket.IN_PAYOUT:
            return replace(after, in_payout_minor=after.in_payout_minor + event.amount_minor)
        case Bucket.RECEIVABLE:
            return replace(after, receivable_minor=after.receivable_minor + event.amount_minor)
