"""A checkout as callers see it: the fixed reply that is stored for ever, and the messages of Get, List and Watch.

Pure: no clock, no reading. Buyer data and tokens are in none of these messages.

Invariant: `encode_reply` brings the same bytes for the same checkout, whoever runs it and whenever.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.money import format_amount
from zerosum.domain.order import OrderStatus
from zerosum.domain.refund import Refund, RefundCause, RefundStatus
from zerosum.readers import OrderView, PaymentView, view_of
from zerosum.v1 import payment_pb2 as pb

_PAYMENT_STATUS = {
    CheckoutStatus.OPEN: pb.PAYMENT_STATUS_OPEN,
    CheckoutStatus.DONE: pb.PAYMENT_STATUS_DONE,
    CheckoutStatus.PARTIAL: pb.PAYMENT_STATUS_PARTIAL,
    CheckoutStatus.FAILED: pb.PAYMENT_STATUS_FAILED,
    CheckoutStatus.REVERSED: pb.PAYMENT_STATUS_REVERSED,
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
_REFUND_CAUSE = {
    RefundCause.ACCOUNT_CLOSED: pb.REFUND_CAUSE_ACCOUNT_CLOSED,
    RefundCause.CHECKOUT_FAILED: pb.REFUND_CAUSE_CHECKOUT_FAILED,
    RefundCause.REQUESTED: pb.REFUND_CAUSE_REQUESTED,
}
_REFUND_STATUS = {
    RefundStatus.PENDING: pb.REFUND_STATUS_PENDING,
    RefundStatus.SUCCEEDED: pb.REFUND_STATUS_SUCCEEDED,
    RefundStatus.FAILED: pb.REFUND_STATUS_FAILED,
}
_STATUS_ASKED: dict[int, CheckoutStatus] = {number: status for status, number in _PAYMENT_STATUS.items()}


def encode_reply(checkout: Checkout) -> bytes:
    """The reply to CreatePayment as it stands now: protobuf bytes of CreatePaymentResponse, to be stored as they are."""
    return pb.CreatePaymentResponse(payment=payment_of(view_of(checkout))).SerializeToString(deterministic=True)


def payment_of(view: PaymentView) -> pb.Payment:
    """The checkout as it stands."""
    return pb.Payment(
        checkout_id=view.checkout_id,
        status=_PAYMENT_STATUS[view.status],
        payment_orders=[payment_order_of(order) for order in view.orders],
        is_payment_done=view.is_payment_done,
        created_at=timestamp_of(view.created_at_ms),
    )


def payment_order_of(view: OrderView) -> pb.PaymentOrder:
    """One order as it stands."""
    return pb.PaymentOrder(
        payment_order_id=view.order_id,
        checkout_id=view.checkout_id,
        seller_account=view.seller_account,
        amount=view.amount,
        currency=view.currency,
        status=_ORDER_STATUS[view.status],
        reason=view.reason,
        wallet_updated=view.wallet_updated,
        ledger_updated=view.ledger_updated,
        psp_reference=view.psp_reference,
        refunds=[refund_message(refund) for refund in view.refunds],
    )


def refund_message(refund: Refund) -> pb.Refund:
    """A refund as it stands."""
    return pb.Refund(
        number=refund.number,
        cause=_REFUND_CAUSE[refund.cause],
        status=_REFUND_STATUS[refund.status],
        amount=format_amount(refund.money),
        currency=refund.money.currency,
        reason=refund.reason,
        outcome=refund.outcome,
        opened_at=timestamp_of(refund.opened_at_ms),
        ended_at=timestamp_of(refund.ended_at_ms) if refund.ended_at_ms else None,
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
