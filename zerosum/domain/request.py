"""What may be asked of the world outside: complete requests, as plain data.

Wallet and ledger take `Transfer` and `Journal` (their own modules); here stand the requests to the risk check and to PSPs.

Invariant: a request is built from what is stored and nothing else, so that a repeat is the same request.
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money


@dataclass(frozen=True, slots=True)
class AssessRisk:
    """Ask the risk check about a checkout."""

    tenant: Tenant
    checkout_id: CheckoutId
    buyer_account: str
    orders: tuple[tuple[str, Money], ...]
    """(seller account, money) of each order."""


class PspVerb(StrEnum):
    """What the gateway is to do: send an operation, or ask what became of one."""

    PREPARE = "prepare"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    REFUND = "refund"
    READ = "read"


@dataclass(frozen=True, slots=True)
class PspRequest:
    """One call to a PSP, complete: built from the operation's stored request and nothing else.

    `key`: the idempotency key, "" for READ. `object_id`: "" for PREPARE. `token`: for PREPARE only.
    READ brings the object's present status; for a refund `wants_refund_key` names the refund asked about.
    """

    verb: PspVerb
    psp: str
    key: str
    tenant: Tenant
    checkout_id: CheckoutId
    order_id: OrderId
    object_id: str
    token: str
    money: Money
    wants_refund_key: str = ""
