"""Webhooks of Stripe: who speaks, and what is said. Source: failures.md row S7 and security test 4, design section 8."""

import hmac
import json
from hashlib import sha256
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stripe_objects import INTENT_ID, REFERENCES, any_json, intent, refund
from zerosum.domain.message import Delivery, ObjectStatus, ReportSource
from zerosum.domain.money import Money
from zerosum.limits import WEBHOOK_BODY_MAX
from zerosum.psp.stripe.webhook import (
    INTENT_TYPES,
    REFUND_TYPES,
    Event,
    Ignored,
    Reason,
    Rejected,
    Unmatched,
    Verified,
    WebhookReport,
    report_of,
    verify,
)

NOW_S = 1_800_000_000
NEW, OLD = ("2026-b", "whsec_new"), ("2026-a", "whsec_old")


def event(type_: str = "payment_intent.succeeded", shown: object = None, **fields: Any) -> dict[str, Any]:
    document = {"id": "evt_1", "object": "event", "type": type_, "created": NOW_S, "api_version": "2026-10-28"}
    return {**document, "data": {"object": intent("succeeded") if shown is None else shown}, **fields}


def body_of(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def signature(body: bytes, secret: str, at_s: int | str = NOW_S) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()


def headers(body: bytes, secret: str = NEW[1], at_s: int | str = NOW_S) -> dict[str, str]:
    signed = f"t={at_s},v1={signature(body, secret, at_s)}"
    return {"Stripe-Signature": signed, "Content-Type": "application/json; charset=utf-8"}


def verified(document: object) -> Event:
    body = body_of(document)
    result = verify(body, headers(body), [NEW], NOW_S)
    assert isinstance(result, Verified), result
    return result.event


BODY = body_of(event())


# ---- who speaks ----------------------------------------------------------------------------------------------------


def test_what_stripe_signed_is_verified_and_named_for_the_inbox() -> None:
    """The delivery holds what the inbox needs: event, type, digest of the raw bytes, the secret that held."""
    result = verify(BODY, headers(BODY), [NEW], NOW_S)

    assert isinstance(result, Verified)
    assert result.event.delivery == Delivery(
        "stripe", "evt_1", "payment_intent.succeeded", sha256(BODY).hexdigest(), "2026-b"
    )
    assert result.event.object_id == INTENT_ID


def test_what_the_official_sdk_signs_is_verified() -> None:
    """Our check and Stripe's own agree on the scheme."""
    signed = stripe.WebhookSignature.generate_signature_header(BODY.decode(), "whsec_new", NOW_S)

    assert isinstance(verify(BODY, {"stripe-signature": signed}, [NEW], NOW_S), Verified)


@pytest.mark.parametrize(("secret", "name"), [("whsec_new", "2026-b"), ("whsec_old", "2026-a")])
def test_two_secrets_hold_while_they_are_rotated(secret: str, name: str) -> None:
    """The record says which one it was."""
    result = verify(BODY, headers(BODY, secret), [NEW, OLD], NOW_S)

    assert isinstance(result, Verified)
    assert result.event.delivery.verified_with == name


@pytest.mark.parametrize("first", ["whsec_old", "whsec_new"])
def test_one_good_signature_among_several_is_enough(first: str) -> None:
    """Stripe signs with both secrets while it rotates them."""
    second = {"whsec_old": "whsec_new", "whsec_new": "whsec_old"}[first]
    signed = f"t={NOW_S},v0=ff,v1={signature(BODY, first)},v1={signature(BODY, second)}"

    assert isinstance(verify(BODY, {"stripe-signature": signed}, [NEW], NOW_S), Verified)


GOOD = signature(BODY, "whsec_new")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", Reason.SIGNATURE_MISSING),
        ("nonsense", Reason.SIGNATURE_MALFORMED),
        (f"v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t={NOW_S}", Reason.SIGNATURE_MALFORMED),
        (f"t={NOW_S},t={NOW_S},v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t=,v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t=-{NOW_S},v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t=1.8e9,v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t={'9' * 5_000},v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t=\u0661\u0668,v1={GOOD}", Reason.SIGNATURE_MALFORMED),
        (f"t={NOW_S}," + ",".join(["v1=00"] * 17), Reason.SIGNATURE_MALFORMED),
        (f"t={NOW_S},v1=", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S},v1={'0' * 64}", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S},v1={GOOD[:-1]}", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S},v1={GOOD[:32]}", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S},v1={GOOD}0", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S},v1=\u00e9\ud800", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S},v0={GOOD},v1=00", Reason.SIGNATURE_WRONG),
        (f"t={NOW_S + 1},v1={GOOD}", Reason.SIGNATURE_WRONG),
    ],
)
def test_a_forged_or_truncated_signature_is_rejected(header: str, reason: Reason) -> None:
    """Row S7: nothing is parsed, nothing changes."""
    assert verify(BODY, {"stripe-signature": header}, [NEW, OLD], NOW_S) == Rejected(reason)


