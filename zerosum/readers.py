"""What the doors read: Get and List go to the database, never to an actor's memory. Protocols and plain rows.

Pages are by keyset in index order: `after` is the opaque position of the last row of the page before, "" for the first.

Invariant: a reader changes nothing, and shows only rows of the tenant it is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, OrderId, Tenant
from zerosum.domain.journal import Balance, Journal
from zerosum.domain.money import Money
from zerosum.domain.order import Order, OrderStatus
from zerosum.domain.refund import Refund
from zerosum.domain.todo import Todo, TodoKind, TodoState
from zerosum.domain.wallet import Wallet

R = TypeVar("R")


class MalformedPosition(ValueError):
    """`after` is not a position of this list: nothing was read. The caller's mistake, INVALID_ARGUMENT at the door."""


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Rows in index order. `after`: the position to ask the next page from, "" when there is none."""

    rows: Sequence[R]
    after: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One event as recorded. `detail`: canonical JSON."""

    version: int
    at_ms: int
    type: str
    order_id: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class TodoRow:
    """A to-do with its home. `request`: the operation's stored request (canonical JSON), "" where there is none."""

    entity: EntityKey
    todo: Todo
    request: str


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """How many to-dos of one kind are dead letters. `oldest_ms`: since the budget of the oldest of them began."""

    kind: TodoKind
    todos: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which checkouts. None and "" mean all; instants in milliseconds."""

    status: CheckoutStatus | None = None
    seller_account: str = ""
    created_from_ms: int | None = None
    created_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class WalletEntryRow:
    """One applied transfer. `money` is signed."""

    transfer_id: str
    bucket: str
    money: Money
    version: int
    order_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class LedgerEntryRow:
    """One posted entry. `money` is signed, debit positive."""

    journal_id: str
    account: str
    money: Money
    at_ms: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account's sum."""

    account: str
    currency: str
    balance: Balance


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order as callers see it. `amount`: the caller's own string; `psp_reference`: "" before there is an object.

    `refunds`: in the order they were opened, failed ones too.
    """

    checkout_id: str
    order_id: str
    seller_account: str
    amount: str
    currency: str
    status: OrderStatus
    reason: str
    wallet_updated: bool
    ledger_updated: bool
    psp_reference: str
    refunds: tuple[Refund, ...] = ()


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A checkout as callers see it, its orders in the order they were asked for."""

    checkout_id: str
    status: CheckoutStatus
    is_payment_done: bool
    created_at_ms: int
    orders: Sequence[OrderView]


def view_of(checkout: Checkout) -> PaymentView:
    """What callers see of a checkout's state."""
    ordered = sorted(checkout.orders.values(), key=lambda order: order.position)
    orders = tuple(_order_view(checkout.key.id, order) for order in ordered)
    return PaymentView(checkout.key.id, checkout.status, checkout.is_payment_done, checkout.created_at_ms, orders)


def _order_view(checkout_id: str, order: Order) -> OrderView:
    return OrderView(
        checkout_id, order.id, order.seller_account, order.amount, order.money.currency, order.status, order.reason,
        order.wallet_updated, order.ledger_updated, order.attempt.object_id if order.attempt else "", order.refunds,
    )  # fmt: skip


class PaymentReader(Protocol):
    """Checkouts, as stored. Every method raises Unavailable when the database is away."""

    async def payment(self, key: EntityKey) -> PaymentView | None:
        """A checkout as callers see it, by one statement."""
        ...

    async def order(self, tenant: Tenant, order_id: OrderId) -> OrderView | None:
        """One order as callers see it, by one statement."""
        ...

    async def reply(self, key: EntityKey) -> bytes | None:
        """A checkout's fixed reply. None: not answered yet, or no such checkout."""
        ...

    async def checkout(self, key: EntityKey) -> Checkout | None: ...

    async def home_of(self, tenant: Tenant, order_id: OrderId) -> EntityKey | None:
        """The checkout that holds a payment order."""
        ...

    async def checkouts(self, tenant: Tenant, wanted: ListFilter, rows_max: int, after: str) -> Page[Checkout]: ...

    async def history(self, key: EntityKey) -> Sequence[HistoryRow]: ...

    async def todos(self, tenant: Tenant, state: TodoState | None, rows_max: int, after: str) -> Page[TodoRow]: ...

    async def todo(self, key: EntityKey, todo_id: str) -> TodoRow | None: ...

    async def in_flight(
        self, tenant: Tenant, older_than_ms: int, rows_max: int, after: str
    ) -> Page[tuple[EntityKey, OrderId]]:
        """Orders that are not terminal and were stored at least so long ago, by the database's clock."""
        ...

    async def count_in_flight(self, older_than_ms: int) -> int:
        """The same over all tenants, for the monitor."""
        ...

    async def dead_letters(self) -> Sequence[DeadLetters]:
        """Of each kind that has any, over all tenants, for the monitor; ages by the database's clock."""
        ...


class WalletReader(Protocol):
    """Wallets, as stored."""

    async def wallet(self, tenant: Tenant, owner: str, currency: str) -> Wallet | None: ...

    async def entries(
        self, tenant: Tenant, owner: str, currency: str, rows_max: int, after: str
    ) -> Page[WalletEntryRow]: ...


class LedgerReader(Protocol):
    """The ledger, as stored."""

    async def journal(self, tenant: Tenant, journal_id: str) -> tuple[Journal, int] | None:
        """The journal and when it was posted."""
        ...

    async def entries(self, tenant: Tenant, account: str, rows_max: int, after: str) -> Page[LedgerEntryRow]: ...

    async def balance(self, tenant: Tenant, account: str) -> Balance | None:
        """The balance row where there is one, else checkpoints and the entries after them. None: no entry ever."""
        ...

    async def trial_balance(self, tenant: Tenant, rows_max: int, after: str) -> Page[AccountRow]: ...

    async def sums(self, tenant: Tenant) -> Sequence[Money]:
        """The sum of all entries per currency: zero, each."""
        ...
