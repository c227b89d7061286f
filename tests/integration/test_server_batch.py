"""Wallet and ledger over the wire, and the payment service's clients of them: batches, bad items, scripted failures."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest

from actors.answer import Answer, Applied, Busy, Failed, InFlight, Refused
from servers.call import HOUSE, Role
from servers.ledger import LedgerServicer
from servers.status import Problem, Rejected
from servers.wallet import WalletServicer
from tests.integration.server_process import reason, serving
from tests.unit.server_fakes import (
    CARD,
    PAYMENT_PROCESS,
    TENANT,
    FakeLedgerReader,
    FakeShards,
    FakeWalletReader,
    bearer,
    token,
)
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.journal import Balance, Journal, Movement, entries_of, journal
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import Transfer, TransferKind, Wallet
from zerosum.errors import NotSent, OutcomeUnknown
from zerosum.limits import RETRY_HINT_MS
from zerosum.peers.batch import open_channel
from zerosum.peers.ledger import GrpcLedgerPeer
from zerosum.peers.wallet import GrpcWalletPeer
from zerosum.ports import Done, TryLater
from zerosum.readers import WalletEntryRow
from zerosum.v1 import ledger_pb2, wallet_pb2
from zerosum.v1.common_pb2 import Money as MoneyMessage
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub
from zerosum.v1.wallet_pb2_grpc import WalletServiceStub

FINANCE = bearer(Role.FINANCE)


def _payment_token() -> str:
    return token(tenant=HOUSE, subject="payment")


def _transfer(transfer_id: str = "t-1", amount_minor: int = 1_250) -> Transfer:
    return Transfer(
        TENANT, Key(transfer_id), "seller-1", TransferKind.CREDIT_PENDING, Money(amount_minor, "USD"), OrderId("po-0")
    )


def _journal(journal_id: str = "j-1") -> Journal:
    entries = entries_of(
        Movement.CAPTURE, gross=Money(1_250, "USD"), fee=Money(50, "USD"), buyer="b", seller="seller-1", psp="stripe"
    )
    made = journal(
        tenant=TENANT, journal_id=Key(journal_id), owner="seller-1", movement=Movement.CAPTURE, entries=entries,
        order_id=OrderId("po-0"),
    )  # fmt: skip
    assert isinstance(made, Journal)
    return made


def _message(transfer_id: str = "t-1", **changed: Any) -> wallet_pb2.Transfer:
    message = wallet_pb2.Transfer(
        transfer_id=transfer_id, tenant=TENANT, owner="seller-1", kind=wallet_pb2.TRANSFER_KIND_CREDIT_PENDING,
        money=MoneyMessage(amount="12.50", currency="USD"), payment_order_id="po-0",
    )  # fmt: skip
    for name, value in changed.items():
        setattr(message, name, value)
    return message


# ---- the doors -----------------------------------------------------------------------------------------------------


async def test_every_item_has_its_own_result_in_order() -> None:
    """Design section 8, batch RPCs: outcome, refusal or a retryable status each; what is bad reaches no shard."""
    reused = Refusal(Reason.KEY_REUSED, "transfer_id", "the id was used for another transfer")
    answers: list[Answer] = [
        Applied(False), Applied(True), Refused(reused, False), Busy(100), InFlight(200), Failed("Unavailable", "x")
    ]  # fmt: skip
    shards = FakeShards(*answers)
    bad_amount, bad_owner = _message("t-bad"), _message("t-card", owner=CARD)
    bad_amount.money.amount = "1.005"
    good = [_message(f"t-{at}") for at in range(6)]
    request = wallet_pb2.ApplyTransfersRequest(transfers=[bad_amount, *good, bad_owner])
    async with serving(WalletServicer(shards, FakeWalletReader())) as (channel, _):
        response = await WalletServiceStub(channel).ApplyTransfers(request, metadata=PAYMENT_PROCESS)
    results = response.results

    assert [result.key for result in results] == ["t-bad", *(f"t-{at}" for at in range(6)), "t-card"]
    assert (results[0].refused.reason, results[0].refused.field) == ("AMOUNT_TOO_PRECISE", "money.amount")
    assert (results[7].refused.reason, results[7].refused.field) == ("CARD_NUMBER", "owner")
    assert [results[at].done.replayed for at in (1, 2)] == [False, True]
    assert results[3].refused.reason == "KEY_REUSED"
    assert [results[at].retry.retry_after_ms for at in (4, 5, 6)] == [100, 200, RETRY_HINT_MS]
    assert shards.submitted == [_transfer(f"t-{at}") for at in range(6)]


async def test_key_twice_in_a_batch_ends_the_call_and_reaches_no_shard() -> None:
    """Design section 8; the same id of another tenant is another key."""
    shards = FakeShards(Applied(False), Applied(False))
    async with serving(WalletServicer(shards, FakeWalletReader())) as (channel, _):
        stub = WalletServiceStub(channel)
        twice = wallet_pb2.ApplyTransfersRequest(transfers=[_message(), _message()])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ApplyTransfers(twice, metadata=PAYMENT_PROCESS)
        other = wallet_pb2.ApplyTransfersRequest(transfers=[_message(), _message(tenant="other")])
        response = await stub.ApplyTransfers(other, metadata=PAYMENT_PROCESS)

    assert (caught.value.code(), reason(caught.value)) == (
        grpc.StatusCode.INVALID_ARGUMENT, "DUPLICATE_IN_REQUEST"
    )  # fmt: skip
    assert len(response.results) == len(shards.submitted) == 2


async def test_unbalanced_journal_is_refused_for_itself_alone() -> None:
    """Design section 6: a journal sums to zero per currency or cannot be constructed."""
    shards = FakeShards(Applied(False))
    peer_message = ledger_pb2.Journal(
        journal_id="j-bad", tenant=TENANT, owner="seller-1", movement="capture", payment_order_id="po-0",
        entries=[
            ledger_pb2.Entry(account="suspense:USD", money=MoneyMessage(amount="1.00", currency="USD")),
            ledger_pb2.Entry(account="psp:stripe:clearing:USD", money=MoneyMessage(amount="-2.00", currency="USD")),
        ],
    )  # fmt: skip
    unknown = ledger_pb2.Journal()
    unknown.CopyFrom(peer_message)
    unknown.journal_id, unknown.movement = "j-odd", "gift"
    async with serving(LedgerServicer(shards, FakeLedgerReader())) as (channel, _):
        request = ledger_pb2.PostJournalsRequest(journals=[peer_message, unknown])
        results = (await LedgerServiceStub(channel).PostJournals(request, metadata=PAYMENT_PROCESS)).results

    assert [(result.refused.reason, result.refused.field) for result in results] == [
        ("JOURNAL_NOT_BALANCED", "entries"), ("MALFORMED", "movement")
    ]  # fmt: skip
    assert shards.submitted == []


async def test_wallet_is_told_as_stored_and_not_to_other_tenants() -> None:
    """Decimal strings out; a foreign owner answers as not found."""
    key = EntityKey(TENANT, "seller-1:USD")
    wallet = Wallet(key, "seller-1", "USD", 3, 1_250, 5, 0, 0, 0, 0)
    entry = WalletEntryRow("t-1", "pending", Money(-1_250, "USD"), 1, "po-0", 1_500)
    async with serving(WalletServicer(FakeShards(), FakeWalletReader(wallet, [entry]))) as (channel, _):
        stub = WalletServiceStub(channel)
        asked = wallet_pb2.GetWalletRequest(owner="seller-1", currency="USD")
        told = (await stub.GetWallet(asked, metadata=FINANCE)).wallet
        listed = wallet_pb2.WalletServiceListEntriesRequest(owner="seller-1", currency="USD")
        entries = (await stub.ListEntries(listed, metadata=FINANCE)).entries
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetWallet(asked, metadata=bearer(Role.FINANCE, Tenant("other")))

    assert (told.pending, told.available, told.receivable, told.version) == ("12.50", "0.05", "0.00", 3)
    assert [(one.transfer_id, one.amount, one.at.ToMilliseconds()) for one in entries] == [("t-1", "-12.50", 1_500)]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_ledger_is_told_as_stored_with_sums_of_zero() -> None:
    """Journals, entries, balances, and the trial balance."""
    account = "seller:seller-1:pending:USD"
    reader = FakeLedgerReader([_journal()], {account: Balance(-1_200, 1)})
    async with serving(LedgerServicer(FakeShards(), reader)) as (channel, _):
        stub = LedgerServiceStub(channel)
        told = (await stub.GetJournal(ledger_pb2.GetJournalRequest(journal_id="j-1"), metadata=FINANCE)).journal
        listed = ledger_pb2.LedgerServiceListEntriesRequest(account=account)
        entries = (await stub.ListEntries(listed, metadata=FINANCE)).entries
        balance = (await stub.GetBalance(ledger_pb2.GetBalanceRequest(account=account), metadata=FINANCE)).balance
        trial = await stub.TrialBalance(ledger_pb2.TrialBalanceRequest(), metadata=FINANCE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetBalance(ledger_pb2.GetBalanceRequest(account="x:USD"), metadata=FINANCE)

    assert {entry.account: entry.money.amount for entry in told.entries}[account] == "-12.00"
    assert [(entry.journal_id, entry.amount) for entry in entries] == [("j-1", "-12.00")]
    assert (balance.amount, balance.currency, balance.entry_count) == ("-12.00", "USD", 1)
    assert [(money.amount, money.currency) for money in trial.sums] == [("0.00", "USD")]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("owner", [HOUSE, TENANT])
async def test_books_are_read_by_finance_of_their_own_tenant_alone_and_the_house_is_one(owner: Tenant) -> None:
    """I21: money without a tenant is in the house's books. Its people read those, and no tenant's."""
    made = replace(_journal(), tenant=owner)
    account = "suspense:USD"
    reader = FakeLedgerReader([made], {account: Balance(-1_250, 1)}, owner)
    seen: dict[str, list[str]] = {}
    people = {
        "house": bearer(Role.FINANCE, HOUSE), "house admin": bearer(Role.ADMIN, HOUSE),
        "house support": bearer(Role.SUPPORT, HOUSE), "tenant": bearer(Role.FINANCE, TENANT),
        "other": bearer(Role.ADMIN, Tenant("other")),
    }  # fmt: skip
    async with serving(LedgerServicer(FakeShards(), reader)) as (channel, _):
        stub = LedgerServiceStub(channel)
        entry = made.entries[0].account
        asked = {
            "balance": partial(stub.GetBalance, ledger_pb2.GetBalanceRequest(account=account)),
            "journal": partial(stub.GetJournal, ledger_pb2.GetJournalRequest(journal_id="j-1")),
            "entries": partial(stub.ListEntries, ledger_pb2.LedgerServiceListEntriesRequest(account=entry)),
            "trial": partial(stub.TrialBalance, ledger_pb2.TrialBalanceRequest()),
        }
        for name, person in people.items():
            seen[name] = [what for what, call in asked.items() if await _shows(call(metadata=person))]

    everything = ["balance", "journal", "entries", "trial"]
    own = {"house", "house admin"} if owner == HOUSE else {"tenant"}
    assert seen == {name: everything if name in own else [] for name in people}


async def _shows(call: Any) -> bool:
    """Whether an answer has anything of the books in it; a call that is refused, or finds nothing, shows nothing."""
    try:
        told = await call
    except grpc.aio.AioRpcError as error:
        if error.code() not in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED}:
            raise
        return False
    return bool(told.ListFields() if not hasattr(told, "sums") else told.balances)


# ---- the clients ---------------------------------------------------------------------------------------------------


async def test_transfer_and_journal_arrive_as_they_were_and_bring_their_outcome() -> None:
    """ports.WalletPeer, ports.LedgerPeer: what goes over the wire is the same command at the other end."""
    wallet, ledger = FakeShards(Applied(False)), FakeShards(Applied(True))
    servicers = WalletServicer(wallet, FakeWalletReader()), LedgerServicer(ledger, FakeLedgerReader())
    async with serving(*servicers) as (channel, _):
        outcomes = [
            await GrpcWalletPeer(channel, _payment_token).apply(_transfer()),
            await GrpcLedgerPeer(channel, _payment_token).post(_journal()),
        ]

    assert outcomes == [Done(), Done()]
    assert (wallet.submitted, ledger.submitted) == ([_transfer()], [_journal()])


async def test_each_item_of_a_batch_learns_its_own_outcome() -> None:
    """A refusal and a delay concern nobody else."""
    refusal = Refusal(Reason.KEY_REUSED, "transfer_id", "no")
    shards = FakeShards(Applied(False), Applied(False), Refused(refusal, False), Busy(300))
    async with serving(WalletServicer(shards, FakeWalletReader())) as (channel, _):
        peer = GrpcWalletPeer(channel, _payment_token)
        outcomes = await asyncio.gather(*(peer.apply(_transfer(f"t-{at}")) for at in range(4)))

    assert outcomes == [Done(), Done(), refusal, TryLater(300)]


async def test_peer_that_listens_nowhere_was_sent_nothing() -> None:
    """NotSent only with proof: the connection was refused."""
    async with serving(WalletServicer(FakeShards(), FakeWalletReader())) as (_, server):
        port = server.port
    async with open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(NotSent):
            await GrpcWalletPeer(channel, _payment_token).apply(_transfer())


class Failing(FakeShards):
    """Shards whose calls end as told, perhaps after the commit."""

    def __init__(self, problem: str) -> None:
        super().__init__()
        self._problem = problem

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        """Records, then fails."""
        self.submitted.extend(commands)
        raise Rejected(Problem(self._problem, retry_after_ms=900))


@pytest.mark.parametrize(
    "problem", ["UNAVAILABLE", "CONFLICT_BUDGET", "INTERNAL", "ADMISSION_FULL", "PERMISSION_DENIED"]
)
async def test_call_that_fails_leaves_every_item_unknown(problem: str) -> None:
    """Design section 8: an error of the RPC says nothing about any item."""
    shards = Failing(problem)
    async with serving(WalletServicer(shards, FakeWalletReader())) as (channel, _):
        peer = GrpcWalletPeer(channel, _payment_token)
        told = await asyncio.gather(*(peer.apply(_transfer(f"t-{at}")) for at in range(3)), return_exceptions=True)

    assert [type(one) for one in told] == [OutcomeUnknown] * 3


async def test_delay_a_failing_peer_asks_for_is_told() -> None:
    """RetryInfo reaches the to-do."""
    async with serving(WalletServicer(Failing("UNAVAILABLE"), FakeWalletReader())) as (channel, _):
        with pytest.raises(OutcomeUnknown) as caught:
            await GrpcWalletPeer(channel, _payment_token).apply(_transfer())

    assert caught.value.retry_after_ms == 900


class Silent(FakeShards):
    """Shards that never answer."""

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        """Waits for ever."""
        await asyncio.Event().wait()
        return []


async def test_peer_that_does_not_answer_in_time_is_unknown() -> None:
    """DEADLINE_EXCEEDED: the item may be recorded."""
    async with serving(WalletServicer(Silent(), FakeWalletReader()), drain_s=0.01) as (channel, _):
        with pytest.raises(OutcomeUnknown):
            await GrpcWalletPeer(channel, _payment_token, timeout_ms=50).apply(_transfer())


async def test_channel_that_is_closed_under_a_call_leaves_its_items_unknown() -> None:
    """A cancelled call is no proof of anything."""
    async with serving(WalletServicer(Silent(), FakeWalletReader()), drain_s=0.01) as (channel, server):
        waiting = asyncio.ensure_future(GrpcWalletPeer(channel, _payment_token).apply(_transfer()))
        while server.frame.in_flight == 0:  # noqa: ASYNC110 - the frame's counter has no event; the loop turns once a look
            await asyncio.sleep(0)
        await channel.close()
        (told,) = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(told, OutcomeUnknown)
