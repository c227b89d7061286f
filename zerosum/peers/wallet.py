"""The wallet service as the payment service sees it: transfers, batched per slot range.

Invariant: what is sent is the transfer as given, under its own id; a repeat is the wallet's business to recognise.
"""

from collections.abc import Sequence
from typing import Any

import grpc

from zerosum.domain.money import format_amount
from zerosum.domain.refusal import Refusal
from zerosum.domain.wallet import Transfer, TransferKind, wallet_key
from zerosum.limits import PEER_TIMEOUT_MS
from zerosum.peers.batch import Batcher, TokenProvider, Told, outcomes_of, trouble_of, written
from zerosum.ports import ItemOutcome
from zerosum.v1 import common_pb2, wallet_pb2, wallet_pb2_grpc

_KINDS = {
    TransferKind.CREDIT_PENDING: wallet_pb2.TRANSFER_KIND_CREDIT_PENDING,
    TransferKind.DEBIT_PENDING: wallet_pb2.TRANSFER_KIND_DEBIT_PENDING,
    TransferKind.RETURN_PENDING: wallet_pb2.TRANSFER_KIND_RETURN_PENDING,
}


class GrpcWalletPeer:
    """WalletPeer over gRPC. `channel`: a grpc.aio channel of the running loop; it stays the caller's to close."""

    def __init__(self, channel: Any, token: TokenProvider, timeout_ms: int = PEER_TIMEOUT_MS) -> None:
        self._apply_transfers = wallet_pb2_grpc.WalletServiceStub(channel).ApplyTransfers
        self._token = token
        self._timeout_s = timeout_ms / 1_000
        self._batcher: Batcher[wallet_pb2.Transfer] = Batcher(self._send)

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        """Applies a transfer, once for ever under its id. Refuses, alone, what cannot be written.

        Raises NotSent, OutcomeUnknown.
        """
        message = written(_message, transfer)
        if isinstance(message, Refusal):
            return message
        entity = wallet_key(transfer.tenant, transfer.owner, transfer.money.currency)
        return await self._batcher.put(message, key=transfer.transfer_id, place=(entity.tenant, entity.id))

    async def close(self) -> None:
        """Stops sending."""
        await self._batcher.close()

    async def _send(self, transfers: Sequence[wallet_pb2.Transfer]) -> Sequence[Told]:
        request = wallet_pb2.ApplyTransfersRequest(transfers=transfers)
        metadata = (("authorization", f"Bearer {self._token()}"),)
        try:
            response = await self._apply_transfers(request, timeout=self._timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise trouble_of(error) from error
        return outcomes_of([transfer.transfer_id for transfer in transfers], response.results)


def _message(transfer: Transfer) -> wallet_pb2.Transfer:
    money = common_pb2.Money(amount=format_amount(transfer.money), currency=transfer.money.currency)
    return wallet_pb2.Transfer(
        transfer_id=transfer.transfer_id,
        tenant=transfer.tenant,
        owner=transfer.owner,
        kind=_KINDS[transfer.kind],
        money=money,
        payment_order_id=transfer.order_id,
    )
