"""Journals balance or do not exist, and balances are the fold of what was posted. Source: design section 6; I1, I2, I5."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.domain import wallet as wallets
from zerosum.domain.account import NO_NEW_MONEY, AccountClosed, CloseAccount, Closure
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, derived_key
from zerosum.domain.journal import (
    BRINGS_NEW_MONEY,
    Balance,
    Entry,
    Journal,
    JournalPosted,
    Movement,
    Owner,
    clearing_account,
    decide,
    entries_of,
    evolve,
    is_own_account,
    journal,
    new_owner,
    seller_pending_account,
    suspense_account,
)
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug

TENANT = Tenant("t")

OF_SETTLEMENT = {Movement.SETTLEMENT, Movement.WRITE_OFF, Movement.FEE_CORRECTION}

amounts = st.integers(1, 10**15)
movements_of_orders = st.sampled_from([movement for movement in Movement if movement not in OF_SETTLEMENT])
accounts = st.sampled_from(["buyer:b", "seller:s:pending", "psp:stripe:clearing", "fees:platform", "suspense"])
currencies = st.sampled_from(["EUR", "JPY", "KWD"])
entries = st.builds(
    lambda account, currency, minor: Entry(f"{account}:{currency}", Money(minor, currency)),
    accounts, currencies, st.integers(-(10**6), 10**6).filter(bool),
)  # fmt: skip


def construct(sides: tuple[Entry, ...], number: int = 1) -> Journal | Refusal:
    return journal(
        tenant=TENANT, journal_id=derived_key("t", "o", "capture", number), owner="s", movement=Movement.CAPTURE,
        entries=sides, order_id=OrderId("o"),
    )  # fmt: skip


def of(movement: Movement, gross_minor: int, fee_minor: int = 0, *, number: int = 1) -> Journal:
    gross, fee = Money(gross_minor, "EUR"), Money(fee_minor, "EUR")
    made = construct(entries_of(movement, gross=gross, fee=fee, buyer="b", seller="s", psp="stripe"), number)
    assert isinstance(made, Journal)
    return made


def sums_of(sides: tuple[Entry, ...]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for side in sides:
        sums[side.account] += side.money.amount_minor
    return sums


@given(st.lists(entries, max_size=8))
def test_a_journal_exists_exactly_when_its_entries_sum_to_zero_per_currency(sides: list[Entry]) -> None:
    made = construct(tuple(sides))

    sums: Counter[str] = Counter()
    for side in sides:
        sums[side.money.currency] += side.money.amount_minor
    if sides and not any(sums.values()):
        assert isinstance(made, Journal)
    else:
        assert isinstance(made, Refusal)
        assert made.reason is Reason.JOURNAL_NOT_BALANCED


@given(st.lists(entries, min_size=1, max_size=6))
def test_entries_with_their_counter_entries_always_make_a_journal(sides: list[Entry]) -> None:
    counter = [Entry(side.account, Money(-side.money.amount_minor, side.money.currency)) for side in sides]

    assert isinstance(construct((*sides, *counter)), Journal)


def test_two_currencies_do_not_balance_one_another() -> None:
    made = construct((Entry("suspense:EUR", Money(100, "EUR")), Entry("suspense:USD", Money(-100, "USD"))))

    assert isinstance(made, Refusal)
    assert made.reason is Reason.JOURNAL_NOT_BALANCED


def test_an_entry_of_zero_is_refused_with_its_path() -> None:
    made = construct((Entry("suspense:EUR", Money(0, "EUR")),))

    assert isinstance(made, Refusal)
    assert (made.reason, made.field) == (Reason.AMOUNT_MALFORMED, "entries[0].money.amount")


@pytest.mark.parametrize(
    "account",
    ["", "EUR", ":EUR", "suspense", "suspense:USD", "suspense:eur", "Suspense:EUR", "suspense::EUR", "suspense:EUR\n",
     "a b:EUR", "suspense:a:b:", "sus\u00fcense:EUR", "suspense:\uff25\uff35\uff32", "seller:a\x1fb:EUR"],
)  # fmt: skip
def test_an_account_that_is_malformed_or_of_another_currency_is_refused_with_its_path(account: str) -> None:
    made = construct((Entry("suspense:EUR", Money(5, "EUR")), Entry(account, Money(-5, "EUR"))))

    assert isinstance(made, Refusal)
    assert (made.reason, made.field) == (Reason.ACCOUNT_MALFORMED, "entries[1].account")


@given(movements_of_orders, amounts, st.data())
def test_every_movement_balances_for_any_gross_and_fee(
    movement: Movement, gross_minor: int, data: st.DataObject
) -> None:
    made = of(movement, gross_minor, data.draw(st.integers(0, gross_minor)))

    assert sum(entry.money.amount_minor for entry in made.entries) == 0
    assert all(entry.money.amount_minor for entry in made.entries)


@given(amounts, st.data())
def test_a_capture_splits_the_gross_between_seller_and_platform(gross_minor: int, data: st.DataObject) -> None:
    """Source: the posting table, "capture of 100, fee 3"; the buyer's account nets to zero."""
    fee_minor = data.draw(st.integers(0, gross_minor))
    sums = sums_of(of(Movement.CAPTURE, gross_minor, fee_minor).entries)

    assert sums["psp:stripe:clearing:EUR"] == gross_minor
    assert sums["seller:s:pending:EUR"] == fee_minor - gross_minor
    assert sums["fees:platform:EUR"] == -fee_minor
    assert sums["buyer:b:EUR"] == 0


