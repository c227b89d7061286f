"""Where the money of a checkout is, by every account of it: ours, the PSP's own book, the wallet, the ledger.

Invariant: nothing here is believed because one side says so.
"""

from dataclasses import dataclass

from tests.e2e.caller import Caller
from tests.e2e.deadline import until
from tests.e2e.system import RunningSystem
from zerosum.v1 import payment_pb2


@dataclass(frozen=True, slots=True)
class Movement:
    """One order's money. `charges`: minor units of every charge the PSP made for it."""

    status: str
    charges: list[int]
    wallet: list[str]
    ledger: list[str]


def once(amount: str) -> Movement:
    """Charged once, credited once, posted once."""
    return Movement("SUCCESS", [int(amount.replace(".", ""))], [amount], [f"-{amount}"])


def settled(system: RunningSystem, caller: Caller, checkout: payment_pb2.CreatePaymentRequest) -> Movement:
    """Where the money of its one order is, once the checkout says that it is done with."""
    payment = until(f"{checkout.checkout_id} is done", lambda: _done(caller, checkout.checkout_id))
    order = checkout.payment_orders[0]
    charges = [
        charge["amount_captured"]
        for charge in system.truth("charge")
        if charge["metadata"] == _reference(caller, checkout) and charge["is_captured"]
    ]
    return Movement(
        status=payment_pb2.OrderStatus.Name(payment.payment_orders[0].status).removeprefix("ORDER_STATUS_"),
        charges=charges,
        wallet=caller.wallet_entries(order.seller_account),
        ledger=caller.ledger_entries(f"seller:{order.seller_account}:pending:USD"),
    )


def _reference(caller: Caller, checkout: payment_pb2.CreatePaymentRequest) -> dict[str, str]:
    order_id = checkout.payment_orders[0].payment_order_id
    return {"tenant": caller.tenant, "checkout_id": checkout.checkout_id, "payment_order_id": order_id}


def _done(caller: Caller, checkout_id: str) -> payment_pb2.Payment | None:
    payment = caller.payment(checkout_id)
    return payment if payment is not None and payment.is_payment_done else None