@pytest.mark.parametrize("secrets", [[OLD], [("other-psp", "whsec_square")], [("empty", "")], []])
def test_another_secret_does_not_hold(secrets: list[tuple[str, str]]) -> None:
    """Nor does no secret at all: anybody can sign with an empty one."""
    assert verify(BODY, headers(BODY), secrets, NOW_S) == Rejected(Reason.SIGNATURE_WRONG)
    assert verify(BODY, headers(BODY, ""), secrets, NOW_S) == Rejected(Reason.SIGNATURE_WRONG)


def test_a_reserialised_body_is_rejected() -> None:
    """The signature is over raw bytes: the same document written otherwise is another message."""
    other = json.dumps(json.loads(BODY), indent=1).encode()

    assert verify(other, headers(BODY), [NEW], NOW_S) == Rejected(Reason.SIGNATURE_WRONG)


@pytest.mark.parametrize("at", [0, len(BODY) // 2, len(BODY) - 1])
def test_a_body_with_one_bit_turned_is_rejected(at: int) -> None:
    """Whatever was changed on the way."""
    damaged = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]

    assert verify(damaged, headers(BODY), [NEW], NOW_S) == Rejected(Reason.SIGNATURE_WRONG)


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [
        (301, Reason.STALE),
        (86_400, Reason.STALE),
        (-301, Reason.FROM_THE_FUTURE),
        (-86_400, Reason.FROM_THE_FUTURE),
        (300, None),
        (-300, None),
        (0, None),
    ],
)
def test_a_stale_or_future_event_is_rejected(age_s: int, reason: Reason | None) -> None:
    """300 s to either side, the ends included; a replay inside the tolerance is the inbox's affair."""
    result = verify(BODY, headers(BODY, at_s=NOW_S - age_s), [NEW], NOW_S)

    assert isinstance(result, Verified) if reason is None else result == Rejected(reason)


def test_a_body_of_a_megabyte_is_rejected_unread() -> None:
    """Though signed: nobody pays for its digest."""
    body = b" " * 1_000_000

    assert verify(body, headers(body), [NEW], NOW_S) == Rejected(Reason.BODY_TOO_LARGE)


