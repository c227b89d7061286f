"""Processes that end with whoever started them, however that ends. Linux only.

A fixture ends what it has started; but a worker of pytest-xdist that is interrupted has 15 s for its fixtures, and one that is
killed has none.

Usage: `python -m tests.tie -m servers.cli up` is `python -m servers.cli up`, under the same process id, tied.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(by: signal.Signals) -> None:
    """Called in the child: it is sent this signal when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(by))


def tied(*arguments: str) -> list[str]:
    """The command of a Python interpreter that is asked to stop (SIGINT) when this process ends."""
    return [sys.executable, "-m", "tests.tie", *arguments]


if __name__ == "__main__":
    end_with_parent(signal.SIGINT)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - a list, never a shell
