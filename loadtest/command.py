"""`zerosum load` and `zerosum audit`: against a system that runs already, with the files of its data folder.

Invariant: every load's journal stays in the data folder, because the audit needs all of them.
"""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtest.profiles import PROFILES
from loadtest.run import EXIT_BROKEN, LoadOptions, run_load
from servers.heads import heads_path
from servers.keys import DEMO_TENANT, read_key, token_path, token_provider
from servers.run_file import read_run_file, run_file_of
from servers.wiring import database_url
from zerosum.errors import Misconfigured, Unavailable
from zerosum.settings import Settings

CONNECT_TIMEOUT_S = 5.0


def load(settings: Settings, *, profile: str, seconds: int, tps: float | None, seed: int) -> int:
    """Runs a profile headless; its files go to `runs/` in the data folder. 0 when every journey got its answer.

    Raises Misconfigured for a profile or token that is not there, Unavailable where nobody listens.
    """
    if profile not in PROFILES:
        raise Misconfigured(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    token_provider(settings.data_dir, "service")()  # or it is known only when every call has been refused
    _find(settings.payment_address)
    folder = settings.data_dir / "runs" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    options = LoadOptions(
        target=settings.payment_address, profile=profile, token_file=token_path(settings.data_dir, "service"),
        tenant=DEMO_TENANT, journal=folder / "journal.jsonl", samples=folder / "samples.jsonl",
        status=folder / "status.json", seconds=seconds, tps=tps or 0.0, seed=seed,
        run_id=f"{int(time.time()):x}", log=folder / "locust.log",
    )  # fmt: skip
    end = run_load(options)
    if end.exit_status == EXIT_BROKEN:
        raise Unavailable(f"the load broke off; {options.log} says why")
    told = end.status
    sys.stdout.write(
        f"{told.sent} sent, {told.ok} final, {told.pending} pending, {told.failed} refused, {told.unknown} unknown; "
        f"{told.retries} retries; copies told different things: {told.disagreements}\n{folder}\n"
    )
    return end.exit_status


def _find(address: str) -> None:
    """Raises Unavailable where nobody listens: a load at nobody would last for minutes and say "unknown"."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"nobody listens at {address}: start it with `zerosum up`, or set ZEROSUM_PAYMENT_ADDRESS"
        ) from error


@dataclass(frozen=True, slots=True)
class Sources:
    """What an audit is told to look at, beside the files of the data folder. Empty: what `run.json` says is there.

    `database_url`: as the auditor's role. `psp_url`: of the simulator, whose book is joined. `journals`: of buyers.
    """

    database_url: str = ""
    psp_url: str = ""
    journals: tuple[Path, ...] = ()


def audit(settings: Settings, sources: Sources = Sources(), *, as_json: bool) -> int:
    """Asks the independent auditor about this deployment; what is under way for less than a minute is not stuck yet.

    0: clean, 1: something is violated, 2: not judged. Raises Misconfigured where neither a system runs nor a database is named.
    """
    data, report = settings.data_dir, settings.data_dir / "audit.json"
    psp_url = sources.psp_url or _psp_that_runs(settings, sources)
    data.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)  # or an old one would be told for what could not be judged
    journals = sorted(map(str, sources.journals or (data / "runs").glob("*/journal.jsonl")))
    heads, logs = heads_path(settings), data / "logs"
    command = [
        sys.executable, "-m", "simulator.audit",
        "--in-flight-limit-ms", str(settings.in_flight_alert_ms), "--digests", str(data / "audit-digests.json"),
        *(["--psp-url", psp_url] if psp_url else []), *(["--logs", str(logs)] if logs.exists() else []),
        *(["--heads", str(heads)] if heads.exists() else []),
        *(["--journal", *journals] if journals else []), *(["--json", str(report)] if as_json else []),
    ]  # fmt: skip
    secrets = {"ZEROSUM_AUDITOR_DATABASE_URL": sources.database_url or database_url(settings, "auditor")}
    if psp_url:
        secrets["PSP_ADMIN_TOKEN"] = os.environ.get("PSP_ADMIN_TOKEN") or read_key(data, "psp_admin_token")
    out = subprocess.PIPE if as_json else None
    ended = subprocess.run(command, env={**os.environ, **secrets}, stdout=out, text=True, check=False)
    if as_json:
        said = report.read_text(encoding="utf-8") if report.exists() else ""
        sys.stdout.write(said)
        sys.stderr.write("" if said else ended.stdout)
    return ended.returncode


def _psp_that_runs(settings: Settings, sources: Sources) -> str:
    """The PSP simulator of the system that runs here; "" where there is none, as a database is named instead of a system."""
    if sources.database_url:
        return ""
    try:
        return str(read_run_file(settings.data_dir)["psp"])
    except Misconfigured as nothing:
        if run_file_of(settings.data_dir).exists():
            raise
        if settings.auditor_database_url:
            return ""
        told = f"{nothing}, or name a database as the auditor's role: ZEROSUM_AUDITOR_DATABASE_URL or --database-url"
        raise Misconfigured(told) from nothing
