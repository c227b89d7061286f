"""The PSP simulator's core: intents, keys, faults and the book, without a socket, a clock or a file."""

from __future__ import annotations

import pytest

from simulator.psp.call import Call, Ticket
from simulator.psp.faults import Rates
from simulator.psp.stripe.objects import TRANSITIONS, Act, Status, next_status
from tests.unit.psp_engine import Psp

DAY_MS = 24 * 60 * 60 * 1_000


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("act", list(Act))
def test_every_pair_of_status_and_act_is_in_the_table_or_refused(status: Status, act: Act) -> None:
    """Nothing leads out of succeeded; only the planted late charge leads out of canceled."""
    after = next_status(status, act)

    assert after == TRANSITIONS.get((status, act))
    if status is Status.SUCCEEDED:
        assert after is None
    if status is Status.CANCELED:
        assert (after is None) == (act is not Act.CHARGE_LATE)


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
def test_a_decline_token_declines_with_stripes_codes_and_takes_no_money(
    token: str, code: str, decline_code: str
) -> None:
    """402 card_error; the intent is back at requires_payment_method with the error on it."""
    psp = Psp()
    intent = psp.prepare(card=token)
    status, document = psp.confirm(intent["id"])

    assert status == 402
    error = document["error"]
    assert (error["type"], error["code"], error["decline_code"]) == ("card_error", code, decline_code)
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert error["payment_intent"]["last_payment_error"]["code"] == code
    assert psp.captured() == []
    assert psp.events() == ["payment_intent.payment_failed"]


def test_an_object_is_paid_once_whatever_the_key() -> None:
    """A second confirm under another key is refused, and that refusal is kept under it."""
    psp = Psp()
    intent = psp.prepare()
    first = psp.confirm(intent["id"], "confirm 1")
    second = psp.confirm(intent["id"], "confirm 2")

    assert first[0] == 200
    assert (second[0], second[1]["error"]["code"]) == (400, "payment_intent_unexpected_state")
    assert psp.confirm(intent["id"], "confirm 2") == second
    assert psp.captured() == ["order-1"]


def test_a_key_belongs_to_one_endpoint() -> None:
    """The same key on another path is another key."""
    psp = Psp()
    one, two = psp.prepare("order-1"), psp.prepare("order-2")

    assert psp.confirm(one["id"], "same")[0] == 200
    assert psp.confirm(two["id"], "same")[0] == 200


def test_a_key_is_forgotten_at_its_expiry_and_not_earlier() -> None:
    """24 hours: one millisecond before it still replays, then the request runs anew as another object."""
    psp = Psp()
    first = psp.prepare()
    psp.advance(DAY_MS - 1)
    replayed = psp.prepare()
    psp.advance(1)
    anew = psp.prepare()

    assert replayed == first
    assert anew["id"] != first["id"]


def test_other_parameters_under_a_known_key_are_an_idempotency_error() -> None:
    """400 idempotency_error; nothing is executed, the first answer stays."""
    psp = Psp()
    first = psp.prepare()
    status, document = psp.post("/v1/payment_intents", {"amount": "1", "currency": "usd"}, key="prepare order-1")

    assert (status, document["error"]["type"]) == (400, "idempotency_error")
    assert len(psp.engine.account.intents) == 1
    assert psp.prepare() == first


def test_a_key_under_way_is_in_use() -> None:
    """Between begin and finish the same key gets 409."""
    psp = Psp(rates={"delay_ms_min": 100, "delay_ms_max": 100})
    call = Call(method="POST", path="/v1/refunds", body="payment_intent=pi_x", key="k", authorization="Bearer sk_test")
    ticket = psp.engine.begin(call, psp.now_ms)
    status, document = psp.post("/v1/refunds", {"payment_intent": "pi_x"}, key="k")

    assert isinstance(ticket, Ticket)
    assert ticket.wait_ms == 50
    assert (status, document["error"]["code"]) == (409, "idempotency_key_in_use")


