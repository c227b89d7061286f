"""The textbook's servers as child processes: started, told where the database and the PSP are, stopped.

Invariant: it does not outlive the block it was started for; secrets go by its environment.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from loadtest.listening import Listening, listening
from loadtest.naive.database import CONNECTIONS


def naive_process(
    *, admin_url: str, psp_url: str, api_key: str, database: str = "naive", connections: int = CONNECTIONS
) -> AbstractContextManager[Listening]:
    """Runs it for the block. Raises Unavailable where it does not come up."""
    command = [
        sys.executable, "-m", "loadtest.naive", "--psp-url", psp_url, "--database", database,
        "--connections", str(connections),
    ]  # fmt: skip
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "NAIVE_ADMIN_URL": admin_url, "PSP_API_KEY": api_key, "PYTHONPATH": path}
    return listening("the textbook's server", command, environment)


@contextmanager
def naive_processes(
    count: int, *, admin_url: str, psp_url: str, api_key: str, database: str = "naive"
) -> Iterator[tuple[Listening, ...]]:
    """So many of them on one database; the first has made it before the next is started. Raises Unavailable."""
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(naive_process(admin_url=admin_url, psp_url=psp_url, api_key=api_key, database=database))
            for _ in range(count)
        )
