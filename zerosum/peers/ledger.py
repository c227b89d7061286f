"""The ledger service as the payment service sees it: journals, batched per slot range.

Invariant: what is sent is the journal as constructed, under its own id; a repeat is the ledger's business to recognise.
"""

from collections.abc import Sequence
from typing import Any

import grpc

from zerosum.domain.journal import Journal
from zerosum.domain.money import format_amount
from zerosum.domain.refusal import Refusal
from zerosum.limits import PEER_TIMEOUT_MS
from zerosum.peers.batch import Batcher, TokenProvider, Told, outcomes_of, trouble_of, written
from zerosum.ports import ItemOutcome
from zerosum.v1 import common_pb2, ledger_pb2, ledger_pb2_grpc


class GrpcLedgerPeer:
    """LedgerPeer over gRPC. `channel`: a grpc.aio channel of the running loop; it stays the caller's to close."""

    def __init__(self, channel: Any, token: TokenProvider, timeout_ms: int = PEER_TIMEOUT_MS) -> None:
        self._post_journals = ledger_pb2_grpc.LedgerServiceStub(channel).PostJournals
        self._token = token
        self._timeout_s = timeout_ms / 1_000
        self._batcher: Batcher[ledger_pb2.Journal] = Batcher(self._send)

    async def post(self, journal: Journal) -> ItemOutcome:
        """Posts a journal, once for ever under its id. Refuses, alone, what cannot be written.

        Raises NotSent, OutcomeUnknown.
        """
        message = written(_message, journal)
        if isinstance(message, Refusal):
            return message
        return await self._batcher.put(message, key=journal.journal_id, place=(journal.tenant, journal.owner))

    async def close(self) -> None:
        """Stops sending."""
        await self._batcher.close()

    async def _send(self, journals: Sequence[ledger_pb2.Journal]) -> Sequence[Told]:
        request = ledger_pb2.PostJournalsRequest(journals=journals)
        metadata = (("authorization", f"Bearer {self._token()}"),)
        try:
            response = await self._post_journals(request, timeout=self._timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise trouble_of(error) from error
        return outcomes_of([journal.journal_id for journal in journals], response.results)


def _message(journal: Journal) -> ledger_pb2.Journal:
    entries = [
        ledger_pb2.Entry(
            account=entry.account,
            money=common_pb2.Money(amount=format_amount(entry.money), currency=entry.money.currency),
        )
        for entry in journal.entries
    ]
    return ledger_pb2.Journal(
        journal_id=journal.journal_id,
        tenant=journal.tenant,
        owner=journal.owner,
        movement=journal.movement,
        entries=entries,
        payment_order_id=journal.order_id,
    )
