"""What an error of Stripe means for the money: one table from the SDK's exceptions to a report or to an error of ours.

    error                                   prepare              confirm, cancel, refund, read
    CardError (402)                         what the intent in it is; without one: REFUSED / Unsettled
    InvalidRequestError (400, 404)          REFUSED              what the intent in it is, else Unsettled;
                                                                 a confirm's 400 about the payment method: DECLINED;
                                                                 a refund's 400: REFUND_FAILED, but for `ASK_ABOUT`
    RateLimitError (429)                    TurnedAway, Retry-After obeyed; lock_timeout: Unsettled
    AuthenticationError, PermissionError    TurnedAway, logged as an error: no call will pass until people act
    APIError replayed (5xx)                 StoredFailure
    any other (5xx, 409, idempotency, ..)   OutcomeUnknown; Unsettled below 500

Invariant: an error says that money did not move only where Stripe says so; what is not in the table is unknown.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import stripe

from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.domain.retry import parse_retry_after
from zerosum.errors import OutcomeUnknown, StoredFailure
from zerosum.psp.stripe.mapping import (
    Json,
    Unreadable,
    confirm_refused,
    decline_reason,
    method_refusal,
    refund_refused,
    refusal_reason,
    refused,
    report_of_intent,
)
from zerosum.psp.trouble import TurnedAway, Unsettled

ASK_ABOUT: Final = frozenset(
    {
        "charge_already_refunded",  # by us under a key that was forgotten, or by somebody else: the charge's refunds tell
        "balance_insufficient",  # of our account at Stripe, today
        "resource_missing", "livemode_mismatch", "api_key_expired", "platform_api_key_expired",  # asked with another key
        "idempotency_key_in_use", "lock_timeout", "rate_limit",  # what holds it may be our own request of before
    }
)  # fmt: skip
"""Codes of a 400 to a refund, or to a confirm, that leave open what becomes of it: made already, or not yet. Every other to a
refund says that it is not made, and a twin of the request that is still on its way is told the same. Source:
docs.stripe.com/error-codes."""

_log = logging.getLogger(__name__)

KEY_REFUSED: Final = "psp refuses our key"
STORED: Final = "stored 5xx replayed"
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500


def learn(error: stripe.StripeError, request: PspRequest, now_ms: int) -> Report:
    """The report that an error is, where Stripe says what the object is or that there is none.

    Raises TurnedAway (NotSent: no money moved by this call), StoredFailure, Unsettled or OutcomeUnknown (it may have).
    `now_ms`: the time a Retry-After date is counted from.
    """
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind](error, request, now_ms)
    raise _unknown(error, now_ms)


def _declined(error: stripe.StripeError, request: PspRequest, now_ms: int) -> Report:
    shown = _shown_intent(error, request)
    if shown is not None:
        return shown
    if request.verb is PspVerb.PREPARE and _is_about(error, "card_error"):
        return refused(request, decline_reason(_body(error)))
    raise _unknown(error, now_ms)


def _invalid(error: stripe.StripeError, request: PspRequest, now_ms: int) -> Report:
    if request.verb is PspVerb.PREPARE:
        if _is_about(error, "invalid_request_error"):
            return refused(request, refusal_reason(_body(error)))
        raise _unknown(error, now_ms)
    if _is_refund_refused(error, request):
        _log.warning("refund of order %s refused: %s", request.order_id, _told(error))
        return refund_refused(request)
    shown, reason = _shown_intent(error, request), _confirm_refused(error, request)
    if reason and (shown is None or shown.status is ObjectStatus.UNCONFIRMED):
        return confirm_refused(request, reason)
    if shown is not None:
        return shown
    raise _unknown(error, now_ms)


def _is_refund_refused(error: stripe.StripeError, request: PspRequest) -> bool:
    return request.verb is PspVerb.REFUND and _is_no(error) and _body(error).get("code") not in ASK_ABOUT


def _confirm_refused(error: stripe.StripeError, request: PspRequest) -> str:
    """Why this payment method will never be charged by a confirm, "" where the error does not say so. Such a 400 comes again
    under every number; what its object becomes is proven by its cancel, as after any decline."""
    is_about_method = request.verb is PspVerb.CONFIRM and _is_no(error) and _body(error).get("code") not in ASK_ABOUT
    return method_refusal(_body(error)) if is_about_method else ""


def _is_no(error: stripe.StripeError) -> bool:
    return error.http_status == _BAD_REQUEST and _is_about(error, "invalid_request_error")


def _turned_away(error: stripe.StripeError, _: PspRequest, now_ms: int) -> Report:
    """Rate limits stand before execution. A lock does not: what holds it may be our own request of before."""
    if _body(error).get("code") == "lock_timeout":
        raise _unknown(error, now_ms)
    raise TurnedAway(_told(error), _retry_after_ms(error, now_ms)) from error


def _key_refused(error: stripe.StripeError, request: PspRequest, now_ms: int) -> Report:
    _log.error("%s: %s (HTTP %s, %s)", KEY_REFUSED, request.psp, error.http_status, error.request_id or "no request id")
    raise TurnedAway(KEY_REFUSED, _retry_after_ms(error, now_ms)) from error


def _failed(error: stripe.StripeError, _: PspRequest, now_ms: int) -> Report:
    is_stored = _header(error, "Idempotent-Replayed").lower() == "true"
    if is_stored and (error.http_status or 0) >= _SERVER_ERROR:
        raise StoredFailure(f"{STORED}: {_told(error)}", _retry_after_ms(error, now_ms)) from error
    raise _unknown(error, now_ms)


def _not_understood(error: stripe.StripeError, _: PspRequest, now_ms: int) -> Report:
    raise _unknown(error, now_ms)


TABLE: Final[Mapping[type, Callable[[stripe.StripeError, PspRequest, int], Report]]] = {
    stripe.CardError: _declined,
    stripe.InvalidRequestError: _invalid,
    stripe.RateLimitError: _turned_away,
    stripe.AuthenticationError: _key_refused,
    stripe.PermissionError: _key_refused,
    stripe.APIError: _failed,
    stripe.APIConnectionError: _not_understood,
    stripe.IdempotencyError: _not_understood,
    stripe.SignatureVerificationError: _not_understood,
    stripe.StripeError: _not_understood,
}
"""Total: every exception of the SDK is one of these or derives from the last."""


def _shown_intent(error: stripe.StripeError, request: PspRequest) -> Report | None:
    """What the intent inside the error is, when it is the one that was asked about."""
    shown = report_of_intent(
        _body(error).get("payment_intent"), source=_source(request), psp=request.psp, order_id=request.order_id
    )
    if isinstance(shown, Unreadable) or shown.object_id != (request.object_id or shown.object_id):
        return None
    return shown


def _source(request: PspRequest) -> ReportSource:
    return ReportSource.POLL if request.verb is PspVerb.READ else ReportSource.ANSWER


def _body(error: stripe.StripeError) -> Json:
    document = error.json_body
    found = document.get("error") if isinstance(document, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is_about(error: stripe.StripeError, type_: str) -> bool:
    """Whether Stripe itself says so: a gateway's 404 is no refusal."""
    return _body(error).get("type") == type_


def _unknown(error: stripe.StripeError, now_ms: int) -> OutcomeUnknown:
    is_failing = error.http_status is None or error.http_status >= _SERVER_ERROR
    kind = OutcomeUnknown if is_failing else Unsettled
    trouble = kind(_told(error), _retry_after_ms(error, now_ms))
    trouble.__cause__ = error
    return trouble


def _told(error: stripe.StripeError) -> str:
    """Class, status, code and request id; never Stripe's sentence, which may echo what was sent."""
    code = _body(error).get("code") or _body(error).get("type")
    word = code if isinstance(code, str) and code.isidentifier() else "no code"
    return f"{type(error).__name__} {error.http_status or ''} {word}"


def _retry_after_ms(error: stripe.StripeError, now_ms: int) -> int:
    return parse_retry_after(_header(error, "Retry-After"), now_ms)


def _header(error: stripe.StripeError, name: str) -> str:
    """A header whatever its case: the SDK hands on aiohttp's headers, tests and other clients a plain dict."""
    headers = error.headers or {}
    found = next((value for key, value in headers.items() if key.lower() == name.lower()), "")
    return found if isinstance(found, str) else ""
