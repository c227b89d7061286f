"""Stripe behind `ports.PspGateway`: each verb as one call of the official SDK, under our key, sent once.

PREPARE creates the PaymentIntent unconfirmed (no money moves), CONFIRM and CANCEL name it, REFUND gives all of it back, READ
says what it is. The SDK's retries are off: whoever calls repeats under the same key, from the stored request.

Invariant: a call ends as a report that may be believed, or as `NotSent`, `StoredFailure` or `OutcomeUnknown`; a request that
could not be meant (no key, no object) is a `Bug`, and nothing is sent.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, assert_never

import stripe

from zerosum.domain.message import ObjectStatus, Report, ReportSource
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.errors import Bug, Misconfigured, OutcomeUnknown
from zerosum.limits import PSP_CALLS_MAX, PSP_TIMEOUT_MS
from zerosum.psp.stripe.amount import to_stripe
from zerosum.psp.stripe.failure import learn
from zerosum.psp.stripe.mapping import (
    CHECKOUT_ID,
    ORDER_ID,
    REFUND_KEY,
    TENANT,
    Json,
    Unreadable,
    id_of,
    is_unrefunded,
    metadata_of,
    refused,
    report_of_intent,
    report_of_refund,
)
from zerosum.psp.stripe.quiet import hush
from zerosum.psp.stripe.transport import Transport
from zerosum.psp.trouble import Unsettled

KEY_HORIZON_MS: Final = 24 * 60 * 60 * 1_000
"""Stripe may forget a key once it is a day old. Source: docs.stripe.com/api/idempotent_requests."""

CONNECT_MS_MAX: Final = 3_000
"""A connection not made in 3 s is not made in 10: ten times the slowest handshake around the world."""

_STUMBLES: Final = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the SDK raises while it makes an error's object of JSON that is not as documented."""


