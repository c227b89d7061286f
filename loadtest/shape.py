"""What buyers put into their baskets: a seeded, endless sequence of checkouts.

Pure. The n-th checkout depends on (shape, seed, run id, n) alone, never on when it is sent or on what came of others.
Invariant: ids carry the run's id, so two runs on the same data never meet; no digit run can be read as a card number.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

DECIMALS: Final = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
"""Decimals of the currencies in use (ISO 4217)."""

Currencies = tuple[tuple[str, int], ...]
MIX: Final[Currencies] = (("USD", 55), ("EUR", 30), ("JPY", 10), ("KWD", 5))
"""Weights in percent: every count of decimals there is, in plausible shares."""
ONE_CURRENCY: Final[Currencies] = (("USD", 100),)

HOT_SELLER: Final = "seller-hot"
GOOD_CARD: Final = "pm_card_visa"
DECLINED_CARDS: Final = (
    "pm_card_visa_chargeDeclined",
    "pm_card_visa_chargeDeclinedInsufficientFunds",
    "pm_card_visa_chargeDeclinedLostCard",
)
CHALLENGED_CARD: Final = "pm_card_threeDSecure2Required"


@dataclass(frozen=True, slots=True)
class Shape:
    """What baskets look like. Shares are from 0 to 1; `sellers` are beside the hot one.

    `decline_share`: checkouts paid with a card that is declined. `challenge_share`: with one that needs 3-D Secure.
    """

    orders_min: int
    orders_max: int
    sellers: int
    hot_share: float
    currencies: Currencies
    decline_share: float = 0.0
    challenge_share: float = 0.0

    def with_cards(self, *, decline_share: float, challenge_share: float) -> "Shape":
        """The same baskets, paid with other cards."""
        return replace(self, decline_share=decline_share, challenge_share=challenge_share)


@dataclass(frozen=True, slots=True)
class Order:
    """Money for one seller. `amount` is the decimal string that is sent."""

    payment_order_id: str
    seller_account: str
    amount: str
    currency: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """One click. Its idempotency key is its id."""

    checkout_id: str
    buyer_account: str
    token: str
    orders: tuple[Order, ...]


def checkouts(shape: Shape, *, seed: int, run_id: str) -> Iterator[Checkout]:
    """The endless sequence. `run_id`: up to 16 letters and digits; `seed`: its last nine digits stand in the ids."""
    chance = random.Random(f"checkouts/{seed}")
    number = 0
    while True:
        number += 1
        yield _checkout(shape, chance, f"r{run_id}s{abs(seed) % 10**9}n{number}")


def _checkout(shape: Shape, chance: random.Random, mark: str) -> Checkout:
    names, weights = zip(*shape.currencies, strict=True)
    currency = chance.choices(names, weights)[0]
    sellers = _sellers(shape, chance, chance.randint(shape.orders_min, shape.orders_max))
    orders = tuple(
        Order(f"po-{mark}o{place}", seller, _amount(chance, currency), currency)
        for place, seller in enumerate(sellers, start=1)
    )
    return Checkout(f"co-{mark}", f"buyer-{chance.randint(1, 5_000)}", _token(shape, chance), orders)


def _sellers(shape: Shape, chance: random.Random, count: int) -> list[str]:
    """Different sellers; the first is the hot one with the shape's share."""
    is_hot = chance.random() < shape.hot_share
    numbers = chance.sample(range(1, shape.sellers + 1), min(count, shape.sellers))
    spread = [f"seller-{number:04d}" for number in numbers]
    return [HOT_SELLER, *spread[1:]] if is_hot else spread


def _amount(chance: random.Random, currency: str) -> str:
    """From 1 to 250 units, in yen a hundredfold. KWD ends in 0: card networks settle it in tens of fils."""
    decimals = DECIMALS[currency]
    if decimals == 0:
        return str(chance.randint(100, 25_000))
    minor = chance.randint(10**decimals, 250 * 10**decimals)
    if decimals == 3:  # noqa: PLR2004 - three decimals are what this branch is about
        minor -= minor % 10
    return f"{minor // 10**decimals}.{minor % 10**decimals:0{decimals}d}"


def _token(shape: Shape, chance: random.Random) -> str:
    draw = chance.random()
    if draw < shape.decline_share:
        return chance.choice(DECLINED_CARDS)
    if draw < shape.decline_share + shape.challenge_share:
        return CHALLENGED_CARD
    return GOOD_CARD


def fingerprint(checkout: Checkout) -> str:
    """SHA-256 over what is asked for, in the client's own canonical form. Equal asks, equal fingerprints."""
    asked = [
        checkout.checkout_id,
        checkout.buyer_account,
        checkout.token,
        [[order.payment_order_id, order.seller_account, order.amount, order.currency] for order in checkout.orders],
    ]
    return hashlib.sha256(json.dumps(asked, separators=(",", ":")).encode()).hexdigest()
