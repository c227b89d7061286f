"""A PSP's settlement file, in our words: its lines, whatever the dialect they were read from.

A line tells that the PSP booked a movement of money: it is a fact, and never refused. Amounts are signed as the PSP books
them: positive comes to us, negative goes from us. Source: specification "Reconciliation", issue of settlement files.

Invariant: `net_minor == gross.amount_minor - fee_minor`, or the file the line stands in is refused.
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.identity import Tenant
from zerosum.domain.money import Money


class Category(StrEnum):
    """What a line is about. The first two pair with movements of ours; the rest is classified, not applied."""

    CHARGE = "charge"
    REFUND = "refund"
    PARTIAL_CAPTURE_REVERSAL = "partial_capture_reversal"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    FEE = "fee"
    PAYOUT = "payout"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file. `number`: from 1, without the heading. "" where the PSP says nothing.

    `id`: the PSP's own id of the movement (Stripe: the balance transaction). `object_id`: of the charge's object (Stripe:
    the PaymentIntent). `reference`: our payment_order_id as the PSP tells it; `tenant` and `checkout_id` likewise.
    `created_at_ms`: when the PSP booked it, UTC. `file_id`: of the file it stands in, "" while that is being read.
    """

    psp: str
    number: int
    id: str
    category: Category
    object_id: str
    tenant: Tenant
    checkout_id: str
    reference: str
    refund_key: str
    gross: Money
    fee_minor: int
    net_minor: int
    created_at_ms: int
    payout_id: str
    file_id: str = ""

    @property
    def item(self) -> str:
        """Its name among the items of a run."""
        return f"line/{self.number}/{self.file_id}"

    @property
    def fee_item(self) -> str:
        """That of its fee, where the fee is in a case of its own beside the line's."""
        return f"fee/{self.number}/{self.file_id}"
