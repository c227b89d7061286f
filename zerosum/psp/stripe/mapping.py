"""What Stripe's objects say, in our words: PaymentIntent and Refund to `Report`, decline and refusal codes to reasons.

Pure, over parsed JSON of any shape: what is not as documented is `Unreadable`, never an exception and never a guess.

Invariant: CHARGED comes only from `succeeded`, CANCELED only from `canceled`, and the money of a report is what Stripe says,
never what we asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from zerosum.domain.identity import OrderId
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.domain.request import PspRequest
from zerosum.limits import AMOUNT_MINOR_MAX
from zerosum.psp.stripe.amount import from_stripe

Json = Mapping[str, object]

TENANT, CHECKOUT_ID, ORDER_ID, REFUND_KEY = "tenant", "checkout_id", "payment_order_id", "refund_key"
"""The names under which our references stand in the metadata of every object at Stripe."""

_ID: Final = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
_CURRENCY: Final = re.compile(r"[a-z]{3}", re.ASCII)
_NAME_LENGTH_MAX: Final = 500
"""Stripe's own limit of a metadata value."""
_AMOUNT_MAX: Final = AMOUNT_MINOR_MAX * 100
"""Our largest amount, shifted by the two decimals that Stripe may write more."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What was shown is not what Stripe documents; nothing may be believed of it. `why` never echoes a value."""

    why: str


# ---- objects -------------------------------------------------------------------------------------------------------

STATUSES: Final[Mapping[str, ObjectStatus]] = {
    "requires_payment_method": ObjectStatus.UNCONFIRMED,  # DECLINED where it carries a last_payment_error
    "requires_confirmation": ObjectStatus.UNCONFIRMED,
    "requires_action": ObjectStatus.ACTION_REQUIRED,
    "processing": ObjectStatus.PROCESSING,
    "requires_capture": ObjectStatus.AUTHORIZED,
    "succeeded": ObjectStatus.CHARGED,
    "canceled": ObjectStatus.CANCELED,
}
"""Every status of a PaymentIntent."""

REFUND_STATUSES: Final[Mapping[str, tuple[ObjectStatus, str]]] = {
    "succeeded": (ObjectStatus.REFUNDED, ""),
    "pending": (ObjectStatus.PROCESSING, "REFUND_PENDING"),
    "requires_action": (ObjectStatus.PROCESSING, "REFUND_PENDING"),
    "failed": (ObjectStatus.REFUND_FAILED, "REFUND_FAILED"),
    "canceled": (ObjectStatus.REFUND_FAILED, "REFUND_CANCELED"),
}
"""Every status of a Refund, as what it makes of the object refunded.

A refund that failed came back to our balance: the buyer's charge stands. It is not DECLINED: that word would let the order be
believed free of a charge. Both words are final at Stripe: the refund object never becomes another.
"""


def report_of_intent(shown: object, *, source: ReportSource, psp: str, order_id: OrderId) -> Report | Unreadable:
    """What a PaymentIntent is. `money` is what was received where it is charged, else what it is about."""
    if not isinstance(shown, Mapping) or shown.get("object") != "payment_intent":
        return Unreadable("not a payment_intent")
    object_id, word = shown.get("id"), shown.get("status")
    status = STATUSES.get(word) if isinstance(word, str) else None
    if not _is_id(object_id):
        return Unreadable("a payment_intent without an id")
    if status is None:
        return Unreadable("a payment_intent of unknown status")
    error, reason = shown.get("last_payment_error"), ""
    if word == "requires_payment_method" and error is not None:
        status, reason = ObjectStatus.DECLINED, decline_reason(error)
    elif status is ObjectStatus.CANCELED:
        reason = _cancel_reason(shown.get("cancellation_reason"))
    amount = shown.get("amount_received" if status is ObjectStatus.CHARGED else "amount")
    money = _money(amount, shown.get("currency"))
    if isinstance(money, Unreadable):
        return money
    return Report(source, order_id, psp, str(object_id), status, money, _reference(shown), reason)


def report_of_refund(shown: object, *, source: ReportSource, psp: str, order_id: OrderId) -> Report | Unreadable:
    """What a Refund makes of the PaymentIntent it is about; `object_id` is that of the intent, as the attempt knows it."""
    if not isinstance(shown, Mapping) or shown.get("object") != "refund":
        return Unreadable("not a refund")
    object_id, word = id_of(shown.get("payment_intent")), shown.get("status")
    found = REFUND_STATUSES.get(word) if isinstance(word, str) else None
    if not object_id:
        return Unreadable("a refund without a payment_intent")
    if found is None:
        return Unreadable("a refund of unknown status")
    money = _money(shown.get("amount"), shown.get("currency"))
    if isinstance(money, Unreadable):
        return money
    status, reason = found
    key = metadata_of(shown).get(REFUND_KEY, "")
    return Report(source, order_id, psp, object_id, status, money, _reference(shown), reason, refund_key=key)


