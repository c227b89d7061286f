"""The textbook's door: CreatePayment and GetPayment of our own contract, over the steps of `step.py`.

It verifies no token and checks no more of a request than it needs; both favour it.

Invariant: a reply is given after the last step of every order is committed.
"""
# ruff: noqa: N802 - names and arguments of methods are the contract's

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NoReturn

import grpc
from sqlalchemy.exc import IntegrityError

from loadtest.clock import wall_ms
from loadtest.naive import step
from loadtest.naive.database import NaiveDatabase
from loadtest.naive.model import EXECUTING, FAILED, NOT_STARTED, SUCCESS, PaymentEvent, PaymentOrder
from loadtest.naive.psp import Executor
from servers.reply import timestamp_of
from zerosum.domain.money import parse_amount
from zerosum.domain.refusal import Refusal
from zerosum.errors import Bug, OutcomeUnknown, SerializationConflict
from zerosum.v1 import payment_pb2 as pb

_ORDER_STATUS: Final = {
    NOT_STARTED: pb.ORDER_STATUS_NOT_STARTED, EXECUTING: pb.ORDER_STATUS_EXECUTING,
    SUCCESS: pb.ORDER_STATUS_SUCCESS, FAILED: pb.ORDER_STATUS_FAILED,
}  # fmt: skip


class NaiveServicer:
    """PaymentService as the specification's text has it: two of its methods."""

    def __init__(self, database: NaiveDatabase, executor: Executor) -> None:
        self._database = database
        self._executor = executor

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serves the two methods under the contract's name; every other one is UNIMPLEMENTED."""
        methods = {
            "CreatePayment": _unary(self.CreatePayment, pb.CreatePaymentRequest),
            "GetPayment": _unary(self.GetPayment, pb.GetPaymentRequest),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    async def CreatePayment(
        self, request: pb.CreatePaymentRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreatePaymentResponse:
        """Stores the click, executes its orders side by side, tells what came of them.

        A checkout that is known brings what is stored. INVALID_ARGUMENT: an amount is malformed, nothing is stored.
        UNAVAILABLE, ABORTED: money may have moved.
        """
        amounts = await _amounts_minor(request, context)
        make_event = partial(_event, request, amounts, wall_ms())
        try:
            event = await self._database.transact(partial(step.store, make_event=make_event))
            orders = await asyncio.gather(*(self._execute(order, event.credit_card_info) for order in event.orders))
        except IntegrityError:
            return pb.CreatePaymentResponse(payment=await self._read(request.checkout_id, context))
        except OutcomeUnknown as silent:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, str(silent))
        except SerializationConflict as conflict:
            await _abort(context, grpc.StatusCode.ABORTED, str(conflict))
        return pb.CreatePaymentResponse(payment=_payment(event, orders))

    async def GetPayment(
        self, request: pb.GetPaymentRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPaymentResponse:
        """The present state. NOT_FOUND: there is no such checkout."""
        return pb.GetPaymentResponse(payment=await self._read(request.checkout_id, context))

    async def _execute(self, order: PaymentOrder, token: str) -> PaymentOrder:
        """The story of one order: begun, charged, recorded; then the seller's wallet, then the ledger."""
        transact, order_id = self._database.transact, order.payment_order_id
        order = await transact(partial(step.begin, order_id=order_id))
        charged = await self._executor.charge(order, token)
        order = await transact(partial(step.record, order_id=order_id, charged=charged))
        if order.status != SUCCESS:
            return order
        await transact(partial(step.credit_wallet, order_id=order_id))
        return await transact(partial(step.post_ledger, order_id=order_id))

    async def _read(self, checkout_id: str, context: grpc.aio.ServicerContext) -> pb.Payment:
        event = await self._database.transact(partial(step.read, checkout_id=checkout_id))
        if event is None:
            await _abort(context, grpc.StatusCode.NOT_FOUND, "no such checkout")
        return _payment(event, event.orders)


SERVICE: Final = "zerosum.v1.PaymentService"


def _unary(method: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=request.FromString, response_serializer=lambda reply: reply.SerializeToString()
    )


async def _abort(context: grpc.aio.ServicerContext, code: grpc.StatusCode, why: str) -> NoReturn:
    await context.abort(code, why)
    raise Bug("abort has returned")


# ---- what is asked for ---------------------------------------------------------------------------------------------


async def _amounts_minor(request: pb.CreatePaymentRequest, context: grpc.aio.ServicerContext) -> list[int]:
    amounts = []
    for place, asked in enumerate(request.payment_orders):
        money = parse_amount(asked.amount, asked.currency, f"payment_orders[{place}].amount")
        if isinstance(money, Refusal):
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"{money.field}: {money.message}")
        amounts.append(money.amount_minor)
    return amounts


def _event(request: pb.CreatePaymentRequest, amounts_minor: Sequence[int], now_ms: int) -> PaymentEvent:
    orders = [
        PaymentOrder(
            payment_order_id=asked.payment_order_id, position=place, seller_account=asked.seller_account,
            amount=asked.amount, amount_minor=minor, currency=asked.currency,
        )
        for place, (asked, minor) in enumerate(zip(request.payment_orders, amounts_minor, strict=True))
    ]  # fmt: skip
    return PaymentEvent(
        checkout_id=request.checkout_id, buyer_account=request.buyer_info.buyer_account, orders=orders,
        credit_card_info=request.payment_method.token, created_at_ms=now_ms,
    )  # fmt: skip


# ---- what is told --------------------------------------------------------------------------------------------------


def _payment(event: PaymentEvent, orders: Sequence[PaymentOrder]) -> pb.Payment:
    is_done = all(order.wallet_updated and order.ledger_updated for order in orders)
    return pb.Payment(
        checkout_id=event.checkout_id, status=payment_status([order.status for order in orders]), is_payment_done=is_done,
        payment_orders=[_payment_order(order) for order in orders], created_at=timestamp_of(event.created_at_ms),
    )  # fmt: skip


def _payment_order(order: PaymentOrder) -> pb.PaymentOrder:
    return pb.PaymentOrder(
        payment_order_id=order.payment_order_id, checkout_id=order.checkout_id, seller_account=order.seller_account,
        amount=order.amount, currency=order.currency, status=_ORDER_STATUS[order.status], reason=order.reason,
        wallet_updated=order.wallet_updated, ledger_updated=order.ledger_updated, psp_reference=order.psp_reference,
    )  # fmt: skip


def payment_status(statuses: Sequence[str]) -> pb.PaymentStatus.ValueType:
    """A checkout's status, read from its orders'."""
    if not set(statuses) <= {SUCCESS, FAILED}:
        return pb.PAYMENT_STATUS_OPEN
    if FAILED not in statuses:
        return pb.PAYMENT_STATUS_DONE
    return pb.PAYMENT_STATUS_PARTIAL if SUCCESS in statuses else pb.PAYMENT_STATUS_FAILED
