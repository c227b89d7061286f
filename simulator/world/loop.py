"""An event loop on virtual time: whoever sleeps wakes at once, in an order that a seed decides.

Every callback belongs to a party (a process of the world), by the context it runs in. A party that is paused takes no step
until it goes on, one that is dead never takes another: as SIGSTOP and SIGKILL do it, at any await, without its help.

    ready at once        parties in a seeded order; within a party in the order asked for, as asyncio promises
    due at one instant   in a seeded order

Invariant: no real time passes and nothing outside is waited for; a world in which nobody can go on is an error.
"""

import asyncio
import contextlib
import gc
from asyncio import Handle, TimerHandle
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(Exception):
    """Every task waits, and nothing is due."""


class Exhausted(Exception):
    """The story took more virtual time or more steps than it may."""


class Party:
    """A process of the world. `roots`: what it is made of, kept so that a dead one is not taken apart halfway."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_paused = False
        self.is_dead = False
        self.held: list[_Step] = []
        self.roots: list[object] = []
        self.context = copy_context()
        self.context.run(PARTY.set, self)

    @property
    def is_running(self) -> bool:
        """Takes steps."""
        return not self.is_paused and not self.is_dead


PARTY: ContextVar[Party | None] = ContextVar("PARTY", default=None)
"""Whose step this is; None: the world's own."""


