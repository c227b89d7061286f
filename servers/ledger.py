"""The ledger service's door: journals and closings in, entries and balances out.

Invariant: only a journal that sums to zero per currency leaves here for a shard; reads show the caller's tenant only.
"""

# ruff: noqa: N802 - names and arguments of methods are the contract's

import grpc

from actors.answer import Shards
from servers.batch import by_item, results_of
from servers.call import current_tenant
from servers.closing import close_account
from servers.door import check, twice
from servers.page import after_of, rows_max_of, token_of
from servers.reply import timestamp_of
from servers.status import not_found, refused
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Entry, Journal, Movement, journal
from zerosum.domain.money import Money, format_amount, parse_signed
from zerosum.domain.refusal import Reason, Refusal
from zerosum.readers import LedgerReader
from zerosum.v1 import ledger_pb2 as pb
from zerosum.v1 import ledger_pb2_grpc as rpc
from zerosum.v1.common_pb2 import Money as MoneyMessage


class LedgerServicer(rpc.LedgerServiceServicer):
    """LedgerService. Answers after the commit that makes the answer true."""

    def __init__(self, shards: Shards, reader: LedgerReader) -> None:
        self._shards = shards
        self._reader = reader

    async def PostJournals(
        self, request: pb.PostJournalsRequest, context: grpc.aio.ServicerContext
    ) -> pb.PostJournalsResponse:
        """One result per journal, in order. A journal id works once, for ever."""
        bad = by_item(check(request))
        ids = [(asked.tenant, asked.journal_id) for asked in request.journals]
        if duplicates := twice("journals", "journal_id", ids):
            raise refused(*duplicates)
        items = [bad.get(at) or _journal(asked) for at, asked in enumerate(request.journals)]
        return pb.PostJournalsResponse(results=await results_of(self._shards, [key for _, key in ids], items))

    async def CloseAccount(
        self, request: pb.LedgerServiceCloseAccountRequest, context: grpc.aio.ServicerContext
    ) -> pb.LedgerServiceCloseAccountResponse:
        """The owner's accounts of one currency take no new money from now on. Nothing is posted."""
        is_replay = await close_account(self._shards, request)
        return pb.LedgerServiceCloseAccountResponse(already_closed=is_replay)

    async def GetJournal(
        self, request: pb.GetJournalRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetJournalResponse:
        """One journal with its entries. NOT_FOUND: there is none, or it is another tenant's."""
        if refusals := check(request):
            raise refused(*refusals)
        found = await self._reader.journal(current_tenant(), request.journal_id)
        if found is None:
            raise not_found("journal_id")
        return pb.GetJournalResponse(journal=_told(*found))

    async def ListEntries(
        self, request: pb.LedgerServiceListEntriesRequest, context: grpc.aio.ServicerContext
    ) -> pb.LedgerServiceListEntriesResponse:
        """An account's entries, by page."""
        if refusals := check(request):
            raise refused(*refusals)
        found = await self._reader.entries(
            current_tenant(), request.account, rows_max_of(request.page), after_of(request.page)
        )
        entries = [
            pb.LedgerEntry(
                journal_id=row.journal_id,
                account=row.account,
                amount=format_amount(row.money),
                currency=row.money.currency,
                at=timestamp_of(row.at_ms),
            )
            for row in found.rows
        ]
        return pb.LedgerServiceListEntriesResponse(entries=entries, next_page_token=token_of(found.after))

    async def GetBalance(
        self, request: pb.GetBalanceRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetBalanceResponse:
        """An account's balance. NOT_FOUND: it has no entry, or is another tenant's."""
        if refusals := check(request):
            raise refused(*refusals)
        balance = await self._reader.balance(current_tenant(), request.account)
        if balance is None:
            raise not_found("account")
        currency = request.account.rpartition(":")[2]
        return pb.GetBalanceResponse(
            balance=_balance(request.account, currency, balance.balance_minor, balance.entry_count)
        )

    async def TrialBalance(
        self, request: pb.TrialBalanceRequest, context: grpc.aio.ServicerContext
    ) -> pb.TrialBalanceResponse:
        """Every account's balance by page, and the sum per currency over all of them, which is zero."""
        if refusals := check(request):
            raise refused(*refusals)
        tenant = current_tenant()
        found = await self._reader.trial_balance(tenant, rows_max_of(request.page), after_of(request.page))
        sums = await self._reader.sums(tenant)
        balances = [
            _balance(row.account, row.currency, row.balance.balance_minor, row.balance.entry_count)
            for row in found.rows
        ]
        return pb.TrialBalanceResponse(
            balances=balances, sums=[_money(money) for money in sums], next_page_token=token_of(found.after)
        )


_MOVEMENTS = {str(movement): movement for movement in Movement}


def _journal(asked: pb.Journal) -> Journal | Refusal:
    movement = _MOVEMENTS.get(asked.movement)
    if movement is None:
        return Refusal(Reason.MALFORMED, "movement", "not a movement of the posting table")
    entries = []
    for line, side in enumerate(asked.entries):
        money = parse_signed(side.money.amount, side.money.currency, f"entries[{line}].money.amount")
        if isinstance(money, Refusal):
            return money
        entries.append(Entry(side.account, money))
    return journal(
        tenant=Tenant(asked.tenant),
        journal_id=Key(asked.journal_id),
        owner=asked.owner,
        movement=movement,
        entries=tuple(entries),
        order_id=OrderId(asked.payment_order_id),
    )


def _told(posted: Journal, posted_at_ms: int) -> pb.Journal:
    return pb.Journal(
        journal_id=posted.journal_id,
        tenant=posted.tenant,
        owner=posted.owner,
        movement=posted.movement,
        entries=[pb.Entry(account=entry.account, money=_money(entry.money)) for entry in posted.entries],
        payment_order_id=posted.order_id,
        posted_at=timestamp_of(posted_at_ms),
    )


def _money(money: Money) -> MoneyMessage:
    return MoneyMessage(amount=format_amount(money), currency=money.currency)


def _balance(account: str, currency: str, amount_minor: int, entry_count: int) -> pb.AccountBalance:
    return pb.AccountBalance(
        account=account,
        amount=format_amount(Money(amount_minor, currency)),
        currency=currency,
        entry_count=entry_count,
    )
