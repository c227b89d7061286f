"""What settlement posts: accounts of bank and PSP fees, the settlement journal, and the dry run of every proposal.

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

from zerosum.domain.discrepancy import Discrepancy, Posting
from zerosum.domain.identity import Key, Tenant
from zerosum.domain.journal import Entry, Journal
from zerosum.domain.reconcile_item import Item


def bank_in_transit_account(currency: str) -> str:
    """What PSPs have paid out and no bank statement has shown yet."""
    return f"bank:in_transit:{currency}"


def psp_fee_account(psp: str, currency: str) -> str:
    """What a PSP has kept for its work."""
    return f"fees:psp:{psp}:{currency}"


def settlement_owner(psp: str) -> str:
    """Who writes the journals of settlement: the PSP; none of its accounts has a balance row of its own."""
    return f"psp:{psp}"


@dataclass(frozen=True, slots=True)
class Settled:
    """What lines of one currency settle, signed as the PSP books it: `net_minor` to the bank, `fee_minor` believed as fees;
    both together leave the clearing account."""

    currency: str
    net_minor: int
    fee_minor: int


def settled(item: Item) -> Settled | None:
    """What the line of this item settles; None for a payout, for a line told twice and for a movement alone.

    WRONG_FEE settles with the contract's fee and UNKNOWN_FEE with none: the rest is an open item of the clearing account.
    """
    raise NotImplementedError


def total(parts: Iterable[Settled]) -> Settled:
    """The sum of parts of one currency. Raises Bug for none, or for several currencies."""
    raise NotImplementedError


def settlement_entries(psp: str, whole: Settled) -> tuple[Entry, ...]:
    """The entries of a settlement journal; a side of zero is left out, () where all are zero."""
    raise NotImplementedError


def settlement_journal(tenant: Tenant, psp: str, *, file_id: str, number: int, whole: Settled) -> Journal:
    """The journal of a part of a file, posted once for ever: its id is made from file, currency and `number`.

    `number`: 1, 2, .. of the parts that a file is posted in; the caller has recorded which lines each one holds.
    Raises Bug where there is nothing to post.
    """
    raise NotImplementedError


def case_journal(found: Discrepancy, tenant: Tenant) -> Journal | None:
    """The journal of an approved WRITE_OFF_TO_SUSPENSE or BOOK_FEE, its id made from the case's; None for other actions.

    `tenant`: whose books take it: the case's own where it has one. Exactly the postings of the dry run.
    """
    raise NotImplementedError


def case_journal_id(tenant: Tenant, mismatch_id: str) -> Key:
    """The id of a case's journal: approved twice, posted once."""
    raise NotImplementedError


def postings_of(entries: Iterable[Entry]) -> tuple[Posting, ...]:
    """Entries as a dry run shows them."""
    return tuple(Posting(entry.account, entry.money.amount_minor, entry.money.currency) for entry in entries)
