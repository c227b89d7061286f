"""A child under supervision on a machine that is full, and one that ends in the instant it is killed. Real processes."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from servers import child as supervision
from servers.child import Child
from zerosum.store import embedded

WAITS = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
FULL = [BlockingIOError(errno.EAGAIN, "no fork"), subprocess.SubprocessError("no memory"), RuntimeError("no thread")]


class Starts:
    """Counts the starts of a child, and waits for one."""

    def __init__(self) -> None:
        self.count = 0
        self._came = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        self.count += 1
        self._telling.add(asyncio.get_running_loop().create_task(self._tell()))

    async def _tell(self) -> None:
        async with self._came:
            self._came.notify_all()

    async def until(self, count: int) -> None:
        """The child was started that often."""
        async with asyncio.timeout(60), self._came:
            await self._came.wait_for(lambda: self.count >= count)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is so without a wait."""
    monkeypatch.setattr(supervision, "BACKOFF_FIRST_S", 0.0)
    monkeypatch.setattr(supervision, "BACKOFF_MAX_S", 0.0)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Child]]:
    """Makes a child that waits for a signal; what runs is stopped afterwards."""
    made: list[Child] = []

    def one(starts: Starts, **options: Any) -> Child:
        log = tmp_path / "child.log"
        made.append(Child("one", WAITS, env=dict(os.environ), log=log, on_start=starts, **options))
        return made[-1]

    yield one
    for child in made:
        await child.stop()


def _fail_then_start(troubles: list[Exception], start: Callable[..., Any]) -> Callable[..., Any]:
    left = list(troubles)

    def started(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left.pop(0)
        return start(*arguments, **options)

    return started


async def test_a_child_that_cannot_be_started_again_is_tried_until_it_can(
    make: Callable[..., Child], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full machine is full for a while: no fork, no memory, no thread. Each try that fails is a line, and no restart."""
    starts = Starts()
    child = make(starts)
    await child.start()
    first = child.pid
    monkeypatch.setattr(asyncio, "create_subprocess_exec", _fail_then_start(FULL, asyncio.create_subprocess_exec))

    child.kill()
    await starts.until(2)

    assert child.pid not in {None, first}
    assert child.restarts == 1
    assert capsys.readouterr().out.count("a child cannot be started") == len(FULL)


async def test_a_log_that_cannot_be_opened_does_not_end_the_supervision(
    make: Callable[..., Child], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Out of files (EMFILE), or something else stands in its place: the same."""
    starts = Starts()
    child = make(starts)
    await child.start()
    log = tmp_path / "child.log"
    log.unlink()
    log.mkdir()

    child.kill()
    async with asyncio.timeout(60):
        while "a child cannot be started" not in capsys.readouterr().out:  # noqa: ASYNC110 - a line is no event
            await asyncio.sleep(0)
    log.rmdir()
    await starts.until(2)

    assert child.restarts == 1


async def test_a_group_without_a_guard_does_not_run(
    make: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session would outlive the supervisor: it is ended, and started anew with a guard."""
    starts = Starts()
    child = make(starts, is_group=True, end_signal=signal.SIGKILL)
    await child.start()
    pids: list[int] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **options: Any) -> Any:
        process = await start(*arguments, **options)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    no_fork = BlockingIOError(errno.EAGAIN, "no fork for the guard")

    class Guard(subprocess.Popen[bytes]):
        left = 1

        def __init__(self, command: list[str], **options: Any) -> None:
            if supervision._GUARD in command and Guard.left:
                Guard.left -= 1
                raise no_fork
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Guard)

    child.kill()
    await starts.until(2)

    unguarded, guarded = pids
    assert child.pid == guarded
    assert not _runs(unguarded)


async def test_killing_a_child_that_has_just_ended_is_no_failure(make: Callable[..., Child]) -> None:
    """It is reaped by a thread, and known to have ended only when the loop runs again: whoever kills it meanwhile (the end of
    Ray kills the servers) goes on."""
    starts = Starts()
    child = make(starts)
    await child.start()
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while _runs(pid):
        pass

    assert child.kill() == pid
    await starts.until(2)

    assert child.restarts == 1


def test_a_system_never_looks_at_a_port_that_may_be_a_databases() -> None:
    """A look is a bind: a database that binds the same port in that instant ends. Method: a thousand ports of databases."""
    of_databases = [embedded._free_port() for _ in range(1_000)]

    assert max(of_databases) < supervision.free_ports(1, offset=100)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
