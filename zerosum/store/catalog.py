"""Which service is kept by which mapping.

Invariant: every service of `table.SERVICES` is here.
"""

from collections.abc import Mapping
from typing import Any

from zerosum.errors import Misconfigured
from zerosum.store.ledger import LEDGER
from zerosum.store.mapping import Aggregate
from zerosum.store.payment import PAYMENT
from zerosum.store.wallet import WALLET

AGGREGATES: Mapping[str, Aggregate[Any]] = {"payment": PAYMENT, "wallet": WALLET, "ledger": LEDGER}


def aggregate_of(service: str) -> Aggregate[Any]:
    """The mapping of "payment", "wallet" or "ledger". Raises Misconfigured on another name."""
    if service not in AGGREGATES:
        raise Misconfigured(f"there is no service {service}")
    return AGGREGATES[service]
