"""R5, R6: what Ray remembers is worth nothing. A name that is gone, a head that dies again and again, a head without a past.

    R5   the named actor of a shard is ended for good while servers hold its handle
    R6   the GCS dies, and dies again as soon as another head stands, and the folder with all of Ray's state is removed; what
         then starts knows nothing, and serves from the database alone

Invariant: nobody repairs anything: what is told as recovered came back by itself.
"""

import asyncio
import shutil
import signal
import time
from pathlib import Path
from typing import Final

from loadtest.chaos import process
from loadtest.chaos.arena import Arena
from loadtest.chaos.client import Told
from loadtest.chaos.money import ONCE, movement_of
from loadtest.chaos.paused_raylet import ask_ray
from loadtest.chaos.scenario import Scenario, told
from loadtest.chaos.split import SHARD, mine
from loadtest.chaos.wait import NeverCame, until
from loadtest.shape import Checkout

GCS_DEATHS: Final = 2
"""Each as soon as the head has its raylet: a head whose GCS dies before that tells nobody for 30 s, and ends then."""


async def lost_name(arena: Arena) -> Scenario:
    """R5, I7: servers whose handle leads nowhere find the shard anew by themselves, or make it."""
    scenario = Scenario(rows="R5", title="a shard's named actor ended for good, under servers that hold its handle")
    return await told(scenario, _lost_name(arena, scenario))


async def ray_without_a_past(arena: Arena) -> Scenario:
    """R6, I9: a crash loop of the GCS, then a fresh head: the supervisor goes on, everything serves from the database."""
    scenario = Scenario(rows="R6", title="a GCS that dies at its start, and a head that knows nothing")
    return await told(scenario, _ray_without_a_past(arena, scenario))


async def _lost_name(arena: Arena, scenario: Scenario) -> None:
    await arena.until_at_rest()
    first = (await until("every checkout shard lives", lambda: arena.all_shards("payment")))[SHARD]
    server = arena.child("payment")
    checkout, under_way = mine(arena, "before"), mine(arena, "during")
    reply = await arena.buyer.pay(checkout)
    paying = asyncio.create_task(arena.buyer.pay(under_way))
    try:
        await ask_ray(arena)
        await until("the actor's process has ended", lambda: not process.is_alive(first))
        began_s = time.monotonic()
        await arena.buyer.until_served("lost", shard=SHARD, shards=arena.settings.checkout_shards)
        scenario.recovery_s = round(time.monotonic() - began_s, 2)
        during = await paying
    finally:
        paying.cancel()
    second = (await until("every checkout shard lives", lambda: arena.all_shards("payment")))[SHARD]
    if second == first:
        raise NeverCame(f"process {first} was not ended")
    if arena.child("payment") != server:
        raise NeverCame("the payment server did not live through it: another one found the shard")
    scenario.facts.append(
        f"process {first} and its name were gone; the same server made process {second} under that name"
    )
    scenario.wrong = await _moved_once(arena, {checkout: reply, under_way: during})


async def _ray_without_a_past(arena: Arena, scenario: Scenario) -> None:
    await arena.until_at_rest()
    checkout = mine(arena, "before")
    reply = await arena.buyer.pay(checkout)
    sessions, head = _sessions(arena), arena.child("ray")
    for _ in range(GCS_DEATHS - 1):
        head = await _kill_gcs(arena, head)
    await asyncio.to_thread(shutil.rmtree, _folder(arena), ignore_errors=True)
    await _kill_gcs(arena, head)
    began_s = time.monotonic()
    await arena.buyer.until_served("fresh", to_the_end=True)
    scenario.recovery_s = round(time.monotonic() - began_s, 2)
    if not (now := _sessions(arena)) or now & sessions:
        raise NeverCame(f"the head is not without a past: {now}")
    scenario.facts.append(
        f"the GCS was killed {GCS_DEATHS} times, each time as soon as a head stood; the folder of Ray's state was removed"
    )
    scenario.facts.append("the new head knew of no actor and no name; every shard serves from the database alone")
    scenario.wrong = await _moved_once(arena, {checkout: reply})


async def _kill_gcs(arena: Arena, head: int | None) -> int | None:
    """Kills the GCS of that head as soon as the head stands; the head that is started next."""

    def gcs() -> int | None:
        commands = process.session_of(head) if head is not None else {}
        programs = {Path(command.partition(" ")[0]).name: pid for pid, command in commands.items()}
        return programs.get("gcs_server") if "raylet" in programs else None

    pid = await until("the head has a GCS and a raylet", gcs)
    process.send(pid, signal.SIGKILL)
    return await until("another head is started", lambda: now if (now := arena.child("ray")) != head else None)


def _folder(arena: Arena) -> Path:
    """Where Ray's head keeps what it keeps, by its own command line."""
    head = arena.child("ray")
    words = process.session_of(head).get(head, "").split() if head is not None else []
    folders = [word.partition("=")[2] for word in words if word.startswith("--temp-dir=")]
    if not folders:
        raise NeverCame("no head runs that says where its folder is")
    return Path(folders[0])


def _sessions(arena: Arena) -> set[str]:
    """Ray's sessions that have left something on disk: a head's start makes one."""
    return {path.name for path in _folder(arena).glob("session_2*")}


async def _moved_once(arena: Arena, replies: dict[Checkout, Told]) -> str:
    """What speaks against it: money of these that moved otherwise than once, or a reply that is not what was told before."""
    for checkout in replies:
        await arena.buyer.until_done(checkout)
    await arena.until_at_rest()
    for checkout, reply in replies.items():
        moved = await asyncio.to_thread(movement_of, checkout, arena.psp, arena.auditor_url)
        if moved != ONCE:
            return f"the money of {checkout.checkout_id} moved otherwise than once: {moved}"
        if (await arena.buyer.pay(checkout)).body != reply.body:
            return f"{checkout.checkout_id} was told two things under one key"
    return ""
