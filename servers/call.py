"""Who calls, and what one call carries besides its request. The frame sets it; the doors read it.

Invariant: tenant, role and subject come from a verified token, never from a message.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from zerosum.domain.identity import Tenant

HOUSE = Tenant("-")
"""The tenant of our own processes and people: they act for many, and only where the access table says so."""


class Role(StrEnum):
    """What a token may be. `service` is a caller's backend, or one of our own processes (tenant "-"); the rest are people."""

    SERVICE = "service"
    ADMIN = "admin"
    SUPPORT = "support"
    FINANCE = "finance"
    SELLER = "seller"
    BUYER = "buyer"


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified identity."""

    tenant: Tenant
    role: Role
    subject: str


@dataclass(slots=True)
class Call:
    """One call under way. `is_replayed` becomes the trailer `idempotent-replayed: true`."""

    caller: Caller
    method: str
    request_id: str
    is_replayed: bool = field(default=False)


_CURRENT: ContextVar[Call] = ContextVar("call")


def enter_call(call: Call) -> None:
    """Makes this the current call of the running task and all it starts."""
    _CURRENT.set(call)


def current_call() -> Call:
    """The call being served."""
    return _CURRENT.get()


def current_tenant() -> Tenant:
    """The tenant of the call being served."""
    return _CURRENT.get().caller.tenant
