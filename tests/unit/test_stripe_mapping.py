"""What Stripe's objects say, in our words. Source: design section 4, failures.md rows S8 and S9."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stripe_objects import INTENT_ID, any_json, intent, refund
from zerosum.domain.identity import OrderId
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.psp.stripe.mapping import (
    DECLINES,
    REFUND_STATUSES,
    STATUSES,
    Unreadable,
    decline_reason,
    refusal_reason,
    report_of_intent,
    report_of_refund,
)


def read(shown: object) -> Report | Unreadable:
    return report_of_intent(shown, source=ReportSource.POLL, psp="stripe", order_id=OrderId("o-1"))


def read_refund(shown: object) -> Report | Unreadable:
    return report_of_refund(shown, source=ReportSource.POLL, psp="stripe", order_id=OrderId("o-1"))


def understood(report: Report | Unreadable) -> Report:
    assert isinstance(report, Report), report
    return report


DECLINED = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}


@pytest.mark.parametrize(
    ("shown", "status", "reason"),
    [
        (intent("requires_confirmation"), ObjectStatus.UNCONFIRMED, ""),
        (intent("requires_payment_method"), ObjectStatus.UNCONFIRMED, ""),
        (intent("requires_payment_method", last_payment_error=DECLINED), ObjectStatus.DECLINED, "INSUFFICIENT_FUNDS"),
        (intent("requires_payment_method", last_payment_error={}), ObjectStatus.DECLINED, "CARD_DECLINED"),
        (intent("requires_action"), ObjectStatus.ACTION_REQUIRED, ""),
        (intent("processing"), ObjectStatus.PROCESSING, ""),
        (intent("requires_capture"), ObjectStatus.AUTHORIZED, ""),
        (intent("succeeded"), ObjectStatus.CHARGED, ""),
        (intent("succeeded", last_payment_error=DECLINED), ObjectStatus.CHARGED, ""),
        (intent("canceled"), ObjectStatus.CANCELED, ""),
        (intent("canceled", cancellation_reason="automatic"), ObjectStatus.CANCELED, "EXPIRED_AT_PSP"),
        (intent("canceled", last_payment_error=DECLINED), ObjectStatus.CANCELED, ""),
    ],
)
def test_an_intent_is_what_its_status_says(shown: dict[str, Any], status: ObjectStatus, reason: str) -> None:
    """Every status of Stripe has one meaning; a past error decides only where a method is asked for again."""
    report = Report(ReportSource.POLL, OrderId("o-1"), "stripe", INTENT_ID, status, Money(1_250, "USD"), "o-1", reason)

    assert report == read(shown)


def test_the_money_of_a_charge_is_what_was_received() -> None:
    """Not what was asked for: a smaller charge must not look like the whole one."""
    assert Money(1_000, "USD") == understood(read(intent("succeeded", amount_received=1_000))).money
    assert Money(1_250, "USD") == understood(read(intent("processing", amount_received=0))).money


def test_money_comes_back_in_our_minor_units() -> None:
    """500 isk on Stripe's wire are 5 krónur."""
    assert Money(5, "ISK") == understood(read(intent("succeeded", amount_received=500, currency="isk"))).money


@pytest.mark.parametrize("metadata", [None, {}, {"payment_order_id": 7}, {"payment_order_id": "o\x00"}, ["o-1"]])
def test_a_reference_that_is_missing_or_damaged_equals_no_order(metadata: object) -> None:
    """The checkout compares it and opens a mismatch."""
    assert understood(read(intent("succeeded", metadata=metadata))).reference == ""


@pytest.mark.parametrize(
    "shown",
    [
        None,
        [],
        "succeeded",
        {},
        intent("succeeded", object="charge"),
        intent("paid"),
        intent("succeeded", id="../account"),
        intent("succeeded", id=None),
        intent("succeeded", amount_received="1250"),
        intent("succeeded", amount_received=12.5),
        intent("succeeded", amount_received=True),
        intent("succeeded", amount_received=-1),
        intent("succeeded", amount_received=10**30),
        intent("succeeded", currency="USD"),
        intent("succeeded", currency=None),
        intent("succeeded", currency="isk", amount_received=550),
        intent(["succeeded"]),  # type: ignore[arg-type] # the wire may bring anything
    ],
)
def test_what_is_not_as_documented_is_unreadable(shown: object) -> None:
    """Nothing is guessed: the caller asks again."""
    assert isinstance(read(shown), Unreadable)


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("succeeded", ObjectStatus.REFUNDED, ""),
        ("pending", ObjectStatus.PROCESSING, "REFUND_PENDING"),
        ("requires_action", ObjectStatus.PROCESSING, "REFUND_PENDING"),
        ("failed", ObjectStatus.REFUND_FAILED, "REFUND_FAILED"),
        ("canceled", ObjectStatus.REFUND_FAILED, "REFUND_CANCELED"),
    ],
)
def test_a_refund_says_what_the_charge_is_now(word: str, status: ObjectStatus, reason: str) -> None:
    """A refund that failed leaves the buyer charged; it is no decline, which could be taken for "no charge"."""
    report = Report(
        ReportSource.POLL, OrderId("o-1"), "stripe", INTENT_ID, status, Money(1_250, "USD"), "o-1", reason,
        refund_key="refund-1",
    )  # fmt: skip

    assert report == read_refund(refund(word))
    assert report == read_refund(refund(word, payment_intent={"id": INTENT_ID, "object": "payment_intent"}))


