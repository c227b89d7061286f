"""Closed loop: so many callers at once, each of whom sends its next checkout when the one before has ended.

Who is turned away comes again with the same checkout when RetryInfo says, and a little later by chance; who has no answer goes
on with another one. The clock and the wire are handed in.

Invariant: every checkout that was sent is told once, by how it ended, and its latency runs from its first try.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from loadtest.bench.sample_file import Ending, Kind, ending_of
from loadtest.calls import ProtoCodec, retry_after_ms
from loadtest.outcome import FINAL_STATUSES, OK, Patience
from loadtest.shape import Checkout

Send = Callable[[bytes], Awaitable[bytes]]
"""Sends a CreatePaymentRequest once; the reply's bytes. Raises grpc.aio.AioRpcError."""


Sleep = Callable[[float], Awaitable[None]]
"""Waits for so many seconds."""

_PATIENCE: Final = Patience()
"""The patience of a load's buyers, as after a first try: what they are told to wait, and up to 50 ms more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one checkout ended for its caller. Seconds of the crowd's clock: of its first try, and its last answer."""

    checkout_id: str
    sent_s: float
    ended_s: float
    ending: Ending
    tries: int = 1


class Crowd:
    """The callers of one system, spread over its `doors`. `seed`: of their chance to come a little later."""

    def __init__(
        self,
        doors: Sequence[Send],
        *,
        seed: int,
        now_s: Callable[[], float] = time.monotonic,
        sleep_s: Sleep = asyncio.sleep,
    ) -> None:
        self._doors = doors
        self._chance = random.Random(f"callers/{seed}")
        self._now_s = now_s
        self._sleep_s = sleep_s
        self._codec = ProtoCodec()

    async def run(self, baskets: Iterator[Checkout], *, callers: int, until_s: float) -> list[Answer]:
        """So many callers until that instant; returns when each has its last answer."""
        answers: list[Answer] = []
        await asyncio.gather(*(self._caller(number, baskets, until_s, answers) for number in range(callers)))
        return answers

    async def _caller(self, number: int, baskets: Iterator[Checkout], until_s: float, answers: list[Answer]) -> None:
        send = self._doors[number % len(self._doors)]
        while self._now_s() < until_s:
            answer, wait_s = await self._checkout(send, next(baskets), until_s)
            answers.append(answer)
            if answer.ended_s + wait_s >= until_s:
                return
            await self._sleep_s(wait_s)

    async def _checkout(self, send: Send, basket: Checkout, until_s: float) -> tuple[Answer, float]:
        """Its last answer, and how long the caller then waits, in seconds."""
        request, sent_s, tries = self._codec.submit(basket), self._now_s(), 0
        while True:
            tries += 1
            ending, wait_s = await self._try(send, request)
            ended_s = self._now_s()
            if ending is not Ending.SHED or ended_s + wait_s >= until_s:
                return Answer(basket.checkout_id, sent_s, ended_s, ending, tries), wait_s
            await self._sleep_s(wait_s)

    async def _try(self, send: Send, request: bytes) -> tuple[Ending, float]:
        """How it ended, and how long to wait after it."""
        try:
            body = await send(request)
        except grpc.aio.AioRpcError as error:
            hint_ms = retry_after_ms(error.trailing_metadata() or ())
            wait_ms = _PATIENCE.delay_ms(1, hint_ms, self._chance)
            return ending_of(error.code().name, Kind.CHECKOUT, is_final=False), wait_ms / 1_000
        is_final = all(status in FINAL_STATUSES for _, status in self._codec.told(body))
        return ending_of(OK, Kind.CHECKOUT, is_final=is_final), 0.0


def acknowledged_of(answers: Iterable[Answer]) -> dict[str, bool]:
    """By checkout id, whether it was told final. One that is still open was acknowledged too: it must be stored."""
    told = {Ending.FINAL: True, Ending.PENDING: False}
    return {each.checkout_id: told[each.ending] for each in answers if each.ending in told}


def write_journal(path: Path, acknowledged: Mapping[str, bool]) -> None:
    """What `kept.read_acknowledged` reads: a line for each checkout, its id and how it was told."""
    lines = (f"{checkout_id} {'final' if is_final else 'open'}\n" for checkout_id, is_final in acknowledged.items())
    path.write_text("".join(lines), encoding="ascii")
