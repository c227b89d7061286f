"""A checkout on real processes, from the door to the ledger; and what a caller can do to itself."""

import json
import urllib.request
from uuid import uuid4

import grpc
import pytest

from servers.keys import token_path
from tests.e2e.caller import CREATE, OPTIONS, Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e


def test_checkout_over_grpc_is_charged_credited_posted_and_replayed_byte_by_byte(
    system: RunningSystem, caller: Caller
) -> None:
    """C1, I6: one key, one outcome, the same bytes for ever."""
    checkout = new_checkout()

    first, again = caller.submit(checkout), caller.submit(checkout)

    assert once("12.50") == settled(system, caller, checkout)
    assert (first.code, first.is_replayed, again.code, again.is_replayed) == ("OK", False, "OK", True)
    assert first.body == again.body


def test_checkout_over_http_is_charged_once_and_replayed(system: RunningSystem, caller: Caller) -> None:
    """The edge speaks the specification's words, and is the same door."""
    checkout = new_checkout("http")
    order = checkout.payment_orders[0]
    body: dict[str, object] = {
        "checkout_id": checkout.checkout_id,
        "buyer_info": {"buyer_account": "buyer-1"},
        "credit_card_info": {"token": "pm_card_visa"},
        "payment_orders": [
            {
                "payment_order_id": order.payment_order_id, "seller_account": order.seller_account,
                "amount": order.amount, "currency": order.currency,
            }
        ],
    }  # fmt: skip

    first, again = _post(system, body), _post(system, body)

    assert once("12.50") == settled(system, caller, checkout)
    assert (first[1], again[1]) == (None, "true")
    assert first[0] == again[0]


def test_same_key_of_another_tenant_is_another_payment(system: RunningSystem, caller: Caller) -> None:
    """C3, I21: every id and key lives inside its tenant."""
    checkout = new_checkout()

    with Caller(system, f"other-{uuid4().hex[:8]}") as other:
        ours, theirs = caller.pay(checkout), other.pay(checkout)

        assert (ours.is_replayed, theirs.is_replayed) == (False, False)
        assert once("12.50") == settled(system, caller, checkout)
        assert once("12.50") == settled(system, other, checkout)


def test_call_whose_deadline_passed_is_finished_all_the_same(system: RunningSystem, caller: Caller) -> None:
    """C4: a handler that has begun finishes though its caller is gone; the retry brings what it made."""
    checkout = new_checkout()
    system.psp("POST", "hold", {"operation": "create"})

    hasty = caller.submit(checkout, timeout_s=0.5)
    system.release()
    patient = caller.pay(checkout)

    assert (hasty.code, patient.code) == ("DEADLINE_EXCEEDED", "OK")
    assert once("12.50") == settled(system, caller, checkout)


@pytest.mark.parametrize("how", ["cancelled", "channel closed"])
def test_call_that_is_cut_off_is_finished_all_the_same(system: RunningSystem, caller: Caller, how: str) -> None:
    """G2, G3: whatever a channel does to a call, the commit is not its to cancel."""
    checkout = new_checkout()
    system.psp("POST", "hold", {"operation": "create"})
    with grpc.insecure_channel(system.run_file()["payment"], options=OPTIONS) as channel:
        call = channel.unary_unary(CREATE).future(
            checkout.SerializeToString(), timeout=20.0, metadata=caller.metadata()
        )
        until("the request is at the PSP", lambda: system.psp_stats()["held"].get("create"))
        if how == "cancelled":
            call.cancel()

    system.release()

    assert caller.pay(checkout).code == "OK"
    assert once("12.50") == settled(system, caller, checkout)


def _post(system: RunningSystem, body: dict[str, object]) -> tuple[bytes, str | None]:
    """The reply's body, and whether it says that it is a repeat."""
    token = token_path(system.data, "service").read_text()
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{system.run_file()['edge']}/v1/payments", data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {token}", "Content-Type": "application/json",
            "Idempotency-Key": str(body["checkout_id"]),
        },
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
        return response.read(), response.headers.get("idempotent-replayed")
