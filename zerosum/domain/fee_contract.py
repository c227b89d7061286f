"""What a PSP may keep of a movement, by contract: a share, a fixed part, and how it rounds. Integers only.

Invariant: the same movement always has the same fee, in minor units of its own currency, never above the money itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from zerosum.domain.money import Money

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class FeeContract:
    """What one PSP charges us.

    `share_ppm`: of a charge, in millionths, rounded half up to a whole `step_minor` of its currency (1 where none is named).
    `fixed_minor`: on top of it, for each charge. `dispute_minor`: for each dispute, as a line of its own. Both in minor units
    of the currency, or `.._default_minor` where it is not named.
    """

    share_ppm: int
    fixed_default_minor: int
    dispute_default_minor: int
    fixed_minor: Mapping[str, int]
    dispute_minor: Mapping[str, int]
    step_minor: Mapping[str, int]


STRIPE: Final = FeeContract(
    share_ppm=29_000,
    fixed_default_minor=30,
    dispute_default_minor=1_500,
    fixed_minor=MappingProxyType({"MGA": 3_000}),
    dispute_minor=MappingProxyType({"MGA": 150_000}),
    step_minor=MappingProxyType({"MGA": 100}),
)
"""2.9 % and 30 minor units as Stripe counts them; of ariary it takes whole ones, which have two decimals in ISO 4217."""

CONTRACTS: Final[Mapping[str, FeeContract]] = MappingProxyType({"stripe": STRIPE})
"""PSP -> its contract. A PSP without a row is not reconciled: its fees could not be judged."""


def charge_fee_minor(contract: FeeContract, gross: Money) -> int:
    """The fee of a charge of `gross`, 0 for money that is not above zero."""
    if gross.amount_minor <= 0:
        return 0
    step = contract.step_minor.get(gross.currency, 1)
    share = (gross.amount_minor * contract.share_ppm + _MILLION * step // 2) // (_MILLION * step) * step
    fixed = contract.fixed_minor.get(gross.currency, contract.fixed_default_minor)
    return min(share + fixed, gross.amount_minor)


def dispute_fee_minor(contract: FeeContract, currency: str) -> int:
    """The fee of one dispute."""
    return contract.dispute_minor.get(currency, contract.dispute_default_minor)
