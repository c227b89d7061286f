"""A PSP's settlement file, in our words: its lines, whatever the dialect they were read from.

A line tells that the PSP booked a movement of money: it is a fact, and never refused. Amounts are signed as the PSP books
them: positive comes to us, negative goes from us. Source: specification "Reconciliation", issue of settlement files.

Invariant: `net_minor == gross.amount_minor - fee_minor`, or the file the line stands in is refused.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zerosum.domain.identity import Tenant
from zerosum.domain.money import Money


class Category(StrEnum):
    """What a line is about. The first two pair with movements of ours; the rest is classified, not applied.

    Source: Stripe's reporting categories (docs.stripe.com/reports/reporting-categories) and the values that its reporting API
    takes for `reporting_category` (docs.stripe.com/api/reporting/report_run/create): all that either names.
    """

    CHARGE = "charge"
    REFUND = "refund"
    REFUND_FAILURE = "refund_failure"
    PARTIAL_CAPTURE_REVERSAL = "partial_capture_reversal"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    FEE = "fee"
    PAYOUT = "payout"
    # what no payment of ours makes (`OTHERS`)
    ADVANCE = "advance"
    ADVANCE_FUNDING = "advance_funding"
    ANTICIPATION_REPAYMENT = "anticipation_repayment"
    CHARGE_FAILURE = "charge_failure"
    CLIMATE_ORDER_PURCHASE = "climate_order_purchase"
    CLIMATE_ORDER_REFUND = "climate_order_refund"
    CONNECT_COLLECTION_TRANSFER = "connect_collection_transfer"
    CONNECT_RESERVED_FUNDS = "connect_reserved_funds"
    CONTRIBUTION = "contribution"
    FINANCING_PAYDOWN = "financing_paydown"
    FINANCING_PAYDOWN_REVERSAL = "financing_paydown_reversal"
    FINANCING_PAYOUT = "financing_payout"
    FINANCING_PAYOUT_REVERSAL = "financing_payout_reversal"
    ISSUING_AUTHORIZATION_HOLD = "issuing_authorization_hold"
    ISSUING_AUTHORIZATION_RELEASE = "issuing_authorization_release"
    ISSUING_DISBURSEMENT = "issuing_disbursement"
    ISSUING_DISPUTE = "issuing_dispute"
    ISSUING_DISPUTE_FRAUD_LIABILITY_DEBIT = "issuing_dispute_fraud_liability_debit"
    ISSUING_DISPUTE_PROVISIONAL_CREDIT = "issuing_dispute_provisional_credit"
    ISSUING_DISPUTE_PROVISIONAL_CREDIT_REVERSAL = "issuing_dispute_provisional_credit_reversal"
    ISSUING_TRANSACTION = "issuing_transaction"
    NETWORK_COST = "network_cost"
    OBLIGATION = "obligation"
    OTHER_ADJUSTMENT = "other_adjustment"
    PAYMENT_NETWORK_RESERVE_HOLD = "payment_network_reserve_hold"
    PAYMENT_NETWORK_RESERVE_RELEASE = "payment_network_reserve_release"
    PAYOUT_MINIMUM_BALANCE_HOLD = "payout_minimum_balance_hold"
    PAYOUT_MINIMUM_BALANCE_RELEASE = "payout_minimum_balance_release"
    PAYOUT_REVERSAL = "payout_reversal"
    PLATFORM_EARNING = "platform_earning"
    PLATFORM_EARNING_REFUND = "platform_earning_refund"
    RISK_RESERVED_FUNDS = "risk_reserved_funds"
    TAX = "tax"
    TOPUP = "topup"
    TOPUP_REVERSAL = "topup_reversal"
    TRANSFER = "transfer"
    TRANSFER_REVERSAL = "transfer_reversal"
    UNRECONCILED_CUSTOMER_FUNDS = "unreconciled_customer_funds"


OTHERS: Final = frozenset(
    set(Category)
    - {
        Category.CHARGE, Category.REFUND, Category.REFUND_FAILURE, Category.PARTIAL_CAPTURE_REVERSAL, Category.DISPUTE,
        Category.DISPUTE_REVERSAL, Category.FEE, Category.PAYOUT,
    }
)  # fmt: skip
"""Movements of the PSP that we have no rule for: each line of one is a case, and its file counts all the same."""


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
