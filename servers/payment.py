"""The payment service's door: checkouts in, what became of them out, and the PSPs' webhooks.

A reply to CreatePayment is the bytes the shard stored, parsed and sent; reads come from the database.

Invariant: nothing is decided here. Every call is one command submitted, or one read within the caller's tenant.
"""
# ruff: noqa: N802 - names and arguments of methods are the contract's

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import grpc
import structlog

from actors.answer import Accepted, Answer, Applied, Replied, Shards
from servers.batch import by_item, item_result
from servers.call import current_call, current_tenant
from servers.door import check, instant_ms, request_refund, submit_checkout, twice
from servers.metric import Metrics
from servers.page import after_of, rows_max_of, token_of
from servers.reply import checkout_status_of, order_status_of, payment_of, payment_order_of, timestamp_of
from servers.settlement import UNKNOWN_ORDER, settlement_report, settlement_result
from servers.status import Problem, Rejected, not_found, of_answer, refused
from servers.webhook import Ignored, Incoming, WebhookReader
from zerosum.crash import Point, reach
from zerosum.domain.checkout_state import CheckoutStatus
from zerosum.domain.identity import EntityKey, OrderId, Tenant
from zerosum.domain.message import CheckoutCommand
from zerosum.domain.order import OrderStatus
from zerosum.domain.refund import RefundStatus
from zerosum.domain.refusal import Reason, Refusal
from zerosum.limits import WAITER_SILENCE_MS
from zerosum.readers import HistoryRow, ListFilter, OrderView, PaymentReader, PaymentView, view_of
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1 import payment_pb2_grpc as rpc

_log = structlog.get_logger()

ANSWER_SLACK_MS = 2 * WAITER_SILENCE_MS
"""Beyond answer_after_ms: a waiter that lost its news reads the database after 2 s, and once more."""
WATCH_EVERY_MS = 250
"""How often a watched checkout is read: four indexed reads a second, and a change is seen within a quarter second."""