@given(amounts)
def test_a_suspense_refund_undoes_the_suspense_charge(gross_minor: int) -> None:
    came = sums_of(of(Movement.SUSPENSE_CHARGE, gross_minor).entries)
    went = sums_of(of(Movement.SUSPENSE_REFUND, gross_minor).entries)

    assert came == {clearing_account("stripe", "EUR"): gross_minor, suspense_account("EUR"): -gross_minor}
    assert {account: -minor for account, minor in came.items()} == went


def test_a_fee_in_another_currency_is_a_bug() -> None:
    with pytest.raises(Bug):
        entries_of(Movement.CAPTURE, gross=Money(100, "EUR"), fee=Money(3, "USD"), buyer="b", seller="s", psp="stripe")


@pytest.mark.parametrize("movement", sorted(OF_SETTLEMENT))
def test_a_movement_of_settlement_is_not_made_from_an_order(movement: Movement) -> None:
    with pytest.raises(Bug):
        of(movement, 1000)


@given(st.lists(st.tuples(movements_of_orders, amounts), max_size=20))
def test_an_owners_balances_are_the_fold_of_the_journals_entries(posted: list[tuple[Movement, int]]) -> None:
    owner = new_owner(EntityKey(TENANT, "s"), 0)
    expected: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for number, (movement, gross_minor) in enumerate(posted):
        made = of(movement, gross_minor, gross_minor // 10, number=number)
        owner = evolve(owner, JournalPosted(made), number)
        for entry in made.entries:
            if entry.account.startswith("seller:s:"):
                expected[entry.account] += entry.money.amount_minor
                counts[entry.account] += 1

    assert owner.version == len(posted)
    assert owner.accounts == {account: Balance(minor, counts[account]) for account, minor in expected.items()}


@given(st.lists(amounts, min_size=1, max_size=20))
def test_a_sellers_pending_account_is_minus_the_wallets_pending_bucket(captured: list[int]) -> None:
    """Each capture credits the wallet and posts its journal; without a fee, for now."""
    owner = new_owner(EntityKey(TENANT, "s"), 0)
    purse = None
    for number, gross_minor in enumerate(captured):
        owner = evolve(owner, JournalPosted(of(Movement.CAPTURE, gross_minor, number=number)), number)
        transfer = Transfer(
            TENANT, Key(f"k{number}"), "s", TransferKind.CREDIT_PENDING, Money(gross_minor, "EUR"), OrderId("o")
        )
        purse = purse or wallets.empty(transfer, number)
        applied = wallets.decide(purse, transfer)
        assert isinstance(applied, wallets.TransferApplied)
        purse = wallets.evolve(purse, applied, number)

    assert purse is not None
    assert owner.accounts[seller_pending_account("s", "EUR")].balance_minor == -purse.pending_minor == -sum(captured)


@pytest.mark.parametrize(
    ("account", "is_own"),
    [("seller:s:pending:EUR", True), ("user:s:available:EUR", True), ("seller:s2:pending:EUR", False),
     ("seller:s", False), ("buyer:s:EUR", False), ("psp:s:clearing:EUR", False), ("suspense:EUR", False)],
)  # fmt: skip
def test_only_a_sellers_or_users_own_accounts_have_a_balance_row(account: str, is_own: bool) -> None:
    assert is_own_account("s", account) is is_own


@given(amounts, amounts)
def test_a_fingerprint_tells_one_journal_from_another_and_is_stable(one_minor: int, other_minor: int) -> None:
    one, same, other = (
        of(Movement.CAPTURE, one_minor),
        of(Movement.CAPTURE, one_minor),
        of(Movement.CAPTURE, other_minor),
    )

    assert one.fingerprint() == same.fingerprint()
    assert (one.fingerprint() == other.fingerprint()) == (one_minor == other_minor)
    assert one.fingerprint().startswith("1:")


def test_the_fingerprint_of_a_journal_is_pinned() -> None:
    """Stored for ever: a change of the hash would turn every replay into another request."""
    assert (
        of(Movement.CAPTURE, 1000).fingerprint() == "1:67862239dcf8e76adf8ac85a9edf0cc85820593471bfb98ed8a60c934549479c"
    )


CLOSE = CloseAccount(Tenant("t"), Key("k1"), "seller-1", "EUR", "fin", "SELLER_LEFT")


def closed_owner() -> Owner:
    """An owner whose EUR accounts take no new money."""
    owner = new_owner(EntityKey(Tenant("t"), "seller-1"), 0)
    event = decide(owner, CLOSE)
    assert isinstance(event, AccountClosed)
    return evolve(owner, event, 5)


@pytest.mark.parametrize("movement", Movement)
def test_a_closed_account_refuses_new_money_and_nothing_else(movement: Movement) -> None:
    """Facts are never refused: only a capture brings new money; whatever corrects it is posted."""
    made = replace(of(Movement.CAPTURE, 1000), movement=movement)

    decided = decide(closed_owner(), made)

    assert decided == (NO_NEW_MONEY if movement in BRINGS_NEW_MONEY else JournalPosted(made))


def test_accounts_are_closed_by_currency_and_once() -> None:
    """Another currency of the same owner stays open; closing what is closed changes nothing."""
    owner = closed_owner()

    assert owner.closures == {"EUR": Closure(1, "fin", "SELLER_LEFT", 5)}
    assert decide(owner, CLOSE) is None
    assert decide(replace(owner, closures={"USD": owner.closures["EUR"]}), of(Movement.CAPTURE, 1000)) == JournalPosted(
        of(Movement.CAPTURE, 1000)
    )
