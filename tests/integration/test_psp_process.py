"""The PSP simulator as a real process, through the official Stripe SDK."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe
from aiohttp import web

from tests.integration.psp_process import WEBHOOK_SECRET, AdminRefused, PspProcess


@pytest.fixture
def psp(tmp_path: Path) -> Iterator[PspProcess]:
    with PspProcess(tmp_path / "psp") as process:
        yield process


@pytest.fixture
async def client(psp: PspProcess) -> AsyncIterator[stripe.StripeClient]:
    async with psp.client() as sdk:
        yield sdk


async def prepare(
    sdk: stripe.StripeClient, order: str, card: str = "pm_card_visa", **more: Any
) -> stripe.PaymentIntent:
    params: Any = {
        "amount": 1_250,
        "currency": "usd",
        "payment_method": card,
        "allowed_payment_method_types": ["card"],
        "transfer_group": order,
        "metadata": {"payment_order_id": order},
        **more,
    }
    return await sdk.v1.payment_intents.create_async(params, options={"idempotency_key": f"prepare {order}"})


async def confirm(sdk: stripe.StripeClient, id_: str, key: str) -> stripe.PaymentIntent:
    return await sdk.v1.payment_intents.confirm_async(id_, options={"idempotency_key": key})


async def test_a_prepared_and_confirmed_intent_is_one_charge_in_the_truth(
    psp: PspProcess, client: stripe.StripeClient
) -> None:
    """Prepare moves no money; confirm does, once, with our reference on it."""
    prepared = await prepare(client, "order-1")
    paid = await confirm(client, prepared.id, "confirm 1")
    expanded = await client.v1.payment_intents.retrieve_async(prepared.id, {"expand": ["latest_charge"]})

    assert (prepared.status, paid.status) == ("requires_confirmation", "succeeded")
    assert isinstance(expanded.latest_charge, stripe.Charge)
    assert (expanded.latest_charge.amount, expanded.latest_charge.paid) == (1_250, True)
    (charge,) = psp.truth_of("charge")
    assert (charge["reference"], charge["amount"], charge["currency"], charge["is_captured"]) == (
        "order-1",
        1_250,
        "usd",
        True,
    )


async def test_a_key_replays_its_first_answer_and_refuses_other_parameters(client: stripe.StripeClient) -> None:
    """Stripe's rule: same parameters, same answer; other parameters, idempotency_error."""
    first = await prepare(client, "order-1")
    again = await prepare(client, "order-1")
    with pytest.raises(stripe.IdempotencyError) as refused:
        await prepare(client, "order-1", amount=1)

    assert first.id == again.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert refused.value.http_status == 400