class PaymentServicer(rpc.PaymentServiceServicer):
    """PaymentService.

    `webhooks`: a reader per PSP. `sleep` takes seconds; tests hand in their own.
    """

    def __init__(
        self,
        *,
        shards: Shards,
        reader: PaymentReader,
        settings: Settings,
        webhooks: Mapping[str, WebhookReader],
        metrics: Metrics,
        watch_every_ms: int = WATCH_EVERY_MS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._shards = shards
        self._reader = reader
        self._webhooks = webhooks
        self._metrics = metrics
        self._answer_within_ms = settings.answer_after_ms + ANSWER_SLACK_MS
        self._watch_every_s = watch_every_ms / 1_000
        self._sleep = sleep

    async def CreatePayment(
        self, request: pb.CreatePaymentRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreatePaymentResponse:
        """Submits the checkout and waits for its fixed reply.

        UNAVAILABLE NOT_ANSWERED: accepted, money may move; the same key brings the reply.
        """
        call = current_call()
        command = submit_checkout(request, call.caller.tenant)
        if isinstance(command, list):
            raise refused(*command)
        entity = EntityKey(command.tenant, command.checkout_id)
        reach(Point.REPLY_BEFORE)
        (answer,) = await self._shards.submit([CheckoutCommand(entity, command)])
        match answer:
            case Accepted():
                reply = await self._shards.outcome(entity, self._answer_within_ms)
                if reply is None:
                    raise Rejected(Problem("NOT_ANSWERED"))
            case Replied(reply, is_replay):
                call.is_replayed = is_replay
            case Applied():
                raise Rejected(Problem("INTERNAL", inner="a submit was answered without a reply"))
            case _:
                raise Rejected(of_answer(answer))
        reach(Point.REPLY_AFTER)
        return pb.CreatePaymentResponse.FromString(reply)

    async def CreateRefund(
        self, request: pb.CreateRefundRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateRefundResponse:
        """Reserves the refund and tells the order as it stands. NOT_FOUND also where the order is another tenant's."""
        call = current_call()
        command = request_refund(request, call.caller.subject)
        if isinstance(command, list):
            raise refused(*command)
        home = await self._reader.home_of(call.caller.tenant, command.order_id)
        if home is None:
            raise not_found("payment_order_id")
        reach(Point.REPLY_BEFORE)
        (answer,) = await self._shards.submit([CheckoutCommand(home, command)])
        match answer:
            case Applied(is_replay=is_replay):
                call.is_replayed = is_replay
            case Accepted() | Replied():
                raise Rejected(Problem("INTERNAL", inner="a refund was answered as a submit"))
            case _:
                raise Rejected(of_answer(answer))
        reach(Point.REPLY_AFTER)
        return pb.CreateRefundResponse(payment_order=payment_order_of(await self._order(command.order_id)))

    async def GetPayment(
        self, request: pb.GetPaymentRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPaymentResponse:
        """The checkout as stored. NOT_FOUND also where it is another tenant's."""
        if refusals := check(request):
            raise refused(*refusals)
        return pb.GetPaymentResponse(payment=payment_of(await self._payment(request.checkout_id)))

    async def GetPaymentOrder(
        self, request: pb.GetPaymentOrderRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPaymentOrderResponse:
        """One order as stored. NOT_FOUND also where it is another tenant's."""
        if refusals := check(request):
            raise refused(*refusals)
        order = await self._order(OrderId(request.payment_order_id))
        return pb.GetPaymentOrderResponse(payment_order=payment_order_of(order))

    async def ListPayments(
        self, request: pb.ListPaymentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListPaymentsResponse:
        """Checkouts of the tenant by page, filtered."""
        refusals = check(request)
        created_from_ms = _asked_ms(request, "created_from", refusals)
        created_before_ms = _asked_ms(request, "created_before", refusals)
        if refusals:
            raise refused(*refusals)
        wanted = ListFilter(
            status=checkout_status_of(request.status),
            seller_account=request.seller_account,
            created_from_ms=created_from_ms,
            created_before_ms=created_before_ms,
        )
        page = await self._reader.checkouts(current_tenant(), wanted, rows_max_of(request.page), after_of(request.page))
        payments = [payment_of(view_of(checkout)) for checkout in page.rows]
        return pb.ListPaymentsResponse(payments=payments, next_page_token=token_of(page.after))

    async def WatchPayment(
        self, request: pb.WatchPaymentRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchPaymentResponse]:
        """The checkout now and after every change that shows; ends when nothing more can show."""
        if refusals := check(request):
            raise refused(*refusals)
        told: pb.Payment | None = None
        while True:
            view = await self._payment(request.checkout_id)
            payment = payment_of(view)
            if payment != told:
                yield pb.WatchPaymentResponse(payment=payment)
                told = payment
            if _is_final(view):
                return
            await self._sleep(self._watch_every_s)

    async def GetHistory(
        self, request: pb.GetHistoryRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetHistoryResponse:
        """Everything that happened to the checkout, in order."""
        if refusals := check(request):
            raise refused(*refusals)
        rows = await self._reader.history(EntityKey(current_tenant(), request.checkout_id))
        if not rows:
            raise not_found("checkout_id")
        return pb.GetHistoryResponse(events=[_history_event(row) for row in rows])

    async def ReceiveWebhook(
        self, request: pb.ReceiveWebhookRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReceiveWebhookResponse:
        """Verifies, and is OK only after the event is durably recorded. Events that tell us nothing are counted only."""
        if refusals := check(request) or self._not_ours(request):
            raise refused(*refusals)
        (told,) = await self._receive([request])
        if isinstance(told, Problem):
            raise Rejected(told)
        return pb.ReceiveWebhookResponse(duplicate=told)

    async def ReceiveWebhooks(
        self, request: pb.ReceiveWebhooksRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReceiveWebhooksResponse:
        """The same for many, each on its own: one result per webhook, in order."""
        bad = by_item(check(request))
        for at, webhook in enumerate(request.webhooks):
            for refusal in self._not_ours(webhook):
                bad.setdefault(at, refusal)
        told = iter(await self._receive([webhook for at, webhook in enumerate(request.webhooks) if at not in bad]))
        results = [item_result("", bad.get(at) or next(told)) for at in range(len(request.webhooks))]
        return pb.ReceiveWebhooksResponse(results=results)

    async def ReportSettlement(
        self, request: pb.ReportSettlementRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReportSettlementResponse:
        """Facts from settlement files: one result per line, in order. A line's id works once, for ever."""
        bad = by_item(check(request))
        if duplicates := twice("lines", "line_id", [(line.psp, line.line_id) for line in request.lines]):
            raise refused(*duplicates)
        read = [bad.get(at) or await self._settlement(line) for at, line in enumerate(request.lines)]
        answers = iter(await self._record([fact for fact in read if isinstance(fact, Incoming)]))
        became = [fact if isinstance(fact, Refusal) else next(answers) for fact in read]
        results = [settlement_result(line.line_id, one) for line, one in zip(request.lines, became, strict=True)]
        return pb.ReportSettlementResponse(results=results)

    async def _settlement(self, line: pb.SettlementLine) -> Incoming | Refusal:
        tenant, report = Tenant(line.tenant), settlement_report(line)
        if isinstance(report, Refusal):
            return report
        home = EntityKey(tenant, line.checkout_id) if line.checkout_id else None
        home = home or await self._reader.home_of(tenant, report.order_id)
        return Incoming(home, report) if home is not None else UNKNOWN_ORDER

    def _not_ours(self, webhook: pb.ReceiveWebhookRequest) -> list[Refusal]:
        return [] if webhook.psp in self._webhooks else [Refusal(Reason.MALFORMED, "psp", "not a PSP of ours")]

    async def _receive(self, webhooks: Sequence[pb.ReceiveWebhookRequest]) -> list[bool | Problem]:
        """Of each: whether it had been recorded before, or why it is not recorded."""
        read = [self._webhooks[webhook.psp](webhook.body, webhook.headers) for webhook in webhooks]
        answers = iter(await self._record([event for event in read if isinstance(event, Incoming)]))
        told = []
        for webhook, event in zip(webhooks, read, strict=True):
            outcome, one = _told(next(answers) if isinstance(event, Incoming) else event)
            self._metrics.webhook(webhook.psp, outcome)
            if isinstance(one, Problem):
                _log.warning("webhook_not_recorded", psp=webhook.psp, reason=one.reason, inner=one.inner)
            told.append(one)
        return told

    async def _record(self, events: Sequence[Incoming]) -> Sequence[Answer]:
        """Answers when each is recorded, or known not to be: webhooks and settlement lines alike."""
        for _ in events:
            reach(Point.WEBHOOK_BEFORE)
        answers = await self._shards.submit([CheckoutCommand(event.entity, event.report) for event in events])
        for _ in events:
            reach(Point.WEBHOOK_AFTER)
        return answers

    async def _order(self, order_id: OrderId) -> OrderView:
        order = await self._reader.order(current_tenant(), order_id)
        if order is None:
            raise not_found("payment_order_id")
        return order

    async def _payment(self, checkout_id: str) -> PaymentView:
        view = await self._reader.payment(EntityKey(current_tenant(), checkout_id))
        if view is None:
            raise not_found("checkout_id")
        return view


def _told(became: Answer | Ignored | Refusal) -> tuple[str, bool | Problem]:
    """What became of a webhook: for the metric, and for the PSP."""
    match became:
        case Applied(is_replay) | Replied(_, is_replay):
            return "duplicate" if is_replay else "recorded", is_replay
        case Ignored():
            return "ignored", False
        case Refusal():
            return "refused", Problem("WEBHOOK_NOT_VERIFIED", (became,), inner=became.message)
        case Accepted():
            return "failed", Problem("INTERNAL", inner="a webhook was answered as a submit")
        case _:
            return "failed", of_answer(became)


def _is_final(view: PaymentView) -> bool:
    """Every order is terminal, what was charged is in wallet and ledger or was given back, and nothing is on its way back."""
    if view.status is CheckoutStatus.OPEN:
        return False
    charged = [order for order in view.orders if order.status is OrderStatus.SUCCESS]
    if any(refund.status is RefundStatus.PENDING for order in charged for refund in order.refunds):
        return False
    return all((order.wallet_updated and order.ledger_updated) or order.refunds for order in charged)


def _asked_ms(request: pb.ListPaymentsRequest, field: str, refusals: list[Refusal]) -> int | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # the two names it is called with are fields
        return None
    at_ms = instant_ms(getattr(request, field), field)
    if isinstance(at_ms, Refusal):
        refusals.append(at_ms)
        return None
    return at_ms


def _history_event(row: HistoryRow) -> pb.HistoryEvent:
    return pb.HistoryEvent(
        version=row.version,
        at=timestamp_of(row.at_ms),
        type=row.type,
        payment_order_id=row.order_id,
        status=order_status_of(row.status),
        detail_json=row.detail,
    )
