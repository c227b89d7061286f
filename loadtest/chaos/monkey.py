"""The monkey: harm to any process at random, from a seed, under load, with the time until somebody is served again.

A deck holds every target with every harm it can suffer; it is shuffled by the seed and dealt again when it is used up, so
that nobody is spared for long. Now and then two cards are played at once.

Invariant: every strike hit somebody and ends in a recovery that was seen, or is told as wrong; who was stopped is let go on.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from loadtest.chaos import process
from loadtest.chaos.arena import Arena
from loadtest.chaos.case import Harm
from loadtest.chaos.wait import EVERY_S, TROUBLE, WITHIN_S, NeverCame, Patience, reason_of, until
from loadtest.clock import wall_ms
from zerosum.service import Service

STOP_MIN_S: Final = 1.0
PAUSE_S: Final = (1.0, 4.0)
"""Between two strikes: long enough for a few checkouts without harm, short enough to hit a system that still recovers."""

TWICE: Final = 0.2
"""How often two strikes come at once."""


WRONG_MAX: Final = 3
"""Rounds in a row after which it is clear that nothing comes back any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One harm done. `recovery_s`: from a kill or cut, or from the end of a stop, to the next final reply. `wrong`: "" =
    nothing."""

    t_ms: int
    target: str
    harm: Harm
    pids: tuple[int, ...]
    recovery_s: float | None
    wrong: str = ""

    @property
    def label(self) -> str:
        """In a few words."""
        return f"{self.harm} {self.target} ({', '.join(map(str, self.pids))})"


Find = Callable[[Arena], list[int]]
Probe = Callable[[Arena], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Target:
    """Who may be hit. `find`: its processes now, [] = none at this moment; `served`: returns when it serves again."""

    harms: tuple[Harm, ...]
    find: Find
    served: Probe


def _child(name: str) -> Find:
    return lambda arena: [pid] if (pid := arena.child(name)) is not None else []


def _shard(service: Service, number: int) -> Find:
    return lambda arena: [pid] if (pid := arena.shards(service).get(number)) is not None else []


def _of_ray(mark: str) -> Find:
    def find(arena: Arena) -> list[int]:
        head = arena.child("ray")
        commands = process.session_of(head) if head is not None else {}
        return [pid for pid, command in commands.items() if mark in command.partition(" ")[0]]

    return find


def _whole_ray(arena: Arena) -> list[int]:
    head = arena.child("ray")
    return list(process.session_of(head)) if head is not None else []


async def _checkout(arena: Arena) -> None:
    await arena.buyer.until_served("monkey")


def _checkout_of(number: int) -> Probe:
    return lambda arena: arena.buyer.until_served("monkey", shard=number, shards=arena.settings.checkout_shards)


async def _posting(arena: Arena) -> None:
    await arena.buyer.until_served("monkey", to_the_end=True)


async def _edge(arena: Arena) -> None:
    await until("the edge answers", arena.edge_answers)


async def _reconciliation(arena: Arena) -> None:
    await until("a reconciliation runs to its end", arena.reconciles)


_KILL, _STOP, _CUT = Harm.KILL, Harm.STOP, Harm.CUT

TARGETS: Final[Mapping[str, Target]] = {
    "checkout shard 0": Target((_KILL, _STOP, _CUT), _shard("payment", 0), _checkout_of(0)),
    "checkout shard 1": Target((_KILL, _STOP, _CUT), _shard("payment", 1), _checkout_of(1)),
    "wallet shard": Target((_KILL, _STOP, _CUT), _shard("wallet", 0), _posting),
    "ledger shard": Target((_KILL, _STOP, _CUT), _shard("ledger", 0), _posting),
    "reconciliation shard": Target((_KILL, _STOP, _CUT), _shard("reconciliation", 0), _reconciliation),
    "payment server": Target((_KILL, _STOP, _CUT), _child("payment"), _checkout),
    "wallet server": Target((_KILL, _STOP), _child("wallet"), _posting),
    "ledger server": Target((_KILL, _STOP), _child("ledger"), _posting),
    "reconciliation server": Target((_KILL, _STOP), _child("reconciliation"), _reconciliation),
    "edge": Target((_KILL, _STOP), _child("edge"), _edge),
    "simulator": Target((_KILL, _STOP), _child("psp"), _checkout),
    "PostgreSQL": Target((_KILL, _STOP, _CUT), _child("database"), _posting),
    "Ray, all of it": Target((_KILL,), _whole_ray, _posting),
    "GCS": Target((_KILL, _STOP), _of_ray("gcs_server"), _posting),
    "raylet": Target((_KILL, _STOP), _of_ray("raylet/raylet"), _posting),
}
"""Every process there is."""


def deck(chance: random.Random, shards: int) -> Iterator[tuple[str, Harm]]:
    """Cards without end: every target with each of its harms, shuffled, again and again. `shards`: of checkouts."""
    spared = {"checkout shard 1"} if shards == 1 else set()
    cards = [(name, harm) for name, target in TARGETS.items() if name not in spared for harm in target.harms]
    while True:
        chance.shuffle(cards)
        yield from cards


async def rampage(
    arena: Arena, *, seed: int, seconds: float, stop_s: float, tell: Callable[[Strike], Awaitable[None]]
) -> None:
    """Strikes until the time is over, or until nothing came back WRONG_MAX times in a row. Each strike is told when its
    recovery was seen, or was not."""
    chance, row = random.Random(f"monkey/{seed}"), 0
    cards = deck(chance, arena.settings.checkout_shards)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and row < WRONG_MAX:
        dealt = [next(cards) for _ in range(2 if chance.random() < TWICE else 1)]
        stops_s = [chance.uniform(min(STOP_MIN_S, stop_s), stop_s) for _ in dealt]
        both = zip(dealt, stops_s, strict=True)
        done = await asyncio.gather(*(strike(arena, name, harm, stop) for (name, harm), stop in both))
        row = row + 1 if any(each.wrong for each in done) else 0
        for each in done:
            await tell(each)
        await asyncio.sleep(chance.uniform(*PAUSE_S))


async def strike(arena: Arena, name: str, harm: Harm, stop_s: float) -> Strike:
    """Hurts one target and waits until it serves again."""
    target, pids, wrong, recovery_s = TARGETS[name], list[int](), "", None
    t_ms = wall_ms()
    try:
        pids = await _hit(arena, name, harm)
        t_ms, began_s = wall_ms(), time.monotonic()
        if harm is Harm.STOP:
            await arena.resume_after(pids, stop_s)
            began_s = time.monotonic()
        elif harm is Harm.KILL:
            await until(f"{name} is dead", lambda: not any(map(process.is_alive, pids)))
        await asyncio.wait_for(target.served(arena), 2 * WITHIN_S)
        recovery_s = round(time.monotonic() - began_s, 2)
    except TimeoutError:
        wrong = f"{name} did not serve within {2 * WITHIN_S:g} s"
    except TROUBLE as trouble:
        wrong = reason_of(trouble)
    return Strike(t_ms=t_ms, target=name, harm=harm, pids=tuple(pids[:3]), recovery_s=recovery_s, wrong=wrong)


async def _hit(arena: Arena, name: str, harm: Harm) -> list[int]:
    """Does it to whoever is there; who that was. Where nobody was hit after all (it was just ending), it is done again."""
    patience, target = Patience(WITHIN_S), TARGETS[name]

    def find() -> list[int]:
        return [pid for pid in target.find(arena) if process.is_alive(pid)]

    while not patience.is_over:
        pids = await until(f"{name} is there to be hit", find)
        if harm is Harm.KILL:
            hit = [pid for pid in pids if process.send(pid, signal.SIGKILL)]
        elif harm is Harm.STOP:
            hit = [pid for pid in pids if arena.pause(pid)]
        else:
            ports = None if name == "PostgreSQL" else await asyncio.to_thread(arena.database_ports, pids[0])
            hit = pids if arena.proxy.cut_now(ports) else []
        if hit:
            return hit
        await patience.sleep(EVERY_S)
    raise NeverCame(f"{name} was never there long enough to be hit")