@pytest.mark.parametrize("content_type", ["text/html", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_another_content_type_is_rejected(content_type: str) -> None:
    """Stripe sends JSON and says so."""
    sent = {**headers(BODY), "Content-Type": content_type}

    assert verify(BODY, sent, [NEW], NOW_S) == Rejected(Reason.CONTENT_TYPE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"event"',
        BODY.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + BODY,
        b"\xff" + BODY,
        BODY.replace(b"1250", b"NaN"),
        BODY.replace(b"1250", b"9" * 5_000),
        b"[" * 200_000,
        b'{"a":' * 40_000,
        body_of(event(object="v2.core.event")),
        body_of(event(id="evt 1")),
        body_of(event(id=None)),
        body_of(event(id="e" * 256)),
        body_of(event(type=["payment_intent.succeeded"])),
        body_of(event(data=None)),
        body_of(event(data={"object": "pi_1"})),
    ],
)
def test_signed_content_that_is_no_event_is_rejected(body: bytes) -> None:
    """Also 200,000 brackets deep, and numbers of 5,000 digits."""
    assert len(body) <= WEBHOOK_BODY_MAX
    assert verify(body, headers(body), [NEW], NOW_S) == Rejected(Reason.NOT_AN_EVENT)


@given(st.binary(max_size=300), st.text(max_size=100))
def test_whatever_arrives_unsigned_is_rejected(body: bytes, header: str) -> None:
    """Nothing raises, nothing passes."""
    assert isinstance(verify(body, {"stripe-signature": header}, [NEW, OLD], NOW_S), Rejected)
    assert isinstance(verify(body, {"stripe-signature": f"t={NOW_S},v1={header}"}, [NEW], NOW_S), Rejected)


# ---- what is said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "shown", "status"),
    [
        ("payment_intent.succeeded", intent("succeeded"), ObjectStatus.CHARGED),
        (
            "payment_intent.payment_failed",
            intent("requires_payment_method", last_payment_error={"code": "expired_card"}),
            ObjectStatus.DECLINED,
        ),
        ("payment_intent.canceled", intent("canceled"), ObjectStatus.CANCELED),
        ("payment_intent.requires_action", intent("requires_action"), ObjectStatus.ACTION_REQUIRED),
        ("payment_intent.processing", intent("processing"), ObjectStatus.PROCESSING),
        ("payment_intent.payment_failed", intent("succeeded"), ObjectStatus.CHARGED),  # the object is believed
    ],
)
def test_an_intents_event_is_a_report_for_its_checkout(type_: str, shown: dict[str, Any], status: ObjectStatus) -> None:
    """Found by the metadata we put there; money and reference are what Stripe says."""
    said = report_of(verified(event(type_, shown)))

    assert isinstance(said, WebhookReport)
    assert (said.tenant, said.checkout_id, said.order_id) == ("shop-a", "c-1", "o-1")
    assert (said.report.source, said.report.status) == (ReportSource.WEBHOOK, status)
    assert (said.report.object_id, said.report.reference) == (INTENT_ID, "o-1")
    assert said.report.delivery is not None
    assert said.report.delivery.type == type_


@pytest.mark.parametrize("missing", ["tenant", "checkout_id", "payment_order_id"])
@pytest.mark.parametrize("value", [None, "", 7, "x" * 65, "a\x00b"])
def test_an_intent_that_names_no_checkout_of_ours_is_unmatched(missing: str, value: object) -> None:
    """Somebody else's payment in the same account, or a damaged one: people look."""
    metadata = {**intent()["metadata"], missing: value}
    said = report_of(verified(event(shown=intent("succeeded", metadata=metadata))))

    assert isinstance(said, Unmatched)
    assert (said.object_id, said.type) == (INTENT_ID, "payment_intent.succeeded")


def test_an_intent_that_cannot_be_read_is_unmatched() -> None:
    """Recorded, with a reason that echoes nothing."""
    said = report_of(verified(event(shown=intent("succeeded", amount_received="12,50"))))

    assert isinstance(said, Unmatched)
    assert "12,50" not in said.why


@pytest.mark.parametrize(
    "type_", ["payment_intent.created", "charge.succeeded", "refund.created", "invoice.paid", "something.new"]
)
def test_other_types_are_ignored_but_named_for_the_inbox(type_: str) -> None:
    """Recorded all the same."""
    said = report_of(verified(event(type_)))

    assert isinstance(said, Ignored)
    assert (said.type, said.object_id, said.delivery.event_id) == (type_, INTENT_ID, "evt_1")


def charge(*refunds: dict[str, Any]) -> dict[str, Any]:
    return {"id": "ch_1", "object": "charge", "refunds": {"object": "list", "data": list(refunds)}}


def test_a_refund_of_ours_in_a_charge_is_a_fact() -> None:
    """It carries our key; its object is the intent the attempt knows."""
    said = report_of(verified(event("charge.refunded", charge(refund(metadata={}), refund()))))

    assert isinstance(said, WebhookReport)
    assert (said.report.status, said.report.object_id) == (ObjectStatus.REFUNDED, INTENT_ID)


def given_back(**fields: Any) -> dict[str, Any]:
    """Our charge, given back whole by people, at Stripe itself: newer API versions show no refunds in it."""
    whole = {"payment_intent": INTENT_ID, "currency": "usd", "refunded": True, "amount_refunded": 1_250}
    return {"id": "ch_1", "object": "charge", "metadata": REFERENCES, **whole, **fields}


