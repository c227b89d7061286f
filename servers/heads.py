"""The heads of the slots' logs, kept outside the database: exported while the system runs, verified when somebody asks.

The work is done by the auditor's program, `simulator.audit.chain`, in a process of its own with the auditor's role, which
may only read. Source: failures.md I18, row O3.

Invariant: the file is appended to and synced, never changed; an export that finds the record changed says so and adds nothing.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from servers.child import CANNOT_START
from servers.log import logger_of
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

EXPORT_EVERY_S = 3_600.0
"""192 slots x 150 bytes x 24 are 700 kB a day at most. What was written since the last export only the chain vouches for."""

EXPORT_LIMIT_S = 60.0
"""An export reads one row a slot: seconds, and a minute where the database is busy."""

_log = logger_of("supervisor")


def verify_record(settings: Settings, heads: Path | None, *, as_json: bool) -> int:
    """Walks every log and prints what does not hold. 0 all holds, 1 findings, 2 not judged. Raises Misconfigured."""
    path = heads or heads_path(settings)
    if heads is not None and not heads.exists():
        raise Misconfigured(f"there is no file of heads {heads}")
    named = ["--heads", str(path)] if path.exists() else []
    if not named and not as_json:
        sys.stdout.write("no heads were exported: a log that was cut or rewritten whole would not be seen\n")
        sys.stdout.flush()
    return _run(settings, "verify", [*named, *(["--json"] if as_json else [])])


def export_record(settings: Settings, heads: Path | None, *, as_json: bool) -> int:
    """Appends the heads that have moved. 0 done, 1 the record was changed and nothing is added, 2 not judged."""
    path = heads or heads_path(settings)
    return _run(settings, "export", ["--heads", str(path), *(["--json"] if as_json else [])])


def heads_path(settings: Settings) -> Path:
    """Where the heads of a deployment are kept."""
    return settings.data_dir / "heads.jsonl"


async def keep_exporting(settings: Settings) -> None:
    """Exports the heads every hour until it is cancelled; what is wrong goes to the log, and the next hour tries again."""
    while True:
        await asyncio.sleep(EXPORT_EVERY_S)
        await export_once(settings)


async def export_once(settings: Settings) -> None:
    """Exports the heads once, in a process of its own. Never raises: the system runs on without it."""
    try:
        ended = await asyncio.create_subprocess_exec(
            *_command("export", ["--heads", str(heads_path(settings))]), env=_environment(settings),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except (Misconfigured, *CANNOT_START) as trouble:
        _log.error("heads cannot be exported", reason=str(trouble))
        return
    try:
        said, _ = await asyncio.wait_for(ended.communicate(), EXPORT_LIMIT_S)
    except TimeoutError:
        _log.error("heads cannot be exported", reason="not done in time")
        return
    finally:
        if ended.returncode is None:
            ended.kill()
            await ended.wait()
    if ended.returncode == 1:
        _log.error("THE RECORD WAS CHANGED", findings=said.decode(errors="replace").splitlines())
    elif ended.returncode:
        _log.error("heads cannot be exported", reason=said.decode(errors="replace").strip())


def _run(settings: Settings, act: str, more: list[str]) -> int:
    return subprocess.run(_command(act, more), env=_environment(settings), check=False).returncode


def _command(act: str, more: list[str]) -> list[str]:
    return [sys.executable, "-m", "simulator.audit.chain", act, *more]


def _environment(settings: Settings) -> dict[str, str]:
    """The auditor's URL holds a password: it goes into the environment, never into a command line."""
    from servers.wiring import database_url  # half a second that the supervisor need not wait for

    return {**os.environ, "ZEROSUM_AUDITOR_DATABASE_URL": database_url(settings, "auditor")}
