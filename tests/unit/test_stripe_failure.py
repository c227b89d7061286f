"""What Stripe's errors mean for the money: the table is total, and believes only what Stripe itself says. Source: design 4."""

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from hypothesis import given

from tests.unit.stripe_objects import any_json, intent, request
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.request import PspVerb
from zerosum.errors import OutcomeUnknown, PspTrouble, StoredFailure
from zerosum.limits import RETRY_AFTER_CAP_MS
from zerosum.psp.stripe.failure import ASK_ABOUT, learn
from zerosum.psp.trouble import TurnedAway, Unsettled

NOW_MS = 1_800_000_000_000


def error(
    kind: type[stripe.StripeError], status: int | None, body: dict[str, Any], headers: dict[str, str] | None = None
) -> stripe.StripeError:
    """The exception as the SDK makes it of an answer."""
    said: dict[str, Any] = {"http_status": status, "json_body": {"error": body}, "headers": headers or {}}
    if issubclass(kind, stripe.CardError | stripe.InvalidRequestError):
        return kind("No.", body.get("param"), body.get("code"), **said)
    return kind("No.", **said)


def card_error(**fields: Any) -> stripe.StripeError:
    return error(stripe.CardError, 402, {"type": "card_error", "code": "card_declined", **fields})


def invalid(status: int = 400, **fields: Any) -> stripe.StripeError:
    return error(stripe.InvalidRequestError, status, {"type": "invalid_request_error", **fields})


def outcome(trouble: stripe.StripeError, verb: PspVerb) -> Report | type[PspTrouble]:
    try:
        return learn(trouble, request(verb), NOW_MS)
    except PspTrouble as raised:
        return type(raised)


def raised(trouble: stripe.StripeError, verb: PspVerb = PspVerb.CONFIRM) -> PspTrouble:
    with pytest.raises(PspTrouble) as caught:
        learn(trouble, request(verb), NOW_MS)
    return caught.value


ALL_VERBS = list(PspVerb)
BUT_PREPARE = [verb for verb in PspVerb if verb is not PspVerb.PREPARE]


# ---- the card says no ----------------------------------------------------------------------------------------------


def test_a_declined_confirm_reports_the_intent_inside_the_error() -> None:
    """402 on confirm: the money did not move, and the report carries what is to be compared."""
    declined = {"code": "card_declined", "decline_code": "insufficient_funds"}
    shown = intent("requires_payment_method", last_payment_error=declined)
    report = outcome(card_error(payment_intent=shown), PspVerb.CONFIRM)

    assert isinstance(report, Report)
    assert (report.source, report.status) == (ReportSource.ANSWER, ObjectStatus.DECLINED)
    assert (report.reason, report.reference) == ("INSUFFICIENT_FUNDS", "o-1")


@pytest.mark.parametrize("shown", [None, {}, intent("requires_payment_method", id="pi_another"), intent("lost")])
@pytest.mark.parametrize("verb", BUT_PREPARE)
def test_a_decline_without_its_intent_is_unknown(shown: object, verb: PspVerb) -> None:
    """Without the object there is nothing to compare: the caller reads it."""
    assert outcome(card_error(payment_intent=shown), verb) is Unsettled


def test_a_card_refused_at_prepare_leaves_no_object() -> None:
    """Nothing was created, so there is nothing that could be paid."""
    report = outcome(card_error(decline_code="expired_card"), PspVerb.PREPARE)

    assert isinstance(report, Report)
    assert (report.status, report.reason, report.object_id) == (ObjectStatus.REFUSED, "EXPIRED_CARD", "")


# ---- the request is not acceptable ---------------------------------------------------------------------------------


def test_a_prepare_that_stripe_will_not_have_is_refused() -> None:
    """400 on prepare: there is no object."""
    report = outcome(invalid(code="resource_missing", param="payment_method"), PspVerb.PREPARE)

    assert isinstance(report, Report)
    assert (report.status, report.reason, report.object_id) == (ObjectStatus.REFUSED, "PAYMENT_METHOD_UNKNOWN", "")


@pytest.mark.parametrize("type_", ["unreadable", "api_error", "idempotency_error", None, 7])
def test_a_prepare_is_refused_only_by_stripe_itself(type_: object) -> None:
    """A gateway's 404 page says nothing about the payment."""
    trouble = error(stripe.InvalidRequestError, 404, {"type": type_})

    assert outcome(trouble, PspVerb.PREPARE) is Unsettled


@pytest.mark.parametrize(
    ("status", "is_now"),
    [
        ("succeeded", ObjectStatus.CHARGED),
        ("canceled", ObjectStatus.CANCELED),
        ("processing", ObjectStatus.PROCESSING),
    ],
)
@pytest.mark.parametrize("verb", [PspVerb.CONFIRM, PspVerb.CANCEL])
def test_an_unexpected_state_reports_what_the_intent_is(status: str, is_now: ObjectStatus, verb: PspVerb) -> None:
    """A confirm of a charged intent, a cancel that came too late: the error shows the object."""
    report = outcome(invalid(code="payment_intent_unexpected_state", payment_intent=intent(status)), verb)

    assert isinstance(report, Report)
    assert is_now is report.status


