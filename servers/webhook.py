"""A PSP's webhook on its way to the checkout it is about: bytes and headers in, a verified fact out.

The dialect of `zerosum/psp` verifies and reads; here stands the shape the payment service takes it in, and which entity
records what. An event that names no checkout of ours is recorded all the same, by an entity named after it.

Invariant: nothing that was not verified ever becomes an Incoming.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from servers.call import HOUSE
from zerosum.domain.identity import EntityKey, OrderId
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.limits import ID_LENGTH_MAX
from zerosum.psp.stripe import webhook as stripe


@dataclass(frozen=True, slots=True)
class Incoming:
    """A verified event that says something about an object. `report.delivery` is set.

    `entity`: the checkout it is about, as the PSP's metadata says; where it names none, (tenant or "-", event id).
    """

    entity: EntityKey
    report: Report


@dataclass(frozen=True, slots=True)
class Ignored:
    """A verified event of a type that tells us nothing."""

    type: str


class WebhookReader(Protocol):
    """Verifies and reads one PSP's webhooks."""

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> Incoming | Ignored | Refusal:
        """A Refusal: not signed by the PSP, too old, or not readable; nothing may be recorded."""
        ...


def stripe_reader(secrets: Sequence[tuple[str, str]], now_s: Callable[[], int]) -> WebhookReader:
    """Stripe's dialect as a WebhookReader. `secrets`: (name, secret), two while rotating. `now_s`: seconds since the epoch."""

    def read(body: bytes, headers: Mapping[str, str]) -> Incoming | Ignored | Refusal:
        verified = stripe.verify(body, headers, secrets, now_s())
        if isinstance(verified, stripe.Rejected):
            return Refusal(Reason.MALFORMED, "", verified.reason)
        event = stripe.report_of(verified.event)
        match event:
            case stripe.WebhookReport():
                return Incoming(EntityKey(event.tenant, event.checkout_id), event.report)
            case stripe.Unmatched():
                return _unmatched(event)
            case stripe.Ignored():
                return Ignored(event.type)
            case _:
                assert_never(event)

    return read


def _unmatched(event: stripe.Unmatched) -> Incoming:
    """A report about nothing we know: it changes nothing, and the inbox keeps it for people."""
    report = Report(
        source=ReportSource.WEBHOOK,
        order_id=OrderId(""),
        psp=event.delivery.psp,
        object_id=event.object_id,
        status=ObjectStatus.PROCESSING,
        money=Money(0, ""),
        reference="",
        reason=event.why,
        delivery=event.delivery,
    )
    return Incoming(EntityKey(HOUSE, event.delivery.event_id[:ID_LENGTH_MAX]), report)
