"""Finance's way to the services from the command line: blocking calls with an admin token signed for the occasion.

Invariant: the key of an act that none was given for is a function of what is asked, never of time or chance.
"""

import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from servers.call import Caller, Role
from servers.edge_shape import refund_shown
from servers.keys import issuer_of
from servers.operator_client import trouble_of
from zerosum.domain.identity import Tenant, derived_key
from zerosum.limits import ID_LENGTH_MAX
from zerosum.settings import Settings
from zerosum.v1.ledger_pb2 import LedgerServiceCloseAccountRequest
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub
from zerosum.v1.payment_pb2 import CreateRefundRequest
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub
from zerosum.v1.wallet_pb2 import WalletServiceCloseAccountRequest
from zerosum.v1.wallet_pb2_grpc import WalletServiceStub

_TIMEOUT_S = 15.0
_TOKEN_LIFE_S = 300

Row = dict[str, Any]


def close_account(settings: Settings, tenant: str, *, owner: str, currency: str, reason: str, key: str) -> list[Row]:
    """Closes at the wallet, then at the ledger. Raises Refused, Unavailable: run it again, what is closed stays closed."""
    asked = {
        "owner": owner,
        "currency": currency,
        "reason": reason,
        "idempotency_key": key or _key(tenant, f"{owner}/{currency}", "close"),
    }
    doors: tuple[tuple[str, Callable[[Any], Any], Message], ...] = (
        ("wallet", WalletServiceStub, WalletServiceCloseAccountRequest(**asked)),
        ("ledger", LedgerServiceStub, LedgerServiceCloseAccountRequest(**asked)),
    )
    return [
        {
            "service": name,
            "already_closed": _call(settings, tenant, name, stub, "CloseAccount", request).already_closed,
        }
        for name, stub, request in doors
    ]


def create_refund(settings: Settings, tenant: str, payment_order_id: str, *, reason: str, key: str) -> list[Row]:
    """Reserves the refund. Raises Refused (nothing moved), Unavailable: run it again, the same key reserves once."""
    request = CreateRefundRequest(
        payment_order_id=payment_order_id,
        reason=reason,
        idempotency_key=key or _key(tenant, payment_order_id, "refund"),
    )
    told = _call(settings, tenant, "payment", PaymentServiceStub, "CreateRefund", request)
    return [refund_shown(refund) for refund in told.payment_order.refunds]


def _key(tenant: str, subject: str, act: str) -> str:
    return derived_key(tenant, subject, act, 1)[:ID_LENGTH_MAX]


def _call(
    settings: Settings, tenant: str, service: str, stub: Callable[[Any], Any], method: str, request: Message
) -> Any:
    caller = Caller(Tenant(tenant), Role.ADMIN, "cli")
    token = issuer_of(settings.data_dir).token(caller, expires_at_s=int(time.time()) + _TOKEN_LIFE_S)
    with grpc.insecure_channel(getattr(settings, f"{service}_address")) as channel:
        try:
            return getattr(stub(channel), method)(
                request, timeout=_TIMEOUT_S, metadata=(("authorization", f"Bearer {token}"),)
            )
        except grpc.RpcError as error:
            raise trouble_of(error, service) from error