async def test_a_declined_card_is_a_402_and_the_intent_can_be_canceled(client: stripe.StripeClient) -> None:
    """After a decline the intent wants another payment method; canceled it can never be paid."""
    prepared = await prepare(client, "order-1", "pm_card_visa_chargeDeclinedInsufficientFunds")
    with pytest.raises(stripe.CardError) as declined:
        await confirm(client, prepared.id, "confirm 1")
    after = await client.v1.payment_intents.retrieve_async(prepared.id)
    canceled = await client.v1.payment_intents.cancel_async(prepared.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await confirm(client, prepared.id, "confirm 2")

    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert declined.value.error is not None
    assert declined.value.error.decline_code == "insufficient_funds"
    assert after.status == "requires_payment_method"
    assert after.last_payment_error is not None
    assert canceled.status == "canceled"
    assert refused.value.code == "payment_intent_unexpected_state"


async def test_wrong_credentials_unknown_objects_and_bad_parameters_are_stripes_errors(
    psp: PspProcess, client: stripe.StripeClient
) -> None:
    """401, 404 resource_missing, 400 with the parameter named; a preflight reads the account."""
    account = await client.v1.accounts.retrieve_current_async()
    async with psp.client("sk_wrong") as stranger:
        with pytest.raises(stripe.AuthenticationError):
            await stranger.v1.accounts.retrieve_current_async()
    with pytest.raises(stripe.InvalidRequestError) as missing:
        await client.v1.payment_intents.retrieve_async("pi_none")
    with pytest.raises(stripe.InvalidRequestError) as malformed:
        await prepare(client, "order-1", currency="xxx")

    assert account.id == "acct_simulator"
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    assert (malformed.value.http_status, malformed.value.param) == (400, "currency")


async def test_the_book_survives_sigkill(psp: PspProcess) -> None:
    """Method: kill -9 between the calls; objects, keys and the truth come back, and the key replays."""
    async with psp.client() as sdk:
        prepared = await prepare(sdk, "order-1")
        paid = await confirm(sdk, prepared.id, "confirm 1")
        refund = await sdk.v1.refunds.create_async(
            {"payment_intent": paid.id, "amount": 250}, options={"idempotency_key": "refund 1"}
        )
    before = psp.truth()
    psp.restart()
    async with psp.client() as sdk:
        replayed = await confirm(sdk, prepared.id, "confirm 1")
        same_refund = await sdk.v1.refunds.create_async(
            {"payment_intent": paid.id, "amount": 250}, options={"idempotency_key": "refund 1"}
        )

    assert replayed.to_dict() == paid.to_dict()
    assert same_refund.id == refund.id
    assert psp.truth() == before


async def test_a_dropped_response_has_charged_and_a_dropped_request_has_not(
    psp: PspProcess, client: stripe.StripeClient
) -> None:
    """Named one-shots: the connection closes without an answer, before or after the execution."""
    for fault, order in (("drop_request", "order-1"), ("drop_response", "order-2")):
        psp.admin("POST", "one_shots", {"fault": fault, "operation": "confirm", "reference": order, "nth": 1})
        prepared = await prepare(client, order)
        with pytest.raises(stripe.APIConnectionError):
            await confirm(client, prepared.id, f"confirm {order}")

    assert [each["reference"] for each in psp.truth_of("charge")] == ["order-2"]
    assert psp.admin("GET", "stats")["faults"] == {"drop_request": 1, "drop_response": 1}


async def test_a_late_execution_survives_sigkill_and_happens_once(psp: PspProcess) -> None:
    """504 now; the key is in use until the charge happens, although the simulator was killed in between."""
    async with psp.client() as sdk:
        shot = {"fault": "late_execution", "operation": "confirm", "reference": "order-1", "ms": 3_600_000}
        psp.admin("POST", "one_shots", shot)
        prepared = await prepare(sdk, "order-1")
        with pytest.raises(stripe.APIError):
            await confirm(sdk, prepared.id, "confirm 1")
    psp.restart()
    async with psp.client() as sdk:
        with pytest.raises(stripe.StripeError) as in_use:
            await confirm(sdk, prepared.id, "confirm 1")
        psp.admin("POST", "clock", {"advance_ms": 3_600_001})
        await until(lambda: asyncio.to_thread(lambda: len(psp.truth_of("charge")) == 1))
        replayed = await confirm(sdk, prepared.id, "confirm 1")

    assert in_use.value.http_status == 409
    assert replayed.status == "succeeded"
    assert len(psp.truth_of("charge")) == 1


async def test_a_held_operation_answers_only_after_its_release(psp: PspProcess, client: stripe.StripeClient) -> None:
    """The hold withholds the answer, not the execution: the caller is kept EXECUTING."""
    prepared = await prepare(client, "order-1")
    psp.admin("POST", "hold", {"operation": "confirm"})
    confirming = asyncio.create_task(confirm(client, prepared.id, "confirm 1"))
    await until(lambda: asyncio.to_thread(lambda: psp.admin("GET", "stats")["held"] == {"confirm": 1}))
    was_done = confirming.done()
    psp.admin("POST", "release", {"operation": "confirm"})
    paid = await confirming

    assert not was_done
    assert paid.status == "succeeded"


async def test_webhooks_are_signed_and_retried_over_a_restart_until_accepted(tmp_path: Path) -> None:
    """At-least-once: a receiver that fails first gets the same event again, also from the next process."""
    events: list[stripe.Event] = []
    statuses = [500, 503]

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        events.append(stripe.Webhook.construct_event(body, request.headers["Stripe-Signature"], WEBHOOK_SECRET))
        return web.Response(status=statuses.pop(0) if statuses else 200)

    async with receiver(receive) as url:
        with PspProcess(tmp_path / "psp", webhook_url=url, webhook_retry_ms=5) as psp:
            async with psp.client() as sdk:
                prepared = await prepare(sdk, "order-1")
                await confirm(sdk, prepared.id, "confirm 1")
            await asyncio.to_thread(psp.restart)
            await until(lambda: asyncio.to_thread(lambda: psp.truth_of("webhook")[0]["state"] == "delivered"))
            (logged,) = psp.truth_of("webhook")

    assert len(events) == 3
    assert {event.id for event in events} == {logged["id"]}
    assert {event.type for event in events} == {"payment_intent.succeeded"}
    assert events[0].data.object["id"] == prepared.id
    assert (logged["statuses"][-1], logged["accepted"]) == (200, 1)


async def test_the_settlement_file_agrees_with_its_manifest_and_names_our_orders(
    psp: PspProcess, client: stripe.StripeClient
) -> None:
    """One row per movement in Stripe's columns; rows, sums and hash in the manifest; JPY and KWD in their decimals."""
    for order, currency in (("order-1", "usd"), ("order-2", "jpy"), ("order-3", "kwd")):
        await confirm(client, (await prepare(client, order, currency=currency)).id, f"confirm {order}")
    manifest = psp.admin("POST", "settlement")
    content, shown = await asyncio.to_thread(read_files, manifest["path"], manifest["manifest_path"])
    rows = list(csv.DictReader(content.decode().splitlines()))
    empty, again = psp.admin("POST", "settlement"), psp.admin("POST", "settlement", {"from_ms": 0})

    assert manifest["rows"] == len(rows) == 6
    assert manifest["sha256"] == sha256(content).hexdigest()
    assert json.loads(shown)["sums"] == manifest["sums"]
    assert [(row["payment_metadata[payment_order_id]"], row["gross"], row["fee"], row["net"]) for row in rows] == [
        ("order-1", "12.50", "0.66", "11.84"),
        ("order-2", "1250", "66", "1184"),
        ("order-3", "1.250", "0.066", "1.184"),
        ("", "-11.84", "0.00", "-11.84"),
        ("", "-1184", "0", "-1184"),
        ("", "-1.184", "0.000", "-1.184"),
    ]
    assert (empty["rows"], again["rows"], again["payouts"]) == (0, 6, manifest["payouts"])


async def test_a_payout_is_in_the_book_before_its_file_and_survives_a_kill(
    psp: PspProcess, client: stripe.StripeClient
) -> None:
    """A PSP that dies after writing knows its payout; the period's report asked for again is the same file."""
    await confirm(client, (await prepare(client, "order-1")).id, "confirm 1")
    first = psp.admin("POST", "settlement", {"from_ms": 0, "to_ms": 2**42, "pay_out": True})
    await asyncio.to_thread(psp.restart)
    again = psp.admin("POST", "settlement", {"from_ms": 0, "to_ms": 2**42})
    empty = psp.admin("POST", "settlement")

    assert len(first["payouts"]) == 1
    assert again == first
    assert empty["rows"] == 0


async def test_a_damaged_settlement_has_the_truth_and_the_damage_on_record_beside_it(
    psp: PspProcess, client: stripe.StripeClient
) -> None:
    """The delivered file is spoiled as asked; the true one and the log stand in a folder that nobody delivers."""
    for number in range(4):
        await confirm(client, (await prepare(client, f"order-{number}")).id, f"confirm {number}")
    plan = {"damage_rate": 1, "damage_seed": 3, "damage_kinds": ["wrong_amount"]}
    damaged = psp.admin("POST", "settlement", {"from_ms": 0, "to_ms": 2**42, "pay_out": True, **plan})
    delivered, log = await asyncio.to_thread(read_files, damaged["path"], damaged["damage_log"])
    true, _ = await asyncio.to_thread(read_files, damaged["true"]["path"], damaged["true"]["manifest_path"])
    corrected = psp.admin("POST", "settlement", {"from_ms": 0, "to_ms": 2**42})
    again, _ = await asyncio.to_thread(read_files, corrected["path"], corrected["manifest_path"])

    records = [json.loads(line) for line in log.splitlines()]
    assert damaged["damage"] == {"wrong_amount": 4}
    assert [record["true"] for record in records] == ["12.50"] * 4
    assert [record["damaged"] for record in records] == [row["gross"] for row in csv_rows(delivered)[:4]]
    assert csv_rows(true) == csv_rows(again)
    assert (damaged["version"], corrected["version"]) == (1, 2)
    with pytest.raises(AdminRefused, match="unknown damage"):
        psp.admin("POST", "settlement", {"damage_rate": 1, "damage_kinds": ["lost"]})


def csv_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode().splitlines()))


