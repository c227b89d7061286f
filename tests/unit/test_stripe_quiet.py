"""What the SDK does for nobody is off: no log line with what was sent, no telemetry, no look through the environment."""

import asyncio
import json
import logging
from collections.abc import Mapping

import pytest
import stripe
from stripe import _api_requestor

from tests.unit.stripe_objects import intent, request
from zerosum.domain.request import PspVerb
from zerosum.psp.stripe.adapter import StripeAdapter
from zerosum.psp.stripe.transport import Transport


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """The headers of each request; every one is answered with a PaymentIntent."""
    headers_sent: list[Mapping[str, str]] = []

    async def answer(
        _: Transport, _method: str, _url: str, headers: Mapping[str, str], _post_data: object = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        headers_sent.append(headers)
        return json.dumps(intent()).encode(), 200, {"Request-Id": "req_1"}

    monkeypatch.setattr(Transport, "request_async", answer)
    return headers_sent


def prepare() -> None:
    """One call through a new adapter."""
    asyncio.run(StripeAdapter("sk_test_x").call(request(PspVerb.PREPARE)))


def test_nothing_of_a_request_is_logged_even_where_someone_asks_for_all(
    sent: list[Mapping[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Security test 11: the token of a payment method is in what the SDK would say at DEBUG."""
    adapter = StripeAdapter("sk_test_x")
    with caplog.at_level(logging.DEBUG, logger="stripe"):
        asyncio.run(adapter.call(request(PspVerb.PREPARE)))

    assert len(sent) == 1
    assert [record for record in caplog.records if record.name == "stripe"] == []


def test_the_environment_and_the_machine_are_not_told_to_stripe(
    sent: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither who started us nor what it runs on."""
    monkeypatch.setenv("CODEX_SANDBOX", "1")
    prepare()
    (headers,) = sent
    told = json.loads(headers["X-Stripe-Client-User-Agent"])

    assert sorted(told) == ["bindings_version", "httplib", "lang", "lang_version"]
    assert "AIAgent" not in headers["User-Agent"]
    assert stripe.enable_telemetry is False


def test_the_sdk_still_has_the_names_that_are_replaced() -> None:
    """An upgrade that renames them turns the log lines on again: then this says so."""
    assert hasattr(_api_requestor, "log_debug")
    assert hasattr(_api_requestor, "log_info")
    assert hasattr(_api_requestor._APIRequestor, "AI_AGENTS")