def test_a_malformed_request_is_not_kept_under_its_key() -> None:
    """Validation comes before execution: the same key may be used with the right parameters."""
    psp = Psp()
    malformed = psp.post("/v1/payment_intents", {"amount": "-1", "currency": "usd"}, key="k")
    right = psp.post("/v1/payment_intents", {"amount": "1", "currency": "usd"}, key="k")

    assert malformed[0] == 400
    assert right[0] == 200


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"currency": "usd"}, "amount"),
        ({"amount": "1.5", "currency": "usd"}, "amount"),
        ({"amount": "0", "currency": "usd"}, "amount"),
        ({"amount": "1" * 13, "currency": "usd"}, "amount"),
        ({"amount": "\u0661", "currency": "usd"}, "amount"),
        ({"amount": "1", "currency": "zzz"}, "currency"),
        ({"amount": "1", "currency": "usd", "payment_method": "4242"}, "payment_method"),
        ({"amount": "1", "currency": "usd", "colour": "red"}, "colour"),
        ({"amount": "1", "currency": "usd", "metadata[a]": "x" * 501}, "metadata[a]"),
    ],
)
def test_bad_parameters_are_refused_by_name(form: dict[str, str], param: str) -> None:
    """400 invalid_request_error with `param`; no object is made."""
    psp = Psp()
    status, document = psp.post("/v1/payment_intents", form)

    assert (status, document["error"]["param"]) == (400, param)
    assert psp.engine.account.intents == {}


def test_an_error_before_execution_is_not_kept_and_nothing_happened() -> None:
    """500; the retry under the same key executes."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot("error_before", "confirm")
    failed = psp.confirm(intent["id"])
    charged_then = psp.captured()
    again = psp.confirm(intent["id"])

    assert (failed[0], charged_then) == (500, [])
    assert (again[0], psp.captured()) == (200, ["order-1"])


def test_an_error_after_execution_is_kept_and_replayed_for_a_day() -> None:
    """500 with the charge made; the key replays the 500, only reading the object tells the truth."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot("error_after", "confirm")
    failed = psp.confirm(intent["id"])
    plan = psp.plan("POST", f"/v1/payment_intents/{intent['id']}/confirm", {}, "confirm")

    assert failed[0] == 500
    assert plan.answer is not None
    assert plan.answer.status == 500
    assert ("Idempotent-Replayed", "true") in plan.answer.headers
    assert psp.get(f"/v1/payment_intents/{intent['id']}")[1]["status"] == "succeeded"
    assert psp.captured() == ["order-1"]


def test_a_gateway_error_is_executed_or_not_and_never_kept() -> None:
    """502/503/504 with either outcome, drawn; a retry under the key brings the truth."""
    psp = Psp(seed=3)
    executed = set()
    for number in range(20):
        order = f"order-{number}"
        intent = psp.prepare(order)
        psp.one_shot("error_gateway", "confirm")
        status, _ = psp.confirm(intent["id"], f"confirm {order}")
        executed.add(order in psp.captured())
        assert status in (502, 503, 504)
        assert psp.confirm(intent["id"], f"confirm {order}")[1]["status"] == "succeeded"

    assert executed == {True, False}
    assert len(psp.captured()) == 20


def test_a_late_execution_keeps_its_key_in_use_until_it_charges() -> None:
    """504 now; 409 under the same key meanwhile; the charge comes later and the key replays it."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot("late_execution", "confirm", ms=90_000)
    assert psp.confirm(intent["id"])[0] == 504
    psp.advance(89_999)
    meanwhile = psp.confirm(intent["id"])
    unread = psp.get(f"/v1/payment_intents/{intent['id']}")[1]["status"]
    psp.advance(1)

    assert (meanwhile[0], unread) == (409, "requires_confirmation")
    assert psp.captured() == ["order-1"]
    assert psp.confirm(intent["id"])[1]["status"] == "succeeded"


def test_a_late_execution_after_a_cancel_takes_no_money() -> None:
    """Cancel is final: what arrives later is refused by the table."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot("late_execution", "confirm", ms=1_000)
    psp.confirm(intent["id"])
    psp.post(f"/v1/payment_intents/{intent['id']}/cancel", {}, key="cancel")
    psp.advance(1_000)

    assert psp.captured() == []
    assert psp.confirm(intent["id"])[0] == 400