def test_admin_needs_its_token_and_refuses_unknown_faults(psp: PspProcess) -> None:
    """Default deny; a misspelt fault changes nothing."""
    with pytest.raises(AdminRefused, match="401"):
        psp.admin("GET", "faults", token="wrong")
    with pytest.raises(AdminRefused, match="unknown fault 'drop_everything'"):
        psp.admin("PUT", "faults", {"drop_everything": 1.0})

    assert psp.admin("GET", "faults")["rates"]["drop_request"] == 0.0
    assert psp.admin("GET", "health", token="") == {"status": "serving"}


async def test_sigterm_finishes_the_answer_under_way_and_exits_with_zero(psp: PspProcess) -> None:
    """A stop lets go what is held, answers it, closes the book and leaves nothing behind."""
    async with psp.client() as sdk:
        prepared = await prepare(sdk, "order-1")
        psp.admin("POST", "hold", {"operation": "confirm"})
        confirming = asyncio.create_task(confirm(sdk, prepared.id, "confirm 1"))
        await until(lambda: asyncio.to_thread(lambda: psp.admin("GET", "stats")["held"] == {"confirm": 1}))
        status = await asyncio.to_thread(psp.stop)
        paid = await confirming

    assert (status, paid.status) == (0, "succeeded")


def test_a_second_simulator_on_the_same_book_refuses_to_start(psp: PspProcess) -> None:
    """One writer a book."""
    twin = PspProcess(psp.folder)
    with pytest.raises(RuntimeError, match="did not start"):
        twin.start()