def report_of_refunded_charge(
    shown: object, *, source: ReportSource, psp: str, order_id: OrderId
) -> Report | Unreadable:
    """What a Charge that was given back whole makes of its PaymentIntent, whoever gave it back.

    `refund_key` is the charge's id: the key of no refund of ours, so that it proves none.
    """
    if not isinstance(shown, Mapping) or shown.get("object") != "charge" or shown.get("refunded") is not True:
        return Unreadable("not a charge that was refunded")
    object_id, key = id_of(shown.get("payment_intent")), id_of(shown)
    if not object_id or not key:
        return Unreadable("a charge without a payment_intent")
    money = _money(shown.get("amount_refunded"), shown.get("currency"))
    if isinstance(money, Unreadable):
        return money
    status = ObjectStatus.REFUNDED
    return Report(source, order_id, psp, object_id, status, money, _reference(shown), "", refund_key=key)


def is_unrefunded(page: object, intent: object) -> bool:
    """Whether a charge's whole list of refunds, and the charge itself, expanded in its intent, show that nothing came back.

    Both are read from what is written, not from an index: Stripe's search lags, its lists and objects do not. Every refund on
    the list has failed, and the charge says 0. A list that goes on, or anything that is not as documented: False, no proof.
    """
    if not isinstance(page, Mapping) or page.get("object") != "list" or page.get("has_more") is not False:
        return False
    data, charge = page.get("data"), intent.get("latest_charge") if isinstance(intent, Mapping) else None
    if not isinstance(data, list) or not isinstance(charge, Mapping) or charge.get("object") != "charge":
        return False
    is_failed = [isinstance(each, Mapping) and each.get("status") in _NOTHING_BACK for each in data]
    refunded, amount = charge.get("refunded"), charge.get("amount_refunded")
    return all(is_failed) and refunded is False and amount == 0 and not isinstance(amount, bool)


_NOTHING_BACK: Final = ("failed", "canceled")


def refund_refused(request: PspRequest) -> Report:
    """Stripe would not make the refund, for good: there is none, and the buyer's charge stands."""
    source, status = ReportSource.ANSWER, ObjectStatus.REFUND_FAILED
    return Report(
        source, request.order_id, request.psp, request.object_id, status, request.money, request.order_id,
        REFUND_STATUSES["failed"][1], refund_key=request.key,
    )  # fmt: skip


def confirm_refused(request: PspRequest, reason: str) -> Report:
    """Stripe would not charge this payment method, for good: as a decline, which is believed once the object is canceled."""
    source, status = ReportSource.ANSWER, ObjectStatus.DECLINED
    return Report(
        source, request.order_id, request.psp, request.object_id, status, request.money, request.order_id, reason
    )


def refused(request: PspRequest, reason: str) -> Report:
    """Stripe would not create the object, or could not: there is none, and nothing that could be paid."""
    source = ReportSource.ANSWER
    return Report(source, request.order_id, request.psp, "", ObjectStatus.REFUSED, request.money, "", reason)


def metadata_of(shown: Json) -> dict[str, str]:
    """The object's metadata; what cannot be a name of ours (no text, too long, not printable) is left out."""
    metadata = shown.get("metadata")
    if not isinstance(metadata, Mapping):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(name, str) and _is_name(value)}


def id_of(shown: object) -> str:
    """The id of an object that is shown expanded or by its id alone; "" where there is none."""
    found = shown.get("id") if isinstance(shown, Mapping) else shown
    return str(found) if _is_id(found) else ""


def _reference(shown: Json) -> str:
    """Our reference as the object carries it; "" equals no order's id, so that a damaged one is a mismatch."""
    return metadata_of(shown).get(ORDER_ID, "")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH_MAX and value.isprintable()


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _money(amount: object, currency: object) -> Money | Unreadable:
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= _AMOUNT_MAX:
        return Unreadable("an amount that is not a whole number in range")
    if not isinstance(currency, str) or _CURRENCY.fullmatch(currency) is None:
        return Unreadable("a currency that is not three lower-case letters")
    return from_stripe(amount, currency) or Unreadable("an amount that our minor units cannot say")


# ---- words ---------------------------------------------------------------------------------------------------------

CARD_DECLINED, REFUSED_BY_PSP = "CARD_DECLINED", "REFUSED_BY_PSP"

