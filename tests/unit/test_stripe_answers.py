"""The Stripe adapter over scripted answers, no network: what is sent, refunds looked up, and answers of any shape."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stripe_objects import INTENT_ID, REFERENCES, any_json, intent, refund, request
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.errors import Bug, Misconfigured, PspTrouble
from zerosum.psp.stripe.adapter import StripeAdapter
from zerosum.psp.stripe.transport import Transport
from zerosum.psp.trouble import Unsettled

Answer = tuple[int, bytes]
Sent = tuple[str, str, dict[str, str], str]
"""Method, path, parameters, idempotency key."""


def scripted(patch: pytest.MonkeyPatch, answer: Callable[[str, str], Answer]) -> list[Sent]:
    """Puts the script in the place of the network; returns the list of what will have been sent."""
    sent: list[Sent] = []

    async def request_async(
        _: Transport, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        where = urlsplit(url)
        parameters = dict(parse_qsl(where.query or post_data or ""))
        sent.append((method, where.path, parameters, headers.get("Idempotency-Key", "")))
        status, body = answer(method, where.path)
        return body, status, {}

    patch.setattr(Transport, "request_async", request_async)
    return sent


def call(asked: PspRequest) -> Report:
    return asyncio.run(StripeAdapter("sk_test_x").call(asked))


def always(document: object, status: int = 200) -> Callable[[str, str], Answer]:
    body = json.dumps(document).encode()
    return lambda _method, _path: (status, body)


# ---- what is sent --------------------------------------------------------------------------------------------------


def test_prepare_sends_everything_that_lets_the_object_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Design section 4: unconfirmed, under our key, with our references. No parameter that this API version refuses."""
    sent = scripted(monkeypatch, always(intent()))
    call(request(PspVerb.PREPARE))

    assert sent == [
        (
            "post",
            "/v1/payment_intents",
            {
                "amount": "1250",
                "currency": "usd",
                "payment_method": "pm_card_visa",
                "allowed_payment_method_types[0]": "card",
                "capture_method": "automatic",
                "confirm": "false",
                "transfer_group": "o-1",
                "metadata[tenant]": "shop-a",
                "metadata[checkout_id]": "c-1",
                "metadata[payment_order_id]": "o-1",
            },
            "prepare-1-abc",
        )
    ]


def test_a_payment_method_of_a_customer_is_sent_with_its_customer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only such a one may pay a second time, as it does for a checkout of several orders."""
    sent = scripted(monkeypatch, always(intent()))
    call(request(PspVerb.PREPARE, token="cus_9s6.pm_1Nf"))

    ((_, _, parameters, _),) = sent
    assert (parameters["customer"], parameters["payment_method"]) == ("cus_9s6", "pm_1Nf")


@pytest.mark.parametrize("verb", [PspVerb.CONFIRM, PspVerb.CANCEL])
def test_confirm_and_cancel_name_the_object_and_nothing_else(monkeypatch: pytest.MonkeyPatch, verb: PspVerb) -> None:
    """Parameters would have to be stored, to be the same on every re-send."""
    sent = scripted(monkeypatch, always(intent("succeeded")))
    call(request(verb))

    assert sent == [("post", f"/v1/payment_intents/{INTENT_ID}/{verb}", {}, f"{verb}-1-abc")]


@pytest.mark.parametrize("verb", [PspVerb.CONFIRM, PspVerb.CANCEL, PspVerb.REFUND, PspVerb.READ])
@pytest.mark.parametrize("object_id", ["", "../account", "pi_1/cancel", "pi_1?x=y"])
def test_a_request_without_an_object_of_stripes_is_a_bug_and_not_sent(
    monkeypatch: pytest.MonkeyPatch, verb: PspVerb, object_id: str
) -> None:
    """It would name another endpoint."""
    sent = scripted(monkeypatch, always(intent("succeeded")))
    with pytest.raises(Bug):
        call(request(verb, object_id=object_id))

    assert sent == []


@pytest.mark.parametrize("verb", [PspVerb.PREPARE, PspVerb.CONFIRM, PspVerb.CANCEL, PspVerb.REFUND])
def test_a_request_without_a_key_is_a_bug_and_not_sent(monkeypatch: pytest.MonkeyPatch, verb: PspVerb) -> None:
    """The SDK would make one up, another one on every try."""
    sent = scripted(monkeypatch, always(intent("succeeded")))
    with pytest.raises(Bug):
        call(request(verb, key=""))

    assert sent == []


# ---- refunds looked up ---------------------------------------------------------------------------------------------

ASKED = request(PspVerb.READ, wants_refund_key="refund-1")


def refunds_then_intent(*refunds: object) -> Callable[[str, str], Answer]:
    page = json.dumps({"object": "list", "data": list(refunds), "has_more": False}).encode()
    charged = json.dumps(intent("succeeded")).encode()
    return lambda _method, path: (200, page if path == "/v1/refunds" else charged)


def test_a_refund_is_found_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the refunds of the intent, ours and others."""
    sent = scripted(monkeypatch, refunds_then_intent(refund("failed", metadata={}), refund()))
    report = call(ASKED)

    assert (report.status, report.source, report.money) == (
        ObjectStatus.REFUNDED,
        ReportSource.POLL,
        Money(1_250, "USD"),
    )
    assert sent == [("get", "/v1/refunds", {"payment_intent": INTENT_ID, "limit": "100"}, "")]


