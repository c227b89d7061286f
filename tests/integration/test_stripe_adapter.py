"""The Stripe adapter against the simulator's process: every verb, every fault, and the simulator's own webhooks."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.psp_process import API_KEY, WEBHOOK_SECRET, PspProcess
from tests.unit.stripe_objects import request
from zerosum.domain.identity import OrderId
from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.money import Money
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.errors import Misconfigured, NotSent, OutcomeUnknown, PspTrouble, StoredFailure
from zerosum.psp.stripe.adapter import StripeAdapter
from zerosum.psp.stripe.webhook import Verified, WebhookReport, report_of, verify
from zerosum.psp.trouble import TurnedAway, Unsettled


@pytest.fixture
def psp(tmp_path: Path) -> Iterator[PspProcess]:
    with PspProcess(tmp_path / "psp") as process:
        yield process


@pytest.fixture
async def adapter(psp: PspProcess) -> AsyncIterator[StripeAdapter]:
    stripe = StripeAdapter(API_KEY, url=psp.url, timeout_ms=20_000)
    yield stripe
    await stripe.close()


def ask(verb: PspVerb, object_id: str = "", **fields: Any) -> PspRequest:
    return request(verb, object_id=object_id, **fields)


async def prepared(adapter: StripeAdapter, **fields: Any) -> str:
    """A prepared object's id."""
    report = await adapter.call(ask(PspVerb.PREPARE, **fields))
    assert report.status is ObjectStatus.UNCONFIRMED
    return report.object_id


async def raised_by(adapter: StripeAdapter, asked: PspRequest) -> type[PspTrouble]:
    with pytest.raises(PspTrouble) as caught:
        await adapter.call(asked)
    return type(caught.value)


def one_shot(psp: PspProcess, fault: str, operation: str) -> None:
    psp.admin("POST", "one_shots", {"fault": fault, "operation": operation})


# ---- the story -----------------------------------------------------------------------------------------------------


async def test_prepare_moves_nothing_and_confirm_charges_once(psp: PspProcess, adapter: StripeAdapter) -> None:
    """Prepared, confirmed, read; each step said twice. The truth has one charge that carries our references."""
    expected = Report(
        ReportSource.ANSWER, OrderId("o-1"), "stripe", "", ObjectStatus.UNCONFIRMED, Money(1_250, "USD"), "o-1", ""
    )
    first = await adapter.call(ask(PspVerb.PREPARE))
    assert first == replace(expected, object_id=first.object_id)
    assert first == await adapter.call(ask(PspVerb.PREPARE))
    assert psp.truth_of("charge") == []

    charged = await adapter.call(ask(PspVerb.CONFIRM, first.object_id))
    assert charged == replace(first, status=ObjectStatus.CHARGED)
    assert charged == await adapter.call(ask(PspVerb.CONFIRM, first.object_id))
    assert await adapter.call(ask(PspVerb.READ, first.object_id)) == replace(charged, source=ReportSource.POLL)

    (intent,) = psp.truth_of("intent")
    (charge,) = psp.truth_of("charge")
    assert intent["transfer_group"] == "o-1"
    assert intent["metadata"] == {"tenant": "shop-a", "checkout_id": "c-1", "payment_order_id": "o-1"}
    assert (charge["amount_captured"], charge["currency"]) == (1_250, "usd")


@pytest.mark.parametrize(
    ("money", "wire"),
    [
        (Money(500, "JPY"), (500, "jpy")),
        (Money(5, "ISK"), (500, "isk")),
        (Money(1_230, "KWD"), (1_230, "kwd")),
        (Money(700, "MGA"), (7, "mga")),
    ],
)
async def test_amounts_travel_in_stripes_units_and_come_back_in_ours(
    psp: PspProcess, adapter: StripeAdapter, money: Money, wire: tuple[int, str]
) -> None:
    """Security test 7: exponents per PSP, both ways."""
    object_id = await prepared(adapter, money=money)
    report = await adapter.call(ask(PspVerb.CONFIRM, object_id, money=money))
    (charge,) = psp.truth_of("charge")

    assert report.money == money
    assert (charge["amount"], charge["currency"]) == wire


