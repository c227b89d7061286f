"""The JSON of the edge, as the specification names its fields: the body of a checkout, and what is told of it.

Amounts are strings, never numbers. A field that is not named here is refused, so that no card number comes in by one.

Invariant: what goes out is made of the service's reply alone, in one order of fields: the same reply, the same bytes.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from zerosum.limits import AMOUNT_LENGTH_MAX, ID_LENGTH_MAX, ORDERS_MAX, TEXT_LENGTH_MAX
from zerosum.v1 import payment_pb2 as pb

_ID_PATTERN = r"^[A-Za-z0-9_.-]*[A-Za-z_.-][A-Za-z0-9_.-]*$"
Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_LENGTH_MAX, pattern=_ID_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=TEXT_LENGTH_MAX)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class BuyerInfo(_Body):
    """Who buys. Kept in one erasable record only."""

    buyer_account: Id
    name: Text = ""
    email: Text = ""
    country: Annotated[str, Field(pattern="^([A-Z]{2})?$", description="ISO 3166-1 alpha-2")] = ""


class CreditCardInfo(_Body):
    """How the buyer pays: the PSP's token, "pm_..", or "cus_9s6.pm_1Nf" of a customer's. Never a card number."""

    token: Annotated[str, Field(min_length=1, max_length=128, examples=["pm_card_visa"])]


class PaymentOrderBody(_Body):
    """Money for one seller."""

    seller_account: Id
    amount: Annotated[str, Field(min_length=1, max_length=AMOUNT_LENGTH_MAX, examples=["12.50"])]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["USD"])]
    payment_order_id: Id


class CheckoutBody(_Body):
    """A checkout to be paid. `checkout_id` and each `payment_order_id` are unique for ever."""

    buyer_info: BuyerInfo
    checkout_id: Id
    credit_card_info: CreditCardInfo
    payment_orders: Annotated[list[PaymentOrderBody], Field(min_length=1, max_length=ORDERS_MAX)]
    on_partial: Annotated[
        str, Field(pattern="^(KEEP|REVERSE)$", description="what becomes of paid orders when others are not paid")
    ] = "KEEP"


class RefundShown(BaseModel):
    """Money on its way back to the buyer, or there."""

    number: int
    cause: str
    status: str
    amount: str
    currency: str
    reason: str
    outcome: str


class OrderShown(BaseModel):
    """A payment order as it stands."""

    payment_order_id: str
    checkout_id: str
    seller_account: str
    amount: str
    currency: str
    status: str
    reason: str
    wallet_updated: bool
    ledger_updated: bool
    psp_reference: str
    refunds: list[RefundShown] = []


class PaymentShown(BaseModel):
    """A checkout as it stood when its reply was fixed."""

    checkout_id: str
    status: str
    is_payment_done: bool
    created_at: str
    payment_orders: list[OrderShown]


class FieldErrorShown(BaseModel):
    """A field at fault."""

    field: str
    message: str
    reason: str


class ProblemShown(BaseModel):
    """application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    same_key_required: bool
    request_id: str
    incident_id: str = ""
    errors: list[FieldErrorShown] = []


def create_request(body: CheckoutBody, idempotency_key: str) -> pb.CreatePaymentRequest:
    """The contract's request. An empty key lets the service take the checkout's id."""
    buyer = body.buyer_info
    orders = [
        pb.PaymentOrderRequest(
            payment_order_id=order.payment_order_id,
            seller_account=order.seller_account,
            amount=order.amount,
            currency=order.currency,
        )
        for order in body.payment_orders
    ]
    return pb.CreatePaymentRequest(
        checkout_id=body.checkout_id,
        idempotency_key=idempotency_key,
        buyer_info=pb.BuyerInfo(
            buyer_account=buyer.buyer_account, name=buyer.name, email=buyer.email, country=buyer.country
        ),
        payment_method=pb.PaymentMethod(token=body.credit_card_info.token),
        payment_orders=orders,
        on_partial=pb.ON_PARTIAL_REVERSE if body.on_partial == "REVERSE" else pb.ON_PARTIAL_UNSPECIFIED,
    )


def payment_shown(payment: pb.Payment) -> dict[str, Any]:
    """The JSON object of a checkout."""
    return {
        "checkout_id": payment.checkout_id,
        "status": pb.PaymentStatus.Name(payment.status).removeprefix("PAYMENT_STATUS_"),
        "is_payment_done": payment.is_payment_done,
        "created_at": payment.created_at.ToJsonString(),
        "payment_orders": [order_shown(order) for order in payment.payment_orders],
    }


def order_shown(order: pb.PaymentOrder) -> dict[str, Any]:
    """The JSON object of an order. `refunds` stands there only where there is one: replies of before keep their bytes."""
    refunds = {"refunds": [refund_shown(refund) for refund in order.refunds]} if order.refunds else {}
    return {
        "payment_order_id": order.payment_order_id,
        "checkout_id": order.checkout_id,
        "seller_account": order.seller_account,
        "amount": order.amount,
        "currency": order.currency,
        "status": pb.OrderStatus.Name(order.status).removeprefix("ORDER_STATUS_"),
        "reason": order.reason,
        "wallet_updated": order.wallet_updated,
        "ledger_updated": order.ledger_updated,
        "psp_reference": order.psp_reference,
    } | refunds


def refund_shown(refund: pb.Refund) -> dict[str, Any]:
    """The JSON object of a refund."""
    return {
        "number": refund.number,
        "cause": pb.RefundCause.Name(refund.cause).removeprefix("REFUND_CAUSE_"),
        "status": pb.RefundStatus.Name(refund.status).removeprefix("REFUND_STATUS_"),
        "amount": refund.amount,
        "currency": refund.currency,
        "reason": refund.reason,
        "outcome": refund.outcome,
    }