def test_charge_after_cancel_takes_money_for_a_canceled_intent() -> None:
    """The planted fault: the cancel is answered, then the card is charged and announced."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot("charge_after_cancel", "cancel", reference="order-1", ms=500)
    _, canceled = psp.post(f"/v1/payment_intents/{intent['id']}/cancel", {}, key="cancel")
    psp.advance(500)

    assert canceled["status"] == "canceled"
    assert psp.captured() == ["order-1"]
    assert psp.events() == ["payment_intent.canceled", "payment_intent.succeeded"]


def test_a_second_object_charge_is_another_intent_with_the_same_reference() -> None:
    """The planted double charge: two objects, two charges, one reference."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot("second_object_charge", "confirm")
    psp.confirm(intent["id"])

    assert psp.captured() == ["order-1", "order-1"]
    assert len({charge.intent for charge in psp.engine.account.charges.values()}) == 2


def test_a_stale_read_shows_the_object_before_its_last_change_for_a_while() -> None:
    """GET lags the charge by at most `stale_ms`."""
    psp = Psp(rates={"stale_read": 1.0, "stale_ms": 2_000})
    intent = psp.prepare()
    psp.confirm(intent["id"])
    stale = psp.get(f"/v1/payment_intents/{intent['id']}")[1]["status"]
    psp.advance(2_000)

    assert stale == "requires_confirmation"
    assert psp.get(f"/v1/payment_intents/{intent['id']}")[1]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("fault", "field", "wrong"),
    [
        ("wrong_amount", "amount", 1_001),
        ("wrong_currency", "currency", "eur"),
        ("wrong_reference", "metadata", {"payment_order_id": "wrong-order-1"}),
    ],
)
def test_a_wrong_answer_is_wrong_in_the_answer_only(fault: str, field: str, wrong: object) -> None:
    """The truth stays what was charged."""
    psp = Psp()
    intent = psp.prepare()
    psp.one_shot(fault, "confirm")
    _, paid = psp.confirm(intent["id"])

    assert paid[field] == wrong
    assert psp.get(f"/v1/payment_intents/{intent['id']}")[1][field] == intent[field]


def test_a_challenge_waits_for_the_buyer_and_ends_by_hand_or_by_time() -> None:
    """requires_action with a next_action; passing charges, failing returns to requires_payment_method."""
    psp = Psp()
    passes, fails = (psp.prepare(order, "pm_card_authenticationRequired") for order in ("order-1", "order-2"))
    _, waiting = psp.confirm(passes["id"])
    psp.confirm(fails["id"])
    psp.engine.end_wait(passes["id"], is_passed=True, now_ms=psp.now_ms)
    psp.engine.end_wait(fails["id"], is_passed=False, now_ms=psp.now_ms)

    assert (waiting["status"], waiting["next_action"]["type"]) == ("requires_action", "use_stripe_sdk")
    assert psp.captured() == ["order-1"]
    after = psp.get(f"/v1/payment_intents/{fails['id']}")[1]
    assert (after["status"], after["last_payment_error"]["code"]) == (
        "requires_payment_method",
        "payment_intent_authentication_failure",
    )
    assert not psp.engine.end_wait(passes["id"], is_passed=True, now_ms=psp.now_ms)


def test_a_processing_payment_ends_after_its_time_and_cannot_be_canceled_before() -> None:
    """processing, then succeeded."""
    psp = Psp()
    intent = psp.prepare(card="pm_card_processing")
    _, processing = psp.confirm(intent["id"])
    canceled = psp.post(f"/v1/payment_intents/{intent['id']}/cancel", {}, key="cancel")
    psp.advance(1_000)

    assert (processing["status"], canceled[0]) == ("processing", 400)
    assert psp.captured() == ["order-1"]


