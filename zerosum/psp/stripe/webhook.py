"""Stripe's webhooks: is it really Stripe who speaks (`verify`), and what does it say (`report_of`)?

The signature is over the raw bytes; nothing is parsed before it holds. A verified event is put into the inbox whatever it says:
as a report for a checkout, as ignored, or as unmatched for people to look at. The clock is handed in.

Invariant: nothing raises here but a Bug of ours; whatever arrives becomes one of the typed results.
"""

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final, NoReturn

from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.message import Delivery, ObjectStatus, Report, ReportSource
from zerosum.limits import ID_LENGTH_MAX, WEBHOOK_BODY_MAX, WEBHOOK_TOLERANCE_S
from zerosum.psp.stripe import PSP
from zerosum.psp.stripe.mapping import (
    CHECKOUT_ID,
    ORDER_ID,
    REFUND_KEY,
    TENANT,
    Json,
    Unreadable,
    id_of,
    metadata_of,
    report_of_intent,
    report_of_refund,
    report_of_refunded_charge,
)

SIGNATURE_HEADER: Final = "stripe-signature"
_HEADER_LENGTH_MAX: Final = 4_096
"""A timestamp and a few signatures of 64 digits; two secrets while rotating make two."""
_SIGNATURES_MAX: Final = 16

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
_EVENT_TYPE: Final = re.compile(r"[a-z0-9_.]{1,255}", re.ASCII)


class Reason(StrEnum):
    """Why a webhook is not accepted; all of them answer 400, change nothing and are counted."""

    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    CONTENT_TYPE = "CONTENT_TYPE"
    SIGNATURE_MISSING = "SIGNATURE_MISSING"
    SIGNATURE_MALFORMED = "SIGNATURE_MALFORMED"
    SIGNATURE_WRONG = "SIGNATURE_WRONG"
    STALE = "STALE"
    FROM_THE_FUTURE = "FROM_THE_FUTURE"
    NOT_AN_EVENT = "NOT_AN_EVENT"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not from Stripe, too old, or no event: nothing may be done with it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Event:
    """An event whose signature holds. `shown`: the object it is about, parsed JSON of any shape. `delivery`: for the inbox."""

    delivery: Delivery
    shown: Json

    @property
    def object_id(self) -> str:
        """The id of the object it is about, "" where it has none."""
        return id_of(self.shown)


@dataclass(frozen=True, slots=True)
class Verified:
    """Stripe sent exactly these bytes, within the tolerance."""

    event: Event


@dataclass(frozen=True, slots=True)
class WebhookReport:
    """A fact for one checkout. `report.delivery` is set."""

    tenant: Tenant
    checkout_id: CheckoutId
    order_id: OrderId
    report: Report


@dataclass(frozen=True, slots=True)
class Ignored:
    """A type that tells us nothing we do not learn otherwise; recorded."""

    type: str
    delivery: Delivery
    object_id: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    """It should concern a checkout, and names none, or cannot be read; recorded. `why` never echoes a value."""

    type: str
    why: str
    delivery: Delivery
    object_id: str


