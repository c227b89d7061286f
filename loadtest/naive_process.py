"""The textbook's servers as child processes: started, told where the database and the PSP are, stopped.

Invariant: it does not outlive the block it was started for; secrets go by its environment.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.naive.database import CONNECTIONS
from zerosum.errors import Unavailable

_STOP_S: Final = 15.0
"""What has begun may finish within 10 s."""


@dataclass(frozen=True, slots=True)
class NaiveProcess:
    """Where it listens, and as which process it runs."""

    address: str
    pid: int


@contextmanager
def naive_process(
    *, admin_url: str, psp_url: str, api_key: str, database: str = "naive", connections: int = CONNECTIONS
) -> Iterator[NaiveProcess]:
    """Runs it for the block. Raises Unavailable where it does not come up."""
    command = [
        sys.executable, "-m", "loadtest.naive", "--psp-url", psp_url, "--database", database,
        "--connections", str(connections),
    ]  # fmt: skip
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "NAIVE_ADMIN_URL": admin_url, "PSP_API_KEY": api_key, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None  # asked for
            line = process.stdout.readline()
            if "listening on" not in line:
                raise Unavailable(f"the textbook's server did not start: {line!r}")
            yield NaiveProcess(line.rpartition(" ")[2].strip(), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def naive_processes(
    count: int, *, admin_url: str, psp_url: str, api_key: str, database: str = "naive"
) -> Iterator[tuple[NaiveProcess, ...]]:
    """So many of them on one database; the first has made it before the next is started. Raises Unavailable."""
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(naive_process(admin_url=admin_url, psp_url=psp_url, api_key=api_key, database=database))
            for _ in range(count)
        )