def test_a_charge_of_ours_that_people_gave_back_is_a_fact_and_proves_no_refund_of_ours() -> None:
    """What ends an order that was charged otherwise than asked; the key it names is none that we ever made."""
    said = report_of(verified(event("charge.refunded", given_back())))

    assert isinstance(said, WebhookReport)
    assert (said.order_id, said.report.status, said.report.object_id) == ("o-1", ObjectStatus.REFUNDED, INTENT_ID)
    assert (said.report.money, said.report.refund_key) == (Money(1_250, "USD"), "ch_1")


@pytest.mark.parametrize("damage", [{"payment_intent": None}, {"amount_refunded": "12.50"}, {"object": "refund"}])
def test_a_charge_given_back_that_cannot_be_read_is_unmatched(damage: dict[str, Any]) -> None:
    """Recorded, and nothing is believed of it."""
    assert isinstance(report_of(verified(event("charge.refunded", given_back(**damage)))), Unmatched)


@pytest.mark.parametrize(
    "shown",
    [
        {"id": "ch_1", "object": "charge", "metadata": intent()["metadata"]},
        given_back(refunded=False, amount_refunded=400),
        given_back(metadata={}),
        charge(),
        charge(refund(metadata=intent()["metadata"])),
        charge(refund("pending")),
        {"id": "ch_1", "refunds": ["re_1"]},
    ],
)
def test_any_other_refunded_charge_is_ignored(shown: dict[str, Any]) -> None:
    """Without our key, or not done yet: our own reads tell."""
    assert isinstance(report_of(verified(event("charge.refunded", shown))), Ignored)


@pytest.mark.parametrize(
    ("type_", "word", "status"),
    [
        ("refund.updated", "succeeded", ObjectStatus.REFUNDED),
        ("refund.updated", "failed", ObjectStatus.REFUND_FAILED),
        ("refund.failed", "failed", ObjectStatus.REFUND_FAILED),
        ("refund.updated", "canceled", ObjectStatus.REFUND_FAILED),
    ],
)
def test_a_refund_of_ours_that_has_ended_is_a_fact_of_that_refund(type_: str, word: str, status: ObjectStatus) -> None:
    """P18: also one that had succeeded and came back, which nothing of ours asks about any more."""
    said = report_of(verified(event(type_, refund(word))))

    assert isinstance(said, WebhookReport)
    assert (said.tenant, said.checkout_id, said.order_id) == ("shop-a", "c-1", "o-1")
    assert (said.report.status, said.report.object_id, said.report.refund_key) == (status, INTENT_ID, "refund-1")


@pytest.mark.parametrize(
    "shown", [refund("pending"), refund("requires_action"), refund("failed", metadata={}), intent()]
)
def test_any_other_refund_is_ignored(shown: dict[str, Any]) -> None:
    """On its way, or made by people at Stripe: our own reads and the settlement file tell."""
    assert isinstance(report_of(verified(event("refund.updated", shown))), Ignored)


@pytest.mark.slow
@given(
    st.sampled_from([*sorted(INTENT_TYPES | REFUND_TYPES), "charge.refunded", "x.y"]),
    st.dictionaries(st.text(), any_json) | any_json,
)
def test_any_signed_json_becomes_a_typed_result(type_: str, shown: object) -> None:
    """Nothing a PSP may ever send raises."""
    body = body_of(event(type_, shown))
    result = verify(body, headers(body), [NEW], NOW_S)

    if isinstance(result, Verified):
        assert isinstance(report_of(result.event), WebhookReport | Ignored | Unmatched)
    else:
        assert result == Rejected(Reason.NOT_AN_EVENT)


@pytest.mark.slow
@given(any_json)
def test_any_signed_document_is_an_event_or_rejected(document: object) -> None:
    """The envelope is as little to be trusted as its content."""
    body = body_of(document)

    assert isinstance(verify(body, headers(body), [NEW], NOW_S), Verified | Rejected)


@pytest.mark.slow
@given(st.sampled_from(sorted(intent())), any_json)
def test_a_damaged_intent_in_an_event_becomes_a_typed_result(field: str, damage: object) -> None:
    """One field at a time, whatever is put there."""
    said = report_of(verified(event(shown={**intent("succeeded"), field: damage})))

    assert isinstance(said, WebhookReport | Unmatched)
