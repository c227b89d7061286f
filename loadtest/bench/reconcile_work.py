"""The reconciling process of the bench: imports files, runs their days, and tells what it took. Started by the bench alone.

    python -m loadtest.bench.reconcile_work TASKS

TASKS: a JSON file, a list of {file, manifest, day, line_due_ms}. The database's URL comes in the environment; the answer is one
JSON object on the standard output.

Invariant: what is measured is what a reconciler does, in a process that does nothing else.
"""

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from zerosum.psp.dialect import DIALECTS
from zerosum.reconciling import Incoming, RunKey, RunKind
from zerosum.store.opening import open_reconciliation
from zerosum.store.reconciliation.store import ReconciliationPolicy

URL_VARIABLE = "ZEROSUM_RECONCILER_DATABASE_URL"
PSP = "stripe"


async def work(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Does the tasks in order; seconds by part, the runs' summaries, the peak of resident memory in MB."""
    done = []
    for task in tasks:
        policy = ReconciliationPolicy(line_due_ms=task["line_due_ms"])
        reconciliation = open_reconciliation(os.environ[URL_VARIABLE], DIALECTS, policy)
        began_s = time.monotonic()
        manifest = Path(task["manifest"]).read_text()  # noqa: ASYNC240 - nothing else runs in this process
        with Path(task["file"]).open("rb") as content:  # noqa: ASYNC230 - likewise
            told = Incoming(PSP, Path(task["file"]).name, manifest, "bench")
            imported = await reconciliation.files.take(content, told)
        imported_s = time.monotonic()
        run = await reconciliation.runs.run(RunKey(RunKind.NIGHTLY, PSP, imported.file.day), "bench")
        assert run is not None  # nobody else works here
        done.append({
            "state": imported.file.state, "reason": imported.file.reason, "lines": imported.file.lines,
            "day": imported.file.day, "run_id": run.run_id, "import_s": imported_s - began_s,
            "run_s": time.monotonic() - imported_s, "by_state": dict(run.summary.by_state),
            "by_kind": dict(run.summary.by_kind), "explained_ppm": run.summary.explained_ppm,
            "memory_mb": peak_mb(),
        })  # fmt: skip
        await reconciliation.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"tasks": done, "memory_mb": peak_mb(), "cpu_s": used.ru_utime + used.ru_stime}


def peak_mb() -> float:
    """The most this program has had in memory. Not `ru_maxrss`: that is handed down by whoever started the process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1_024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(work(json.loads(Path(sys.argv[1]).read_text())))))
