"""A checkout as callers see it: the fixed reply that is stored for ever, and the messages of Get, List and Watch.

Pure: no clock, no reading. Buyer data and tokens are in none of these messages.

Invariant: `encode_reply` brings the same bytes for the same checkout, whoever runs it and whenever.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.order import Order, OrderStatus
from zerosum.v1 import payment_pb2 as pb

_PAYMENT_STATUS = {
    CheckoutStatus.OPEN: pb.PAYMENT_STATUS_OPEN,
    CheckoutStatus.DONE: pb.PAYMENT_STATUS_DONE,
    CheckoutStatus.PARTIAL: pb.PAYMENT_STATUS_PARTIAL,
    CheckoutStatus.FAILED: pb.PAYMENT_STATUS_FAILED,
}
_ORDER_STATUS = {
    OrderStatus.NOT_STARTED: pb.ORDER_STATUS_NOT_STARTED,
    OrderStatus.EXECUTING: pb.ORDER_STATUS_EXECUTING,
    OrderStatus.PENDING: pb.ORDER_STATUS_PENDING,
    OrderStatus.AUTHORIZED: pb.ORDER_STATUS_AUTHORIZED,
    OrderStatus.SUCCESS: pb.ORDER_STATUS_SUCCESS,
    OrderStatus.FAILED: pb.ORDER_STATUS_FAILED,
    OrderStatus.CANCELED: pb.ORDER_STATUS_CANCELED,
}
_STATUS_ASKED: dict[int, CheckoutStatus] = {number: status for status, number in _PAYMENT_STATUS.items()}


def encode_reply(checkout: Checkout) -> bytes:
    """The reply to CreatePayment as it stands now: protobuf bytes of CreatePaymentResponse, to be stored as they are."""
    return pb.CreatePaymentResponse(payment=payment_of(checkout)).SerializeToString(deterministic=True)


def payment_of(checkout: Checkout) -> pb.Payment:
    """The checkout as it stands, its orders in the order they were asked for."""
    ordered = sorted(checkout.orders.values(), key=lambda order: order.position)
    return pb.Payment(
        checkout_id=checkout.key.id,
        status=_PAYMENT_STATUS[checkout.status],
        payment_orders=[payment_order_of(checkout.key.id, order) for order in ordered],
        is_payment_done=checkout.is_payment_done,
        created_at=timestamp_of(checkout.created_at_ms),
    )


def payment_order_of(checkout_id: str, order: Order) -> pb.PaymentOrder:
    """One order as it stands."""
    attempt = order.attempt
    return pb.PaymentOrder(
        payment_order_id=order.id,
        checkout_id=checkout_id,
        seller_account=order.seller_account,
        amount=order.amount,
        currency=order.money.currency,
        status=_ORDER_STATUS[order.status],
        reason=order.reason,
        wallet_updated=order.wallet_updated,
        ledger_updated=order.ledger_updated,
        psp_reference=attempt.object_id if attempt else "",
    )


def order_status_of(name: str) -> pb.OrderStatus.ValueType:
    """The status a history row names; unspecified where it names none."""
    return _ORDER_STATUS[OrderStatus(name)] if name else pb.ORDER_STATUS_UNSPECIFIED


def checkout_status_of(number: int) -> CheckoutStatus | None:
    """The status a filter asks for; None = all."""
    return _STATUS_ASKED.get(number)


def timestamp_of(at_ms: int) -> Timestamp:
    """An instant in milliseconds, as protobuf has it."""
    seconds, rest_ms = divmod(at_ms, 1_000)
    return Timestamp(seconds=seconds, nanos=rest_ms * 1_000_000)
