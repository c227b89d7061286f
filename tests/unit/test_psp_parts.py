"""The PSP simulator's parts: fault plan, keys, webhooks, the book's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stripe

from simulator.psp.book import BookBroken, BookInUse, FileBook
from simulator.psp.faults import FaultPlan, OneShot, Rates
from simulator.psp.idempotency import Keys, Verdict
from simulator.psp.stripe.operations import Route, route
from simulator.psp.stripe.wire import fingerprint, parse_form
from simulator.psp.webhooks import RetryRule, signature
from tests.unit.psp_engine import Psp


def test_rates_are_refused_by_name() -> None:
    """A misspelt fault, a share above 1, a negative or reversed range: nothing is set."""
    for document, message in (
        ({"drop": 1}, "unknown fault"),
        ({"drop_request": 1.1}, "at most 1"),
        ({"drop_request": True}, "number"),
        ({"delay_ms_min": -1}, "at least 0"),
        ({"delay_ms_min": 1.5}, "integer"),
        ({"delay_ms_min": 2, "delay_ms_max": 1}, "delay_ms_min"),
        ({"delay_ms_p50": 2}, "go together"),
        ({"delay_ms_p50": 2, "delay_ms_p99": 1}, "delay_ms_p50 is at most"),
    ):
        with pytest.raises(ValueError, match=message):
            Rates.parse(document)


def test_drawn_shares_come_near_their_rates() -> None:
    """3,000 keys at 30 % and 30 % of the rest: within four standard deviations."""
    plan = FaultPlan(seed=5, rates=Rates(drop_request=0.3, drop_response=0.3, delay_ms_min=5, delay_ms_max=80))
    drawn = [plan.decide(operation="confirm", subject=f"k{n}", reference=None, is_write=True) for n in range(3_000)]

    paths = [each.path for each in drawn]
    assert abs(paths.count("drop_request") - 900) < 100
    assert abs(paths.count("drop_response") - 630) < 92
    assert {each.delay_ms for each in drawn} == set(range(5, 81))


def test_delays_drawn_log_normally_have_the_percentiles_asked_for() -> None:
    """A PSP as they are: half of its calls within 120 ms, 99 of 100 within 380. 4,000 draws, twice the same."""

    def delays() -> list[int]:
        plan = FaultPlan(seed=5, rates=Rates.parse({"delay_ms_p50": 120, "delay_ms_p99": 380}))
        drawn = (plan.decide(operation="confirm", subject=f"k{n}", reference=None, is_write=True) for n in range(4_000))
        return sorted(each.delay_ms for each in drawn)

    told = delays()
    assert told[2_000] == pytest.approx(120, rel=0.04)
    assert told[3_960] == pytest.approx(380, rel=0.12)
    assert told[0] > 0
    assert told == delays()


def test_a_log_normal_delay_comes_on_top_of_the_even_one() -> None:
    plan = FaultPlan(seed=5, rates=Rates(delay_ms_min=1_000, delay_ms_max=1_000, delay_ms_p50=50, delay_ms_p99=50))

    assert plan.decide(operation="confirm", subject="k", reference=None, is_write=True).delay_ms == 1_050


def test_a_retry_of_the_same_key_is_drawn_anew() -> None:
    """At 50 %, twenty tries of one key are not all alike, and the second run repeats the first."""

    def tries() -> list[str | None]:
        plan = FaultPlan(seed=5, rates=Rates(drop_request=0.5))
        return [plan.decide(operation="confirm", subject="k", reference=None, is_write=True).path for _ in range(20)]

    assert set(tries()) == {None, "drop_request"}
    assert tries() == tries()


def test_a_one_shot_waits_for_the_nth_call_of_its_reference_and_happens_once() -> None:
    """Drop the response of the 3rd capture of order X."""
    plan = FaultPlan(seed=1)
    plan.add_one_shot(OneShot("drop_response", "capture", "X", 3))

    def path(operation: str, order: str) -> str | None:
        return plan.decide(operation=operation, subject="k", reference=order, is_write=True).path

    assert [path("capture", "X"), path("capture", "Y"), path("confirm", "X"), path("capture", "X")] == [None] * 4
    assert [path("capture", "X"), path("capture", "X")] == ["drop_response", None]
    assert plan.one_shots == []


def test_late_execution_is_never_drawn_for_a_read() -> None:
    """A GET has nothing to execute later."""
    plan = FaultPlan(seed=1, rates=Rates(late_execution=1.0))

    assert plan.decide(operation="retrieve", subject="pi", reference=None, is_write=False).path is None


def test_a_key_in_use_past_its_expiry_stays_in_use() -> None:
    """Forgetting it would let a second execution begin beside the first."""
    keys: Keys[str] = Keys(expiry_ms=10)
    keys.begin("a", "f", 0)

    assert keys.look("a", "f", 100) == (Verdict.IN_USE, None)


def test_a_fingerprint_does_not_depend_on_the_order_of_parameters() -> None:
    """Same parameters, same request; a value moved over the border of two is another."""
    assert fingerprint(parse_form("a=1&b=2%20x")) == fingerprint(parse_form("b=2+x&a=1"))
    assert fingerprint({"a": "1'&'b'='2"}) != fingerprint({"a": "1", "b": "2"})


@pytest.mark.parametrize(
    ("method", "path", "where"),
    [
        ("POST", "/v1/payment_intents", Route("create")),
        ("GET", "/v1/payment_intents/pi_1", Route("retrieve", "pi_1")),
        ("POST", "/v1/payment_intents/pi_1/confirm", Route("confirm", "pi_1")),
        ("GET", "/v1/account", Route("retrieve_account")),
        ("GET", "/v1/payment_intents/pi_1/confirm", None),
        ("POST", "/v1/charges", None),
        ("POST", "/v1/payment_intents/pi_1/confirm/again", None),
        ("GET", "/", None),
    ],
)
def test_routes_are_stripes(method: str, path: str, where: Route | None) -> None:
    """Known endpoints, and None for everything else."""
    assert route(method, path) == where


def test_a_signature_verifies_with_the_official_sdk_and_not_with_another_secret() -> None:
    """Stripe's scheme over the raw bytes."""
    body = json.dumps({"id": "evt_1", "object": "event", "type": "x", "data": {"object": {}}}).encode()
    header = signature(body, secret="whsec_a", signed_at_s=1_800_000_000)

    assert stripe.WebhookSignature.verify_header(body.decode(), header, "whsec_a", tolerance=None)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(body.decode(), header, "whsec_b", tolerance=None)


