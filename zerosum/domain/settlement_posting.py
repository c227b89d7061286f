"""What settlement posts: accounts of bank and PSP fees, the settlement journal, and the entries of what people approve.

Every line of an accepted file settles, whatever became of it: the bank receives the sum of them all. Only a fee that is a
case of its own is not believed: it stays in clearing until somebody books it.

    settlement line    bank:in_transit (net), fees:psp    against  psp:clearing (gross)
    write-off          psp:clearing                       against  suspense, or the reverse
    fee correction     fees:psp                           against  psp:clearing, or the reverse

Source: design section 6.

Invariant: what a function here returns sums to zero per currency.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from zerosum.domain import journal as ledger
from zerosum.domain.discrepancy import Kind, Posting
from zerosum.domain.identity import OrderId, Tenant, derived_key
from zerosum.domain.journal import Entry, Journal
from zerosum.domain.money import Money
from zerosum.domain.reconcile_item import Item
from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.errors import Bug
from zerosum.limits import ID_LENGTH_MAX

# ---- the chart of accounts, continued ------------------------------------------------------------------------------


def bank_in_transit_account(currency: str) -> str:
    """What PSPs have paid out and no bank statement has shown yet."""
    return f"bank:in_transit:{currency}"


def psp_fee_account(psp: str, currency: str) -> str:
    """What a PSP has kept for its work."""
    return f"fees:psp:{psp}:{currency}"


def settlement_owner(psp: str) -> str:
    """Who writes the journals of settlement: the PSP; none of its accounts has a balance row of its own."""
    return f"psp:{psp}"


# ---- whose books ---------------------------------------------------------------------------------------------------

HOUSE_BOOKS: Final = Tenant("-")
"""Whose books take what belongs to no tenant: fees of the account, charges nobody knows."""


def books_of(*tenants: str) -> Tenant:
    """The books of the first of these that may be a tenant of ours, else the house's.

    A line settles in its movement's, for there its money stands; else in those of its case, where it is written off; only a
    line that is about nothing of ours says so itself. What a line says is text of whoever made the PSP's object: a tenant of
    ours has a name that a token can bear and the ledger takes, 1 to 64 characters of ASCII.
    """
    return Tenant(next((name for name in tenants if 0 < len(name) <= ID_LENGTH_MAX and name.isascii()), HOUSE_BOOKS))


# ---- the settlement journal ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settled:
    """What lines of one currency settle, signed as the PSP books it: `net_minor` to the bank, `fee_minor` believed as fees;
    both together leave the clearing account."""

    currency: str
    net_minor: int
    fee_minor: int


def cost_minor(line: Line) -> int:
    """What the PSP took for its work by this line. A fee row may tell it as its gross, as its fee, or as both."""
    return -line.net_minor if line.category is Category.FEE else line.fee_minor


def settled(item: Item) -> Settled | None:
    """What the line of this item settles; None for a payout, for a line told twice and for a movement alone.

    WRONG_FEE settles with the contract's fee, also beside another case, and UNKNOWN_FEE with none: the rest is an open item of
    the clearing account.
    """
    line, found = item.line, item.discrepancy
    if line is None or line.category is Category.PAYOUT or (found and found.kind is Kind.DUPLICATE_LINE):
        return None
    doubts = (case for case in (found, item.fee) if case is not None and case.kind in DOUBTED)
    doubted_minor = -sum(case.money.amount_minor for case in doubts)
    return Settled(line.gross.currency, line.net_minor, cost_minor(line) - doubted_minor)


DOUBTED = frozenset({Kind.WRONG_FEE, Kind.UNKNOWN_FEE})
"""Cases of fees that settlement does not believe."""


def total(parts: Iterable[Settled]) -> Settled:
    """The sum of parts of one currency. Raises Bug for none, or for several currencies."""
    every = list(parts)
    currencies = {part.currency for part in every}
    if len(currencies) != 1:
        raise Bug("a settlement journal has one currency")
    return Settled(currencies.pop(), sum(part.net_minor for part in every), sum(part.fee_minor for part in every))


def settlement_entries(psp: str, whole: Settled) -> tuple[Entry, ...]:
    """The entries of a settlement journal; a side of zero is left out, () where all are zero."""
    currency = whole.currency
    return _entries(
        currency,
        (bank_in_transit_account(currency), whole.net_minor),
        (psp_fee_account(psp, currency), whole.fee_minor),
        (ledger.clearing_account(psp, currency), -whole.net_minor - whole.fee_minor),
    )


def settlement_journal(tenant: Tenant, psp: str, *, file_id: str, number: int, whole: Settled) -> Journal:
    """The journal of a part of a file, posted once for ever: its id is made from file, currency and `number`.

    `number`: 1, 2, .. of the parts that a file is posted in; the caller has recorded which lines each one holds.
    Raises Bug where there is nothing to post.
    """
    movement = ledger.Movement.SETTLEMENT
    posted = ledger.journal(
        tenant=tenant,
        journal_id=derived_key(tenant, f"{file_id}/{whole.currency}", movement, number),
        owner=settlement_owner(psp),
        movement=movement,
        entries=settlement_entries(psp, whole),
        order_id=OrderId(""),
    )
    if isinstance(posted, Refusal):
        raise Bug(f"our own {movement} journal is refused: {posted.reason}")
    return posted


# ---- what people approve -------------------------------------------------------------------------------------------


def write_off_entries(psp: str, gross: Money) -> tuple[Entry, ...]:
    """What a settled line of `gross` (signed as the PSP books it) left in clearing goes to suspense."""
    currency = gross.currency
    return _entries(
        currency,
        (ledger.clearing_account(psp, currency), gross.amount_minor),
        (ledger.suspense_account(currency), -gross.amount_minor),
    )


def fee_entries(psp: str, fee: Money) -> tuple[Entry, ...]:
    """A fee that settlement did not believe (negative: that was less than the contract's) is booked after all."""
    currency = fee.currency
    return _entries(
        currency,
        (psp_fee_account(psp, currency), fee.amount_minor),
        (ledger.clearing_account(psp, currency), -fee.amount_minor),
    )


def postings_of(entries: Iterable[Entry]) -> tuple[Posting, ...]:
    """Entries as a dry run shows them."""
    return tuple(Posting(entry.account, entry.money.amount_minor, entry.money.currency) for entry in entries)


def _entries(currency: str, *sides: tuple[str, int]) -> tuple[Entry, ...]:
    return tuple(Entry(account, Money(minor, currency)) for account, minor in sides if minor != 0)
