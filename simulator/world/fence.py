"""What the world must not touch raises while it runs: real clocks, unseeded chance, sockets, threads.

The world's own time is the loop's, its chance is seeded, and it has one thread; whatever else decides something would make
the same seed another story.

Invariant: within `fenced()` a forbidden call raises `Outside`; afterwards everything is as it was.
"""

import datetime
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NoReturn

OURS: Final = ("zerosum", "actors", "servers", "simulator")


class Outside(Exception):
    """Code of the world asked for something that no seed decides."""


_CHANCE: Final = tuple(name for name, held in vars(random).items() if getattr(held, "__self__", None) is random._inst)

_FORBIDDEN: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "clock_gettime", "clock_gettime_ns", "sleep")),
    (random, (*_CHANCE, "_urandom")),
    (os, ("urandom", "fork")),
    (uuid, ("uuid1", "uuid4")),
    (socket.socket, ("__init__",)),
    (threading.Thread, ("start",)),
    (subprocess.Popen, ("__init__",)),
)
"""Whose names, and which. `perf_counter` stays: it measures, and nothing is decided by it."""

_NEEDS: Final[tuple[tuple[Any, str, int], ...]] = (
    (time, "localtime", 1), (time, "gmtime", 1), (time, "ctime", 1), (time, "asctime", 1), (time, "strftime", 2),
    (random.Random, "__init__", 2), (random.Random, "seed", 2),
)  # fmt: skip
"""Whose names, which, and with how many arguments, self included: what is left out, or None, the machine would decide."""


@contextmanager
def fenced() -> Iterator[None]:
    """For the time of one story."""
    kept = [(owner, name, getattr(owner, name)) for owner, names in _FORBIDDEN for name in names]
    needs = [(owner, name, getattr(owner, name), least) for owner, name, least in _NEEDS]
    now = datetime.datetime
    clocks = [module for module in [datetime, *_our_modules(len(sys.modules))] if vars(module).get("datetime") is now]
    try:
        for owner, name, _ in kept:
            setattr(owner, name, _forbidden(f"{getattr(owner, '__name__', owner)}.{name}"))
        for owner, name, held, least in needs:
            setattr(owner, name, _told_enough(f"{owner.__name__}.{name}", held, least))
        for module in clocks:
            setattr(module, "datetime", _FencedDatetime)  # noqa: B010 - a module's name, replaced for the time being
        yield
    finally:
        for owner, name, held in (*kept, *(told[:3] for told in needs)):
            setattr(owner, name, held)
        for module in clocks:
            setattr(module, "datetime", now)  # noqa: B010 - and put back


@lru_cache(maxsize=1)
def _our_modules(_: int) -> list[Any]:
    """Those of so many modules in all: a story comes after many others, and hardly ever is one new."""
    return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in OURS]


def _forbidden(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise Outside(f"{name} was called within the world: no seed decides what it brings")

    return refuse


def _told_enough(name: str, held: Callable[..., Any], least: int) -> Callable[..., Any]:
    def refuse_what_is_left_out(*given: Any, **named: Any) -> Any:
        told = [each for each in (*given, *named.values()) if each is not None]
        return held(*given, **named) if len(told) >= least else _forbidden(name)()

    return refuse_what_is_left_out


class _FencedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> NoReturn:  # noqa: ARG003 - as the one it stands for
        raise Outside("datetime.now was called within the world")

    @classmethod
    def utcnow(cls) -> NoReturn:
        raise Outside("datetime.utcnow was called within the world")

    @classmethod
    def today(cls) -> NoReturn:
        raise Outside("datetime.today was called within the world")
