"""One process under supervision: started, watched, started again with back-off, and ended with its supervisor.

A child that is a group (Ray's head) makes processes of its own, in process groups of their own, some of which outlive their
parent. All of them stay in the session that the child leads, so the session is what is ended, with the child, with the
supervisor, and before the child is started anew.

Invariant: when the supervisor dies, however it dies, its children die: the kernel is asked to kill each of them, and a guard
ends the session of each group.
"""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from actors.loop import start_loop
from servers.log import logger_of
from zerosum.errors import Misconfigured

_log = logger_of("supervisor")

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_GUARD = """\
import os, signal, sys
from pathlib import Path
leader = int(sys.argv[1])
os.read(0, 1)
for _ in range(50):
    left = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(session) == leader and state not in "ZX":
                left += 1
                os.kill(int(folder.name), signal.SIGKILL)
        except (OSError, ValueError):
            pass
    if not left:
        break
"""
"""Waits at a pipe until its other end is closed, by the supervisor or by its death; then ends the session of `leader`, as often
as it takes to find nobody there. Reads /proc, as there is no call that signals a session."""

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
HEALTHY_AFTER_S = 10.0
"""Restarts wait 0.1 s doubling to 5 s; a child that lived for 10 s starts over at 0.1 s."""

_GUARD_LOOK_S = 0.02
"""A guard takes 0.05 s to start and as long again to end a session."""

CANNOT_START = (OSError, subprocess.SubprocessError, RuntimeError)
"""A machine that is full: no fork, memory or file, within the fork too, or no thread that waits for the child's end."""


class Child:
    """A command kept running. `end_signal`: how it is asked to stop; after `grace_s` it is killed. `on_lost`: nobody
    watches it any more, which is a bug, and why."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        end_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 12.0,
        is_group: bool = False,
        on_exit: Callable[[str, int], None] | None = None,
        on_start: Callable[[], None] = lambda: None,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._argv = list(argv)
        self._env = dict(env)
        self._log = log
        self._end_signal = end_signal
        self._grace_s = grace_s
        self._is_group = is_group
        self._on_exit = on_exit
        self._on_start = on_start
        self._on_lost = on_lost
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_ending = False

    @property
    def pid(self) -> int | None:
        """The process id of the present run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts it and keeps it running until `stop`. Raises OSError: it cannot be started, and nothing is tried again."""
        await self._launch()
        self._keeper = start_loop(self._keep(), f"the supervision of {self.name}", self._on_lost)

    async def stop(self) -> None:
        """Asks it to end, waits, and kills what does not."""
        self._is_ending = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            self._signal(self._end_signal)
            try:
                await asyncio.wait_for(process.wait(), self._grace_s)
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await process.wait()
        await self._end_group()

    def kill(self) -> int | None:
        """SIGKILL; it is started anew. The process id that was hit, None: it did not run. Never raises: one that has ended may
        not be known yet to have ended."""
        pid = self.pid
        self._signal(signal.SIGKILL)
        return pid

    async def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        if self._is_group:
            guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(self._process.pid)]
            try:
                self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)  # noqa: ASYNC220 - a fork
            except OSError:  # what nobody guards does not run
                self._signal(signal.SIGKILL)
                await self._process.wait()
                raise
        self._on_start()

    async def _keep(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        loop = asyncio.get_running_loop()
        while not self._is_ending and self._process is not None:
            began_s = loop.time()
            code = await self._process.wait()
            await self._end_group()
            if self._on_exit is not None:
                self._on_exit(self.name, code)
            _log.warning("child ended", child=self.name, code=code)
            backoff_s = (
                BACKOFF_FIRST_S if loop.time() - began_s > HEALTHY_AFTER_S else min(backoff_s * 2, BACKOFF_MAX_S)
            )
            await asyncio.sleep(backoff_s)
            while not await self._relaunch():
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                await asyncio.sleep(backoff_s)

    async def _relaunch(self) -> bool:
        """One try; what cannot be started now is tried again for ever."""
        try:
            await self._launch()
        except CANNOT_START as full:
            _log.error("a child cannot be started", child=self.name, reason=str(full))
            return False
        self.restarts += 1
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        try:
            if self._is_group:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)
        except ProcessLookupError:
            return

    async def _end_group(self) -> None:
        """Ends what the child left behind in its session, and waits until nothing of it is left."""
        guard, self._guard = self._guard, None
        if guard is None or guard.stdin is None:
            return
        guard.stdin.close()
        while guard.poll() is None:  # noqa: ASYNC110 - a thread that waits for it may not be to be had on a full machine
            await asyncio.sleep(_GUARD_LOOK_S)


async def run_once(argv: Sequence[str], *, env: Mapping[str, str], log: Path, timeout_s: float) -> int | None:
    """A command run to its end, which is its supervisor's end at the latest: its exit status. None: it was killed, as the time
    was over."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *argv, env=dict(env), stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
    try:
        return await asyncio.wait_for(process.wait(), timeout_s)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_listening(host: str, port: int, *, is_alive: Callable[[], bool], timeout_s: float) -> bool:
    """Waits until somebody accepts connections there. False: it died, or the time is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + timeout_s
    while loop.time() < end_s and is_alive():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int, offset: int, host: str = "127.0.0.1") -> int:
    """The first of so many free ports in a row, each with the one `offset` above it, where its metrics are. Processes begin to
    look at different places. Raises Misconfigured where there are none."""
    for base in range(_PORT_FIRST + os.getpid() % 500 * 10, _PORT_END, 10):
        if all(_is_free(host, base + place + beside) for place in range(count) for beside in (0, offset)):
            return base
    raise Misconfigured("there are no free ports for a system")


_PORT_FIRST = 23_000
_PORT_END = 32_000
"""Above Ray's workers and the embedded databases (`zerosum.store.embedded`: a look at the port of one that is just starting
would end it), below the kernel's own."""


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    """Runs in the child before exec: SIGKILL when the thread that started it ends (the supervisor's main thread)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