@pytest.mark.parametrize("verb", BUT_PREPARE)
@pytest.mark.parametrize(
    "body",
    [
        {"code": "payment_intent_unexpected_state"},
        {"code": "resource_missing", "param": "intent"},
        {"code": "charge_already_refunded"},
        {"code": "payment_intent_unexpected_state", "payment_intent": intent("canceled", id="pi_another")},
    ],
)
def test_any_other_refusal_after_prepare_is_unknown(body: dict[str, Any], verb: PspVerb) -> None:
    """A known object that is not found, a refund that was made already: ask, do not conclude."""
    assert outcome(invalid(404, **body), verb) is Unsettled


METHOD_NOS: list[dict[str, Any]] = [
    {"param": "payment_method"},  # "previously used without being attached to a Customer": no code
    {"code": "payment_method_unexpected_state", "payment_intent": intent("requires_confirmation")},
    {"code": "payment_intent_incompatible_payment_method", "payment_intent": intent("requires_payment_method")},
]


@pytest.mark.parametrize("body", METHOD_NOS)
def test_a_payment_method_that_no_confirm_will_charge_is_a_decline(body: dict[str, Any]) -> None:
    """Under the next number it would be refused again. The decline is believed once the intent is canceled."""
    report = outcome(invalid(**body), PspVerb.CONFIRM)

    assert isinstance(report, Report)
    assert (report.status, report.reason) == (ObjectStatus.DECLINED, "PAYMENT_METHOD_UNUSABLE")
    assert (report.object_id, report.reference) == (request(PspVerb.CONFIRM).object_id, "o-1")


def test_a_payment_method_that_is_refused_where_the_intent_was_charged_is_no_decline() -> None:
    """The object is believed before the error about it."""
    report = outcome(invalid(param="payment_method", payment_intent=intent("succeeded")), PspVerb.CONFIRM)

    assert isinstance(report, Report)
    assert report.status is ObjectStatus.CHARGED


@pytest.mark.parametrize(
    ("trouble", "verb"),
    [
        (invalid(404, param="payment_method"), PspVerb.CONFIRM),
        (invalid(code="resource_missing", param="payment_method"), PspVerb.CONFIRM),
        (invalid(code="lock_timeout", param="payment_method"), PspVerb.CONFIRM),
        (invalid(code="parameter_unknown", param="payment_method"), PspVerb.CONFIRM),
        (invalid(param="return_url"), PspVerb.CONFIRM),
        (error(stripe.InvalidRequestError, 400, {"type": "proxy", "param": "payment_method"}), PspVerb.CONFIRM),
        (invalid(param="payment_method"), PspVerb.CANCEL),
    ],
)
def test_what_is_not_said_of_the_payment_method_is_no_decline(trouble: stripe.StripeError, verb: PspVerb) -> None:
    """A missing object, a lock, a gateway's page: ask, do not conclude."""
    assert outcome(trouble, verb) is Unsettled


REFUND_NOS = ["charge_disputed", "refund_disputed_payment", "charge_not_refundable", "charge_expired_for_capture"]


@pytest.mark.parametrize("code", [*REFUND_NOS, "payment_intent_unexpected_state", "parameter_unknown", None])
def test_a_refund_that_stripe_will_not_make_has_failed(code: str | None) -> None:
    """Row P18: Stripe itself says 400, so this key made no refund and the charge stands, whatever intent it shows."""
    report = outcome(invalid(code=code, payment_intent=intent("succeeded")), PspVerb.REFUND)

    assert isinstance(report, Report)
    assert (report.source, report.status, report.reason) == (
        ReportSource.ANSWER, ObjectStatus.REFUND_FAILED, "REFUND_FAILED",
    )  # fmt: skip
    asked = request(PspVerb.REFUND)
    assert (report.object_id, report.reference, report.refund_key) == (asked.object_id, asked.order_id, asked.key)


@pytest.mark.parametrize("code", sorted(ASK_ABOUT))
def test_a_refund_that_may_have_been_made_or_may_still_be_is_asked_about(code: str) -> None:
    """Somebody gave it back, our balance is short today, the key is another account's: nothing is concluded."""
    assert outcome(invalid(code=code), PspVerb.REFUND) is Unsettled


@pytest.mark.parametrize("type_", ["unreadable", "api_error", "idempotency_error", None, 7])
@pytest.mark.parametrize("status", [400, 404])
def test_a_refund_is_refused_only_by_stripe_itself(status: int, type_: object) -> None:
    """A gateway's page says nothing about the money, nor does a 404 of Stripe's."""
    trouble = error(stripe.InvalidRequestError, status, {"type": type_, "code": "charge_disputed"})

    assert outcome(trouble, PspVerb.REFUND) is Unsettled
    assert outcome(invalid(404, code="charge_disputed"), PspVerb.REFUND) is Unsettled


