"""One run of `zerosum chaos` for all tests of this folder: ten crash points, split brain, a lost Ray and Ray's own faults on
one system, a full disk on another.

Invariant: when the fixture has returned, nothing of the run is left running, however it ended.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import naming
from tests.e2e.system import ROOT, RunningSystem
from tests.tie import tied

LIMIT_S = 560.0
"""Three times what it takes on an idle machine."""

OPTIONS = ("--points", "few", "--stop-seconds", "2", "--minutes", "0", "--seed", "7", "--rpc-failures")


@dataclass(frozen=True, slots=True)
class Ran:
    """How it ended: exit status, what it printed, what it kept. `left`: processes of it that still ran afterwards."""

    status: int
    printed: str
    story: dict[str, Any]
    page: str
    left: dict[int, str]

    def cell(self, name: str) -> dict[str, Any]:
        """What it says of one cell of the matrix."""
        found: dict[str, Any] = next(each for each in self.story["results"] if each["cell"] == name)
        return found

    def split(self, rows: str) -> dict[str, Any]:
        """What it says of one scenario."""
        found: dict[str, Any] = next(each for each in self.story["splits"] if each["rows"] == rows)
        return found

    def scenario(self, rows: str) -> dict[str, Any]:
        """What it says of one of the others. Skips where this machine cannot carry it out, with its reason."""
        found: dict[str, Any] = next(each for each in self.story["scenarios"] if each["rows"] == rows)
        if found["impossible"]:
            pytest.skip(found["impossible"])
        return found


@pytest.fixture(scope="session")
def ran() -> Iterator[Ran]:
    """The run, once."""
    system = RunningSystem()
    try:
        ended = subprocess.run(
            tied("-m", "servers.cli", "chaos", *OPTIONS),
            cwd=ROOT, env={**system.environment(), "COLUMNS": "100"}, capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
        left = naming(str(system.folder))
        runs = system.data / "runs"
        story = json.loads(_only(runs.glob("*/chaos.json"), ended.stdout + ended.stderr).read_text())
        page = _only(runs.glob("*/chaos.html"), ended.stdout).read_text()
        yield Ran(ended.returncode, ended.stdout, story, page, left)
    finally:
        system.end()


def _only(paths: Iterator[Path], printed: str) -> Path:
    found = list(paths)
    assert len(found) == 1, printed
    return found[0]
