"""Starts a load in a process of its own, and tells how it goes.

Locust makes its whole process cooperative (gevent), which an asyncio caller must not become; hence the process.
Invariant: the load never outlives its caller, and a load that was cut short leaves a journal that can be read.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Final

from loadtest.sample import Status, read_status

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
STOP_SECONDS: Final = 10.0
"""From SIGTERM to SIGKILL: Locust needs about 1 s to end."""

EXIT_CLEAN: Final = 0
EXIT_UNANSWERED: Final = 1
"""Some journey got no answer, or copies of a click were told different things."""
EXIT_BROKEN: Final = 2
"""The load could not be made, or broke off: its log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """One load. `tps` 0 = the profile's own rate; `run_id` "" = drawn. Files are appended to; the status is replaced.

    `tenant`: whom the token names (for the journal). `drain_seconds`: wait for answers after the last arrival; a buyer
    gives up by itself after `budget_seconds`.
    """

    target: str
    profile: str
    token_file: Path
    tenant: str
    journal: Path
    samples: Path
    status: Path
    seconds: float = 60.0
    tps: float = 0.0
    seed: int = 1
    run_id: str = ""
    pacing: str = "poisson"
    decline_share: float = 0.0
    challenge_share: float = 0.0
    budget_seconds: float = 120.0
    drain_seconds: float = 130.0
    log: Path | None = None
    """Where Locust's own output goes; None = to the caller's."""


def command(options: LoadOptions) -> list[str]:
    """The command line of the load: what a person would type."""
    line = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--users", "1", "--spawn-rate", "1"]
    line += ["--only-summary", "--loglevel", "WARNING", "--host", options.target]
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name not in ("target", "log") and value != "":
            line += [f"--load-{each.name.replace('_', '-')}", str(value)]
    return line


class LoadProcess:
    """A load under way. Leaving the `with` block ends it."""

    def __init__(self, options: LoadOptions) -> None:
        """Starts it; the first counters appear after a second or two."""
        self._options = options
        options.status.parent.mkdir(parents=True, exist_ok=True)
        options.samples.parent.mkdir(parents=True, exist_ok=True)
        options.status.unlink(missing_ok=True)
        root = str(LOCUSTFILE.parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        log = options.log.open("ab") if options.log else None
        try:
            # A session of its own: a Ctrl-C at the terminal is the caller's to act on, who then stops us.
            self._process = subprocess.Popen(
                [*command(options), "--load-parent", str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            if log is not None:
                log.close()

    def __enter__(self) -> "LoadProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def status(self) -> Status:
        """The latest counters; all zero before the first."""
        return read_status(self._options.status) or Status()

    def poll(self) -> int | None:
        """None while it runs; then its exit status (EXIT_CLEAN, EXIT_UNANSWERED, EXIT_BROKEN, or what killed it)."""
        return self._process.poll()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Waits for its end and returns its exit status. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_seconds)

    def stop(self) -> None:
        """Ends it now; calls without an answer stay unknown in the journal. Does nothing to one that has ended."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class LoadEnd:
    """How a load ended: its exit status and last counters."""

    exit_status: int
    status: Status


def run_load(options: LoadOptions) -> LoadEnd:
    """Runs a load to its end, or ends it when the caller is interrupted."""
    with LoadProcess(options) as load:
        exit_status = load.wait()
        return LoadEnd(exit_status, load.status())