DECLINES: Final[Mapping[str, str]] = {
    "insufficient_funds": "INSUFFICIENT_FUNDS",
    "expired_card": "EXPIRED_CARD",
    "invalid_expiry_month": "EXPIRED_CARD",
    "invalid_expiry_year": "EXPIRED_CARD",
    "incorrect_cvc": "INCORRECT_CVC",
    "invalid_cvc": "INCORRECT_CVC",
    "incorrect_number": "INCORRECT_NUMBER",
    "invalid_number": "INCORRECT_NUMBER",
    "incorrect_address": "INCORRECT_ADDRESS",
    "incorrect_zip": "INCORRECT_ADDRESS",
    "invalid_account": "INVALID_ACCOUNT",
    "new_account_information_available": "INVALID_ACCOUNT",
    "invalid_amount": "INVALID_AMOUNT",
    "processing_error": "PROCESSING_ERROR",
    "reenter_transaction": "PROCESSING_ERROR",
    "try_again_later": "PROCESSING_ERROR",
    "issuer_not_available": "ISSUER_NOT_AVAILABLE",
    "approve_with_id": "ISSUER_NOT_AVAILABLE",
    "card_velocity_exceeded": "LIMIT_EXCEEDED",
    "withdrawal_count_limit_exceeded": "LIMIT_EXCEEDED",
    "card_decline_rate_limit_exceeded": "LIMIT_EXCEEDED",
    "card_not_supported": "CARD_NOT_SUPPORTED",
    "not_permitted": "CARD_NOT_SUPPORTED",
    "transaction_not_allowed": "CARD_NOT_SUPPORTED",
    "currency_not_supported": "CURRENCY_NOT_SUPPORTED",
    "duplicate_transaction": "DUPLICATE_TRANSACTION",
    "authentication_required": "AUTHENTICATION_REQUIRED",
    "authentication_not_handled": "AUTHENTICATION_REQUIRED",
    "payment_intent_authentication_failure": "AUTHENTICATION_FAILED",
    "testmode_decline": "TEST_CARD",
}
"""Stripe's decline codes and error codes -> our reasons; all others are CARD_DECLINED.

lost_card, stolen_card, pickup_card, fraudulent, merchant_blacklist and the like are left to that word on purpose: Stripe asks
not to tell a card's holder more. Source: docs.stripe.com/declines/codes.
"""

REFUSALS: Final[Mapping[str, str]] = {
    "amount_too_small": "AMOUNT_TOO_SMALL",
    "amount_too_large": "AMOUNT_TOO_LARGE",
    "invalid_charge_amount": "AMOUNT_NOT_SUPPORTED",
    "invalid_currency": "CURRENCY_NOT_SUPPORTED",
    "resource_missing": "PAYMENT_METHOD_UNKNOWN",  # or its customer: a prepare names nothing else
    "payment_method_unexpected_state": "PAYMENT_METHOD_UNUSABLE",
    "payment_method_unactivated": "PAYMENT_METHOD_UNUSABLE",
    "payment_method_not_available": "PAYMENT_METHOD_UNUSABLE",
    "payment_intent_invalid_parameter": REFUSED_BY_PSP,
}
"""Stripe's codes for a PaymentIntent it would not create; all others by the parameter at fault, else REFUSED_BY_PSP."""

REFUSED_PARAMETERS: Final[Mapping[str, str]] = {
    "amount": "AMOUNT_NOT_SUPPORTED",
    "currency": "CURRENCY_NOT_SUPPORTED",
    "payment_method": "PAYMENT_METHOD_UNUSABLE",
}

METHOD_REFUSALS: Final[Mapping[str, str]] = {
    "payment_method_unexpected_state": "PAYMENT_METHOD_UNUSABLE",
    "payment_method_unactivated": "PAYMENT_METHOD_UNUSABLE",
    "payment_method_not_available": "PAYMENT_METHOD_UNUSABLE",
    "payment_intent_incompatible_payment_method": "PAYMENT_METHOD_UNUSABLE",
}
"""Stripe's codes for a payment method that no confirm will charge; without a code the parameter at fault tells: one that was
used before, without a customer, has none. Source: docs.stripe.com/error-codes."""

CANCELS: Final[Mapping[str, str]] = {
    "automatic": "EXPIRED_AT_PSP",
    "expired": "EXPIRED_AT_PSP",
    "duplicate": "CANCELED_AS_DUPLICATE",
    "fraudulent": "CANCELED_AS_FRAUDULENT",
}
"""Why an intent was canceled, where it was not us; all others have no reason of their own."""


def decline_reason(error: object) -> str:
    """Our reason for a decline: by its decline_code, else by its code. Total."""
    if not isinstance(error, Mapping):
        return CARD_DECLINED
    return _word(DECLINES, error.get("decline_code")) or _word(DECLINES, error.get("code")) or CARD_DECLINED


def refusal_reason(error: Json) -> str:
    """Our reason for an object that was not created. Total."""
    by_code = _word(REFUSALS, error.get("code"))
    return by_code or _word(REFUSED_PARAMETERS, error.get("param")) or REFUSED_BY_PSP


def method_refusal(error: Json) -> str:
    """Our reason for a payment method that was refused at its confirm; "" where something else was. Total."""
    is_at_fault = error.get("code") is None and error.get("param") == "payment_method"
    return _word(METHOD_REFUSALS, error.get("code")) or (REFUSED_PARAMETERS["payment_method"] if is_at_fault else "")


def _cancel_reason(word: object) -> str:
    return _word(CANCELS, word)


def _word(table: Mapping[str, str], name: object) -> str:
    return table.get(name, "") if isinstance(name, str) else ""
