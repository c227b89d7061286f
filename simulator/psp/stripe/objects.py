"""The objects of a Stripe account and the one table of what may happen to a PaymentIntent.

Pure data: no clock, no randomness, no wire. Named tuples, because a call makes and changes a dozen of them: `_replace` of
one with 18 fields costs 2 µs, of a frozen dataclass 11. The invariant: an intent takes money once, for ever; only
`CHARGE_LATE` (a planted fault) leads out of `CANCELED`, and nothing leads out of `SUCCEEDED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

Record = dict[str, Any]
NOTHING: Final[Mapping[str, Any]] = {}
"""The empty mapping that stands for absent metadata; nobody changes it."""


class Status(StrEnum):
    """Every status a PaymentIntent has at Stripe."""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    REQUIRES_CAPTURE = "requires_capture"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class Act(StrEnum):
    """What can happen to a PaymentIntent."""

    ATTACH = "attach"
    CHALLENGE = "challenge"
    PROCESS = "process"
    DECLINE = "decline"
    AUTHORIZE = "authorize"
    CHARGE = "charge"
    CAPTURE = "capture"
    CANCEL = "cancel"
    CHARGE_LATE = "charge_late"


_OPEN: Final = (Status.REQUIRES_PAYMENT_METHOD, Status.REQUIRES_CONFIRMATION, Status.REQUIRES_ACTION)
_PAYABLE: Final = (*_OPEN, Status.PROCESSING)

TRANSITIONS: Final[Mapping[tuple[Status, Act], Status]] = {
    (Status.REQUIRES_PAYMENT_METHOD, Act.ATTACH): Status.REQUIRES_CONFIRMATION,
    **{(status, Act.CHALLENGE): Status.REQUIRES_ACTION for status in _OPEN},
    **{(status, Act.PROCESS): Status.PROCESSING for status in _OPEN},
    **{(status, Act.DECLINE): Status.REQUIRES_PAYMENT_METHOD for status in _PAYABLE},
    **{(status, Act.AUTHORIZE): Status.REQUIRES_CAPTURE for status in _PAYABLE},
    **{(status, Act.CHARGE): Status.SUCCEEDED for status in _PAYABLE},
    **{(status, Act.CANCEL): Status.CANCELED for status in (*_OPEN, Status.REQUIRES_CAPTURE)},
    (Status.REQUIRES_CAPTURE, Act.CAPTURE): Status.SUCCEEDED,
    (Status.CANCELED, Act.CHARGE_LATE): Status.SUCCEEDED,
}
"""(status, act) -> status. A missing pair is refused with `payment_intent_unexpected_state`."""

CONFIRMABLE: Final = frozenset(_OPEN)


def next_status(status: Status, act: Act) -> Status | None:
    """Return the status after `act`, or None where Stripe refuses it."""
    return TRANSITIONS.get((status, act))


class Intent(NamedTuple):
    """A PaymentIntent at one moment. Amounts in minor units; `revision` counts its changes from 1."""

    id: str
    amount: int
    currency: str
    status: Status
    created_ms: int
    revision: int = 1
    capture_method: str = "automatic"
    payment_method: str | None = None
    transfer_group: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = NOTHING
    charges_count: int = 0
    latest_charge: str | None = None
    last_payment_error: Mapping[str, Any] | None = None
    amount_received: int = 0
    amount_capturable: int = 0
    canceled_at_ms: int | None = None
    cancellation_reason: str | None = None

    @property
    def reference(self) -> str | None:
        """The caller's own id for what is paid: `metadata[payment_order_id]`, else the transfer group."""
        return self.metadata.get("payment_order_id", self.transfer_group)


class Charge(NamedTuple):
    """One try of a card. `status` is succeeded or failed; `is_captured` says whether money was taken."""

    id: str
    intent: str
    amount: int
    currency: str
    status: str
    created_ms: int
    payment_method: str
    revision: int = 1
    is_captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    balance_transaction: str | None = None
    transfer_group: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = NOTHING
    failure: Mapping[str, Any] | None = None


class Refund(NamedTuple):
    """Money given back from one charge. `status` is succeeded, or failed: then none was."""

    id: str
    charge: str
    intent: str
    amount: int
    currency: str
    status: str
    created_ms: int
    revision: int = 1
    reason: str | None = None
    balance_transaction: str | None = None
    metadata: Mapping[str, str] = NOTHING


class BalanceTransaction(NamedTuple):
    """One movement of the account's balance. `amount` and `net` are negative for a refund."""

    id: str
    type: str
    source: str
    charge: str
    intent: str
    amount: int
    fee: int
    currency: str
    created_ms: int
    available_on_ms: int

    @property
    def net(self) -> int:
        """What reaches the bank."""
        return self.amount - self.fee


Thing = TypeVar("Thing", Intent, Charge, Refund, BalanceTransaction)

_DEFAULTS: Final[Mapping[type, tuple[Any, ...]]] = {
    kind: tuple(kind._field_defaults.get(name) for name in kind._fields)
    for kind in (Intent, Charge, Refund, BalanceTransaction)
}


def to_record(thing: Intent | Charge | Refund | BalanceTransaction) -> Record:
    """Return the object as plain data for the truth."""
    return thing._asdict()


def to_line(thing: Intent | Charge | Refund | BalanceTransaction) -> Record:
    """Return the object as plain data for the book, without what stands at its default: it is half as long."""
    return {
        name: value
        for name, value, default in zip(thing._fields, thing, _DEFAULTS[type(thing)], strict=True)
        if value is not default and value != default
    }


def from_record(kind: type[Thing], record: Record) -> Thing:
    """Return the object that `to_record` or `to_line` wrote down."""
    if kind is Intent:
        record = {**record, "status": Status(record["status"])}
    return kind(**record)
