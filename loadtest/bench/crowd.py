"""Closed loop: so many callers at once, each of whom sends its next checkout when the one before has ended.

The clock and the wire are handed in. Invariant: every checkout that was sent is told once, by how it ended.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from loadtest.bench.sample_file import Ending, Kind, ending_of
from loadtest.calls import ProtoCodec
from loadtest.outcome import FINAL_STATUSES, OK
from loadtest.shape import Checkout

Send = Callable[[bytes], Awaitable[bytes]]
"""Sends a CreatePaymentRequest once; the reply's bytes. Raises grpc.aio.AioRpcError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one checkout ended for its caller. Instants are seconds of the crowd's clock."""

    checkout_id: str
    sent_s: float
    ended_s: float
    ending: Ending


class Crowd:
    """The callers of one system, spread over its `doors`."""

    def __init__(self, doors: Sequence[Send], *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._doors = doors
        self._now_s = now_s
        self._codec = ProtoCodec()

    async def run(self, baskets: Iterator[Checkout], *, callers: int, until_s: float) -> list[Answer]:
        """So many callers until that instant; returns when each has its last answer."""
        answers: list[Answer] = []
        await asyncio.gather(*(self._caller(number, baskets, until_s, answers) for number in range(callers)))
        return answers

    async def _caller(self, number: int, baskets: Iterator[Checkout], until_s: float, answers: list[Answer]) -> None:
        send = self._doors[number % len(self._doors)]
        while (sent_s := self._now_s()) < until_s:
            basket = next(baskets)
            ending = await self._try(send, self._codec.submit(basket))
            answers.append(Answer(basket.checkout_id, sent_s, self._now_s(), ending))

    async def _try(self, send: Send, request: bytes) -> Ending:
        try:
            body = await send(request)
        except grpc.aio.AioRpcError as error:
            return ending_of(error.code().name, Kind.CHECKOUT, is_final=False)
        is_final = all(status in FINAL_STATUSES for _, status in self._codec.told(body))
        return ending_of(OK, Kind.CHECKOUT, is_final=is_final)


def acknowledged_of(answers: Iterable[Answer]) -> dict[str, bool]:
    """By checkout id, whether it was told final. One that is still open was acknowledged too: it must be stored."""
    told = {Ending.FINAL: True, Ending.PENDING: False}
    return {each.checkout_id: told[each.ending] for each in answers if each.ending in told}


def write_journal(path: Path, acknowledged: Mapping[str, bool]) -> None:
    """What `kept.read_acknowledged` reads: a line for each checkout, its id and how it was told."""
    lines = (f"{checkout_id} {'final' if is_final else 'open'}\n" for checkout_id, is_final in acknowledged.items())
    path.write_text("".join(lines), encoding="ascii")
