"""The thin load generator: open loop, one event loop, requests serialised before it begins, answers read after it has ended.

    python -m loadtest.bench.generator PLAN

Latency counts from the instant a call was meant to be sent, so a system that stalls is charged for the queue it causes. A call
is sent once: there are no retries. On its standard output it tells JSON lines: `counting` when the warm-up is over, `offered`
after the last arrival (with its own CPU between the two), `done` when every call has ended and the files are written.

Invariant: arrivals never wait for answers, but for the bound on calls in flight, and that wait is part of the latency.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from loadtest.bench.plan import LoadPlan, read_plan
from loadtest.bench.sample_file import SHED, Call, Kind, ending_of, write_calls
from loadtest.calls import SERVICE, ProtoCodec, retry_after_ms
from loadtest.journeys import CREATE, VIEW_ORDER, VIEW_PAYMENT
from loadtest.outcome import FINAL_STATUSES, OK

NOT_SENT: Final = "NOT_SENT"
"""No status of gRPC: its deadline passed while it waited for its turn to be sent."""

CHANNEL_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # channels to one address would else share one connection
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call to be made: when (seconds from the start), and for a checkout which one."""

    at_s: float
    kind: Kind
    number: int = -1


@dataclass(frozen=True, slots=True)
class Told:
    """How one call ended. `body`: of an answer; `trailers`: of a refusal by admission."""

    ask: Ask
    sent_s: float
    ended_s: float
    code: str
    body: bytes = b""
    trailers: Any = ()


class Generator:
    """One load. `run` it once, then `save` it."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._codec = ProtoCodec()
        self._asks = _asks(plan)
        self._ids = []
        self._requests = []
        self._views = []
        for basket in plan.baskets():
            self._ids.append(basket.checkout_id)
            self._requests.append(self._codec.submit(basket))
            if plan.reads_per_checkout:
                first = basket.orders[0].payment_order_id
                self._views.append(
                    ((VIEW_PAYMENT, self._codec.view(VIEW_PAYMENT, basket.checkout_id)),
                     (VIEW_ORDER, self._codec.view(VIEW_ORDER, first)))
                )  # fmt: skip
        token = Path(plan.token_file).read_text(encoding="utf-8").strip()
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._chance = random.Random(f"reads/{plan.seed}")
        self._waiting: deque[Ask] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._acknowledged: list[int] = []
        self._turn = 0
        self._calls: list[dict[str, Any]] = []
        self._began_s = 0.0
        self.told: list[Told] = []

    # ---- the run -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Makes every call of the plan and waits for their ends: at most a deadline after the last arrival."""
        channels = [grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) for address in self._plan.lanes]
        self._calls = [
            {method: channel.unary_unary(SERVICE + method) for method in (CREATE, VIEW_ORDER, VIEW_PAYMENT)}
            for channel in channels
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        gc.freeze()
        gc.disable()  # a run is a minute long and makes no cycles worth a pause
        self._began_s = time.perf_counter()
        await self._offer()
        while self._tasks:
            await asyncio.wait(self._tasks)
        gc.enable()
        await asyncio.gather(*(channel.close() for channel in channels))

    async def _offer(self) -> None:
        is_counting, cpu_ms = False, 0.0
        for ask in self._asks:
            if not is_counting and ask.at_s >= self._plan.warm_up_s:
                await self._until(self._plan.warm_up_s)
                is_counting, cpu_ms = True, _cpu_ms()
                _say("counting")
            await self._until(ask.at_s)
            self._begin(ask)
        await self._until(self._plan.warm_up_s + self._plan.seconds)
        _say("offered", cpu_ms=_cpu_ms() - cpu_ms)

    async def _until(self, at_s: float) -> None:
        left_s = at_s - self._now_s()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def _begin(self, ask: Ask) -> None:
        if len(self._tasks) >= self._plan.in_flight_max:
            self._waiting.append(ask)
            return
        task = asyncio.get_running_loop().create_task(self._call(ask))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        task.result()  # a call that ends is told; anything raised is a bug of ours, and is to be seen
        if self._waiting:
            self._begin(self._waiting.popleft())

    async def _call(self, ask: Ask) -> None:
        sent_s = self._now_s()
        left_s = ask.at_s + self._plan.deadline_ms / 1_000 - sent_s
        chosen = self._request(ask)
        if chosen is None:
            return
        if left_s <= 0:
            self.told.append(Told(ask, sent_s, sent_s, NOT_SENT))
            return
        method, request = chosen
        self._turn += 1
        stub = self._calls[self._turn % len(self._calls)][method]
        try:
            body = await stub(request, timeout=left_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            trailers = error.trailing_metadata() if code == SHED else ()
            self.told.append(Told(ask, sent_s, self._now_s(), code, trailers=trailers))
        except asyncio.CancelledError:  # nobody cancels here: gRPC dropped it
            self.told.append(Told(ask, sent_s, self._now_s(), "CANCELLED"))
        else:
            self.told.append(Told(ask, sent_s, self._now_s(), OK, body))
            if ask.kind is Kind.CHECKOUT:
                self._acknowledged.append(ask.number)

    def _request(self, ask: Ask) -> tuple[str, bytes] | None:
        """What is sent. A read is of a checkout that was acknowledged; before the first there is nothing to read."""
        if ask.kind is Kind.CHECKOUT:
            return CREATE, self._requests[ask.number]
        if not self._acknowledged:
            return None
        return self._chance.choice(self._views[self._chance.choice(self._acknowledged)])

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s

    # ---- afterwards ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Reads the answers, writes samples and journal, and tells the counts."""
        calls, acknowledged, codes, unhinted = [], [], Counter[str](), 0
        for each in self.told:
            is_final = each.ask.kind is Kind.CHECKOUT and each.code == OK and self._is_final(each.body)
            ending = ending_of(each.code, each.ask.kind, is_final=is_final)
            ask, at_s = each.ask, each.ask.at_s
            calls.append(
                Call(_us(at_s), _us(each.sent_s - at_s), _us(each.ended_s - at_s), ask.kind, ending, ask.number)
            )
            codes[each.code] += 1
            unhinted += each.code == SHED and not retry_after_ms(each.trailers or ())
            if each.ask.kind is Kind.CHECKOUT and each.code == OK:
                acknowledged.append(f"{self._ids[each.ask.number]} {'final' if is_final else 'open'}\n")
        write_calls(self._plan.samples, calls)
        self._plan.journal.write_text("".join(acknowledged), encoding="ascii")
        _say("done", codes=codes, unhinted=unhinted, began_s=self._began_s)

    def _is_final(self, body: bytes) -> bool:
        return all(status in FINAL_STATUSES for _, status in self._codec.told(body))


def _asks(plan: LoadPlan) -> list[Ask]:
    asks, number = [], 0
    for at_s, kind in plan.schedule():
        asks.append(Ask(at_s, kind, number if kind is Kind.CHECKOUT else -1))
        number += kind is Kind.CHECKOUT
    return asks


def _us(duration_s: float) -> int:
    return round(duration_s * 1_000_000)


def _cpu_ms() -> float:
    return time.process_time() * 1_000


def _say(event: str, **told: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **told}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Carries out the plan of a file."""
    generator = Generator(read_plan(Path(sys.argv[1])))
    asyncio.run(generator.run())
    generator.save()


if __name__ == "__main__":
    main()