class StripeAdapter:
    """One Stripe account, called from one event loop. `url` "" is the real Stripe.

    `api_key` is never logged; `now_ms` is the wall clock, for a Retry-After that is a date. Close with `close`. A call that is
    canceled may have been executed. `asks_first`: a PREPARE looks for an object that carries our references before it
    creates one, as after a restore from backup, when Stripe may know of orders that our books have lost.
    """

    def __init__(
        self,
        api_key: str,
        *,
        url: str = "",
        timeout_ms: int = PSP_TIMEOUT_MS,
        calls_max: int = PSP_CALLS_MAX,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        asks_first: bool = False,
    ) -> None:
        if not api_key.strip():
            raise Misconfigured("the key for stripe is empty")
        hush()
        self._asks_first = asks_first
        self._now_ms = now_ms
        self._transport = Transport(
            timeout_ms=timeout_ms, connect_ms=min(CONNECT_MS_MAX, timeout_ms // 2), connections_max=calls_max
        )
        self._client = stripe.StripeClient(
            api_key.strip(),
            base_addresses={"api": url.rstrip("/")} if url else None,
            http_client=self._transport,
            max_network_retries=0,
        )

    async def call(self, request: PspRequest) -> Report:
        """Sends one operation or asks about one, under `request.key`.

        A REFUSED report for an amount that Stripe cannot charge exactly is ours: nothing was sent. Raises NotSent,
        StoredFailure and OutcomeUnknown as `failure.py` has them; an answer that cannot be read is OutcomeUnknown.
        """
        try:
            answer = await self._send(request)
        except stripe.StripeError as error:
            return learn(error, request, self._now_ms())
        except _STUMBLES as trouble:
            raise Unsettled(f"stripe's answer cannot be read: {type(trouble).__name__}") from trouble
        if isinstance(answer, Unreadable):
            raise Unsettled(f"stripe's answer cannot be read: {answer.why}")
        if request.object_id and answer.object_id != request.object_id:
            raise Unsettled("stripe's answer is about another object")
        return answer

    async def preflight(self) -> None:
        """Asks Stripe whose key this is. Moves nothing.

        Raises Misconfigured (Stripe refuses the key), NotSent or OutcomeUnknown (Stripe is away: nothing is known).
        """
        try:
            account = await self._ask("get", "/v1/account")
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            raise Misconfigured(f"stripe refuses our key (HTTP {error.http_status})") from error
        except stripe.StripeError as error:
            raise OutcomeUnknown(f"stripe did not tell whose key this is: {type(error).__name__}") from error
        except _STUMBLES as trouble:
            raise OutcomeUnknown(f"stripe's answer cannot be read: {type(trouble).__name__}") from trouble
        if not isinstance(account, dict) or account.get("object") != "account":
            raise Misconfigured("what answers at stripe's address is not stripe")

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close_async()

    async def _send(self, request: PspRequest) -> Report | Unreadable:
        match request.verb:
            case PspVerb.PREPARE:
                return await self._prepare(request)
            case PspVerb.CONFIRM | PspVerb.CANCEL:
                path = f"{_intent_path(request)}/{request.verb.value}"
                return _intent(await self._ask("post", path, idempotency_key=request.key), request)
            case PspVerb.REFUND:
                return await self._refund(request)
            case PspVerb.READ:
                return await self._read(request)
            case _:
                assert_never(request.verb)

    async def _prepare(self, request: PspRequest) -> Report | Unreadable:
        amount = to_stripe(request.money)
        if amount is None:
            return refused(request, "AMOUNT_NOT_SUPPORTED")
        if self._asks_first and (found := await self._find(request)) is not None:
            return found
        created = await self._ask(
            "post",
            "/v1/payment_intents",
            idempotency_key=request.key,
            amount=amount,
            currency=request.money.currency.lower(),
            **_paid_with(request.token),
            # Cards, and nothing that redirects: nobody is there to follow. The name since API 2026-09-30.endive. Source:
            # docs.stripe.com/changelog/dahlia/2026-07-29/allowed-payment-method-types-parameter.
            allowed_payment_method_types=["card"],
            capture_method="automatic",
            confirm=False,
            transfer_group=request.order_id,
            metadata=_references(request),
        )
        return _intent(created, request)

    async def _find(self, request: PspRequest) -> Report | Unreadable | None:
        """The object of a life that our books have lost, the one with money first; None: none that is, or can be, paid.

        None is no proof that there is none: Stripe's search lags by about a minute. What is looked for is older than the
        restore. Its matches are compared once more, for it knows no case and our ids do. Raises as the search does: then
        nothing is created. Source: docs.stripe.com/search#data-freshness.
        """
        query = " AND ".join(f"metadata['{name}']:'{_quoted(value)}'" for name, value in _references(request).items())
        try:
            page = await self._ask("get", "/v1/payment_intents/search", query=query, limit=100)
        except stripe.StripeError as error:
            learn(error, replace(request, verb=PspVerb.READ), self._now_ms())  # raises: it is the question that failed
            raise Unsettled("stripe's search was answered with an object") from error
        data = page.get("data") if isinstance(page, dict) else None
        if not isinstance(data, list):
            return Unreadable("a search without results")
        reports = [_intent(each, request) for each in data if not isinstance(each, dict) or _is_ours(each, request)]
        alive = [each for each in reports if isinstance(each, Unreadable) or each.status is not ObjectStatus.CANCELED]
        return min(alive, key=_by_money, default=None)

    async def _refund(self, request: PspRequest) -> Report | Unreadable:
        _intent_path(request)
        metadata = {**_references(request), REFUND_KEY: request.key}
        refunded = await self._ask(
            "post", "/v1/refunds", idempotency_key=request.key, payment_intent=request.object_id, metadata=metadata
        )
        return report_of_refund(refunded, source=ReportSource.ANSWER, psp=request.psp, order_id=request.order_id)

    async def _read(self, request: PspRequest) -> Report | Unreadable:
        path = _intent_path(request)
        if not request.wants_refund_key:
            return _intent(await self._ask("get", path, expand=["latest_charge"]), request)
        page = await self._ask("get", "/v1/refunds", payment_intent=request.object_id, limit=100)
        found = _refund_under(request.wants_refund_key, page)
        if found is not None:
            return report_of_refund(found, source=ReportSource.POLL, psp=request.psp, order_id=request.order_id)
        # Not on the list: what the charge itself says, read after the list, decides whether that is proof.
        shown = await self._ask("get", path, expand=["latest_charge"])
        report = _intent(shown, request)
        return replace(report, is_unrefunded=is_unrefunded(page, shown)) if isinstance(report, Report) else report

    async def _ask(self, method: str, path: str, **parameters: object) -> object:
        """One call of the SDK; the answer as plain JSON.

        The SDK's typed methods make an object of every field first: a third of a call's CPU, and they stumble over what
        is not as documented. Every POST must bring its `idempotency_key`: the SDK would make one up.
        """
        if method == "post" and not parameters.get("idempotency_key"):
            raise Bug("a request to stripe without an idempotency key")
        answer = await self._client.raw_request_async(method, path, **parameters)
        return answer.data


def _paid_with(token: str) -> dict[str, str]:
    """`pm_..`, or `cus_9s6.pm_1Nf` where the payment method is a customer's: only such a one pays twice, as it does for a
    checkout of several orders. No id of Stripe's holds a dot. Source: docs.stripe.com/api/payment_methods/attach."""
    customer, _, method = token.rpartition(".")
    return {"payment_method": method, **({"customer": customer} if customer else {})}


def _intent_path(request: PspRequest) -> str:
    """Where the intent lives. Raises Bug for an id that is none of Stripe's: it would name another endpoint."""
    if not id_of(request.object_id):
        raise Bug(f"order {request.order_id}: {request.verb} without an object of stripe's")
    return f"/v1/payment_intents/{request.object_id}"


def _by_money(found: Report | Unreadable) -> int:
    """What cannot be read stops everything; then what is charged, then what could be."""
    if isinstance(found, Unreadable):
        return 0
    return 1 if found.status is ObjectStatus.CHARGED else 2


def _quoted(value: str) -> str:
    """A value within the quotes of Stripe's query language."""
    return value.replace("\\", r"\\").replace("'", r"\'")


def _references(request: PspRequest) -> dict[str, str]:
    """What every object of ours carries, so that it can be found. Source: design section 4."""
    return {TENANT: request.tenant, CHECKOUT_ID: request.checkout_id, ORDER_ID: request.order_id}


def _is_ours(shown: Json, request: PspRequest) -> bool:
    return _references(request).items() <= metadata_of(shown).items()


def _intent(shown: object, request: PspRequest) -> Report | Unreadable:
    source = ReportSource.POLL if request.verb is PspVerb.READ else ReportSource.ANSWER
    return report_of_intent(shown, source=source, psp=request.psp, order_id=request.order_id)


def _refund_under(key: str, page: object) -> Json | None:
    """The refund that was made under our key. One page is enough: only refunds that failed can be many."""
    data = page.get("data") if isinstance(page, dict) else None
    refunds = data if isinstance(data, list) else []
    return next((each for each in refunds if isinstance(each, dict) and metadata_of(each).get(REFUND_KEY) == key), None)
