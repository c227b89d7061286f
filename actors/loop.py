"""Loops that run beside a process's calls for as long as it lives.

Invariant: a loop that fails ends what it belongs to. Without it that would only seem to live; ended, it is started anew by its
supervisor, whole.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

_log = structlog.get_logger()


def start_loop(work: Coroutine[Any, Any, None], what: str, end: Callable[[str], object]) -> "asyncio.Task[None]":
    """Runs `work` as a task. Where it raises, a line tells `what` failed, and `end` is called with the reason. Not where it
    returns or is cancelled: whoever owns it meant that."""
    task = asyncio.get_running_loop().create_task(work)

    def ended(_: "asyncio.Task[None]") -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            _log.error(f"{what} failed", exc_info=failure)
            end(f"{what} failed: {failure!r}")

    task.add_done_callback(ended)
    return task
