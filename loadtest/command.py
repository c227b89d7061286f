"""`zerosum load` and `zerosum audit`: against a system that runs already, on the files of its data folder.

Invariant: every load's journal stays in the data folder, because the audit needs all of them.
"""

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

from loadtest.profiles import PROFILES
from loadtest.run import EXIT_BROKEN, LoadOptions, run_load
from servers.heads import heads_path
from servers.keys import DEMO_TENANT, read_key, token_path, token_provider
from servers.run_file import read_run_file
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


def audit(settings: Settings, *, as_json: bool) -> int:
    """Asks the independent auditor about this deployment; what is under way for less than a minute is not stuck yet."""
    run, data = read_run_file(settings.data_dir), settings.data_dir
    journals, heads = sorted(str(path) for path in (data / "runs").glob("*/journal.jsonl")), heads_path(settings)
    command = [
        sys.executable, "-m", "simulator.audit", "--psp-url", run["psp"], "--logs", str(data / "logs"),
        "--in-flight-limit-ms", str(settings.in_flight_alert_ms), "--digests", str(data / "audit-digests.json"),
        *(["--heads", str(heads)] if heads.exists() else []),
        *(["--journal", *journals] if journals else []), *(["--json", str(data / "audit.json")] if as_json else []),
    ]  # fmt: skip
    secrets = {
        "ZEROSUM_AUDITOR_DATABASE_URL": database_url(settings, "auditor"),
        "PSP_ADMIN_TOKEN": read_key(data, "psp_admin_token"),
    }
    out = subprocess.DEVNULL if as_json else None
    ended = subprocess.run(command, env={**os.environ, **secrets}, stdout=out, check=False)
    if as_json:
        sys.stdout.write((data / "audit.json").read_text())
    return ended.returncode