# ---- is it Stripe? -------------------------------------------------------------------------------------------------


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[tuple[str, str]],
    now_s: int,
    tolerance_s: int = WEBHOOK_TOLERANCE_S,
) -> Verified | Rejected:
    """Checks size, content type, signature and age, in this order but for the last two, then parses.

    `secrets`: (name, secret), two while rotating; the name of the one that held goes into the delivery. `headers`: any case.
    A content type that is not sent is not held against it. Source: docs.stripe.com/webhooks, failures.md row S7.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    if len(body) > WEBHOOK_BODY_MAX:
        return Rejected(Reason.BODY_TOO_LARGE)
    if sent.get("content-type", "application/json").split(";")[0].strip().lower() != "application/json":
        return Rejected(Reason.CONTENT_TYPE)
    header = sent.get(SIGNATURE_HEADER, "")
    if not header:
        return Rejected(Reason.SIGNATURE_MISSING)
    signed = _signed(header)
    if signed is None:
        return Rejected(Reason.SIGNATURE_MALFORMED)
    timestamp, signatures = signed
    name = _holds(body, timestamp, signatures, secrets)
    if name is None:
        return Rejected(Reason.SIGNATURE_WRONG)
    age_s = now_s - int(timestamp)
    if age_s > tolerance_s:
        return Rejected(Reason.STALE)
    if age_s < -tolerance_s:
        return Rejected(Reason.FROM_THE_FUTURE)
    event = _event(body, name)
    return Verified(event) if event is not None else Rejected(Reason.NOT_AN_EVENT)


def _signed(header: str) -> tuple[str, list[bytes]] | None:
    """The timestamp as it was written, since it is part of what is signed, and the v1 signatures."""
    if len(header) > _HEADER_LENGTH_MAX:
        return None
    parts = [part.strip().partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in parts if name == "t"]
    signatures = [value.encode("utf-8", "replace") for name, _, value in parts if name == "v1"]
    if len(timestamps) != 1 or _TIMESTAMP.fullmatch(timestamps[0]) is None:
        return None
    if not 1 <= len(signatures) <= _SIGNATURES_MAX:
        return None
    return timestamps[0], signatures


def _holds(body: bytes, timestamp: str, signatures: Sequence[bytes], secrets: Sequence[tuple[str, str]]) -> str | None:
    """The name of the secret that one of the signatures was made with. Each is compared in constant time."""
    payload = timestamp.encode() + b"." + body
    held = None
    for name, secret in secrets:
        if not secret:
            continue  # anybody can sign with an empty secret
        expected = hmac.new(secret.encode(), payload, sha256).hexdigest().encode()
        for signature in signatures:
            if hmac.compare_digest(expected, signature) and held is None:
                held = name
    return held


def _event(body: bytes, verified_with: str) -> Event | None:
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of 5,000 digits, or 100,000 brackets deep
        return None
    if not isinstance(document, dict) or document.get("object") != "event":
        return None
    event_id, type_, data = document.get("id"), document.get("type"), document.get("data")
    if not isinstance(event_id, str) or _EVENT_ID.fullmatch(event_id) is None:
        return None
    if not isinstance(type_, str) or _EVENT_TYPE.fullmatch(type_) is None:
        return None
    shown = data.get("object") if isinstance(data, dict) else None
    if not isinstance(shown, dict):
        return None
    return Event(Delivery(PSP, event_id, type_, sha256(body).hexdigest(), verified_with), shown)


def _no_constant(_: str) -> NoReturn:
    """NaN and Infinity are no JSON."""
    raise ValueError("not JSON")


# ---- what does it say? ---------------------------------------------------------------------------------------------

INTENT_TYPES: Final = frozenset(
    {
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "payment_intent.canceled",
        "payment_intent.requires_action",
        "payment_intent.processing",
    }
)
"""Their object is believed, never their name: a payment_failed that is late shows what the intent was then."""

REFUNDED_TYPE: Final = "charge.refunded"

REFUND_TYPES: Final = frozenset({"refund.updated", "refund.failed"})
"""Their object is the refund itself. A bank may send one back weeks after it had succeeded, when nothing asks any more."""

_ENDED: Final = frozenset({ObjectStatus.REFUNDED, ObjectStatus.REFUND_FAILED})


def report_of(event: Event) -> WebhookReport | Ignored | Unmatched:
    """What a verified event means. Everything it brings, the order it names included, is compared by the checkout."""
    if event.delivery.type in INTENT_TYPES:
        names = _names(event.shown)
        if names is None:
            return _unmatched(event, "no checkout of ours is named in its metadata")
        report = report_of_intent(event.shown, source=ReportSource.WEBHOOK, psp=PSP, order_id=names[2])
        return _reported(event, names, report)
    if event.delivery.type == REFUNDED_TYPE:
        ours = _our_refund(event.shown)
        return _refund(event, ours) if ours is not None else _refunded(event)
    if event.delivery.type in REFUND_TYPES and REFUND_KEY in metadata_of(event.shown):
        return _refund(event, event.shown)
    return Ignored(event.delivery.type, event.delivery, event.object_id)


def _refunded(event: Event) -> WebhookReport | Ignored | Unmatched:
    """A charge that people gave back, at Stripe itself. Of one that is ours and has all of it back the checkout is told."""
    names = _names(event.shown)
    if names is None or event.shown.get("refunded") is not True:
        return Ignored(event.delivery.type, event.delivery, event.object_id)
    report = report_of_refunded_charge(event.shown, source=ReportSource.WEBHOOK, psp=PSP, order_id=names[2])
    return _reported(event, names, report)


def _refund(event: Event, refund: Json) -> WebhookReport | Ignored | Unmatched:
    """A refund of ours that has ended. Others are ignored: our own reads see what becomes of ours."""
    names = _names(refund)
    if names is None:
        return Ignored(event.delivery.type, event.delivery, event.object_id)
    report = report_of_refund(refund, source=ReportSource.WEBHOOK, psp=PSP, order_id=names[2])
    if isinstance(report, Report) and report.status not in _ENDED:
        return Ignored(event.delivery.type, event.delivery, event.object_id)
    return _reported(event, names, report)


def _our_refund(charge: Json) -> Json | None:
    """The newest refund in the charge that carries our key; older API versions show them, newer ones on request."""
    refunds = charge.get("refunds")
    data = refunds.get("data") if isinstance(refunds, Mapping) else None
    shown = data if isinstance(data, list) else []
    return next((each for each in shown if isinstance(each, dict) and REFUND_KEY in metadata_of(each)), None)


def _reported(
    event: Event, names: tuple[Tenant, CheckoutId, OrderId], report: Report | Unreadable
) -> WebhookReport | Unmatched:
    if isinstance(report, Unreadable):
        return _unmatched(event, report.why)
    return WebhookReport(*names, replace(report, delivery=event.delivery))


def _unmatched(event: Event, why: str) -> Unmatched:
    return Unmatched(event.delivery.type, why, event.delivery, event.object_id)


def _names(shown: Json) -> tuple[Tenant, CheckoutId, OrderId] | None:
    """Whose it is, by the metadata we put on every object; None where any of it is missing or cannot be ours."""
    metadata = metadata_of(shown)
    names = [metadata.get(name, "") for name in (TENANT, CHECKOUT_ID, ORDER_ID)]
    if not all(0 < len(name) <= ID_LENGTH_MAX for name in names):
        return None
    return Tenant(names[0]), CheckoutId(names[1]), OrderId(names[2])
