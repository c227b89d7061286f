"""What is filled in is what the SDK writes: held against the SDK in use, for every kind of request and any text in it."""

from collections.abc import Mapping
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from zerosum.psp.stripe.desk import Desk, Written

URL = "https://psp.example/base"
DESK = Desk("sk_test_x", URL)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class Witness(stripe.HTTPClient):
    """An HTTP client that keeps what the SDK hands to it."""

    name = "zerosum"

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, *, _usage: Any = None) -> Any:
        self.saw = Written(method, url, headers, post_data)
        return "{}", 200, {}


def as_the_sdk_has_it(method: str, path: str, key: str, parameters: Mapping[str, object]) -> Written:
    witness = Witness()
    sdk = stripe.StripeClient("sk_test_x", base_addresses={"api": URL}, http_client=witness, max_network_retries=0)
    sdk.raw_request(method, path, **({"idempotency_key": key} if key else {}), **parameters)
    return witness.saw


@given(text, text, text)
def test_a_request_is_byte_for_byte_the_sdks(one: str, two: str, three: str) -> None:
    """Every kind the adapter sends, filled in from a stencil that other texts have cut."""
    created = {
        "amount": "1250", "payment_method": one, "allowed_payment_method_types": ["card"], "confirm": False,
        "transfer_group": two, "metadata": {"tenant": one, "checkout_id": two, "payment_order_id": three},
    }  # fmt: skip
    for method, path, key, parameters in (
        ("post", "/v1/payment_intents", "key-1", created),
        ("post", "/v1/payment_intents/pi_1/confirm", "key-2", {}),
        ("post", "/v1/payment_intents/pi_2/cancel", "key-{0}", {}),
        ("post", "/v1/refunds", "key-3", {"payment_intent": one, "metadata": {"refund_key": two}}),
        ("get", "/v1/refunds", "", {"payment_intent": three, "limit": 100}),
        ("get", "/v1/payment_intents/pi_3", "", {"expand": [two]}),
        ("get", "/v1/account", "", {}),
    ):
        assert DESK.write(method, path, key, parameters) == as_the_sdk_has_it(method, path, key, parameters)


def test_a_kind_is_written_once_whatever_the_texts() -> None:
    """Else each order would leave a stencil behind."""
    desk = Desk("sk_test_x", URL)
    for number in range(10):
        desk.write("post", f"/v1/payment_intents/pi_{number}/confirm", f"key-{number}", {"note": f"n-{number}"})

    assert len(desk._stencils) == 1


def test_an_error_is_what_the_sdk_makes_of_it() -> None:
    """Its class, status, headers and body; the next request is written as ever."""
    body = b'{"error": {"type": "card_error", "code": "card_declined", "message": "no"}}'
    with pytest.raises(stripe.CardError) as caught:
        DESK.tell((body, 402, {"request-id": "req_1"}))

    assert (caught.value.http_status, caught.value.request_id, caught.value.code) == (402, "req_1", "card_declined")
    assert DESK.write("get", "/v1/balance", "", {}) == as_the_sdk_has_it("get", "/v1/balance", "", {})
