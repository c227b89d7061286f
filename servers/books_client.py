"""Finance's way to the ledger's books from the command line: reading alone, in one person's name.

The books are those of the token's tenant: a tenant's own, or the house's ("-"), where money stands that is no tenant's.

Invariant: nothing is posted or changed.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from servers.finance_client import token_of
from servers.operator_client import trouble_of
from zerosum.domain.identity import Tenant
from zerosum.settings import Settings
from zerosum.v1 import common_pb2
from zerosum.v1 import ledger_pb2 as pb
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub

_TIMEOUT_S = 30.0
_PAGE_ROWS = 500

Row = dict[str, Any]


class Books:
    """One command's connection. `tenant`: whose books; with a token of one's own that token says whose."""

    def __init__(self, settings: Settings, person: str, tenant: str) -> None:
        self._address = settings.ledger_address
        self._metadata = (("authorization", f"Bearer {token_of(settings, person, Tenant(tenant))}"),)

    def balances(self, accounts: Sequence[str]) -> list[Row]:
        """These accounts; none named: all there are. Raises Refused (an account without an entry is NOT_FOUND), Unavailable."""
        if accounts:
            asked = (pb.GetBalanceRequest(account=account) for account in accounts)
            return [_balance(self._call("GetBalance", request).balance) for request in asked]
        request, rows = pb.TrialBalanceRequest(page=common_pb2.PageRequest(page_size=_PAGE_ROWS)), list[Row]()
        while True:
            got = self._call("TrialBalance", request)
            rows += [_balance(balance) for balance in got.balances]
            if not got.next_page_token:
                return rows
            request.page.page_token = got.next_page_token

    def entries(self, account: str, rows_max: int) -> list[Row]:
        """Entries of an account, at most so many. Raises Refused, Unavailable."""
        request = pb.LedgerServiceListEntriesRequest(account=account)
        rows = list[Row]()
        while len(rows) < rows_max:
            request.page.page_size = min(_PAGE_ROWS, rows_max - len(rows))
            got = self._call("ListEntries", request)
            rows += [_entry(entry) for entry in got.entries]
            if not got.next_page_token:
                break
            request.page.page_token = got.next_page_token
        return rows

    def _call(self, method: str, request: Message) -> Any:
        with grpc.insecure_channel(self._address) as channel:
            try:
                return getattr(LedgerServiceStub(channel), method)(request, timeout=_TIMEOUT_S, metadata=self._metadata)
            except grpc.RpcError as error:
                raise trouble_of(error, "ledger") from error


def _balance(balance: pb.AccountBalance) -> Row:
    return {
        "account": balance.account,
        "amount": f"{balance.amount} {balance.currency}",
        "entries": balance.entry_count,
    }


def _entry(entry: pb.LedgerEntry) -> Row:
    at = entry.at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
    return {"journal": entry.journal_id, "amount": f"{entry.amount} {entry.currency}", "at": at}
