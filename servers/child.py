"""One process under supervision: started, watched, started again with back-off, and ended with its supervisor.

Invariant: when the supervisor dies, however it dies, its children die: the kernel is asked to kill each of them.
"""

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

_log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
HEALTHY_AFTER_S = 10.0
"""Restarts wait 0.1 s doubling to 5 s; a child that lived for 10 s starts over at 0.1 s."""


class Child:
    """A command kept running. `end_signal`: how it is asked to stop; after `grace_s` it is killed."""

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
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_ending = False

    @property
    def pid(self) -> int | None:
        """The process id of the present run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts it and keeps it running until `stop`."""
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Asks it to end, waits, and kills what does not."""
        self._is_ending = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(self._end_signal)
        try:
            await asyncio.wait_for(process.wait(), self._grace_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()
        self._kill_group()

    def kill(self) -> int | None:
        """SIGKILL, for those who test what happens then. The process id that was hit."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid

    async def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    async def _keep(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        loop = asyncio.get_running_loop()
        while not self._is_ending and self._process is not None:
            began_s = loop.time()
            code = await self._process.wait()
            self._kill_group()
            if self._on_exit is not None:
                self._on_exit(self.name, code)
            _log.warning("child ended", child=self.name, code=code)
            backoff_s = (
                BACKOFF_FIRST_S if loop.time() - began_s > HEALTHY_AFTER_S else min(backoff_s * 2, BACKOFF_MAX_S)
            )
            await asyncio.sleep(backoff_s)
            self.restarts += 1
            await self._launch()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        try:
            if self._is_group:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)
        except ProcessLookupError:
            return

    def _kill_group(self) -> None:
        """Ends what the child left behind in its process group."""
        if self._is_group:
            self._signal(signal.SIGKILL)


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


def _die_with_parent() -> None:
    """Runs in the child before exec: SIGKILL when the thread that started it ends (the supervisor's main thread)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
