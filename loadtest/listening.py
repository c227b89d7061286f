"""A server as a child process: started, heard of when it listens, stopped. It does not outlive its block.

Invariant: what is yielded is an address at which the process listens, in its own words: `... listening on ADDRESS ...`.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from zerosum.errors import Unavailable

_SAYS: Final = "listening on "
_STOP_S: Final = 15.0
"""What has begun may finish within 10 s."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where it listens, and as which process it runs."""

    address: str
    pid: int


@contextmanager
def listening(what: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Listening]:
    """Runs it for the block; it is killed where it does not stop. Raises Unavailable where it does not come up."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None  # asked for
            line = process.stdout.readline()
            if _SAYS not in line:
                raise Unavailable(f"{what} did not start: {line!r}")
            yield Listening(line.partition(_SAYS)[2].split()[0], process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
