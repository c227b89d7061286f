"""The bench on whole systems, at its smallest: `memory` as a user runs it, and `cost` on the system that other tests share.

What a figure is says nothing here; that there is one, and that nothing acknowledged was lost, does.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from loadtest.bench import cost
from loadtest.bench.idle import idle_bytes
from loadtest.bench.kept import kill_and_compare, read_acknowledged
from loadtest.bench.page import draw_and_tell
from loadtest.bench.stage import Stage
from servers.supervisor import System
from tests.e2e.process import naming
from tests.e2e.system import ROOT, RunningSystem
from tests.tie import tied
from zerosum.settings import Settings

pytestmark = pytest.mark.e2e

LIMIT_S = 240.0
MEMORY = ("--tps", "5", "--seconds", "1")
ALONE_PER_S = 5.0


@dataclass(frozen=True, slots=True)
class Attached:
    """A system that runs in another process, as far as a stage looks at one."""

    settings: Settings
    psp_url: str
    running: RunningSystem

    def database_pid(self) -> int:
        """Its present process."""
        return self.running.pid("database")


async def test_cost_counts_what_a_checkout_takes_of_every_part(
    system: RunningSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each count is read from a real place: database, shards, servers, processes; then the database is killed under load, and
    what was acknowledged is stored. Method: one rate instead of three, and no wait for checkpoints."""
    monkeypatch.setattr(cost, "RATES", (ALONE_PER_S,))
    monkeypatch.setattr(cost, "CLOCK_S", 5.0)
    attached = cast(System, Attached(system.settings, system.run_file()["psp"], system))
    console, told_to = Console(stderr=True), tmp_path / "cost.json"
    stage = Stage(attached, tmp_path, console)

    found = await cost.costs(attached, stage, seconds=1)
    kept = await kill_and_compare(attached, stage.journals)
    finding = cost.finding_of(found, idle_bytes(50), {"shards": 4}, command="zerosum bench cost", losses=kept.losses)
    status = draw_and_tell(finding, tmp_path, console, told_to)

    told = json.loads(told_to.read_text())
    each = {row["a checkout of one order"]: row[f"{ALONE_PER_S:g}/s"] for row in told["rows"]}
    assert (status, told["void_because"]) == (0, [])
    assert (kept.losses, kept.doubts) == ((), ())
    assert 0 < len(read_acknowledged(stage.journals)) < kept.acknowledged
    assert [name for name, value in each.items() if not value and not name.startswith("CPU ms")] == []
    assert {"commits", "round trips to the database", "statements", "calls through Ray", "RPCs"} <= each.keys()
    assert each["CPU ms: shards"] > 0
    assert each["CPU ms: database"] > 0
    assert told["headline"] in (tmp_path / "cost.html").read_text()


@pytest.mark.usefixtures("alone")
def test_a_bench_starts_a_system_loads_it_and_leaves_figures_and_nothing_else() -> None:
    """JSON and page hold the same figures; the card was taken before and after; no process is left, and no data."""
    place = RunningSystem()
    json_file, bench = place.folder / "memory.json", place.data / "bench"
    try:
        ended = subprocess.run(
            tied("-m", "servers.cli", "bench", "memory", *MEMORY, "--json", str(json_file)),
            cwd=ROOT, env=place.environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        printed = ended.stdout + ended.stderr
        assert ended.returncode == 0, printed
        told, (page,) = json.loads(json_file.read_text()), bench.glob("memory-*/memory.html")

        held = {row["process"]: row["after the load, MB"] for row in told["rows"]}
        assert {"the system", "shards", "database", "payment server", "simulator"} <= held.keys()
        assert held["the system"] > held["shards"] > 0
        assert told["cards"].keys() == {"before", "after"}
        assert told["headline"] in printed
        assert told["headline"] in page.read_text()
        assert naming(str(place.folder)) == {}
        assert list(bench.glob("*/system")) == []
    finally:
        place.end()
