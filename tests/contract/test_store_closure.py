"""Closed accounts are kept for ever, beside the wallet or owner they are of, and shown to readers."""

from dataclasses import replace

from tests.contract import sample
from tests.contract.house import House, Shard
from zerosum.domain.account import AccountClosed, CloseAccount, Closure
from zerosum.domain.identity import EntityKey, Key
from zerosum.domain.journal import new_owner
from zerosum.domain.wallet import empty
from zerosum.ports import Committed, Wanted

CLOSED = AccountClosed("USD", "fin", "SELLER_LEFT")


async def test_a_wallet_is_loaded_closed_as_it_was_committed(house: House) -> None:
    """Closed before anything came, and after: the closure says by whom, why, when, and at which version."""
    shard = await Shard.begin(house.store("wallet"))
    asked = CloseAccount(house.tenant, Key("k1"), "seller_2", "USD", "fin", "SELLER_LEFT")
    draft = sample.wallets()
    paid = sample.credit(draft, None, sample.transfer(house.tenant, "t1"))
    closed = draft.turn(paid.key, paid, [CLOSED])
    unused = draft.turn(empty(asked, draft.now_ms).key, None, [CLOSED], empty=empty(asked, draft.now_ms))
    assert isinstance(await shard.commit(draft), Committed)

    assert closed is not None
    assert unused is not None
    stored = (await shard.store.load(Wanted(entities=(closed.key, unused.key)))).entities
    assert stored == {closed.key: closed, unused.key: unused}
    assert closed.closure == Closure(2, "fin", "SELLER_LEFT", sample.NOW_MS)
    shown = await house.reader("wallet").wallet(house.tenant, "seller_1", "USD")
    assert shown == closed


async def test_an_owner_is_loaded_with_its_closed_accounts_and_goes_on(house: House) -> None:
    """By currency; journals that correct come after a closing."""
    shard = await Shard.begin(house.store("ledger"))
    key = EntityKey(house.tenant, "seller_1")
    draft = sample.owners()
    posted = sample.post(draft, None, sample.capture(house.tenant, "j1"))
    closed = draft.turn(key, posted, [CLOSED, replace(CLOSED, currency="EUR")])
    assert isinstance(await shard.commit(draft), Committed)
    assert closed is not None
    assert set(closed.closures) == {"USD", "EUR"}
    assert (await shard.store.load(Wanted(entities=(key,)))).entities == {key: closed}

    later = sample.owners(sample.NOW_MS + 1)
    after = sample.post(later, closed, sample.capture(house.tenant, "j2"))

    assert isinstance(await shard.commit(later), Committed)
    assert (await shard.store.load(Wanted(entities=(key,)))).entities == {key: after}


async def test_an_owner_can_be_closed_before_anything_is_posted(house: House) -> None:
    """A seller who never sold."""
    shard = await Shard.begin(house.store("ledger"))
    key = EntityKey(house.tenant, "seller_9")
    draft = sample.owners()
    closed = draft.turn(key, None, [CLOSED], empty=new_owner(key, draft.now_ms))

    assert isinstance(await shard.commit(draft), Committed)
    assert (await shard.store.load(Wanted(entities=(key,)))).entities == {key: closed}
