"""What the wire reads from replies, and the command line of a load. No network here."""

from pathlib import Path

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from loadtest.calls import ProtoCodec, retry_after_ms
from loadtest.run import LoadOptions, command
from loadtest.shape import Checkout, Order
from zerosum.v1 import payment_pb2

CHECKOUT = Checkout("co-1", "buyer-1", "pm_card_visa", (Order("po-1", "seller-1", "12.50", "USD"),))


def _details(delay: duration_pb2.Duration) -> bytes:
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    other = any_pb2.Any()
    other.Pack(error_details_pb2.ErrorInfo(reason="BUSY"))
    details: bytes = status_pb2.Status(code=8, details=[other, packed]).SerializeToString()
    return details


def test_retry_info_is_read_from_the_trailers() -> None:
    """Wherever it stands among the details."""
    trailers = (("x", "y"), ("grpc-status-details-bin", _details(duration_pb2.Duration(seconds=1, nanos=500_000_000))))

    assert retry_after_ms(trailers) == 1_500


def test_absent_negative_and_broken_hints_are_no_hint() -> None:
    """A hint never harms."""
    assert retry_after_ms(()) == 0
    assert retry_after_ms((("grpc-status-details-bin", _details(duration_pb2.Duration(seconds=-5))),)) == 0
    assert retry_after_ms((("grpc-status-details-bin", b"\xff\xff"),)) == 0


def test_a_checkout_becomes_the_request_of_the_contract() -> None:
    """The key is the checkout's id."""
    request = payment_pb2.CreatePaymentRequest.FromString(ProtoCodec().submit(CHECKOUT))

    assert request == payment_pb2.CreatePaymentRequest(
        checkout_id="co-1",
        idempotency_key="co-1",
        buyer_info=payment_pb2.BuyerInfo(buyer_account="buyer-1"),
        payment_method=payment_pb2.PaymentMethod(token="pm_card_visa"),
        payment_orders=[
            payment_pb2.PaymentOrderRequest(
                payment_order_id="po-1", seller_account="seller-1", amount="12.50", currency="USD"
            )
        ],
    )


def test_a_reply_tells_the_bare_status_of_every_order() -> None:
    """Every status there is has a name."""
    orders = [
        payment_pb2.PaymentOrder(payment_order_id=f"po-{number}", status=number)
        for number in payment_pb2.OrderStatus.values()
    ]
    reply = payment_pb2.CreatePaymentResponse(payment=payment_pb2.Payment(payment_orders=orders))
    told = dict(ProtoCodec().told(reply.SerializeToString()))

    assert list(told.values()) == [
        "UNSPECIFIED",
        "NOT_STARTED",
        "EXECUTING",
        "PENDING",
        "AUTHORIZED",
        "SUCCESS",
        "FAILED",
        "CANCELED",
    ]


def test_the_command_line_says_everything_but_the_token() -> None:
    """A token in an argument would be seen by every process of the machine; its file's name may be."""
    line = command(
        LoadOptions(
            target="127.0.0.1:7401",
            profile="knee",
            token_file=Path("t"),
            tenant="acme",
            journal=Path("j"),
            samples=Path("s"),
            status=Path("st"),
            tps=300.0,
        )
    )

    assert line[line.index("--host") + 1] == "127.0.0.1:7401"
    assert line[line.index("--load-token-file") + 1] == "t"
    assert line[line.index("--load-tps") + 1] == "300.0"
    assert "--load-run-id" not in line