def test_a_failed_delivery_is_tried_again_with_doubling_pauses_until_given_up() -> None:
    """500 ms, 1 s, 2 s; after the last attempt the event is given up and says so."""
    psp = Psp(retry_rule=RetryRule(pause_ms=500, attempts_max=4))
    psp.confirm(psp.prepare()["id"])
    outbox, sent_after_ms = psp.engine.outbox, []
    while (due_ms := outbox.next_due_ms()) is not None:
        sent_after_ms.append(due_ms - psp.now_ms)
        psp.now_ms = due_ms
        (delivery,) = outbox.due(due_ms, 10)
        outbox.settle(delivery, 503, due_ms)

    assert sent_after_ms == [0, 500, 1_000, 2_000]
    assert [each["state"] for each in outbox.log()] == ["given_up"]


def test_webhooks_are_lost_doubled_and_reordered_as_drawn() -> None:
    """A lost one is never sent; doubles are sent 2 or 3 times; reordered ones come later than their successors."""
    psp = Psp(rates={"webhook_loss": 0.3, "webhook_duplicate": 0.3, "webhook_reorder": 0.3, "webhook_reorder_ms": 900})
    for number in range(60):
        psp.confirm(psp.prepare(f"order-{number}")["id"], f"confirm {number}")
        psp.now_ms += 10
    sent: list[str] = []
    outbox = psp.engine.outbox
    while (due_ms := outbox.next_due_ms()) is not None:
        for delivery in outbox.due(due_ms, 10):
            assert outbox.body(delivery).startswith(b'{"id":"evt_')
            outbox.settle(delivery, 200, due_ms)
            sent.append(delivery.event)

    log = list(outbox.log())
    lost = {each["id"] for each in log if each["state"] == "lost"}
    assert 5 < len(lost) < 35
    assert set(sent) == {each["id"] for each in log} - lost
    assert {sent.count(each) for each in sent} == {1, 2, 3}
    assert list(dict.fromkeys(sent)) != [each["id"] for each in log if each["id"] not in lost]
    assert all(each["accepted"] == sent.count(each["id"]) for each in log)


def test_doubles_are_as_many_as_they_may_be_at_most() -> None:
    """Failures row S4: up to twenty at once, where the rates say so."""
    plan = FaultPlan(seed=7, rates=Rates(webhook_duplicate=1.0, webhook_copies_max=20))
    copies = {plan.webhook(f"evt_{number}").copies for number in range(400)}

    assert copies == set(range(2, 21))
    with pytest.raises(ValueError, match="webhook_copies_max must be at least 2"):
        Rates.parse({"webhook_copies_max": 1})


def test_deliveries_folded_from_the_book_are_not_sent_again() -> None:
    """What was accepted before a kill stays accepted after it."""
    psp = Psp(rates={"webhook_duplicate": 1.0})
    psp.confirm(psp.prepare()["id"])
    outbox = psp.engine.outbox
    for delivery in list(outbox.due(psp.now_ms, 10)):
        psp.book.append(outbox.settle(delivery, 200, psp.now_ms))
    twin = Psp()
    twin.engine.restore(psp.book.records)

    assert list(twin.engine.outbox.due(psp.now_ms, 10)) == []
    assert list(twin.engine.outbox.log()) == list(outbox.log())


async def test_a_torn_last_line_is_cut_and_the_book_goes_on(tmp_path: Path) -> None:
    """A kill in the middle of a write costs that line only: nobody was answered from it."""
    book = FileBook(tmp_path)
    list(book.read())
    book.append({"type": "a"})
    await book.durable()
    book.close()
    with (tmp_path / "book.jsonl").open("ab") as file:
        file.write(b'{"type": "b", "torn')
    again = FileBook(tmp_path)
    first = list(again.read())
    again.append({"type": "c"})
    await again.durable()
    again.close()
    last = FileBook(tmp_path)

    assert first == [{"type": "a"}]
    assert list(last.read()) == [{"type": "a"}, {"type": "c"}]
    last.close()


def test_a_book_damaged_before_its_end_or_in_use_is_refused(tmp_path: Path) -> None:
    """Reading on would forget charges; a second writer would mix lines."""
    (tmp_path / "book.jsonl").write_bytes(b'{"type": "a"}\n{"ty\n{"type": "b"}\n')
    book = FileBook(tmp_path)

    with pytest.raises(BookBroken, match="line 2"):
        list(book.read())
    with pytest.raises(BookInUse):
        FileBook(tmp_path)
    book.close()


async def test_many_lines_of_one_turn_share_one_sync(tmp_path: Path) -> None:
    """Group commit: a hundred waiters, one fdatasync."""
    book = FileBook(tmp_path)
    for number in range(100):
        book.append({"type": "a", "number": number})
    await book.durable()

    assert book.syncs == 1
    book.close()