@pytest.mark.parametrize("others", [[], [refund(metadata={})], ["re_1", None]])
def test_a_refund_that_is_not_found_proves_nothing(monkeypatch: pytest.MonkeyPatch, others: list[object]) -> None:
    """The intent's own status is what is certain."""
    scripted(monkeypatch, refunds_then_intent(*others))
    report = call(ASKED)

    assert (report.status, report.is_unrefunded) == (ObjectStatus.CHARGED, False)


def page_then_charge(page: object, charge: object) -> Callable[[str, str], Answer]:
    charged = json.dumps(intent("succeeded", latest_charge=charge)).encode()
    return lambda _method, path: (200, json.dumps(page).encode() if path == "/v1/refunds" else charged)


PAGE = {"object": "list", "data": [], "has_more": False}
CHARGE = {"object": "charge", "id": "ch_1", "amount_refunded": 0, "refunded": False}


@pytest.mark.parametrize("data", [[], [refund("failed", metadata={}), refund("canceled", metadata={})]])
def test_a_charge_of_which_nothing_was_given_back_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, data: list[object]
) -> None:
    """Proof: the whole list, read first, has none that is or may be money, and the charge itself says 0."""
    sent = scripted(monkeypatch, page_then_charge({**PAGE, "data": data}, CHARGE))
    report = call(ASKED)

    assert (report.status, report.source, report.is_unrefunded) == (ObjectStatus.CHARGED, ReportSource.POLL, True)
    assert [path for _, path, *_ in sent] == ["/v1/refunds", f"/v1/payment_intents/{INTENT_ID}"]


@pytest.mark.parametrize(
    ("page", "charge"),
    [
        ({**PAGE, "has_more": True}, CHARGE),
        ({**PAGE, "object": "search_result"}, CHARGE),
        ({"object": "list", "data": []}, CHARGE),
        ({**PAGE, "data": None}, CHARGE),
        ({**PAGE, "data": ["re_1"]}, CHARGE),
        ({**PAGE, "data": [refund("pending", metadata={})]}, CHARGE),
        ({**PAGE, "data": [refund("succeeded", metadata={})]}, CHARGE),
        ([], CHARGE),
        (PAGE, {**CHARGE, "amount_refunded": 1}),
        (PAGE, {**CHARGE, "amount_refunded": False}),
        (PAGE, {**CHARGE, "amount_refunded": None}),
        (PAGE, {**CHARGE, "refunded": True}),
        (PAGE, {"object": "charge"}),
        (PAGE, "ch_1"),
        (PAGE, None),
    ],
)
def test_anything_less_than_proof_leaves_open_whether_something_was_given_back(
    monkeypatch: pytest.MonkeyPatch, page: object, charge: object
) -> None:
    """A list that goes on, a refund under way, somebody else's, a charge that is not shown: never sent again on that."""
    scripted(monkeypatch, page_then_charge(page, charge))

    assert not call(ASKED).is_unrefunded


