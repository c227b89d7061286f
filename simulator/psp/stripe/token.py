"""What each of Stripe's test payment methods does when it is charged.

Every `pm_card_*` that is not listed succeeds. The names are Stripe's own (docs.stripe.com/testing), each also
accepted with `visa_` in it. Ours are `pm_card_processing`, for a payment that needs time, `pm_card_limited`, declined above
50 units, and `pm_card_refundRefused`, whose bank refuses every refund at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Behaviour(StrEnum):
    """How a charge of this token goes."""

    SUCCEED = "succeed"
    DECLINE = "decline"
    CHALLENGE = "challenge"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Token:
    """A token's behaviour; code, decline code and message are set for a decline only.

    `only_above`: a decline of amounts above this, in minor units; others succeed. `refuses_refunds`: it pays, and its refunds
    fail.
    """

    behaviour: Behaviour
    code: str = ""
    decline_code: str = ""
    message: str = ""
    only_above: int = 0
    refuses_refunds: bool = False


_SUCCEEDS: Final = Token(Behaviour.SUCCEED)
_DECLINED: Final = "Your card was declined."

_DECLINES: Final[Mapping[str, Token]] = {
    name: Token(Behaviour.DECLINE, code, decline_code, message)
    for name, code, decline_code, message in (
        ("chargeDeclined", "card_declined", "generic_decline", _DECLINED),
        ("chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds", "Your card has insufficient funds."),
        ("chargeDeclinedLostCard", "card_declined", "lost_card", _DECLINED),
        ("chargeDeclinedStolenCard", "card_declined", "stolen_card", _DECLINED),
        ("chargeDeclinedFraudulent", "card_declined", "fraudulent", _DECLINED),
        ("chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded", _DECLINED),
        ("chargeDeclinedExpiredCard", "expired_card", "expired_card", "Your card has expired."),
        ("chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
        (
            "chargeDeclinedProcessingError",
            "processing_error",
            "processing_error",
            "An error occurred while processing your card.",
        ),
    )
}

_OTHERS: Final[Mapping[str, Token]] = {
    "authenticationRequired": Token(Behaviour.CHALLENGE),
    "threeDSecure2Required": Token(Behaviour.CHALLENGE),
    "processing": Token(Behaviour.PROCESS),
    "limited": Token(Behaviour.DECLINE, "card_declined", "card_velocity_exceeded", _DECLINED, only_above=5_000),
    "refundRefused": Token(Behaviour.SUCCEED, refuses_refunds=True),
}

CHALLENGE_FAILED: Final = Token(
    Behaviour.DECLINE,
    "payment_intent_authentication_failure",
    "",
    "The provided PaymentMethod has failed authentication.",
)
"""The decline of a buyer who did not pass 3-D Secure."""

PROCESSING_FAILED: Final = _DECLINES["chargeDeclined"]
"""The decline at the end of a `processing` payment that is told to fail."""


def token_of(payment_method: str) -> Token | None:
    """Return what the token does; None when Stripe knows no such payment method."""
    if not payment_method.startswith("pm_card_"):
        return None
    name = payment_method.removeprefix("pm_card_").removeprefix("visa_")
    return _DECLINES.get(name) or _OTHERS.get(name) or _SUCCEEDS
