"""The contract's fee is the PSP's own, to the minor unit. Source: issue 4 point 2; simulator/psp books by its own code."""

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.psp_engine import Psp
from zerosum.domain.fee_contract import CONTRACTS, STRIPE, FeeContract, charge_fee_minor, dispute_fee_minor
from zerosum.domain.money import EXPONENTS, Money
from zerosum.psp.stripe import PSP
from zerosum.psp.stripe.amount import from_stripe


@pytest.mark.parametrize(
    ("amount_minor", "currency", "fee_minor"),
    [
        (10_000, "EUR", 320),
        (1, "EUR", 1),
        (31, "EUR", 31),
        (1_017, "EUR", 59),
        (1_018, "EUR", 60),
        (500, "JPY", 45),
        (1_000_000, "MGA", 32_000),
        (0, "EUR", 0),
        (-10_000, "EUR", 0),
    ],
)
def test_the_share_is_rounded_half_up_the_fixed_part_added_and_all_of_it_capped(
    amount_minor: int, currency: str, fee_minor: int
) -> None:
    """2.9 % of 10.17 is 29.493 cents, of 10.18 it is 29.522. Of ariary only whole ones are taken."""
    assert charge_fee_minor(STRIPE, Money(amount_minor, currency)) == fee_minor


def test_half_a_minor_unit_is_rounded_up() -> None:
    half = FeeContract(500_000, 0, 0, MappingProxyType({}), MappingProxyType({}), MappingProxyType({}))

    assert [charge_fee_minor(half, Money(minor, "EUR")) for minor in (1, 2, 3)] == [1, 1, 2]


@given(st.integers(1, 10**15), st.sampled_from(sorted(EXPONENTS)))
def test_a_fee_is_never_below_zero_nor_above_the_money(amount_minor: int, currency: str) -> None:
    assert 0 <= charge_fee_minor(STRIPE, Money(amount_minor, currency)) <= amount_minor


def test_a_dispute_costs_what_the_contract_says_of_its_currency() -> None:
    assert (dispute_fee_minor(STRIPE, "EUR"), dispute_fee_minor(STRIPE, "MGA")) == (1_500, 150_000)


def test_our_psp_has_a_contract() -> None:
    assert set(CONTRACTS) == {PSP}


@pytest.mark.parametrize("currency", ["usd", "eur", "jpy", "kwd", "mga"])
def test_the_fee_is_the_one_the_psp_books(currency: str) -> None:
    """Method: the simulator's own engine charges, and its balance tells the fee in its minor units."""
    psp = Psp()
    amounts = [50, 310, 1_010, 1_020, 99_990, 1_234_560]
    for number, amount in enumerate(amounts):
        intent = psp.prepare(f"order-{number}", amount=str(amount), currency=currency)
        psp.confirm(intent["id"], key=f"confirm {number}")
    booked = [
        (from_stripe(each.amount, currency), from_stripe(each.fee, currency))
        for each in psp.engine.account.balance.values()
    ]

    assert len(booked) == len(amounts)
    assert [(gross, Money(charge_fee_minor(STRIPE, gross), gross.currency)) for gross, _ in booked if gross] == booked
