"""Closing an account, as the wallet's and the ledger's doors take it alike.

Invariant: who closes comes from the verified token, and is recorded.
"""

from actors.answer import Accepted, Applied, Replied, Shards
from servers.call import current_call
from servers.door import check
from servers.status import Problem, Rejected, of_answer, refused
from zerosum.domain.account import CloseAccount
from zerosum.domain.identity import Key
from zerosum.v1.ledger_pb2 import LedgerServiceCloseAccountRequest
from zerosum.v1.wallet_pb2 import WalletServiceCloseAccountRequest


async def close_account(
    shards: Shards, request: WalletServiceCloseAccountRequest | LedgerServiceCloseAccountRequest
) -> bool:
    """Closes the account of the caller's tenant; whether it was closed before. Raises Rejected; nothing moves by it."""
    if refusals := check(request):
        raise refused(*refusals)
    call = current_call()
    command = CloseAccount(
        tenant=call.caller.tenant,
        key=Key(request.idempotency_key),
        owner=request.owner,
        currency=request.currency,
        closed_by=call.caller.subject,
        reason=request.reason,
    )
    (answer,) = await shards.submit([command])
    match answer:
        case Applied(is_replay=is_replay):
            call.is_replayed = is_replay
            return is_replay
        case Accepted() | Replied():
            raise Rejected(Problem("INTERNAL", inner="a closing was answered as a submit"))
        case _:
            raise Rejected(of_answer(answer))
