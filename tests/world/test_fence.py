"""What no seed decides raises inside the world, and works as before outside."""

import asyncio
import datetime
import os
import random
import secrets
import socket
import subprocess
import threading
import time
import uuid
from operator import attrgetter
from random import Random

import pytest

from simulator.world.fence import Outside, fenced
from simulator.world.loop import VirtualLoop, bury

FORBIDDEN: dict[str, tuple[object, str, tuple[object, ...]]] = {
    "the time of day": (time, "time", ()),
    "the monotonic clock": (time, "monotonic", ()),
    "nanoseconds": (time, "time_ns", ()),
    "a clock by its number": (time, "clock_gettime", (time.CLOCK_REALTIME,)),
    "the local time of now": (time, "localtime", ()),
    "the time of now": (time, "gmtime", (None,)),
    "now in words": (time, "ctime", ()),
    "now in a form": (time, "strftime", ("%Y",)),
    "chance without a seed": (random, "Random", ()),
    "chance whose seed is nothing": (random, "Random", (None,)),
    "sleep": (time, "sleep", (0,)),
    "a date": (datetime, "datetime.now", ()),
    "chance": (random, "random", ()),
    "a choice": (random, "choice", ([1],)),
    "an order": (random, "shuffle", ([1],)),
    "an id": (uuid, "uuid4", ()),
    "the system's chance": (os, "urandom", (1,)),
    "a secret": (secrets, "token_hex", ()),
    "a socket": (socket, "socket", ()),
    "a process": (subprocess, "Popen", (["/bin/true"],)),
}
"""Whose, its name, and what it is called with."""


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_no_seed_decides_raises(name: str) -> None:
    owner, path, arguments = FORBIDDEN[name]
    with fenced(), pytest.raises(Outside, match="within the world"):
        attrgetter(path)(owner)(*arguments)


def test_a_thread_does_not_start() -> None:
    thread = threading.Thread(target=print)

    with fenced(), pytest.raises(Outside, match="within the world"):
        thread.start()


def test_a_fence_leaves_everything_as_it_was() -> None:
    before = (time.time, time.localtime, random.random, os.urandom, uuid.uuid4, datetime.datetime, vars(Random)["seed"])
    with fenced():
        assert time.time is not before[0]

    assert before == (
        time.time, time.localtime, random.random, os.urandom, uuid.uuid4, datetime.datetime, vars(Random)["seed"]
    )  # fmt: skip
    assert Random().random() < 1
    assert time.time() > 0


def test_what_is_told_its_time_or_its_seed_passes_the_fence() -> None:
    """Nothing is left for the machine to decide."""
    with fenced():
        drawn = Random(7).random(), Random(x=7).random()
        told = time.gmtime(0).tm_year, time.strftime("%Y", time.gmtime(0))

    assert drawn == (Random(7).random(), Random(7).random())
    assert told == (1970, "1970")


def test_seeded_chance_and_virtual_time_pass_the_fence() -> None:
    async def story() -> int:
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        return Random(7).randrange(100)

    loop = VirtualLoop(Random(1), seconds_max=60, steps_max=1_000)
    with fenced():
        drawn = loop.run_until_complete(story())
        bury(loop)

    assert drawn == Random(7).randrange(100)
