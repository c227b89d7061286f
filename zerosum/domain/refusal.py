"""Business "no"s: what was asked for is not done, for a reason the caller can act on. Returned, never raised.

Invariant: a refusal means that nothing was executed and no money moved by this request.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Every refusal there is, in order of precedence: the first that applies is told."""

    MALFORMED = "MALFORMED"
    AMOUNT_MALFORMED = "AMOUNT_MALFORMED"
    AMOUNT_NOT_POSITIVE = "AMOUNT_NOT_POSITIVE"
    AMOUNT_TOO_LARGE = "AMOUNT_TOO_LARGE"
    AMOUNT_TOO_PRECISE = "AMOUNT_TOO_PRECISE"
    CURRENCY_UNKNOWN = "CURRENCY_UNKNOWN"
    CARD_NUMBER = "CARD_NUMBER"
    DUPLICATE_IN_REQUEST = "DUPLICATE_IN_REQUEST"
    KEY_REUSED = "KEY_REUSED"
    CHECKOUT_ID_REUSED = "CHECKOUT_ID_REUSED"
    PAYMENT_ORDER_ID_TAKEN = "PAYMENT_ORDER_ID_TAKEN"
    ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"
    UNKNOWN_ID = "UNKNOWN_ID"
    NOT_A_DEAD_LETTER = "NOT_A_DEAD_LETTER"
    JOURNAL_NOT_BALANCED = "JOURNAL_NOT_BALANCED"
    ACCOUNT_MALFORMED = "ACCOUNT_MALFORMED"
    CONTROLS_DIFFER = "CONTROLS_DIFFER"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    BALANCE_TOO_LOW = "BALANCE_TOO_LOW"
    NOT_REFUNDABLE = "NOT_REFUNDABLE"
    ALREADY_REFUNDED = "ALREADY_REFUNDED"
    REFUND_NOT_WHOLE = "REFUND_NOT_WHOLE"
    PROPOSAL_CHANGED = "PROPOSAL_CHANGED"
    FOUR_EYES = "FOUR_EYES"
    NOTHING_TO_POST = "NOTHING_TO_POST"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not done. `field`: path of the field at fault ("payment_orders[2].amount"), "" = the whole.

    `message` is for people and never echoes a value.
    """

    reason: Reason
    field: str
    message: str
