"""The wallet service's door: transfers and closings in, balances and entries out.

Invariant: reads show the caller's own tenant only; what is written names its tenant itself, and only the payment service
may write (access.py).
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
from zerosum.domain.money import Money, format_amount, parse_amount
from zerosum.domain.refusal import Refusal
from zerosum.domain.wallet import Transfer, TransferKind, Wallet
from zerosum.readers import WalletEntryRow, WalletReader
from zerosum.v1 import wallet_pb2 as pb
from zerosum.v1 import wallet_pb2_grpc as rpc

_KINDS = {
    pb.TRANSFER_KIND_CREDIT_PENDING: TransferKind.CREDIT_PENDING,
    pb.TRANSFER_KIND_DEBIT_PENDING: TransferKind.DEBIT_PENDING,
    pb.TRANSFER_KIND_RETURN_PENDING: TransferKind.RETURN_PENDING,
}


class WalletServicer(rpc.WalletServiceServicer):
    """WalletService. Answers after the commit that makes the answer true."""

    def __init__(self, shards: Shards, reader: WalletReader) -> None:
        self._shards = shards
        self._reader = reader

    async def ApplyTransfers(
        self, request: pb.ApplyTransfersRequest, context: grpc.aio.ServicerContext
    ) -> pb.ApplyTransfersResponse:
        """One result per transfer, in order. A transfer id works once, for ever."""
        bad = by_item(check(request))
        ids = [(transfer.tenant, transfer.transfer_id) for transfer in request.transfers]
        if duplicates := twice("transfers", "transfer_id", ids):
            raise refused(*duplicates)
        items = [bad.get(at) or _transfer(asked) for at, asked in enumerate(request.transfers)]
        return pb.ApplyTransfersResponse(results=await results_of(self._shards, [key for _, key in ids], items))

    async def CloseAccount(
        self, request: pb.WalletServiceCloseAccountRequest, context: grpc.aio.ServicerContext
    ) -> pb.WalletServiceCloseAccountResponse:
        """The wallet takes no new money from now on. Nothing moves."""
        is_replay = await close_account(self._shards, request)
        return pb.WalletServiceCloseAccountResponse(already_closed=is_replay)

    async def GetWallet(self, request: pb.GetWalletRequest, context: grpc.aio.ServicerContext) -> pb.GetWalletResponse:
        """The wallet as stored. NOT_FOUND: nobody has paid into it, or it is another tenant's."""
        if refusals := check(request):
            raise refused(*refusals)
        wallet = await self._reader.wallet(current_tenant(), request.owner, request.currency)
        if wallet is None:
            raise not_found("owner")
        return pb.GetWalletResponse(wallet=_wallet(wallet))

    async def ListEntries(
        self, request: pb.WalletServiceListEntriesRequest, context: grpc.aio.ServicerContext
    ) -> pb.WalletServiceListEntriesResponse:
        """Entries, oldest first, by page."""
        if refusals := check(request):
            raise refused(*refusals)
        found = await self._reader.entries(
            current_tenant(), request.owner, request.currency, rows_max_of(request.page), after_of(request.page)
        )
        entries = [_entry(row) for row in found.rows]
        return pb.WalletServiceListEntriesResponse(entries=entries, next_page_token=token_of(found.after))


def _transfer(asked: pb.Transfer) -> Transfer | Refusal:
    money = parse_amount(asked.money.amount, asked.money.currency, "money.amount")
    if isinstance(money, Refusal):
        return money
    return Transfer(
        tenant=Tenant(asked.tenant),
        transfer_id=Key(asked.transfer_id),
        owner=asked.owner,
        kind=_KINDS[asked.kind],
        money=money,
        order_id=OrderId(asked.payment_order_id),
    )


def _wallet(wallet: Wallet) -> pb.Wallet:
    def told(amount_minor: int) -> str:
        return format_amount(Money(amount_minor, wallet.currency))

    return pb.Wallet(
        owner=wallet.owner,
        currency=wallet.currency,
        pending=told(wallet.pending_minor),
        available=told(wallet.available_minor),
        in_payout=told(wallet.in_payout_minor),
        receivable=told(wallet.receivable_minor),
        version=wallet.version,
        closed_at=timestamp_of(wallet.closure.at_ms) if wallet.closure else None,
        close_reason=wallet.closure.reason if wallet.closure else "",
    )


def _entry(row: WalletEntryRow) -> pb.WalletEntry:
    return pb.WalletEntry(
        transfer_id=row.transfer_id,
        bucket=row.bucket,
        amount=format_amount(row.money),
        currency=row.money.currency,
        version=row.version,
        payment_order_id=row.order_id,
        at=timestamp_of(row.at_ms),
    )
