"""What the payment service needs of a PSP's webhook dialect: bytes and headers in, a verified fact out.

An adapter of `zerosum/psp` verifies and reads; here stands only the shape it is handed in as.

Invariant: nothing that was not verified ever becomes an Incoming.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from zerosum.domain.identity import EntityKey
from zerosum.domain.message import Report
from zerosum.domain.refusal import Refusal


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
