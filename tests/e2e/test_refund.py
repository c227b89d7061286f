"""Money that goes back, on real processes: a refund that finance asks for, and a reversal where an account is closed."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from servers.client import Refused
from servers.money_client import close_account, create_refund
from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import settled
from tests.e2e.system import RunningSystem
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2 as pb

pytestmark = pytest.mark.e2e


def settings_of(system: RunningSystem) -> Settings:
    """How the command line finds what runs."""
    run = system.run_file()
    addresses = {f"{name}_address": run[name] for name in ("payment", "wallet", "ledger")}
    return Settings(data_dir=system.data).model_copy(update=addresses)


def refund_of(caller: Caller, checkout: pb.CreatePaymentRequest) -> pb.Refund:
    """The order's refund, once it has ended and nothing is owed for it."""

    def look() -> pb.Refund | None:
        payment = caller.payment(checkout.checkout_id)
        refunds = payment.payment_orders[0].refunds if payment is not None else []
        is_over = bool(refunds) and refunds[-1].status != pb.REFUND_STATUS_PENDING and caller.open_todos() == 0
        return refunds[-1] if is_over else None

    return until(f"the refund of {checkout.checkout_id} has ended", look)


def given_back(system: RunningSystem, checkout: pb.CreatePaymentRequest) -> list[int]:
    """What the PSP's own book gave back for the order, in minor units."""
    order_id = checkout.payment_orders[0].payment_order_id
    refunds = [refund for refund in system.truth("refund") if refund["metadata"].get("payment_order_id") == order_id]
    return [refund["amount"] for refund in refunds]


def test_a_refund_goes_back_once_through_psp_wallet_and_ledger(system: RunningSystem, caller: Caller) -> None:
    """P16, P17: asked for twice, made once; every book nets to zero."""
    checkout = new_checkout("refund")
    order = checkout.payment_orders[0]
    caller.pay(checkout)
    settled(system, caller, checkout)

    for _ in range(2):
        create_refund(settings_of(system), "demo", order.payment_order_id, reason="DUPLICATE", key="")
    refund = refund_of(caller, checkout)

    assert (refund.status, refund.cause, refund.amount) == (
        pb.REFUND_STATUS_SUCCEEDED, pb.REFUND_CAUSE_REQUESTED, "12.50",
    )  # fmt: skip
    assert given_back(system, checkout) == [1_250]
    assert caller.wallet_entries(order.seller_account) == ["12.50", "-12.50"]
    assert caller.ledger_entries(f"seller:{order.seller_account}:pending:USD") == ["-12.50", "12.50"]


def test_refunds_asked_for_at_once_under_keys_of_their_own_are_one(system: RunningSystem, caller: Caller) -> None:
    """P16, I14: of eight callers one reserves it and the others are refused; the PSP is asked for one, the books say one.

    Source: juspay/hyperswitch#13182, where two at once passed the check together.
    """
    checkout = new_checkout("at-once")
    order = checkout.payment_orders[0]
    caller.pay(checkout)
    settled(system, caller, checkout)
    settings, begin = settings_of(system), Barrier(8)

    def ask(number: int) -> str:
        begin.wait(timeout=30)
        try:
            create_refund(settings, "demo", order.payment_order_id, reason="DUPLICATE", key=f"at-once-{number}")
        except Refused as refused:
            return str(refused).partition(":")[0]
        return "reserved"

    with ThreadPoolExecutor(8) as callers:
        told = sorted(callers.map(ask, range(8)))
    refund = refund_of(caller, checkout)

    assert told == ["ALREADY_REFUNDED"] * 7 + ["reserved"]
    assert (refund.number, refund.status) == (1, pb.REFUND_STATUS_SUCCEEDED)
    assert given_back(system, checkout) == [1_250]
    assert caller.wallet_entries(order.seller_account) == ["12.50", "-12.50"]


def test_a_charge_for_a_closed_account_goes_back_by_itself(system: RunningSystem, caller: Caller) -> None:
    """Point 7 of the saga: suspense, refund with proof, out of suspense; the order was charged and the checkout is REVERSED."""
    checkout = new_checkout("closed")
    seller = checkout.payment_orders[0].seller_account
    closed = close_account(settings_of(system), "demo", owner=seller, currency="USD", reason="FRAUD", key="")

    caller.pay(checkout)
    refund = refund_of(caller, checkout)

    payment = caller.payment(checkout.checkout_id)
    assert [row["already_closed"] for row in closed] == [False, False]
    assert (refund.status, refund.cause) == (pb.REFUND_STATUS_SUCCEEDED, pb.REFUND_CAUSE_ACCOUNT_CLOSED)
    assert payment is not None
    assert (payment.status, payment.payment_orders[0].status) == (
        pb.PAYMENT_STATUS_REVERSED, pb.ORDER_STATUS_SUCCESS,
    )  # fmt: skip
    assert given_back(system, checkout) == [1_250]
    assert caller.wallet_entries(seller) == []
    movements = system.query(
        "SELECT movement FROM ledger.journals WHERE payment_order_id = %s ORDER BY version",
        checkout.payment_orders[0].payment_order_id,
    )
    assert [movement for (movement,) in movements] == ["suspense_charge", "suspense_refund"]
