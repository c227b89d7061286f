"""The wire: blocking gRPC calls from greenlets, over a few channels of this process.

Only a process that has called `grpc.experimental.gevent.init_gevent()` before any channel may use it, and it may not use
asyncio (`locustfile.py` is that process). Invariant: every call has a deadline; retries are the journey's, never the channel's.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from loadtest.journeys import CREATE, VIEW_ORDER, VIEW_PAYMENT, Reply
from loadtest.outcome import OK
from loadtest.shape import Checkout
from zerosum.v1 import payment_pb2

SERVICE: Final = "/zerosum.v1.PaymentService/"
METHODS: Final = (CREATE, VIEW_ORDER, VIEW_PAYMENT)

_OPTIONS: Final = (
    # Retries are ours, with the same key, and are to be seen in the figures.
    ("grpc.enable_retries", 0),
    # Two channels to one address would else share one connection, and copies of a click would queue behind each other.
    ("grpc.use_local_subchannel_pool", 1),
    # A killed server is back within 3 s; gRPC's own back-off would have clients away for up to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

Tell = Callable[[str, float, int, str], None]
"""Told of every request: method, its duration in milliseconds, bytes of the reply, status code."""


class GrpcWire:
    """Sends serialised requests as they are, so that a retry is the same bytes, and returns replies as they came."""

    def __init__(self, target: str, *, token: str, lanes: int, now_ms: Callable[[], float], tell: Tell) -> None:
        """`target`: host:port. `token`: the bearer token. `lanes`: how many channels."""
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._now_ms = now_ms
        self._tell = tell
        self._channels = [grpc.insecure_channel(target, options=_OPTIONS) for _ in range(lanes)]
        self._calls = [
            {method: channel.unary_unary(SERVICE + method) for method in METHODS} for channel in self._channels
        ]

    def send(self, method: str, request: bytes, *, timeout_ms: int, lane: int) -> Reply:
        """Sends once and waits for the reply or the deadline; blocks its own greenlet only."""
        call = self._calls[lane % len(self._calls)][method]
        began_ms = self._now_ms()
        try:
            body, ended = call.with_call(request, timeout=timeout_ms / 1_000, metadata=self._metadata)
        except grpc.RpcError as error:
            reply = Reply(code=error.code().name, retry_after_ms=retry_after_ms(error.trailing_metadata() or ()))
        else:
            reply = Reply(code=OK, body=body, is_replayed=_is_replayed(ended.trailing_metadata() or ()))
        self._tell(method, self._now_ms() - began_ms, len(reply.body), reply.code)
        return reply

    def close(self) -> None:
        """Ends all channels; calls under way are cancelled."""
        for channel in self._channels:
            channel.close()


def retry_after_ms(metadata: Iterable[tuple[str, Any]]) -> int:
    """RetryInfo of a google.rpc.Status in the trailers, in milliseconds; 0 where there is none that can be read."""
    for name, value in metadata:
        if name == "grpc-status-details-bin":
            return _hint_ms(bytes(value))
    return 0


def _hint_ms(details: bytes) -> int:
    try:
        status = status_pb2.Status.FromString(details)
        for detail in status.details:
            if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                hint = error_details_pb2.RetryInfo.FromString(detail.value)
                return max(0, int(hint.retry_delay.ToMilliseconds()))
    except DecodeError:
        return 0
    return 0


def _is_replayed(metadata: Iterable[tuple[str, Any]]) -> bool:
    return any(name == "idempotent-replayed" and value == "true" for name, value in metadata)


class ProtoCodec:
    """The messages of `zerosum.v1`, to bytes and back."""

    def submit(self, checkout: Checkout) -> bytes:
        """The bytes of a CreatePaymentRequest; its idempotency key is the checkout's id."""
        return payment_pb2.CreatePaymentRequest(
            checkout_id=checkout.checkout_id,
            idempotency_key=checkout.checkout_id,
            buyer_info=payment_pb2.BuyerInfo(buyer_account=checkout.buyer_account),
            payment_method=payment_pb2.PaymentMethod(token=checkout.token),
            payment_orders=[
                payment_pb2.PaymentOrderRequest(
                    payment_order_id=order.payment_order_id,
                    seller_account=order.seller_account,
                    amount=order.amount,
                    currency=order.currency,
                )
                for order in checkout.orders
            ],
        ).SerializeToString()

    def view(self, method: str, subject: str) -> bytes:
        """The bytes of a request for one order or one checkout."""
        if method == VIEW_ORDER:
            return payment_pb2.GetPaymentOrderRequest(payment_order_id=subject).SerializeToString()
        return payment_pb2.GetPaymentRequest(checkout_id=subject).SerializeToString()

    def told(self, body: bytes) -> tuple[tuple[str, str], ...]:
        """(payment_order_id, status name) of a CreatePaymentResponse."""
        payment = payment_pb2.CreatePaymentResponse.FromString(body).payment
        return tuple((order.payment_order_id, _STATUS_NAMES[order.status]) for order in payment.payment_orders)


_STATUS_NAMES: Final = {number: name.removeprefix("ORDER_STATUS_") for name, number in payment_pb2.OrderStatus.items()}
