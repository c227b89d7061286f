"""Names of things: ids as types, slots, and the keys derived from them.

Invariant: every inner id and key is a function of (tenant, payment order, operation, number), never of time,
chance or epoch, so that whoever repeats a step repeats it under the same name. Source: design section 4.
"""

import hashlib
import zlib
from functools import lru_cache
from typing import NamedTuple, NewType

from zerosum.limits import SLOTS

Tenant = NewType("Tenant", str)
CheckoutId = NewType("CheckoutId", str)
OrderId = NewType("OrderId", str)
Key = NewType("Key", str)
"""An idempotency key or any derived id."""


class EntityKey(NamedTuple):
    """Who takes a turn: a checkout, a wallet or a ledger owner. `id` is unique within the tenant."""

    tenant: Tenant
    id: str


class CommandKey(NamedTuple):
    """The identity of something asked for, once and for ever. Source: design section 4, "Command"."""

    tenant: Tenant
    method: str
    key: str


@lru_cache(maxsize=8_192)
def slot_of(*parts: str) -> int:
    """The slot of an entity or command, 0 to 63. Lengths are hashed too, so ("a", "bc") and ("ab", "c") differ."""
    return zlib.crc32(_join(parts)) % SLOTS


def derived_key(tenant: str, order_id: str, operation: str, number: int) -> Key:
    """The one key of one operation: readable operation and number, then 40 hex digits of SHA-256 over all parts."""
    digest = hashlib.sha256(_join((tenant, order_id, operation, str(number)))).hexdigest()
    return Key(f"{operation}-{number}-{digest[:40]}")


def fingerprint_of(*fields: str) -> str:
    """Tells one request from another: a versioned hash over parsed fields, their lengths included."""
    return "1:" + hashlib.sha256(_join(fields)).hexdigest()


def _join(parts: tuple[str, ...]) -> bytes:
    return b"".join([b"%d:%s" % (len(raw), raw) for raw in map(str.encode, parts)])
