"""Our own services among themselves: what orders say should be posted, against wallet and ledger. Pure.

Sets of ids are compared, not sums: two errors that cancel out are two errors. A posting that is missing is EXPECTED while
its to-do is open or a dead letter (which people see among the dead letters); everything else is a discrepancy.
What a deed of an order promises is one table: a new kind of posting is a row.

Source: specification "Reconciliation"; design section 6.

Invariant: every promised and every found posting ends in exactly one verdict.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.discrepancy import Discrepancy
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.journal import Journal
from zerosum.domain.money import Money
from zerosum.domain.reconcile_item import State
from zerosum.domain.todo import TodoState
from zerosum.domain.wallet import Transfer


class Side(StrEnum):
    """Which service holds a posting."""

    WALLET = "wallet"
    LEDGER = "ledger"


class Deed(StrEnum):
    """What happened to an order that must be posted."""

    CHARGED = "charged"
    """The order is SUCCESS."""
    SUSPENDED = "suspended"
    """Money came without a home: a case that posts to suspense."""
    CLEARED = "cleared"
    """It went back: the case's money leaves suspense."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A deed with all that its postings are made from. `number`: of the case; 1 for CHARGED. `money`: positive.

    `todos`: the state of each to-do of this order and number, by its kind's word ("post_journal"); what is not there is lost.
    """

    deed: Deed
    tenant: Tenant
    checkout_id: CheckoutId
    order_id: OrderId
    number: int
    money: Money
    buyer: str
    seller: str
    psp: str
    todos: Mapping[str, TodoState]


@dataclass(frozen=True, slots=True)
class Promise:
    """A posting that must exist. `request` is the whole of it, to be sent again as it is; `todo`: None where it is lost."""

    side: Side
    checkout_id: CheckoutId
    request: Transfer | Journal
    todo: TodoState | None


@dataclass(frozen=True, slots=True)
class Posted:
    """A posting that exists: of a wallet, its bucket and amount; of the ledger, all entries. `sides`: (account or bucket,
    signed minor units), in any order."""

    side: Side
    id: Key
    tenant: Tenant
    order_id: OrderId
    currency: str
    sides: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One posting judged. `todo`: the state that makes it EXPECTED, else None."""

    side: Side
    id: Key
    order_id: OrderId
    state: State
    todo: TodoState | None
    discrepancy: Discrepancy | None


def promises_of(fact: Fact) -> tuple[Promise, ...]:
    """What wallet and ledger must hold because of it, by the table."""
    raise NotImplementedError


def compare(promises: Iterable[Promise], posted: Iterable[Posted]) -> tuple[Verdict, ...]:
    """Every promise against what is there, exclusively. A group is all of one order, of one owner, or anything between,
    as long as both sides of it are whole.

    MISSING_TRANSFER, MISSING_JOURNAL (REPLAY_TODO: the promise is sent again), EXTRA_TRANSFER, EXTRA_JOURNAL,
    POSTED_DIFFERENTLY. A posting that is there while its to-do is still open is MATCHED: the answer was lost, not the money.
    """
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class OpenItem:
    """What the clearing account should still hold: a charge not settled, a settled line without a home. Signed, debit
    positive. `id`: what both sides name it by (order or case)."""

    id: str
    amount_minor: int


def compare_clearing(
    psp: str, currency: str, *, booked: Sequence[OpenItem], open_items: Sequence[OpenItem]
) -> Discrepancy | None:
    """The clearing account's entries, summed by what they are about, against the open items; None where they agree.

    Only what is not zero needs to be handed in. CLEARING_NOT_OPEN_ITEMS tells both sums and the ids that differ, also where the
    sums are equal.
    """
    raise NotImplementedError
