"""A real gRPC server in this process, on a free port, with the whole frame around fakes; and what its errors say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from servers.ledger import LedgerServicer
from servers.main import Running, Served, running
from servers.metric import Metrics
from servers.oncall import OperatorServicer
from servers.payment import PaymentServicer
from servers.reconciliation import ReconciliationServicer
from servers.wallet import WalletServicer
from tests.unit.server_fakes import verifier
from zerosum.settings import Settings
from zerosum.v1.ledger_pb2_grpc import add_LedgerServiceServicer_to_server
from zerosum.v1.payment_pb2_grpc import add_OperatorServiceServicer_to_server, add_PaymentServiceServicer_to_server
from zerosum.v1.reconciliation_pb2_grpc import add_ReconciliationServiceServicer_to_server
from zerosum.v1.wallet_pb2_grpc import add_WalletServiceServicer_to_server

SETTINGS = Settings(data_dir=Path("not-used"), admission_max=4, answer_after_ms=1_000)

_ADDERS: dict[type, tuple[str, Any]] = {
    PaymentServicer: ("zerosum.v1.PaymentService", add_PaymentServiceServicer_to_server),
    OperatorServicer: ("zerosum.v1.OperatorService", add_OperatorServiceServicer_to_server),
    WalletServicer: ("zerosum.v1.WalletService", add_WalletServiceServicer_to_server),
    ReconciliationServicer: ("zerosum.v1.ReconciliationService", add_ReconciliationServiceServicer_to_server),
    LedgerServicer: ("zerosum.v1.LedgerService", add_LedgerServiceServicer_to_server),
}


@asynccontextmanager
async def serving(
    *servicers: Any, metrics: Metrics | None = None, settings: Settings = SETTINGS, drain_s: float = 5.0, **more: Any
) -> AsyncIterator[tuple[Any, Running]]:
    """A channel to a server of these servicers, and the server. Leaving drains."""
    served = [Served(name, partial(add, one)) for one in servicers for name, add in (_ADDERS[type(one)],)]
    async with (
        running(
            settings, "test", served, port=0, metrics=metrics or Metrics(), verifier=verifier(), drain_s=drain_s, **more
        ) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield channel, server


def detail(error: Any, kind: Any) -> Any:
    """The google.rpc detail of that kind in an error, or None."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


def reason(error: Any) -> str:
    """The reason an error tells."""
    info = detail(error, details.ErrorInfo)
    return str(info.reason) if info else ""
