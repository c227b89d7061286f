"""Stripe's objects as its API shows them, for tests; and JSON of any shape, for those who must survive it."""

from typing import Any

from hypothesis import strategies as st

from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.request import PspRequest, PspVerb

INTENT_ID = "pi_3Nf8"
REFERENCES = {"tenant": "shop-a", "checkout_id": "c-1", "payment_order_id": "o-1"}


def request(verb: PspVerb, **fields: Any) -> PspRequest:
    """A request about order o-1: 12.50 USD."""
    known: dict[str, Any] = {
        "verb": verb,
        "psp": "stripe",
        "key": "" if verb is PspVerb.READ else f"{verb}-1-abc",
        "tenant": Tenant("shop-a"),
        "checkout_id": CheckoutId("c-1"),
        "order_id": OrderId("o-1"),
        "object_id": "" if verb is PspVerb.PREPARE else INTENT_ID,
        "token": "pm_card_visa" if verb is PspVerb.PREPARE else "",
        "money": Money(1_250, "USD"),
    }
    return PspRequest(**{**known, **fields})


def intent(status: str = "requires_confirmation", **fields: Any) -> dict[str, Any]:
    """A PaymentIntent over 12.50 USD for order o-1."""
    return {
        "id": INTENT_ID,
        "object": "payment_intent",
        "amount": 1_250,
        "amount_received": 1_250 if status == "succeeded" else 0,
        "currency": "usd",
        "last_payment_error": None,
        "latest_charge": None,
        "metadata": dict(REFERENCES),
        "status": status,
        **fields,
    }


def refund(status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    """A full refund of that intent, under the key refund-1."""
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 1_250,
        "currency": "usd",
        "metadata": {**REFERENCES, "refund_key": "refund-1"},
        "payment_intent": INTENT_ID,
        "status": status,
        **fields,
    }


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["payment_intent", "refund", "charge", "event", "succeeded", "requires_payment_method", "usd"])
)
_NAMES = st.text(max_size=6) | st.sampled_from(
    ["id", "object", "status", "amount", "amount_received", "currency", "metadata", "last_payment_error", "payment_intent",
     "refunds", "data", "type", "error", "code", "decline_code", "payment_order_id", "tenant", "checkout_id", "refund_key",
     "refunded", "amount_refunded"]
)  # fmt: skip

any_json = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=8), max_leaves=25
)
"""JSON of any shape that leans towards Stripe's words."""
