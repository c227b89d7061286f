"""Messages between processes: they take their time, overtake one another, get lost, come twice; links are cut.

A call names an address. Whoever lives there when it arrives serves it, as a task of theirs; what becomes of the answer:

    Refused   nobody lives there: nothing was carried out
    Lost      the request or the answer was lost, or who served it is gone: it may have been carried out

Invariant: a caller learns nothing that a real one could not know.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from simulator.world.loop import PARTY, Party, VirtualLoop
from simulator.world.trace import Trace
from simulator.world.weather import Weather
from zerosum.errors import Unavailable

T = TypeVar("T")

BUYERS: Final = "buyers"


class Refused(Exception):
    """Nobody listens at that address: nothing was carried out."""


class Lost(Exception):
    """No answer came, and none will: it may have been carried out."""


class Network:
    """`at`: who lives at each address, and what they serve."""

    def __init__(self, loop: VirtualLoop, weather: Weather, trace: Trace) -> None:
        self._loop, self._weather, self._trace = loop, weather, trace
        self.at: dict[str, tuple[Party, Any]] = {}
        self._serving: dict[Party, dict[int, asyncio.Future[Any]]] = {}
        self._calls = 0
        self._cut: set[str] = set()

    async def ask(self, target: str, what: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """One call: `work` gets what is served at the address. Raises Refused, Lost, and Unavailable if `work` does.

        `what` "": too frequent to be told of.
        """
        weather, mix = self._weather, self._weather.mix
        answer: asyncio.Future[T] = self._loop.create_future()
        if what:
            self._trace.tell(f"-> {target}: {what}")
        if mix.latency_ms_max and not weather.is_over:
            self._trace.met["latency_ms_max"] += 1
        if self._is_cut(target):
            self._trace.fault("partitions_per_minute", target)
            self._lose(answer)
        elif weather.hits(mix.message_loss):
            self._trace.fault("message_loss", f"to {target}: {what}")
            self._lose(answer)
        else:
            self._loop.later(weather.way_s(), self._arrive, target, what, work, answer)
            if weather.hits(mix.message_twice):
                self._trace.fault("message_twice", f"to {target}: {what}")
                self._loop.later(weather.way_s(), self._arrive, target, what, work, None)
        return await answer

    def move_in(self, address: str, party: Party, service: Any) -> None:
        """From now on this party lives there. Who lived there before is hung up on, and may go on all the same."""
        self.hang_up(address)
        self.at[address] = (party, service)

    def hang_up(self, address: str) -> None:
        """Whoever waits for an answer of that address's party learns that none will come."""
        if address in self.at:
            party, _ = self.at.pop(address)
            for answer in self._serving.pop(party, {}).values():
                self._lose(answer)

    def cut(self, address: str, seconds: float) -> None:
        """Nothing reaches the address, and no answer leaves it, for a while."""
        self._trace.tell(f"! the link to {address} is cut for {seconds:.1f} s", "network")
        self._cut.add(address)
        self._loop.later(seconds, self._cut.discard, address)

    def _is_cut(self, address: str) -> bool:
        """Whether the link of that address is cut, or that of whoever takes this step."""
        if not self._cut or self._weather.is_over:
            return False
        party = PARTY.get()
        return address in self._cut or (party is not None and party.name.partition("#")[0] in self._cut)

    # ---- at the other end ------------------------------------------------------------------------------------

    def _arrive(self, target: str, what: str, work: Any, answer: "asyncio.Future[Any] | None") -> None:
        party, service = self.at.get(target, (None, None))
        if party is None or party.is_dead:
            if answer is not None:
                self._loop.later(self._weather.way_s(), _fail, answer, Refused(f"nobody listens at {target}"))
            return
        self._calls += 1
        if answer is not None:
            self._serving.setdefault(party, {})[self._calls] = answer
        self._loop.start(party, self._serve(party, self._calls, what, work, service))

    async def _serve(self, party: Party, number: int, what: str, work: Any, service: Any) -> None:
        result, trouble = None, None
        try:
            result = await work(service)
        except Unavailable as away:
            trouble = away
        answer = self._serving.get(party, {}).pop(number, None)
        if answer is None:
            return
        weather = self._weather
        if self._is_cut("") or weather.hits(weather.mix.message_loss):
            self._trace.fault("message_loss", f"the answer to {what}")
            self._lose(answer)
        elif trouble is not None:
            self._loop.later(weather.way_s(), _fail, answer, trouble)
        else:
            if what:
                self._trace.tell(lambda: f"<- {what}: {brief(result)}")
            self._loop.later(weather.way_s(), _put, answer, result)

    def _lose(self, answer: "asyncio.Future[Any]") -> None:
        self._loop.later(self._weather.notice_s(), _fail, answer, Lost("no answer came"))


def _put(answer: "asyncio.Future[Any]", result: object) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[Any]", trouble: Exception) -> None:
    if not answer.done():
        answer.set_exception(trouble)


def brief(result: object) -> str:
    """An answer in a word or two, for the trace."""
    if isinstance(result, (list, tuple)):
        return ", ".join(brief(each) for each in result) if len(result) <= 3 else f"{len(result)} answers"  # noqa: PLR2004 - a line has room for three
    if isinstance(result, (int, str, type(None))):
        return str(result)
    return type(result).__name__