async def test_an_amount_that_cannot_be_charged_exactly_is_refused_unsent(
    psp: PspProcess, adapter: StripeAdapter
) -> None:
    """Never rounded."""
    report = await adapter.call(ask(PspVerb.PREPARE, money=Money(1_234, "KWD")))

    assert (report.status, report.reason) == (ObjectStatus.REFUSED, "AMOUNT_NOT_SUPPORTED")
    assert psp.truth_of("intent") == []


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("pm_card_visa_chargeDeclined", "CARD_DECLINED"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "INSUFFICIENT_FUNDS"),
        ("pm_card_chargeDeclinedExpiredCard", "EXPIRED_CARD"),
        ("pm_card_chargeDeclinedIncorrectCvc", "INCORRECT_CVC"),
        ("pm_card_chargeDeclinedProcessingError", "PROCESSING_ERROR"),
        ("pm_card_visa_chargeDeclinedStolenCard", "CARD_DECLINED"),
    ],
)
async def test_a_decline_is_a_report_until_the_object_is_canceled(
    adapter: StripeAdapter, token: str, reason: str
) -> None:
    """Declined, still payable; the cancel's answer is final."""
    object_id = await prepared(adapter, token=token)
    declined = await adapter.call(ask(PspVerb.CONFIRM, object_id))
    read = await adapter.call(ask(PspVerb.READ, object_id))
    canceled = await adapter.call(ask(PspVerb.CANCEL, object_id))

    assert (declined.status, declined.reason, declined.reference) == (ObjectStatus.DECLINED, reason, "o-1")
    assert read == replace(declined, source=ReportSource.POLL)
    assert canceled.status is ObjectStatus.CANCELED


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("pm_card_authenticationRequired", ObjectStatus.ACTION_REQUIRED),
        ("pm_card_processing", ObjectStatus.PROCESSING),
    ],
)
async def test_what_waits_for_someone_is_reported_so(adapter: StripeAdapter, token: str, status: ObjectStatus) -> None:
    """Row S11: pending is an answer."""
    object_id = await prepared(adapter, token=token)

    assert (await adapter.call(ask(PspVerb.CONFIRM, object_id))).status is status


async def test_a_customers_payment_method_pays_for_several_orders(psp: PspProcess, adapter: StripeAdapter) -> None:
    """Customer and payment method travel as one token, each to its own parameter."""
    for number in (1, 2):
        own = {"key": f"prepare-{number}", "order_id": OrderId(f"o-{number}"), "token": "cus_9s6.pm_card_visa"}
        object_id = await prepared(adapter, **own)
        confirmed = await adapter.call(
            ask(PspVerb.CONFIRM, object_id, key=f"confirm-{number}", order_id=own["order_id"])
        )
        assert confirmed.status is ObjectStatus.CHARGED

    assert len(psp.truth_of("charge")) == 2


@pytest.mark.parametrize("token", ["pm_none", "9s6.pm_card_visa", "cus_9s6.pm_none"])
async def test_a_prepare_that_names_what_is_not_there_is_refused(adapter: StripeAdapter, token: str) -> None:
    """The payment method or its customer: there is no object."""
    report = await adapter.call(ask(PspVerb.PREPARE, token=token))

    assert (report.status, report.reason) == (ObjectStatus.REFUSED, "PAYMENT_METHOD_UNKNOWN")


async def test_an_act_that_comes_too_late_reports_what_the_object_is(adapter: StripeAdapter) -> None:
    """A cancel of a charged object, a confirm of a canceled one."""
    charged, canceled = await prepared(adapter), await prepared(adapter, key="prepare-2")
    await adapter.call(ask(PspVerb.CONFIRM, charged))
    await adapter.call(ask(PspVerb.CANCEL, canceled))

    assert (await adapter.call(ask(PspVerb.CANCEL, charged))).status is ObjectStatus.CHARGED
    assert (await adapter.call(ask(PspVerb.CONFIRM, canceled))).status is ObjectStatus.CANCELED


async def test_a_refund_gives_all_back_once(psp: PspProcess, adapter: StripeAdapter) -> None:
    """Under its own key; under another one it was made already, which is for the caller to ask about."""
    object_id = await prepared(adapter)
    await adapter.call(ask(PspVerb.CONFIRM, object_id))
    refunded = await adapter.call(ask(PspVerb.REFUND, object_id, key="refund-1"))

    assert (refunded.status, refunded.object_id, refunded.money) == (
        ObjectStatus.REFUNDED,
        object_id,
        Money(1_250, "USD"),
    )
    assert refunded == await adapter.call(ask(PspVerb.REFUND, object_id, key="refund-1"))
    assert await raised_by(adapter, ask(PspVerb.REFUND, object_id, key="refund-2")) is Unsettled
    (made,) = psp.truth_of("refund")
    assert made["metadata"]["refund_key"] == "refund-1"


