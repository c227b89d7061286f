"""What lines settle: the bank gets the net, the fees what is believed, clearing gives the rest. Source: design section 6."""

import pytest

from tests.unit.reconcile_sample import OVERDUE, charge, line, refund, refund_line
from zerosum.domain.identity import Tenant
from zerosum.domain.journal import Movement
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Movement as OurMovement
from zerosum.domain.settlement import Category, Line
from zerosum.domain.settlement_posting import Settled, settled, settlement_entries, settlement_journal, total
from zerosum.errors import Bug


def settled_by(lines: list[Line], movements: list[OurMovement]) -> list[Settled]:
    parts = [settled(item) for item in reconcile(lines, movements, OVERDUE)]
    return [part for part in parts if part is not None]


def fee_row(minor: int, *, as_fee: bool) -> Line:
    """A fee told as a gross, or as a fee: PSPs do either."""
    told = {"amount_minor": 0, "fee_minor": minor} if as_fee else {"amount_minor": -minor, "fee_minor": 0}
    return line(**told, id="txn_fee", number=9, category=Category.FEE)  # type: ignore[arg-type] # by name


def test_a_charge_of_100_with_a_fee_of_3_20_brings_the_bank_96_80() -> None:
    (part,) = settled_by([line()], [charge()])

    assert [(entry.account, entry.money.amount_minor) for entry in settlement_entries("stripe", part)] == [
        ("bank:in_transit:EUR", 9_680),
        ("fees:psp:stripe:EUR", 320),
        ("psp:stripe:clearing:EUR", -10_000),
    ]


def test_a_refund_takes_the_money_back_out_of_the_bank() -> None:
    parts = settled_by([refund_line()], [refund()])

    assert parts == [Settled("EUR", -10_000, 0)]


def test_a_line_told_twice_settles_once() -> None:
    assert settled_by([line(), line(number=2)], [charge()]) == [Settled("EUR", 9_680, 320)]


def test_a_payout_and_a_movement_alone_settle_nothing() -> None:
    payout = line(amount_minor=-9_680, fee_minor=0, category=Category.PAYOUT, object_id="", reference="")

    assert settled_by([payout], [charge()]) == []


def test_of_a_wrong_fee_the_contracts_is_believed() -> None:
    """3.70 was kept, 3.20 is the contract's: 0.50 stay in clearing, and the bank has what it has."""
    assert settled_by([line(fee_minor=370)], [charge()]) == [Settled("EUR", 9_630, 320)]


@pytest.mark.parametrize("as_fee", [True, False])
def test_the_contracts_dispute_fee_is_believed_and_one_without_origin_is_not(as_fee: bool) -> None:
    dispute = line(amount_minor=-10_000, fee_minor=0, id="txn_dp", number=2, category=Category.DISPUTE)
    known = settled_by([line(), dispute, fee_row(1_500, as_fee=as_fee)], [charge()])
    strange = settled_by([fee_row(1_500, as_fee=as_fee)], [])

    assert Settled("EUR", -1_500, 1_500) in known
    assert strange == [Settled("EUR", -1_500, 0)]


def test_what_has_no_home_settles_like_everything_else() -> None:
    """The bank receives the sum of all lines, so each of them has left clearing."""
    assert settled_by([line(category=Category.DISPUTE, amount_minor=-500, fee_minor=1_500)], []) == [
        Settled("EUR", -2_000, 1_500)
    ]


def test_a_files_journal_has_the_same_id_whoever_makes_it_again() -> None:
    whole = total([Settled("EUR", 9_680, 320), Settled("EUR", -10_000, 0)])
    posted = settlement_journal(Tenant("t"), "stripe", file_id="f", number=1, whole=whole)

    assert posted == settlement_journal(Tenant("t"), "stripe", file_id="f", number=1, whole=whole)
    assert (posted.movement, posted.owner) == (Movement.SETTLEMENT, "psp:stripe")
    assert sum(entry.money.amount_minor for entry in posted.entries) == 0
    others = [
        settlement_journal(Tenant("t"), "stripe", file_id="f", number=2, whole=whole),
        settlement_journal(Tenant("t"), "stripe", file_id="g", number=1, whole=whole),
        settlement_journal(Tenant("t"), "stripe", file_id="f", number=1, whole=Settled("USD", 1, 1)),
    ]
    assert posted.journal_id not in {other.journal_id for other in others}


@pytest.mark.parametrize("parts", [[], [Settled("EUR", 1, 0), Settled("USD", 1, 0)]])
def test_a_journal_has_one_currency(parts: list[Settled]) -> None:
    with pytest.raises(Bug):
        total(parts)


def test_there_is_no_journal_of_nothing() -> None:
    with pytest.raises(Bug):
        settlement_journal(Tenant("t"), "stripe", file_id="f", number=1, whole=Settled("EUR", 0, 0))