async def test_a_client_without_a_length_is_refused_and_pipelined_requests_are_answered_in_order(
    psp: PspProcess,
) -> None:
    """The small HTTP server: chunked request bodies get 411; two requests in one segment get two answers."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"amount=1"

    async with aiohttp.ClientSession() as session, session.post(f"{psp.url}/v1/refunds", data=pieces()) as response:
        chunked = response.status
    reader, writer = await asyncio.open_connection("127.0.0.1", psp.port)
    writer.write(b"GET /_admin/health HTTP/1.1\r\n\r\n" * 2)
    answers = [await reader.readuntil(b'{"status": "serving"}') for _ in range(2)]
    writer.close()
    await writer.wait_closed()

    assert chunked == 411
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)


def read_files(*paths: str) -> list[bytes]:
    return [Path(path).read_bytes() for path in paths]


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it is so; the test's own time limit ends it otherwise."""
    while not await is_so():  # noqa: ASYNC110 - another process has no event of ours to set
        await asyncio.sleep(0)


class receiver:  # noqa: N801 - used as a context manager, like a function
    """A webhook receiver on a free port; yields its address."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.Response]]) -> None:
        application = web.Application()
        application.router.add_post("/webhook", handler)
        self._runner = web.AppRunner(application)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        return f"http://127.0.0.1:{port}/webhook"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