def test_manual_capture_holds_first_and_takes_at_most_what_it_holds() -> None:
    """requires_capture moves no balance; a partial capture releases the rest; a canceled hold takes nothing."""
    psp = Psp()
    intent = psp.prepare(capture_method="manual")
    _, held = psp.confirm(intent["id"])
    path = f"/v1/payment_intents/{intent['id']}/capture"
    too_much = psp.post(path, {"amount_to_capture": "1001"}, key="capture 1")
    booked_before = len(psp.engine.account.balance)
    _, captured = psp.post(path, {"amount_to_capture": "400"}, key="capture 2")
    voided = psp.prepare("order-2", capture_method="manual")
    psp.confirm(voided["id"], "confirm 2")
    psp.post(f"/v1/payment_intents/{voided['id']}/cancel", {}, key="cancel")

    assert (held["status"], held["amount_capturable"], booked_before) == ("requires_capture", 1_000, 0)
    assert (too_much[0], captured["status"], captured["amount_received"]) == (400, "succeeded", 400)
    assert [each.amount for each in psp.engine.account.balance.values()] == [400]


def test_refunds_never_exceed_what_was_captured() -> None:
    """Partial refunds up to the whole, then charge_already_refunded."""
    psp = Psp()
    intent = psp.prepare()
    psp.confirm(intent["id"])

    def refund(amount: str, key: str) -> tuple[int, dict[str, dict[str, str]]]:
        return psp.post("/v1/refunds", {"payment_intent": intent["id"], "amount": amount}, key=key)

    assert [refund("600", "r1")[0], refund("401", "r2")[0], refund("400", "r3")[0]] == [200, 400, 200]
    assert refund("1", "r4")[1]["error"]["code"] == "charge_already_refunded"
    assert sum(each.amount for each in psp.engine.account.refunds.values()) == 1_000
    assert psp.events()[1:] == ["charge.refunded", "refund.updated"] * 2


def test_lists_page_newest_first() -> None:
    """limit and starting_after walk through everything once."""
    psp = Psp()
    ids = [psp.prepare(f"order-{number}")["id"] for number in range(5)]
    first = psp.get("/v1/payment_intents", {"limit": "3"})[1]
    second = psp.get("/v1/payment_intents", {"limit": "3", "starting_after": first["data"][-1]["id"]})[1]

    assert [each["id"] for each in first["data"] + second["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


def test_a_restored_engine_is_the_one_that_wrote_the_book() -> None:
    """Objects, keys, timers and announcements are the fold of the book."""
    psp = Psp(rates={"drop_response": 0.2, "error_after": 0.1, "late_execution": 0.1, "webhook_loss": 0.3})
    for number in range(40):
        intent = psp.prepare_until(f"order-{number}")
        psp.confirm(intent, f"confirm {number}")
    twin = Psp()
    twin.now_ms = psp.now_ms
    twin.engine.restore(psp.book.records)
    for each in (psp, twin):
        each.engine.plan.set_rates(Rates())
        each.advance(10_000)

    assert twin.engine.account.intents == psp.engine.account.intents
    assert twin.engine.account.charges == psp.engine.account.charges
    assert list(twin.engine.outbox.log()) == list(psp.engine.outbox.log())
    for number, intent_id in enumerate(psp.engine.account.intents):
        assert twin.confirm(intent_id, f"confirm {number}") == psp.confirm(intent_id, f"confirm {number}")


def test_the_same_seed_does_the_same_harm_in_any_order_of_arrival() -> None:
    """Faults depend on seed, operation, key and occurrence, not on who comes first."""
    rates = {"drop_request": 0.3, "drop_response": 0.3, "error_gateway": 0.2}

    def harm(orders: list[int], seed: int) -> dict[int, int]:
        psp = Psp(seed=seed, rates=rates)
        form = {"amount": "1", "currency": "usd"}
        return {n: psp.post("/v1/payment_intents", form, key=f"k{n}")[0] for n in orders}

    assert harm(list(range(50)), 7) == harm(list(range(49, -1, -1)), 7)
    assert harm(list(range(50)), 7) != harm(list(range(50)), 8)


def test_the_delay_of_every_call_is_logged_by_what_it_pays_for() -> None:
    """The bench takes the PSP's own time off a latency; two calls of 80 ms each, and a call that pays for nothing is none's."""
    psp = Psp(rates={"delay_ms_min": 80, "delay_ms_max": 80})
    intent = psp.prepare("order-1")
    psp.post(f"/v1/payment_intents/{intent['id']}/confirm", key="confirm order-1")
    psp.get("/v1/payment_intents")

    assert psp.engine.delays_ms == {"order-1": 160}
