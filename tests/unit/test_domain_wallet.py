"""A wallet is the fold of its transfers. Source: design section 6; I5."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.domain.account import NO_NEW_MONEY, AccountClosed, CloseAccount, Closure
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import (
    Bucket,
    Transfer,
    TransferApplied,
    TransferKind,
    Wallet,
    decide,
    empty,
    evolve,
    wallet_key,
)

TRANSFER = Transfer(
    Tenant("t"), Key("credit-1-x"), "seller-1", TransferKind.CREDIT_PENDING, Money(1000, "EUR"), OrderId("o1")
)

CLOSE = CloseAccount(Tenant("t"), Key("k1"), "seller-1", "EUR", "fin", "SELLER_LEFT")

applied = st.builds(
    TransferApplied,
    st.text(max_size=8).map(Key),
    st.sampled_from(Bucket),
    st.integers(-(10**15), 10**15),
    st.just(OrderId("o")),
)


def buckets_of(wallet: Wallet) -> dict[Bucket, int]:
    return {
        Bucket.PENDING: wallet.pending_minor,
        Bucket.AVAILABLE: wallet.available_minor,
        Bucket.IN_PAYOUT: wallet.in_payout_minor,
        Bucket.RECEIVABLE: wallet.receivable_minor,
    }


def test_a_wallet_opens_empty_for_one_owner_and_one_currency() -> None:
    wallet = empty(TRANSFER, 7)

    assert wallet.key == EntityKey(Tenant("t"), "seller-1:EUR") == wallet_key(Tenant("t"), "seller-1", "EUR")
    assert (wallet.owner, wallet.currency, wallet.version) == ("seller-1", "EUR", 0)
    assert set(buckets_of(wallet).values()) == {0}
    assert wallet.created_at_ms == wallet.updated_at_ms == 7


def test_a_credit_goes_into_pending_and_nowhere_else() -> None:
    wallet = empty(TRANSFER, 0)
    event = decide(wallet, TRANSFER)

    assert event == TransferApplied(TRANSFER.transfer_id, Bucket.PENDING, 1000, TRANSFER.order_id)
    assert isinstance(event, TransferApplied)
    assert buckets_of(evolve(wallet, event, 1)) == {
        Bucket.PENDING: 1000,
        Bucket.AVAILABLE: 0,
        Bucket.IN_PAYOUT: 0,
        Bucket.RECEIVABLE: 0,
    }


@pytest.mark.parametrize("kind", TransferKind)
def test_every_kind_of_transfer_is_decided(kind: TransferKind) -> None:
    rich = replace(empty(TRANSFER, 0), pending_minor=1000)

    assert isinstance(decide(rich, replace(TRANSFER, kind=kind)), TransferApplied)


def closed_wallet(pending_minor: int = 0) -> Wallet:
    """A wallet that takes no new money."""
    event = decide(empty(CLOSE, 0), CLOSE)
    assert isinstance(event, AccountClosed)
    return replace(evolve(empty(CLOSE, 0), event, 5), pending_minor=pending_minor)


def test_a_debit_takes_from_pending_and_is_refused_where_pending_does_not_cover_it() -> None:
    """I13: no bucket falls below zero, and nothing moves by a refusal."""
    debit = replace(TRANSFER, kind=TransferKind.DEBIT_PENDING)

    taken = decide(replace(empty(TRANSFER, 0), pending_minor=1000), debit)
    refused = decide(replace(empty(TRANSFER, 0), pending_minor=999), debit)

    assert taken == TransferApplied(TRANSFER.transfer_id, Bucket.PENDING, -1000, TRANSFER.order_id)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.BALANCE_TOO_LOW


@pytest.mark.parametrize(
    ("kind", "is_taken"),
    [(TransferKind.CREDIT_PENDING, False), (TransferKind.DEBIT_PENDING, True), (TransferKind.RETURN_PENDING, True)],
)
def test_a_closed_wallet_takes_no_new_money_and_lets_corrections_through(kind: TransferKind, is_taken: bool) -> None:
    """Facts are never refused: what was taken can be taken back, and given back again."""
    decided = decide(closed_wallet(1000), replace(TRANSFER, kind=kind))

    assert isinstance(decided, TransferApplied) is is_taken
    assert is_taken or decided == NO_NEW_MONEY


def test_a_wallet_is_closed_once_and_remembers_by_whom_and_why() -> None:
    """Closing what is closed changes nothing."""
    wallet = closed_wallet()

    assert wallet.closure == Closure(1, "fin", "SELLER_LEFT", 5)
    assert wallet.version == 1
    assert decide(wallet, CLOSE) is None


@given(st.lists(applied, max_size=30))
def test_every_bucket_is_the_sum_of_its_entries_and_the_version_counts_them(events: list[TransferApplied]) -> None:
    wallet = empty(TRANSFER, 0)
    sums: Counter[Bucket] = Counter()
    for at_ms, event in enumerate(events, start=1):
        wallet = evolve(wallet, event, at_ms)
        sums[event.bucket] += event.amount_minor

    assert buckets_of(wallet) == {bucket: sums[bucket] for bucket in Bucket}
    assert wallet.version == len(events)
    assert wallet.updated_at_ms == len(events)


@given(st.lists(applied, max_size=10))
def test_the_order_of_transfers_does_not_matter_to_the_balances(events: list[TransferApplied]) -> None:
    one, other = empty(TRANSFER, 0), empty(TRANSFER, 0)
    for event in events:
        one = evolve(one, event, 1)
    for event in sorted(events, key=lambda event: (event.bucket, event.amount_minor)):
        other = evolve(other, event, 1)

    assert one == other


@pytest.mark.parametrize(
    "other",
    [
        replace(TRANSFER, owner="seller-2"),
        replace(TRANSFER, money=Money(1001, "EUR")),
        replace(TRANSFER, money=Money(1000, "USD")),
        replace(TRANSFER, order_id=OrderId("o2")),
    ],
)
def test_another_request_under_the_same_id_has_another_fingerprint(other: Transfer) -> None:
    assert other.fingerprint() != TRANSFER.fingerprint()
    assert replace(other, transfer_id=Key("y")).fingerprint() == other.fingerprint(), "the id is not part of it"


def test_the_fingerprint_of_a_transfer_is_pinned() -> None:
    """Stored for ever: a change of the hash would turn every replay into another request."""
    assert TRANSFER.fingerprint() == "1:3b25c22ff351567bb3c7505c266089ba07d602025a709faf14df5de7967f1ff0"
