"""One seed for a day: checkouts that never stop coming, in one house that lives on, in memory that does not grow.

The day has rounds of ten minutes, each with a weather of its own, drawn as a seed's. At a round's end everything comes to
rest; it is audited whole, like any seed; then what is settled leaves memory: rows, the PSP's objects, lines of the trace.
Shards, servers, their caches, breakers and epochs, the wallets and the heads of the slots stay from the first round to the
last. A round that waits for webhooks three days late takes those days as well; they are not counted as the day's hours.

Invariant: nothing is let go that was not audited, and what goes on is audited from where it was left.
"""

import gc
import sys
import time
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, TextIO

from simulator.world.fence import fenced
from simulator.world.house import House, topology_of
from simulator.world.loop import Deadlock, Exhausted, VirtualLoop, bury, bury_dead
from simulator.world.mix import Mix, faults_of, mix_of
from simulator.world.run import quiet, without_collector
from simulator.world.swarm import Size, Swarm
from simulator.world.trace import Trace
from simulator.world.weather import Weather

ROUND_S: Final = 600
_HOUR_S: Final = 3_600
_SECONDS_MAX: Final = 3_650.0 * 24 * _HOUR_S
"""Of a round's rest a week at the most: webhooks come up to three days late, and are then tried again."""
_STEPS_MAX: Final = 10**10
_PAGE_BYTES: Final = 4_096
_MB: Final = 1_000_000
_SEEDS_APART: Final = 10_000
"""More than a day has rounds: the weather of two days is never the same."""


@dataclass(slots=True)
class Day:
    """What came of it. `memory_mb`: of this process after each round."""

    seed: int
    findings: list[str] = field(default_factory=list)
    checkouts: int = 0
    orders: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    hash: str = ""
    memory_mb: list[int] = field(default_factory=list)


def soak(seed: int, *, hours: float, rate: float, out: TextIO = sys.stdout) -> Day:
    """Runs `hours` of `rate` checkouts a second, or until something is wrong, and tells of each hour on `out`."""
    day, began_s = Day(seed), time.monotonic()
    loop = VirtualLoop(Random(f"loop {seed}"), seconds_max=_SECONDS_MAX, steps_max=_STEPS_MAX)
    trace, weather = Trace(loop), Weather(seed, Mix())
    rounds = max(round(hours * _HOUR_S / ROUND_S), 1)
    house: House | None = None
    with quiet(trace):
        for number in range(rounds):
            # A PSP that is gone for days sets the house's back-off, and a day has one house.
            weather.mix = replace(mix_of(seed * _SEEDS_APART + number), psp_gone_hours_max=0)
            with without_collector(), fenced():
                if house is None:
                    house = House(loop=loop, weather=weather, trace=trace, topology=topology_of(seed, weather.mix))
                    loop.run_until_complete(house.start())
                    keeper = loop.create_task(house.keep_alive())
                _round(day, house, round(rate * ROUND_S))
            gc.collect()
            loop.complaints.clear()  # of what the dead left, whose turn it is only now
            day.steps, day.virtual_s, day.real_s = loop.steps, loop.time(), time.monotonic() - began_s
            day.memory_mb.append(_memory_mb())
            _tell(day, number + 1, weather.mix, out)
            if keeper.done():
                day.findings.append(f"the keeper ended: {keeper.exception()!r}")
            if day.findings:
                break
        trace.is_over = True
        with fenced():
            bury(loop)
    day.hash = trace.hash()
    return day


def _round(day: Day, house: House, checkouts: int) -> None:
    swarm = Swarm(house, Size(checkouts, float(ROUND_S), arrivals=1.0), first=day.checkouts)
    try:
        wrong = house.loop.run_until_complete(swarm.story())
    except (Deadlock, Exhausted) as end:
        wrong = [*house.safety.wrong, *swarm.wrong, f"I9: {type(end).__name__}: {end}"]
    day.findings.extend([*wrong, *(f"a callback failed: {complaint}" for complaint in house.loop.complaints)])
    day.checkouts += checkouts
    day.orders += sum(len(command.lines) for command in swarm.commands)
    if not day.findings:
        house.forget()
        bury_dead(house.loop)


def _memory_mb() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES // _MB


def _tell(day: Day, rounds: int, mix: Mix, out: TextIO) -> None:
    hours = rounds * ROUND_S / _HOUR_S
    rate = day.orders / max(day.real_s, 0.001)
    print(
        f"{hours:.2f} h, {day.checkouts} checkouts, {day.orders} orders, {rate:.0f} orders/s, {day.steps} steps, "
        f"{day.memory_mb[-1]} MB, {day.real_s:.0f} s; {len(faults_of(mix))} faults in the last round",
        file=out, flush=True,
    )  # fmt: skip
