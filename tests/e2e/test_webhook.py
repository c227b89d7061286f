"""The PSP's webhooks over the real edge: once recorded, always acknowledged, never believed unsigned."""

import hmac
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from uuid import uuid4

import pytest

from servers.keys import read_key
from tests.e2e.caller import Caller, new_checkout
from tests.e2e.money import once, settled
from tests.e2e.system import RunningSystem
from zerosum.v1.payment_pb2 import CreatePaymentRequest

pytestmark = pytest.mark.e2e


def test_twenty_copies_of_a_webhook_at_once_are_one_record_and_twenty_acknowledgements(
    system: RunningSystem, caller: Caller
) -> None:
    """S4, I10."""
    checkout = new_checkout()
    caller.pay(checkout)
    body = event_of(system, caller, checkout, status="succeeded")
    secret = read_key(system.data, "psp_webhook_secrets").splitlines()[0]

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: deliver(system, body, secret), range(20)))

    assert statuses == [200] * 20
    assert inbox(system, body) == 1
    assert settled(system, caller, checkout) == once("12.50")


def test_forged_webhook_is_refused_and_changes_nothing(system: RunningSystem, caller: Caller) -> None:
    """S7, I19: signed with another secret, it is nobody's word."""
    checkout = new_checkout()
    caller.pay(checkout)
    told = settled(system, caller, checkout)
    before = caller.payment(checkout.checkout_id)
    body = event_of(system, caller, checkout, status="canceled")

    status = deliver(system, body, "whsec_of_somebody_else")

    assert status == 400
    assert inbox(system, body) == 0
    assert caller.payment(checkout.checkout_id) == before
    assert settled(system, caller, checkout) == told


def event_of(system: RunningSystem, caller: Caller, checkout: CreatePaymentRequest, *, status: str) -> bytes:
    """An event about the checkout's object that the PSP has not sent."""
    (intent,) = [
        one for one in system.truth("intent") if one["reference"] == checkout.payment_orders[0].payment_order_id
    ]
    thing = {
        "id": intent["id"], "object": "payment_intent", "amount": intent["amount"], "currency": intent["currency"],
        "amount_received": intent["amount_received"], "status": status, "metadata": intent["metadata"],
        "transfer_group": intent["transfer_group"], "latest_charge": intent["latest_charge"],
    }  # fmt: skip
    event = {
        "id": f"evt_{uuid4().hex[:24]}", "object": "event", "type": f"payment_intent.{status}", "created": 1,
        "data": {"object": thing}, "livemode": False, "api_version": "2026-10-28", "request": None,
    }  # fmt: skip
    return json.dumps(event).encode()


def deliver(system: RunningSystem, body: bytes, secret: str) -> int:
    """Posts it to the edge, signed now with that secret; the status."""
    at = int(time.time())
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, sha256).hexdigest()
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{system.run_file()['edge']}/v1/webhooks/stripe", data=body,
        headers={"Content-Type": "application/json", "Stripe-Signature": f"t={at},v1={signature}"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - loopback
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def inbox(system: RunningSystem, body: bytes) -> int:
    """Rows of the event in the inbox."""
    return int(system.query("SELECT count(*) FROM payment.inbox WHERE event_id = %s", json.loads(body)["id"])[0][0])
