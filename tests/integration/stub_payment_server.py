"""A payment service of fifty lines for the load test's own tests: idempotent by key, and rude on purpose.

Run as a process: `stub_payment_server.py EFFECTS`. Prints its port. Every first execution of a key appends one line to
EFFECTS. While a key is in flight its copies get RESOURCE_EXHAUSTED; every fourth answer is lost as UNAVAILABLE.
"""

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from zerosum.v1 import payment_pb2


class Stub:
    """Replies from memory."""

    def __init__(self, effects: Path) -> None:
        self._effects = effects
        self._replies: dict[str, payment_pb2.CreatePaymentResponse | None] = {}
        self._answers = itertools.count(1)
        self._running: set[asyncio.Task[None]] = set()

    async def create_payment(self, request: payment_pb2.CreatePaymentRequest, context: Any) -> Any:
        key = request.idempotency_key
        is_known = key in self._replies
        if is_known and self._replies[key] is None:
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=20_000_000)))
            busy = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="in flight", details=[detail])
            await context.abort_with_status(rpc_status.to_status(busy))
        if not is_known:
            self._replies[key] = None
            # What has begun is finished though its caller is gone: a deadline must not cut it off.
            await asyncio.shield(self._execute(key, request))
        if next(self._answers) % 4 == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        if is_known:
            context.set_trailing_metadata((("idempotent-replayed", "true"),))
        return self._replies[key]

    def _execute(self, key: str, request: payment_pb2.CreatePaymentRequest) -> asyncio.Task[None]:
        async def execute() -> None:
            with self._effects.open("a") as file:
                file.write(key + "\n")
            await asyncio.sleep(0.03)
            self._replies[key] = _reply(request)

        task = asyncio.create_task(execute())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def get_payment(self, request: payment_pb2.GetPaymentRequest, context: Any) -> Any:
        return payment_pb2.GetPaymentResponse(payment=payment_pb2.Payment(checkout_id=request.checkout_id))

    async def get_payment_order(self, request: payment_pb2.GetPaymentOrderRequest, context: Any) -> Any:
        order = payment_pb2.PaymentOrder(payment_order_id=request.payment_order_id)
        return payment_pb2.GetPaymentOrderResponse(payment_order=order)


def _reply(request: payment_pb2.CreatePaymentRequest) -> payment_pb2.CreatePaymentResponse:
    orders = [
        payment_pb2.PaymentOrder(
            payment_order_id=order.payment_order_id,
            checkout_id=request.checkout_id,
            status=payment_pb2.ORDER_STATUS_SUCCESS,
        )
        for order in request.payment_orders
    ]
    payment = payment_pb2.Payment(
        checkout_id=request.checkout_id, status=payment_pb2.PAYMENT_STATUS_DONE, payment_orders=orders
    )
    return payment_pb2.CreatePaymentResponse(payment=payment)


def _handlers(stub: Stub) -> grpc.GenericRpcHandler:
    methods: dict[str, tuple[Any, Any]] = {
        "CreatePayment": (stub.create_payment, payment_pb2.CreatePaymentRequest),
        "GetPayment": (stub.get_payment, payment_pb2.GetPaymentRequest),
        "GetPaymentOrder": (stub.get_payment_order, payment_pb2.GetPaymentOrderRequest),
    }
    return grpc.method_handlers_generic_handler(
        "zerosum.v1.PaymentService",
        {
            name: grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=request.FromString,
                response_serializer=lambda reply: reply.SerializeToString(),
            )
            for name, (method, request) in methods.items()
        },
    )


async def _serve(effects: Path) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_handlers(Stub(effects)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