@pytest.mark.parametrize("fault", ["drop_response", "error_after", "error_gateway"])
async def test_a_refund_whose_answer_was_lost_is_found_by_asking(
    psp: PspProcess, adapter: StripeAdapter, fault: str
) -> None:
    """Row P17: asked by the refund's own key; a refund that was never sent is not found, and the charge stands."""
    object_id = await prepared(adapter)
    await adapter.call(ask(PspVerb.CONFIRM, object_id))
    before = await adapter.call(ask(PspVerb.READ, object_id, wants_refund_key="refund-1"))
    one_shot(psp, fault, "refund")
    refund = ask(PspVerb.REFUND, object_id, key="refund-1")
    assert issubclass(await raised_by(adapter, refund), OutcomeUnknown)
    if not psp.truth_of("refund"):  # the gateway's error may come before the execution: the caller sends once more
        await adapter.call(refund)
    found = await adapter.call(ask(PspVerb.READ, object_id, wants_refund_key="refund-1"))
    of_another = await adapter.call(ask(PspVerb.READ, object_id, wants_refund_key="refund-2"))

    assert (found.status, found.source, found.object_id) == (ObjectStatus.REFUNDED, ReportSource.POLL, object_id)
    assert (found.money, found.reference) == (Money(1_250, "USD"), "o-1")
    assert (before.status, of_another.status) == (ObjectStatus.CHARGED, ObjectStatus.CHARGED)
    assert (before.is_unrefunded, found.is_unrefunded, of_another.is_unrefunded) == (True, False, False)
    assert len(psp.truth_of("refund")) == 1


# ---- trouble -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "first", "again"),
    [
        ("drop_request", OutcomeUnknown, ObjectStatus.CHARGED),
        ("drop_response", OutcomeUnknown, ObjectStatus.CHARGED),
        ("error_before", OutcomeUnknown, ObjectStatus.CHARGED),
        ("error_after", OutcomeUnknown, StoredFailure),
        ("error_gateway", OutcomeUnknown, ObjectStatus.CHARGED),
        ("rate_limit_429", TurnedAway, ObjectStatus.CHARGED),
        ("lock_timeout", Unsettled, ObjectStatus.CHARGED),
    ],
)
async def test_each_fault_is_what_it_may_have_done_and_the_truth_has_one_charge(
    psp: PspProcess, adapter: StripeAdapter, fault: str, first: type[PspTrouble], again: object
) -> None:
    """Rows S1, S2, P4, P34: sent once by the adapter, again by the caller under the same key, then read."""
    object_id = await prepared(adapter)
    one_shot(psp, fault, "confirm")
    confirm = ask(PspVerb.CONFIRM, object_id)
    assert await raised_by(adapter, confirm) is first

    if isinstance(again, ObjectStatus):
        assert (await adapter.call(confirm)).status is again
    else:
        assert await raised_by(adapter, confirm) is again
    assert (await adapter.call(ask(PspVerb.READ, object_id))).status is ObjectStatus.CHARGED
    assert len(psp.truth_of("charge")) == 1


async def test_a_key_in_use_is_unknown(psp: PspProcess, adapter: StripeAdapter) -> None:
    """409 while the first request is under way: never a decline."""
    object_id = await prepared(adapter)
    psp.admin("POST", "one_shots", {"fault": "late_execution", "operation": "confirm", "ms": 60_000})
    confirm = ask(PspVerb.CONFIRM, object_id)

    assert await raised_by(adapter, confirm) is OutcomeUnknown
    assert await raised_by(adapter, confirm) is Unsettled


async def test_a_key_used_for_another_request_is_unknown(adapter: StripeAdapter) -> None:
    """`idempotency_error`: what the key did before, nobody told us."""
    await prepared(adapter)

    assert await raised_by(adapter, ask(PspVerb.PREPARE, money=Money(9_999, "USD"))) is Unsettled


async def test_a_retry_after_is_handed_on(psp: PspProcess, adapter: StripeAdapter) -> None:
    """Row S2: in milliseconds."""
    psp.admin("PUT", "faults", {"rate_limit_429": 1.0, "retry_after_s": 7})
    with pytest.raises(NotSent) as caught:
        await adapter.call(ask(PspVerb.PREPARE))

    assert caught.value.retry_after_ms == 7_000


async def test_a_psp_that_does_not_run_was_not_sent_to(psp: PspProcess, adapter: StripeAdapter) -> None:
    """Connection refused: the request provably never left; after a restart the same adapter goes on."""
    object_id = await prepared(adapter)
    psp.kill()
    assert await raised_by(adapter, ask(PspVerb.PREPARE, key="prepare-2")) in (NotSent, OutcomeUnknown)
    assert await raised_by(adapter, ask(PspVerb.PREPARE, key="prepare-2")) is NotSent
    psp.start()

    assert (await adapter.call(ask(PspVerb.CONFIRM, object_id))).status is ObjectStatus.CHARGED


