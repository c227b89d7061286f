"""Baskets: seeded, well-formed, and never the same ids in two runs."""

import re
from itertools import islice

import pytest

from loadtest.profiles import PROFILES
from loadtest.shape import (
    CHALLENGED_CARD,
    DECIMALS,
    DECLINED_CARDS,
    GOOD_CARD,
    HOT_SELLER,
    Checkout,
    Shape,
    checkouts,
    fingerprint,
)

ID = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z_.-][A-Za-z0-9_.-]*")


def _first(shape: Shape, count: int = 400, *, seed: int = 7, run_id: str = "1a2b3c4d") -> list[Checkout]:
    return list(islice(checkouts(shape, seed=seed, run_id=run_id), count))


def test_the_same_seed_and_run_bring_the_same_baskets() -> None:
    """A run can be repeated."""
    shape = PROFILES["checkouts-50"].shape

    assert _first(shape) == _first(shape)
    assert [each.orders for each in _first(shape, seed=8)] != [each.orders for each in _first(shape)]


def test_two_runs_share_no_id_but_ask_for_the_same() -> None:
    """A second run on the same data is no replay of the first."""
    shape = PROFILES["checkouts-50"].shape
    first, second = _first(shape, run_id="aaaa"), _first(shape, run_id="bbbb")

    assert not {each.checkout_id for each in first} & {each.checkout_id for each in second}
    assert [[each.amount for each in one.orders] for one in first] == [
        [each.amount for each in one.orders] for one in second
    ]


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_profile_asks_for_what_the_contract_allows(name: str) -> None:
    """Ids, order counts, currencies and decimals as payment.proto and design section 6 have them."""
    shape = PROFILES[name].shape
    for each in _first(shape, seed=2**63 + 12_345, run_id="0123456789abcdef"):
        assert shape.orders_min <= len(each.orders) <= shape.orders_max <= 30
        for order in each.orders:
            for named in (each.checkout_id, order.payment_order_id, order.seller_account):
                assert len(named) <= 64
                assert ID.fullmatch(named)
            decimals = DECIMALS[order.currency]
            pattern = rf"[1-9]\d*\.\d{{{decimals}}}" if decimals else r"[1-9]\d*"
            assert re.fullmatch(pattern, order.amount)
        assert len({order.seller_account for order in each.orders}) == len(each.orders)


def test_no_id_can_be_read_as_a_card_number() -> None:
    """Even when run id and seed are digits alone, letters keep the runs of digits under 13."""
    for each in _first(PROFILES["knee"].shape, seed=411111111, run_id="41111111"):
        for named in (each.checkout_id, each.orders[0].payment_order_id):
            assert all(len(run) < 13 for run in re.findall(r"[\d -]+", named))


def test_shares_of_hot_sellers_and_cards_are_as_asked() -> None:
    """Counts of one seed, wide enough to hold for any."""
    shape = PROFILES["checkouts-50"].shape.with_cards(decline_share=0.2, challenge_share=0.1)
    baskets = _first(shape, 2_000)
    hot = sum(each.orders[0].seller_account == HOT_SELLER for each in baskets)
    cards = [each.token for each in baskets]

    assert 120 < hot < 280
    assert 320 < sum(card in DECLINED_CARDS for card in cards) < 480
    assert 130 < cards.count(CHALLENGED_CARD) < 270
    assert set(cards) == {GOOD_CARD, CHALLENGED_CARD, *DECLINED_CARDS}


def test_the_hot_profile_has_one_seller_and_one_currency() -> None:
    """One account takes everything: (owner, currency) is one wallet."""
    orders = [order for each in _first(PROFILES["hot-seller"].shape) for order in each.orders]

    assert {(order.seller_account, order.currency) for order in orders} == {(HOT_SELLER, "USD")}


def test_a_fingerprint_is_of_what_is_asked_for() -> None:
    """Equal asks, equal fingerprints; any other ask, another."""
    prints = [fingerprint(each) for each in _first(PROFILES["checkouts-50"].shape)]

    assert prints == [fingerprint(each) for each in _first(PROFILES["checkouts-50"].shape)]
    assert len(set(prints)) == len(prints)
