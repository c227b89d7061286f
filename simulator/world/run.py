"""One seed from beginning to end: the world is made, the story told behind the fence, and the findings are brought.

Invariant: the same seed, size and mix bring the same result, hash included, in any process and after any other run.
"""

import gc
import logging
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NoReturn

import structlog

from simulator.world.fence import fenced
from simulator.world.house import House, topology_of
from simulator.world.loop import Deadlock, Exhausted, VirtualLoop, bury
from simulator.world.mix import Mix, mix_of
from simulator.world.swarm import Size, Swarm
from simulator.world.trace import Trace
from simulator.world.weather import Weather

SECONDS_MAX: Final = 20 * 24 * 3_600.0
"""Virtual time of a run: webhooks come up to 3 days late and are then retried."""
STEPS_MAX: Final = 500_000
"""A usual run has some 10,000 steps: whatever takes fifty times as many goes round in circles."""
FULL: Final = Size()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. `findings`: everything that was wrong. `met`: faults and branches that happened."""

    seed: int
    mix: Mix
    size: Size
    findings: list[str]
    met: "Counter[str]"
    trace: Trace
    orders: int
    steps: int
    virtual_s: float

    @property
    def hash(self) -> str:
        """One for the whole story."""
        return self.trace.hash()


def run_seed(seed: int, *, mix: Mix | None = None, size: Size = FULL) -> Result:
    """Runs one seed, with its own mix unless another is given, in this thread. Never raises for what it finds."""
    with without_collector():
        return _told(seed, mix if mix is not None else mix_of(seed), size)


def _told(seed: int, mix: Mix, size: Size) -> Result:
    """The story and its findings. Whatever it was made of is let go before the collector looks again."""
    loop = VirtualLoop(Random(f"loop {seed}"), seconds_max=SECONDS_MAX, steps_max=STEPS_MAX)
    trace, weather = Trace(loop), Weather(seed, mix)
    with quiet(trace), fenced():
        house = House(loop=loop, weather=weather, trace=trace, topology=topology_of(seed, mix))
        swarm = Swarm(house, size)
        try:
            wrong = loop.run_until_complete(swarm.run())
        except (Deadlock, Exhausted) as end:
            wrong = [*house.safety.wrong, *swarm.wrong, f"I9: {type(end).__name__}: {end}"]
        wrong.extend(f"a callback failed: {complaint}" for complaint in loop.complaints)
        for finding in wrong:
            trace.tell(f"WRONG: {finding}", "proof")
        trace.is_over = True
        bury(loop)
    trace.met.update(house.psp.plan.happened)
    house.let_go()
    return Result(
        seed=seed, mix=mix, size=size, findings=wrong, met=trace.met, trace=trace,
        orders=sum(len(command.lines) for command in swarm.commands), steps=loop.steps, virtual_s=loop.time(),
    )  # fmt: skip


@contextmanager
def without_collector() -> Iterator[None]:
    """A run is short and leaves all its garbage at its end: looking for it meanwhile is a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def quiet(trace: Trace) -> Iterator[None]:
    """What the product logs goes into the trace: it is what a party believed."""

    def note(_: object, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        what = " ".join(f"{name}={held}" for name, held in event.items() if name not in {"exc_info", "stack"})
        trace.tell(f"logs {level}: {what}")
        raise structlog.DropEvent

    kept, disabled = structlog.get_config(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    structlog.configure(
        processors=[note], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False,
    )  # fmt: skip
    try:
        yield
    finally:
        structlog.configure(**kept)
        logging.disable(disabled)