@pytest.mark.parametrize("verb", [PspVerb.CONFIRM, PspVerb.CANCEL, PspVerb.READ])
def test_no_other_request_is_settled_by_a_refunds_no(verb: PspVerb) -> None:
    """The word is about the charge, not about them."""
    assert outcome(invalid(code="charge_disputed"), verb) is Unsettled


# ---- turned away, or not answered ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [("", 0), ("2", 2_000), ("-5", 0), ("soon", 0), ("999999", RETRY_AFTER_CAP_MS)],
)
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_a_rate_limit_is_not_sent_and_its_retry_after_is_obeyed(header: str, wait_ms: int, verb: PspVerb) -> None:
    """Row S2: turned away unread, wait as told, up to the cap."""
    trouble = raised(error(stripe.RateLimitError, 429, {"type": "api_error"}, {"retry-after": header}), verb)

    assert (TurnedAway, wait_ms) == (type(trouble), trouble.retry_after_ms)


def test_a_lock_timeout_is_unknown() -> None:
    """What holds the lock may be our own confirm of before."""
    trouble = error(stripe.RateLimitError, 429, {"type": "invalid_request_error", "code": "lock_timeout"})

    assert outcome(trouble, PspVerb.CONFIRM) is Unsettled


@pytest.mark.parametrize(("kind", "status"), [(stripe.AuthenticationError, 401), (stripe.PermissionError, 403)])
def test_a_refused_key_is_not_sent_and_logged_loudly(
    kind: type[stripe.StripeError], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Row O4: no money moves, and nothing passes until people act."""
    with caplog.at_level(logging.ERROR):
        trouble = raised(error(kind, status, {"type": "invalid_request_error", "message": "Invalid key: sk_live_123"}))

    assert (TurnedAway, "psp refuses our key") == (type(trouble), str(trouble))
    assert "psp refuses our key" in caplog.text
    assert "sk_live" not in caplog.text


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_a_server_error_is_unknown(status: int, verb: PspVerb) -> None:
    """Executed or not: Stripe does not say."""
    assert outcome(error(stripe.APIError, status, {"type": "api_error"}), verb) is OutcomeUnknown


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_a_replayed_server_error_is_a_stored_failure(verb: PspVerb) -> None:
    """Row P34: the key will never bring another answer; the domain goes on under the next number, or asks."""
    trouble = raised(error(stripe.APIError, 500, {"type": "api_error"}, {"Idempotent-Replayed": "true"}), verb)

    assert type(trouble) is StoredFailure
    assert str(trouble).startswith("stored 5xx replayed")


@pytest.mark.parametrize(
    "trouble",
    [
        error(stripe.APIError, 409, {"type": "invalid_request_error", "code": "idempotency_key_in_use"}),
        error(stripe.APIError, 409, {"type": "invalid_request_error"}, {"Idempotent-Replayed": "true"}),
        error(stripe.IdempotencyError, 400, {"type": "idempotency_error"}),
        error(stripe.APIError, 302, {"type": "unreadable"}),
    ],
)
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_a_conflict_of_keys_is_unknown_never_declined(trouble: stripe.StripeError, verb: PspVerb) -> None:
    """Design section 4: a PSP's 409 and `idempotency_error` are unknown."""
    assert outcome(trouble, verb) is Unsettled


# ---- the table -----------------------------------------------------------------------------------------------------


def every_exception_of_the_sdk() -> Iterator[type[stripe.StripeError]]:
    """Every class below StripeError, all of the SDK's modules loaded that may define one."""
    for module in pkgutil.iter_modules(stripe.__path__):
        if "error" in module.name:
            importlib.import_module(f"stripe.{module.name}")
    waiting = [stripe.StripeError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        yield kind


@pytest.mark.parametrize("kind", sorted(set(every_exception_of_the_sdk()), key=str))
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_exception_of_the_sdk_is_a_report_or_a_trouble_of_ours(
    kind: type[stripe.StripeError], verb: PspVerb
) -> None:
    """Totality: a class nobody thought of is unknown, never a decline, never NotSent."""
    trouble = kind.__new__(kind)
    stripe.StripeError.__init__(trouble, "No.")
    spoken_of = (stripe.RateLimitError, stripe.AuthenticationError, stripe.PermissionError)

    assert outcome(trouble, verb) is (TurnedAway if isinstance(trouble, spoken_of) else OutcomeUnknown)


@pytest.mark.slow
@given(any_json)
def test_any_body_of_any_error_is_a_report_or_a_trouble_of_ours(body: object) -> None:
    """Nothing that a PSP puts into an error can raise anything else, or make a charge of it."""
    for kind, status in ((stripe.CardError, 402), (stripe.InvalidRequestError, 400), (stripe.APIError, 500)):
        trouble = kind.__new__(kind)
        stripe.StripeError.__init__(trouble, "No.", http_status=status)
        trouble.json_body = body
        for verb in PspVerb:
            assert outcome(trouble, verb) is not None