@pytest.mark.parametrize("shown", [None, intent(), refund("lost"), refund(payment_intent=None), refund(amount=None)])
def test_a_refund_that_is_not_as_documented_is_unreadable(shown: object) -> None:
    """As with intents."""
    assert isinstance(read_refund(shown), Unreadable)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "card_declined", "decline_code": "generic_decline"}, "CARD_DECLINED"),
        ({"code": "card_declined", "decline_code": "insufficient_funds"}, "INSUFFICIENT_FUNDS"),
        ({"code": "expired_card", "decline_code": "expired_card"}, "EXPIRED_CARD"),
        ({"code": "incorrect_cvc"}, "INCORRECT_CVC"),
        ({"code": "processing_error"}, "PROCESSING_ERROR"),
        ({"code": "payment_intent_authentication_failure"}, "AUTHENTICATION_FAILED"),
        ({"code": "card_declined", "decline_code": "stolen_card"}, "CARD_DECLINED"),
        ({"code": "card_declined", "decline_code": "fraudulent"}, "CARD_DECLINED"),
        ({"code": ["card_declined"], "decline_code": {}}, "CARD_DECLINED"),
        ({}, "CARD_DECLINED"),
        (None, "CARD_DECLINED"),
    ],
)
def test_a_decline_has_a_reason_of_ours(error: object, reason: str) -> None:
    """The decline code decides before the code; a stolen card is told as any other decline."""
    assert reason == decline_reason(error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "amount_too_small", "param": "amount"}, "AMOUNT_TOO_SMALL"),
        ({"code": "resource_missing", "param": "payment_method"}, "PAYMENT_METHOD_UNKNOWN"),
        ({"param": "currency"}, "CURRENCY_NOT_SUPPORTED"),
        ({"code": "parameter_unknown", "param": "colour"}, "REFUSED_BY_PSP"),
        ({}, "REFUSED_BY_PSP"),
    ],
)
def test_a_refusal_has_a_reason_of_ours(error: dict[str, object], reason: str) -> None:
    """By code, else by the parameter at fault, else in general."""
    assert reason == refusal_reason(error)


@pytest.mark.slow
@given(any_json)
def test_any_json_is_a_report_or_unreadable(shown: object) -> None:
    """Nothing that arrives can raise."""
    assert isinstance(read(shown), Report | Unreadable)
    assert isinstance(read_refund(shown), Report | Unreadable)


@pytest.mark.slow
@given(st.sampled_from(sorted(STATUSES)), st.dictionaries(st.sampled_from(sorted(intent())), any_json, max_size=3))
def test_a_damaged_intent_is_charged_only_where_it_says_succeeded(word: str, damage: dict[str, object]) -> None:
    """Invariant of the mapping: CHARGED comes only from `succeeded`, CANCELED only from `canceled`."""
    shown = {**intent(word), **damage}
    report = read(shown)

    if isinstance(report, Report):
        assert (report.status is ObjectStatus.CHARGED) == (shown["status"] == "succeeded")
        assert (report.status is ObjectStatus.CANCELED) == (shown["status"] == "canceled")


@pytest.mark.slow
@given(any_json)
def test_every_error_has_words(error: object) -> None:
    """The tables are total by their fallback, and our words are UPPER_SNAKE."""
    assert decline_reason(error).replace("_", "").isupper()


def test_every_word_of_the_tables_is_upper_snake() -> None:
    """Reasons are read by machines."""
    words = [*DECLINES.values(), *(reason for _, reason in REFUND_STATUSES.values() if reason)]

    assert all(word.replace("_", "").isalpha() and word.isupper() for word in words)
