"""A wallet: one owner's money in one currency, by bucket. What moves is in pending, for now: nothing is released yet.

Invariant: a bucket is the sum of its entries, and a transfer id makes entries once, for ever.
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.account import NO_NEW_MONEY, AccountClosed, CloseAccount, Closure, closed
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, fingerprint_of
from zerosum.domain.money import Money
from zerosum.domain.record import replace
from zerosum.domain.refusal import Reason, Refusal


class Bucket(StrEnum):
    """Where an owner's money stands."""

    PENDING = "pending"
    AVAILABLE = "available"
    IN_PAYOUT = "in_payout"
    RECEIVABLE = "receivable"


class TransferKind(StrEnum):
    """What a transfer does."""

    CREDIT_PENDING = "credit_pending"
    """A capture's money. A closed account refuses it."""
    DEBIT_PENDING = "debit_pending"
    """Takes a capture's money back, before the PSP is asked to refund it; refused where pending does not cover it."""
    RETURN_PENDING = "return_pending"
    """Puts back what such a debit took, because the PSP has refused the refund. Never refused."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A command to one wallet: apply this movement, once for ever under `transfer_id`. `money` is positive."""

    tenant: Tenant
    transfer_id: Key
    owner: str
    kind: TransferKind
    money: Money
    order_id: OrderId

    @property
    def currency(self) -> str:
        """The wallet's currency."""
        return self.money.currency

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
    """Balances in minor units. `version` counts the transfers ever applied, and its closing."""

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
    closure: Closure | None = None


def wallet_key(tenant: Tenant, owner: str, currency: str) -> EntityKey:
    """Who takes the turn: "<owner>:<currency>" within the tenant."""
    return EntityKey(tenant, f"{owner}:{currency}")


def empty(command: Transfer | CloseAccount, now_ms: int) -> Wallet:
    """A wallet opens at its first transfer or by being closed, with nothing in it."""
    key = wallet_key(command.tenant, command.owner, command.currency)
    return Wallet(key, command.owner, command.currency, 0, 0, 0, 0, 0, now_ms, now_ms)


def decide(wallet: Wallet, command: Transfer | CloseAccount) -> TransferApplied | AccountClosed | Refusal | None:
    """What follows from a command whose id is new; None: nothing, the account was closed before.

    Refusals: ACCOUNT_CLOSED (a credit), BALANCE_TOO_LOW (a debit). Nothing moves by them.
    """
    if isinstance(command, CloseAccount):
        return None if wallet.closure else AccountClosed(command.currency, command.closed_by, command.reason)
    amount_minor = command.money.amount_minor
    match command.kind:
        case TransferKind.CREDIT_PENDING if wallet.closure is not None:
            return NO_NEW_MONEY
        case TransferKind.DEBIT_PENDING if wallet.pending_minor < amount_minor:
            return Refusal(Reason.BALANCE_TOO_LOW, "money", "the pending balance does not cover it")
        case TransferKind.CREDIT_PENDING | TransferKind.RETURN_PENDING:
            return TransferApplied(command.transfer_id, Bucket.PENDING, amount_minor, command.order_id)
        case TransferKind.DEBIT_PENDING:
            return TransferApplied(command.transfer_id, Bucket.PENDING, -amount_minor, command.order_id)


def evolve(wallet: Wallet, event: TransferApplied | AccountClosed, now_ms: int) -> Wallet:
    """The wallet after the event; its version rises by one."""
    after = replace(wallet, version=wallet.version + 1, updated_at_ms=now_ms)
    if isinstance(event, AccountClosed):
        return replace(after, closure=closed(event, after.version, now_ms))
    match event.bucket:
        case Bucket.PENDING:
            return replace(after, pending_minor=after.pending_minor + event.amount_minor)
        case Bucket.AVAILABLE:
            return replace(after, available_minor=after.available_minor + event.amount_minor)
        case Bucket.IN_PAYOUT:
            return replace(after, in_payout_minor=after.in_payout_minor + event.amount_minor)
        case Bucket.RECEIVABLE:
            return replace(after, receivable_minor=after.receivable_minor + event.amount_minor)
