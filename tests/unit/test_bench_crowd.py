"""The callers of `zerosum bench hot --against`: what they were told is kept, and they wait as they are told.

On a clock that is moved by hand.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

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

    async def sleep_s(self, duration_s: float) -> None:
        self.at_s += duration_s


def _reply(status: pb.OrderStatus.ValueType) -> bytes:
    order = pb.PaymentOrder(payment_order_id="po", status=status)
    return pb.CreatePaymentResponse(payment=pb.Payment(payment_orders=[order])).SerializeToString()


def _error(code: grpc.StatusCode, *trailers: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers))


def _turned_away(*, come_again_in_ms: int) -> grpc.aio.AioRpcError:
    detail = any_pb2.Any()
    delay = duration_pb2.Duration(nanos=come_again_in_ms * 1_000_000)
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(details=[detail]).SerializeToString()
    return _error(grpc.StatusCode.RESOURCE_EXHAUSTED, ("grpc-status-details-bin", status))


FINAL, OPEN = _reply(pb.ORDER_STATUS_SUCCESS), _reply(pb.ORDER_STATUS_EXECUTING)


def _baskets() -> Iterator[Checkout]:
    return checkouts(SHAPE, seed=1, run_id="r")


async def _ran(server: Server, *, until_s: float) -> list[Answer]:
    crowd = Crowd([server.send], seed=1, now_s=server.now_s, sleep_s=server.sleep_s)
    return await crowd.run(_baskets(), callers=1, until_s=until_s)


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
    server = Server(FINAL, OPEN, FINAL)

    answers = await _ran(server, until_s=3.0)

    assert [each.ending for each in answers] == [Ending.FINAL, Ending.PENDING, Ending.FINAL]
    assert [each.checkout_id for each in answers] == [checkout_id for _, checkout_id in server.asked]
    assert [(each.sent_s, each.ended_s) for each in answers] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]


async def test_a_caller_who_is_turned_away_comes_again_with_the_same_checkout_when_it_was_told_to() -> None:
    """RetryInfo is obeyed, with a little jitter on top; the buyer's latency runs from the first try. Who came again at once
    measured how fast it can be turned away."""
    server = Server(_turned_away(come_again_in_ms=700), _turned_away(come_again_in_ms=100), FINAL)

    (answer,) = await _ran(server, until_s=3.0)

    (first_s, first), (second_s, second), (third_s, third) = server.asked
    assert first == second == third == answer.checkout_id
    assert (first_s + TAKES_S + 0.7) < second_s < (first_s + TAKES_S + 0.75)
    assert (second_s + TAKES_S + 0.1) < third_s < (second_s + TAKES_S + 0.15)
    assert (answer.sent_s, answer.ended_s, answer.tries) == (0.0, third_s + TAKES_S, 3)
    assert answer.ending is Ending.FINAL


async def test_a_caller_who_would_be_back_after_the_end_stays_away() -> None:
    server = Server(_turned_away(come_again_in_ms=700))

    (answer,) = await _ran(server, until_s=1.5)

    assert (answer.ending, answer.tries, answer.ended_s) == (Ending.SHED, 1, 1.0)


async def test_a_caller_without_an_answer_goes_on_with_another_checkout() -> None:
    """Whether the first was executed is unknown: it is told so, and never as turned away."""
    server = Server(_error(grpc.StatusCode.UNAVAILABLE), FINAL)

    answers = await _ran(server, until_s=1.5)

    assert [each.ending for each in answers] == [Ending.UNKNOWN, Ending.FINAL]
    assert len({checkout_id for _, checkout_id in server.asked}) == 2


async def test_callers_are_spread_over_the_doors_of_their_system() -> None:
    """The textbook has a server for each core. Method: all are in flight at once, then the time is over."""
    asked, everybody, clock = Counter[str](), asyncio.Barrier(6), [0.0]

    async def send(door: str, _: bytes) -> bytes:
        asked[door] += 1
        await everybody.wait()
        clock[0] = 1.0
        return FINAL

    crowd = Crowd([partial(send, "one"), partial(send, "other")], seed=1, now_s=lambda: clock[0])
    await crowd.run(_baskets(), callers=6, until_s=1.0)

    assert asked == {"one": 3, "other": 3}