def test_only_a_question_about_a_refund_is_told_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirm's poll looks at no list."""
    scripted(monkeypatch, page_then_charge(PAGE, CHARGE))

    assert not call(request(PspVerb.READ)).is_unrefunded


# ---- answers of any shape ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"[]", b'"ok"', b"{}", b"\xff", b"[" * 100_000, json.dumps(intent("lost")).encode()],
)
def test_an_answer_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """200, and nothing to believe: it may have been executed."""
    scripted(monkeypatch, lambda _method, _path: (200, body))
    with pytest.raises(PspTrouble) as caught:
        call(request(PspVerb.CONFIRM))

    assert type(caught.value) is Unsettled


def test_an_answer_about_another_object_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirm of one intent answered with another says nothing of the one."""
    scripted(monkeypatch, always(intent("succeeded", id="pi_another")))
    with pytest.raises(Unsettled):
        call(request(PspVerb.CONFIRM))


@pytest.mark.slow
@given(st.sampled_from(sorted(PspVerb)), st.sampled_from([200, 400, 402, 404, 409, 429, 500]), any_json)
def test_any_answer_is_a_report_or_a_trouble_of_ours(verb: PspVerb, status: int, document: object) -> None:
    """Whatever JSON comes with whatever status."""
    error = {"error": document if isinstance(document, dict) else {"message": document}}
    with pytest.MonkeyPatch.context() as patch:
        scripted(patch, always(document if status == 200 else error, status))
        try:
            outcome: Report | PspTrouble = call(request(verb))
        except PspTrouble as trouble:
            outcome = trouble

    assert isinstance(outcome, Report | PspTrouble)


# ---- preflight -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [{"object": "payment_intent"}, [], None, "hello"])
def test_something_else_at_stripes_address_is_misconfigured(monkeypatch: pytest.MonkeyPatch, document: object) -> None:
    """Nothing is served on such a ground."""
    scripted(monkeypatch, always(document))
    with pytest.raises(Misconfigured):
        asyncio.run(StripeAdapter("sk_test_x").preflight())


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_stripe_refuses_is_misconfigured(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Row O4."""
    error: dict[str, Any] = {"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}
    scripted(monkeypatch, always(error, status))
    with pytest.raises(Misconfigured):
        asyncio.run(StripeAdapter("sk_test_x").preflight())


def test_an_empty_key_is_misconfigured() -> None:
    """Before anything is asked."""
    with pytest.raises(Misconfigured):
        StripeAdapter("  \n")


# ---- after a restore -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"payment_order_id": "O-1"}, {"tenant": "SHOP-A"}, {"checkout_id": "C-1"}])
def test_a_search_that_finds_a_name_in_other_letters_has_not_found_ours(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    """D10: Stripe's search knows no case, our ids do; another tenant's charge is never taken over."""
    theirs = intent("succeeded", metadata={**REFERENCES, **other})
    found = {"object": "search_result", "data": [theirs]}

    def answer(method: str, _: str) -> Answer:
        return 200, json.dumps(found if method == "get" else intent(id="pi_new")).encode()

    scripted(monkeypatch, answer)
    report = asyncio.run(StripeAdapter("sk_test_x", asks_first=True).call(request(PspVerb.PREPARE)))

    assert (report.object_id, report.status) == ("pi_new", ObjectStatus.UNCONFIRMED)
