"""The callers of `zerosum bench hot --against`: what they were told is kept, whatever it was. On a hand-moved clock."""

from collections.abc import Iterator
from pathlib import Path

import grpc

from loadtest.bench.crowd import Answer, Crowd, acknowledged_of, write_journal
from loadtest.bench.kept import compare, read_acknowledged
from loadtest.bench.sample_file import Ending
from loadtest.shape import ONE_CURRENCY, Checkout, Shape, checkouts
from zerosum.v1 import payment_pb2 as pb

SHAPE = Shape(orders_min=1, orders_max=1, sellers=10, hot_share=0.0, currencies=ONE_CURRENCY)
TAKES_S = 1.0


class Server:
    """Ends each call after a second of the clock that it moves, with the next of its replies; the last one for ever."""

    def __init__(self, *replies: bytes | grpc.aio.AioRpcError) -> None:
        self.at_s = 0.0
        self.asked: list[tuple[float, str]] = []
        self._replies = list(replies)

    async def send(self, request: bytes) -> bytes:
        self.asked.append((self.at_s, pb.CreatePaymentRequest.FromString(request).checkout_id))
        self.at_s += TAKES_S
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, grpc.aio.AioRpcError):
            raise reply
        return reply

    def now_s(self) -> float:
        return self.at_s


def _reply(status: pb.OrderStatus.ValueType) -> bytes:
    order = pb.PaymentOrder(payment_order_id="po", status=status)
    return pb.CreatePaymentResponse(payment=pb.Payment(payment_orders=[order])).SerializeToString()


def _error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


FINAL, OPEN = _reply(pb.ORDER_STATUS_SUCCESS), _reply(pb.ORDER_STATUS_EXECUTING)


def _baskets() -> Iterator[Checkout]:
    return checkouts(SHAPE, seed=1, run_id="r")


async def _ran(server: Server, *, until_s: float) -> list[Answer]:
    return await Crowd([server.send], now_s=server.now_s).run(_baskets(), callers=1, until_s=until_s)


async def test_an_open_checkout_was_acknowledged_too_and_must_be_stored(tmp_path: Path) -> None:
    """Speed.md, rules: acknowledged = stored. OK and not final was counted as a failure, and never looked for."""
    server = Server(FINAL, OPEN, _error(grpc.StatusCode.UNAVAILABLE))
    journal = tmp_path / "acknowledged.txt"

    write_journal(journal, acknowledged_of(await _ran(server, until_s=3.0)))

    final, still_open, _ = (checkout_id for _, checkout_id in server.asked)
    assert read_acknowledged([journal]) == {final: True, still_open: False}
    assert compare(read_acknowledged([journal]), {final: True}).losses == (
        f"1 of 2 checkouts were acknowledged and not stored: {still_open}",
    )


async def test_every_checkout_is_told_once_by_how_it_ended() -> None:
    """The next one goes out when the one before has ended, and none after the end."""
    server = Server(FINAL, OPEN, _error(grpc.StatusCode.UNAVAILABLE), FINAL)

    answers = await _ran(server, until_s=4.0)

    assert [each.ending for each in answers] == [Ending.FINAL, Ending.PENDING, Ending.UNKNOWN, Ending.FINAL]
    assert [each.checkout_id for each in answers] == [checkout_id for _, checkout_id in server.asked]
    assert [(each.sent_s, each.ended_s) for each in answers] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]