async def test_an_object_that_stripe_does_not_know_is_unknown(adapter: StripeAdapter) -> None:
    """Another account's key, or a restored one: no conclusion about money."""
    assert await raised_by(adapter, ask(PspVerb.CONFIRM, "pi_gone")) is Unsettled
    assert await raised_by(adapter, ask(PspVerb.READ, "pi_gone")) is Unsettled


async def test_preflight_tells_a_wrong_key_before_anything_is_served(psp: PspProcess, adapter: StripeAdapter) -> None:
    """Row O4; and a call with that key is NotSent."""
    await adapter.preflight()
    wrong = StripeAdapter("sk_test_wrong", url=psp.url)
    with pytest.raises(Misconfigured):
        await wrong.preflight()
    trouble = await raised_by(wrong, ask(PspVerb.PREPARE))
    await wrong.close()

    assert trouble is TurnedAway


# ---- webhooks ------------------------------------------------------------------------------------------------------


async def test_the_simulators_webhooks_verify_and_report(tmp_path: Path) -> None:
    """Signed by the other side's own code, verified by ours; each is a fact for the checkout, or ignored."""
    received: asyncio.Queue[tuple[bytes, Mapping[str, str]]] = asyncio.Queue()

    async def receive(sent: web.Request) -> web.Response:
        await received.put((await sent.read(), dict(sent.headers)))
        return web.Response()

    application = web.Application()
    application.router.add_post("/stripe", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/stripe"
    try:
        with PspProcess(tmp_path / "psp", webhook_url=url) as psp:
            adapter = StripeAdapter(API_KEY, url=psp.url)
            object_id = await prepared(adapter)
            await adapter.call(ask(PspVerb.CONFIRM, object_id))
            await adapter.call(ask(PspVerb.REFUND, object_id, key="refund-1"))
            await adapter.close()
            said = []
            for _ in range(3):
                body, headers = await asyncio.wait_for(received.get(), timeout=30)
                result = verify(body, headers, [("now", WEBHOOK_SECRET)], int(time.time()))
                assert isinstance(result, Verified)
                said.append(report_of(result.event))
    finally:
        await runner.cleanup()

    facts = [each for each in said if isinstance(each, WebhookReport)]
    assert {fact.report.object_id for fact in facts} == {object_id}
    assert {(fact.tenant, fact.checkout_id, fact.order_id) for fact in facts} == {("shop-a", "c-1", "o-1")}
    told = sorted((fact.report.status, fact.report.refund_key.partition("_")[0]) for fact in facts)
    assert told == [(ObjectStatus.CHARGED, ""), (ObjectStatus.REFUNDED, "ch"), (ObjectStatus.REFUNDED, "refund-1")]


# ---- after a restore -----------------------------------------------------------------------------------------------


@pytest.fixture
async def restored(psp: PspProcess) -> AsyncIterator[StripeAdapter]:
    """An adapter of books that are older than the PSP's."""
    stripe = StripeAdapter(API_KEY, url=psp.url, timeout_ms=20_000, asks_first=True)
    yield stripe
    await stripe.close()


async def test_after_a_restore_a_charge_of_a_lost_order_is_taken_over_and_not_made_again(
    psp: PspProcess, adapter: StripeAdapter, restored: StripeAdapter
) -> None:
    """D10: the key is another one (Stripe has forgotten the first); the reference is the same."""
    lost = await prepared(adapter)
    await adapter.call(ask(PspVerb.CONFIRM, lost))

    report = await restored.call(ask(PspVerb.PREPARE, key="after the restore"))

    assert (report.object_id, report.status, report.reference) == (lost, ObjectStatus.CHARGED, "o-1")
    assert len(psp.truth_of("intent")) == 1


async def test_after_a_restore_what_can_never_be_paid_and_what_is_not_there_are_created(
    psp: PspProcess, adapter: StripeAdapter, restored: StripeAdapter
) -> None:
    """D10: a canceled object is none to go on with; another tenant's order of the same name is not ours."""
    canceled = await prepared(adapter)
    await adapter.call(ask(PspVerb.CANCEL, canceled))
    await adapter.call(ask(PspVerb.PREPARE, key="theirs", tenant="shop-b"))

    report = await restored.call(ask(PspVerb.PREPARE, key="after the restore"))

    assert report.status is ObjectStatus.UNCONFIRMED
    assert report.object_id not in {canceled, ""}
    assert len(psp.truth_of("intent")) == 3


async def test_after_a_restore_nothing_is_created_while_the_question_has_no_answer(
    psp: PspProcess, restored: StripeAdapter
) -> None:
    """D10: silence is no proof."""
    one_shot(psp, "error_gateway", "search")

    assert await raised_by(restored, ask(PspVerb.PREPARE)) is OutcomeUnknown
    assert psp.truth_of("intent") == []
