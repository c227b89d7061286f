"""Finance's way to the ledger's books from the command line: reading alone, in one person's name.

The books are those of the token's tenant: a tenant's own, or the house's ("-"), where money stands that is no tenant's.

Invariant: nothing is posted or changed.
"""

from collections.abc import Sequence
from typing import Any

from servers.client import Client
from servers.client_token import finance_token
from zerosum.domain.identity import Tenant
from zerosum.settings import Settings
from zerosum.v1 import ledger_pb2 as pb
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub

_TIMEOUT_S = 30.0

Row = dict[str, Any]


class Books:
    """One command's connection. `tenant`: whose books; with a token of one's own that token says whose."""

    def __init__(self, settings: Settings, person: str, tenant: str) -> None:
        token = finance_token(settings, person, Tenant(tenant))
        self._ledger = Client("ledger", settings.ledger_address, LedgerServiceStub, token, _TIMEOUT_S)

    def balances(self, accounts: Sequence[str]) -> list[Row]:
        """These accounts; none named: all there are. Raises Refused (an account without an entry is NOT_FOUND), Unavailable."""
        if accounts:
            asked = (pb.GetBalanceRequest(account=account) for account in accounts)
            return [_balance(self._ledger.call("GetBalance", request).balance) for request in asked]
        return [_balance(one) for one in self._ledger.rows("TrialBalance", pb.TrialBalanceRequest(), "balances")]

    def entries(self, account: str, rows_max: int) -> list[Row]:
        """Entries of an account, at most so many. Raises Refused, Unavailable."""
        request = pb.LedgerServiceListEntriesRequest(account=account)
        return [_entry(one) for one in self._ledger.rows("ListEntries", request, "entries", rows_max=rows_max)]


def _balance(balance: pb.AccountBalance) -> Row:
    return {
        "account": balance.account,
        "amount": f"{balance.amount} {balance.currency}",
        "entries": balance.entry_count,
    }


def _entry(entry: pb.LedgerEntry) -> Row:
    at = entry.at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
    return {"journal": entry.journal_id, "amount": f"{entry.amount} {entry.currency}", "at": at}