class _Step(TimerHandle):
    """One call to come, now or later. It has of asyncio's handle what the loop needs: a run makes some 10,000."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, context: Context) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False

    def cancel(self) -> None:
        """It is passed over when its time comes."""
        self._cancelled = True
        self._callback, self._args = _nothing, ()  # let go of what it held


def _nothing() -> None:
    """What a step that was called off would do."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` is virtual and starts at 0. `complaints`: callbacks that failed and that nobody asked about."""

    _stopping: bool  # asyncio's own: set by `stop`

    def __init__(self, chance: Random, *, seconds_max: float, steps_max: int) -> None:
        super().__init__()
        self.steps = 0
        self.complaints: list[str] = []
        self._now_s = 0.0
        self._draw = chance.random
        self._seconds_max = seconds_max
        self._steps_max = steps_max
        self._soon: deque[_Step] = deque()
        self._timers: list[tuple[float, float, int, _Step]] = []
        self._timers_made = 0
        self._world = copy_context()
        self.set_exception_handler(_complain)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_s

    # ---- parties ---------------------------------------------------------------------------------------------

    def start(self, party: Party, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of that party."""
        return self.create_task(work, context=party.context)

    def resume(self, party: Party) -> None:
        """Goes on where it was stopped; what came due meanwhile happens now."""
        party.is_paused = False
        self._soon.extend(party.held)
        party.held = []

    def later(self, delay_s: float, act: Callable[..., object], *arguments: object) -> TimerHandle:
        """Something the world does, whoever asks for it and whatever becomes of them."""
        return self.call_at(self._now_s + delay_s, act, *arguments, context=self._world)

    def let_go(self) -> None:
        """Nothing will be called any more."""
        self._soon.clear()
        self._timers.clear()

    # ---- what asyncio asks of a loop ---------------------------------------------------------------------------

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> "asyncio.Task[Any]":
        """As asyncio has it, without its factory; nobody asks for a task's name."""
        return asyncio.Task(coro, loop=self, name="task", context=context)

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Handle:
        """As asyncio has it."""
        handle = _Step(callback, args, context if context is not None else copy_context())
        self._soon.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """As asyncio has it."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """As asyncio has it; a draw decides between timers that are due at the same instant."""
        handle = _Step(callback, args, context if context is not None else copy_context())
        self._timers_made += 1
        heappush(self._timers, (when, self._draw(), self._timers_made, handle))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """There are no threads in the world."""
        raise RuntimeError("the world has one thread")

    def _asyncgen_finalizer_hook(self, generator: object) -> None:
        """What a dead party leaves half done stays so."""

    def _run_once(self) -> None:
        """Many rounds at once, until the loop is told to stop: asyncio asks after each."""
        soon = self._soon
        while not self._stopping:
            if not soon:
                self._wake()
            self.steps += len(soon)
            if self.steps > self._steps_max:
                raise Exhausted(f"more than {self._steps_max} steps: {self._who_waits()}")
            for step in self._in_order() if len(soon) > 1 else (soon.popleft(),):
                if step._cancelled:
                    continue
                context = step._context
                party = context.get(PARTY)
                if party is None or not (party.is_paused or party.is_dead):
                    try:
                        context.run(step._callback, *step._args)
                    except Exception as failure:  # noqa: BLE001 - as asyncio has it: told to whom it may concern
                        self.call_exception_handler({"message": f"in {step._callback!r}", "exception": failure})
                else:
                    party.held.append(step)

    def _in_order(self) -> "list[_Step]":
        """What is ready, one party after the other: their order is drawn, each one's own order stays."""
        ready = list(self._soon)
        self._soon.clear()
        ranks: dict[Party | None, float] = {}
        whose = [step._context.get(PARTY) for step in ready]
        for party in whose:
            if party not in ranks:
                ranks[party] = self._draw()
        if len(ranks) > 1:
            order = sorted(range(len(ready)), key=[ranks[party] for party in whose].__getitem__)
            return [ready[position] for position in order]
        return ready

    def _wake(self) -> None:
        """The clock moves on to the next timer; all that are due then are ready."""
        timers = self._timers
        while timers and timers[0][3]._cancelled:
            heappop(timers)
        if not timers:
            raise Deadlock(f"nothing is due, and these wait: {self._who_waits()}")
        now_s = self._now_s = max(self._now_s, timers[0][0])
        if now_s > self._seconds_max:
            raise Exhausted(f"after {now_s:.0f} virtual seconds these wait: {self._who_waits()}")
        while timers and timers[0][0] <= now_s:
            self._soon.append(heappop(timers)[3])

    def _who_waits(self) -> str:
        places = Counter(_place_of(task) for task in asyncio.all_tasks(self))
        return "; ".join([f"{count} x {place}" for place, count in sorted(places.items())]) or "nobody"


def _place_of(task: "asyncio.Task[Any]") -> str:
    """The chain of coroutines a task stands in, outermost first."""
    names: list[str] = []
    step: Any = task.get_coro()
    while step is not None and hasattr(step, "cr_frame"):
        line = step.cr_frame.f_lineno if step.cr_frame is not None else "-"
        names.append(f"{step.__qualname__}:{line}")
        step = step.cr_await
    return " > ".join(names)


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    if not loop.is_closed():
        loop.complaints.append(f"{context['message']}: {context.get('exception')!r}")


def bury(loop: VirtualLoop) -> None:
    """Ends what a story left standing, dead parties' tasks included, and closes the loop. What they say now is not heard."""
    _end(loop, asyncio.all_tasks(loop))
    loop.close()
    loop.let_go()


def bury_dead(loop: VirtualLoop) -> None:
    """Ends what dead parties left standing, for a house that lives on. What they say now is not heard."""
    dead = [(_place_of(task), task) for task in asyncio.all_tasks(loop) if _is_dead(task)]
    _end(loop, [task for _, task in sorted(dead, key=lambda each: each[0])])
    loop.complaints.clear()


def _is_dead(task: "asyncio.Task[Any]") -> bool:
    """A task does not show its context, but holds it."""
    party = next(held.get(PARTY) for held in gc.get_referents(task) if isinstance(held, Context))
    return party is not None and party.is_dead


def _end(loop: VirtualLoop, tasks: Iterable["asyncio.Task[Any]"]) -> None:
    asyncio._set_running_loop(loop)
    try:
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined] # they are meant to be left where they stand
            work = task.get_coro()
            with contextlib.suppress(Exception):  # their own ends find a world that is over
                work.close()
    finally:
        asyncio._set_running_loop(None)
