"""Closing accounts and giving money back from the command line.

Invariant: the key of an act that none was given for is a function of what is asked, never of time or chance.
"""

from typing import Any

from servers.client import Client
from servers.client_token import oncall_token
from servers.edge_shape import refund_shown
from zerosum.domain.identity import derived_key
from zerosum.limits import ID_LENGTH_MAX
from zerosum.settings import Settings
from zerosum.v1.ledger_pb2 import LedgerServiceCloseAccountRequest
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub
from zerosum.v1.payment_pb2 import CreateRefundRequest
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub
from zerosum.v1.wallet_pb2 import WalletServiceCloseAccountRequest
from zerosum.v1.wallet_pb2_grpc import WalletServiceStub

Row = dict[str, Any]


def close_account(settings: Settings, tenant: str, *, owner: str, currency: str, reason: str, key: str) -> list[Row]:
    """Closes at the wallet, then at the ledger. Raises Refused, Unavailable: run it again, what is closed stays closed."""
    token, key = oncall_token(settings, tenant), key or _key(tenant, f"{owner}/{currency}", "close")
    asked = {"owner": owner, "currency": currency, "reason": reason, "idempotency_key": key}
    wallet = Client("wallet", settings.wallet_address, WalletServiceStub, token)
    ledger = Client("ledger", settings.ledger_address, LedgerServiceStub, token)
    doors = ((wallet, WalletServiceCloseAccountRequest(**asked)), (ledger, LedgerServiceCloseAccountRequest(**asked)))
    return [
        {"service": client.service, "already_closed": client.call("CloseAccount", request).already_closed}
        for client, request in doors
    ]


def create_refund(settings: Settings, tenant: str, payment_order_id: str, *, reason: str, key: str) -> list[Row]:
    """Reserves the refund. Raises Refused (nothing moved), Unavailable: run it again, the same key reserves once."""
    key = key or _key(tenant, payment_order_id, "refund")
    request = CreateRefundRequest(payment_order_id=payment_order_id, reason=reason, idempotency_key=key)
    payment = Client("payment", settings.payment_address, PaymentServiceStub, oncall_token(settings, tenant))
    return [refund_shown(refund) for refund in payment.call("CreateRefund", request).payment_order.refunds]


def _key(tenant: str, subject: str, act: str) -> str:
    return derived_key(tenant, subject, act, 1)[:ID_LENGTH_MAX]
