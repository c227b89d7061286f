"""Money: integer minor units and a currency, nothing else.

Placeholder of the shape; the parser and the table of exponents follow.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount in minor units (cents, yen, fils) of an ISO 4217 currency. May be negative where a field says signed."""

    amount_minor: int
    currency: str
