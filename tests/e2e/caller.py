"""A tenant's backend, blocking: submits checkouts over gRPC, asks again with the same key, reads what became of them.

Invariant: a repeated submit is the same bytes under the same key.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc

from servers.call import Caller as Identity
from servers.call import Role
from servers.keys import issuer_of
from tests.e2e.deadline import until
from tests.e2e.system import RunningSystem
from zerosum.domain.identity import Tenant
from zerosum.v1 import ledger_pb2, ledger_pb2_grpc, payment_pb2, payment_pb2_grpc, wallet_pb2, wallet_pb2_grpc

CREATE = "/zerosum.v1.PaymentService/CreatePayment"
AGAIN = frozenset({"UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"})
"""What is asked again, with the same key (design section 8)."""

OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What one call brought: its code, the reply's bytes, and whether it was said to be a repeat."""

    code: str
    body: bytes = b""
    is_replayed: bool = False

    @property
    def payment(self) -> payment_pb2.Payment:
        """The payment in it."""
        return payment_pb2.CreatePaymentResponse.FromString(self.body).payment


def new_checkout(name: str = "cart", *, amount: str = "12.50") -> payment_pb2.CreatePaymentRequest:
    """A checkout of one order, under ids nobody has used; its seller is new too."""
    checkout_id = f"{name}-{uuid4().hex[:12]}"
    order = payment_pb2.PaymentOrderRequest(
        payment_order_id=f"{checkout_id}-a", seller_account=f"seller-{checkout_id}", amount=amount, currency="USD"
    )
    return payment_pb2.CreatePaymentRequest(
        checkout_id=checkout_id,
        idempotency_key=checkout_id,
        buyer_info=payment_pb2.BuyerInfo(buyer_account="buyer-1"),
        payment_method=payment_pb2.PaymentMethod(token="pm_card_visa"),
        payment_orders=[order],
    )


class Caller:
    """One tenant's calls. Use as a context manager."""

    def __init__(self, system: RunningSystem, tenant: str = "demo") -> None:
        self.tenant = tenant
        self._system = system
        self._pool = ThreadPoolExecutor(40)
        run = system.run_file()
        self._channels = {
            name: grpc.insecure_channel(run[name], options=OPTIONS) for name in ("payment", "wallet", "ledger")
        }

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for channel in self._channels.values():
            channel.close()

    def metadata(self, role: Role = Role.SERVICE) -> tuple[tuple[str, str], ...]:
        """A bearer token of that role."""
        identity = Identity(Tenant(self.tenant), role, f"{self.tenant}-{role}")
        token = issuer_of(self._system.data).token(identity, expires_at_s=int(time.time()) + 3_600)
        return (("authorization", f"Bearer {token}"),)

    # ---- submitting ------------------------------------------------------------------------------------------------

    def submit(self, checkout: payment_pb2.CreatePaymentRequest, *, timeout_s: float = 20.0) -> Reply:
        """One attempt."""
        call = self._channels["payment"].unary_unary(CREATE)
        try:
            body, ended = call.with_call(checkout.SerializeToString(), timeout=timeout_s, metadata=self.metadata())
        except grpc.RpcError as error:
            return Reply(error.code().name)
        trailers = dict(ended.trailing_metadata() or ())
        return Reply("OK", body, trailers.get("idempotent-replayed") == "true")

    def pay(self, checkout: payment_pb2.CreatePaymentRequest) -> Reply:
        """The same key again and again, until there is a reply that stands."""

        def attempt() -> Reply | None:
            reply = self.submit(checkout)
            assert reply.code == "OK" or reply.code in AGAIN, reply
            return reply if reply.code == "OK" else None

        return until(f"{checkout.checkout_id} has a reply", attempt)

    def begin(self, checkout: payment_pb2.CreatePaymentRequest) -> "Future[Reply]":
        """`pay`, while the test goes on."""
        return self._pool.submit(self.pay, checkout)

    def begin_once(self, checkout: payment_pb2.CreatePaymentRequest) -> "Future[Reply]":
        """`submit`, while the test goes on."""
        return self._pool.submit(self.submit, checkout)

    # ---- what became of it -----------------------------------------------------------------------------------------

    def payment(self, checkout_id: str) -> payment_pb2.Payment | None:
        """As stored now; None: there is none, or nobody answers at this moment."""
        stub = payment_pb2_grpc.PaymentServiceStub(self._channels["payment"])
        request = payment_pb2.GetPaymentRequest(checkout_id=checkout_id)
        response = _asked(stub.GetPayment, request, self.metadata())
        return response.payment if response is not None else None

    def wallet_entries(self, seller: str) -> list[str]:
        """The amounts of a seller's wallet entries, in their order."""
        stub = wallet_pb2_grpc.WalletServiceStub(self._channels["wallet"])
        request = wallet_pb2.WalletServiceListEntriesRequest(owner=seller, currency="USD")
        response = until("the wallet service answers", lambda: _asked(stub.ListEntries, request, self.metadata()))
        return [entry.amount for entry in response.entries]

    def ledger_entries(self, account: str) -> list[str]:
        """The amounts of an account's entries, in their order."""
        stub = ledger_pb2_grpc.LedgerServiceStub(self._channels["ledger"])
        request = ledger_pb2.LedgerServiceListEntriesRequest(account=account)
        metadata = self.metadata(Role.FINANCE)
        response = until("the ledger service answers", lambda: _asked(stub.ListEntries, request, metadata))
        return [entry.amount for entry in response.entries]

    def open_todos(self) -> int:
        """How many effects of this tenant are not finished; -1: nobody answers."""
        stub = payment_pb2_grpc.OperatorServiceStub(self._channels["payment"])
        request = payment_pb2.ListTodosRequest(state=payment_pb2.TODO_STATE_OPEN)
        response = _asked(stub.ListTodos, request, self.metadata(Role.ADMIN))
        return len(response.todos) if response is not None else -1


def _asked(method: Any, request: Any, metadata: Any) -> Any:
    try:
        return method(request, timeout=5.0, metadata=metadata)
    except grpc.RpcError as error:
        if error.code().name not in AGAIN - {"INTERNAL"} | {"NOT_FOUND"}:
            raise
        return None
