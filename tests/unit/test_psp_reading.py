"""The PSP simulator's reads: lists of refunds, the balance; and which payment methods a request may name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.psp_engine import Psp

PREPARE = {"amount": "1000", "currency": "usd", "payment_method": "pm_card_visa"}
THREE_DAYS_MS = 3 * 24 * 60 * 60 * 1_000


def refunded(psp: Psp, order: str, *amounts: str) -> tuple[str, list[str]]:
    """A charged intent's id and the ids of its refunds, oldest first."""
    intent = psp.prepare(order)
    psp.confirm(intent["id"], f"confirm {order}")
    made = []
    for number, amount in enumerate(amounts):
        form = {"payment_intent": intent["id"], "amount": amount, "metadata[refund_key]": f"{order}-{number}"}
        made.append(psp.post("/v1/refunds", form, key=f"refund {order} {number}")[1]["id"])
    return intent["id"], made


def ids(page: dict[str, Any]) -> list[str]:
    return [each["id"] for each in page["data"]]


def test_refunds_of_one_intent_are_listed_newest_first_in_pages() -> None:
    """`payment_intent` narrows the list; limit and starting_after walk through it once."""
    psp = Psp()
    intent_id, made = refunded(psp, "order-1", "100", "200", "300")
    _, others = refunded(psp, "order-2", "50")
    first = psp.get("/v1/refunds", {"payment_intent": intent_id, "limit": "2"})[1]
    second = psp.get("/v1/refunds", {"payment_intent": intent_id, "limit": "2", "starting_after": ids(first)[-1]})[1]
    every = psp.get("/v1/refunds")[1]

    assert ids(first) + ids(second) == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert first["data"][0]["metadata"] == {"refund_key": "order-1-2"}
    assert ids(every) == others + made[::-1]


def test_refunds_of_one_charge_are_listed_too() -> None:
    """`charge` narrows the list by the charge given back."""
    psp = Psp()
    _, made = refunded(psp, "order-1", "100")
    refunded(psp, "order-2", "50")
    charge = psp.engine.account.refunds[made[0]].charge

    assert ids(psp.get("/v1/refunds", {"charge": charge})[1]) == made


def test_refunds_of_an_intent_without_any_are_an_empty_list_and_of_an_unknown_one_an_error() -> None:
    """No refund is an answer; no intent is `resource_missing`."""
    psp = Psp()
    intent = psp.prepare()
    status, document = psp.get("/v1/refunds", {"payment_intent": "pi_gone"})

    assert psp.get("/v1/refunds", {"payment_intent": intent["id"]}) == (
        200,
        {"object": "list", "url": "/v1/refunds", "has_more": False, "data": []},
    )
    assert (status, document["error"]["code"]) == (404, "resource_missing")


def test_a_search_by_metadata_finds_what_carries_all_of_it_newest_first() -> None:
    """Every term must hold; a quote in a value is escaped; what cannot be read is refused."""
    psp = Psp()
    first = psp.prepare("it's one")
    psp.prepare("another")

    def search(query: str) -> tuple[int, dict[str, Any]]:
        return psp.get("/v1/payment_intents/search", {"query": query})

    status, found = search(r"metadata['payment_order_id']:'it\'s one'")
    assert (status, ids(found), found["object"]) == (200, [first["id"]], "search_result")
    assert ids(search(r"metadata['payment_order_id']:'it\'s one' AND metadata['tenant']:'nobody'")[1]) == []
    assert search("metadata['payment_order_id']:'it's one'")[0] == 400
    assert search("status:'succeeded'")[0] == 400


def test_the_list_of_refunds_survives_a_restart() -> None:
    """It is folded from the book like all else."""
    psp, twin = Psp(), Psp()
    intent_id, made = refunded(psp, "order-1", "100", "200")
    twin.engine.restore(psp.book.records)

    assert ids(twin.get("/v1/refunds", {"payment_intent": intent_id})[1]) == made[::-1]


def test_the_balance_is_pending_for_two_days_and_then_available() -> None:
    """Net of fees (2.9 % and 30), per currency; a refund takes from what is available at once."""
    psp = Psp()
    refunded(psp, "order-1", "100")
    now = psp.get("/v1/balance")[1]
    psp.advance(THREE_DAYS_MS)
    later = psp.get("/v1/balance")[1]

    assert [(each["amount"], each["currency"]) for each in now["pending"]] == [(941, "usd")]
    assert [(each["amount"], each["currency"]) for each in now["available"]] == [(-100, "usd")]
    assert [(each["amount"], each["currency"]) for each in later["available"]] == [(841, "usd")]
    assert later["pending"] == []


def test_the_balance_of_a_new_account_is_empty() -> None:
    """Enough for a preflight: whose key it is, and no money."""
    assert Psp().get("/v1/balance") == (200, {"object": "balance", "livemode": False, "available": [], "pending": []})


@pytest.mark.parametrize("endpoint", ["create", "confirm"])
def test_payment_method_types_are_refused_by_their_code(endpoint: str) -> None:
    """API 2026-09-30.endive: not kept under the key, so that the mended request may use it."""
    psp = Psp()
    intent = psp.prepare()
    path = "/v1/payment_intents" if endpoint == "create" else f"/v1/payment_intents/{intent['id']}/confirm"
    form = PREPARE if endpoint == "create" else {}
    status, document = psp.post(path, {**form, "payment_method_types[0]": "card"}, key="k")

    assert (status, document["error"]["code"]) == (400, "payment_method_types_no_longer_supported")
    assert psp.post(path, form, key="k")[0] == 200


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ({"allowed_payment_method_types[0]": "card"}, 200),
        ({"allowed_payment_method_types[0]": "ideal", "allowed_payment_method_types[1]": "card"}, 200),
        ({"allowed_payment_method_types[0]": "ideal"}, 400),
        ({"allowed_payment_method_types[0]": "card", "automatic_payment_methods[enabled]": "true"}, 400),
        ({"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}, 200),
    ],
)
def test_the_payment_methods_allowed_must_take_a_card_and_be_named_in_one_way(
    named: dict[str, str], status: int
) -> None:
    """`allowed_payment_method_types` and `automatic_payment_methods` exclude one another."""
    assert Psp().post("/v1/payment_intents", {**PREPARE, **named}, key="k")[0] == status
