"""The whole system as a user runs it, `zerosum up` in a process of its own, for tests that kill parts of it.

Leases and the PSP's timeout are shorter than in production, so that recovery takes seconds; everything else is as shipped.

Invariant: `end` leaves no process behind, whatever state the system is in.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import psycopg

from servers.child import free_ports
from servers.keys import make_keys, read_key
from tests.e2e.deadline import until
from tests.e2e.process import family, is_alive, survivors
from tests.tie import tied
from zerosum.crash import Point, Process, place_order
from zerosum.settings import Settings, environment_with
from zerosum.store.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]

FASTER: Mapping[str, object] = {
    "effect_lease_ms": 4_000,
    "psp_timeout_ms": 2_500,
    "backoff_cap_ms": 1_000,
    "in_flight_alert_ms": 2_000,
    "reconcile_tick_ms": 1_000,
    "reconcile_lease_ms": 6_000,
}
"""A to-do that a dead shard left is taken up when its lease ends: 4 s instead of 15 s. The watched folder is looked at every
second, and an order is in flight for too long after two."""

START_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0

Document = dict[str, Any]


class RunningSystem:
    """One system on one folder; `start`, and after its end `start` again on the same data.

    `ray_address`: of a cluster to join, "" = it starts its own head.
    """

    def __init__(self, *, ray_address: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zerosum-e2e-"))
        self.folder.chmod(0o711)  # the database may run as another account, which must pass through
        base = free_ports(5, 100)
        ports = {"edge_port": base, "payment_port": base + 1, "wallet_port": base + 2, "ledger_port": base + 3}
        ports["reconciliation_port"] = base + 4
        self.blocked_buyers = self.folder / "blocked_buyers"
        self.blocked_buyers.touch()
        files = {"data_dir": "data", "crash_dir": "crash", "risk_blocked_buyers_file": self.blocked_buyers.name}
        self._given = {
            **{name: self.folder / file for name, file in files.items()}, **ports, **FASTER, "ray_address": ray_address
        }  # fmt: skip
        self.settings = Settings.model_validate(self._given)
        self.data = self.settings.data_dir
        make_keys(self.data)
        self._process: subprocess.Popen[bytes] | None = None

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts it and waits until it says that it is up."""
        self.begin()
        until("the system is up", self._is_up, within_s=START_WITHIN_S)

    def begin(self) -> None:
        """Starts it, and does not wait."""
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                tied("-m", "servers.cli", "up"), cwd=ROOT, env=self.environment(), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def move_to(self, bind_host: str) -> None:
        """The next start is at another address of this machine, and so is what is asked of it."""
        self.settings = Settings.model_validate({**self._given, "bind_host": bind_host})

    def environment(self) -> dict[str, str]:
        """What a command of this system runs in: its folder, its ports, its shorter times."""
        return environment_with(self.settings, os.environ)

    def begun_pid(self) -> int:
        """The supervisor's process."""
        assert self._process is not None
        return self._process.pid

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.last_words()
        return (self.data / "run.json").exists() and self.run_file()["pids"].get("supervisor") == self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Signals the supervisor."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """The supervisor's exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(STOP_WITHIN_S)

    def end(self) -> None:
        """Ends it, politely at first, and removes its folder."""
        if self._process is not None and self._process.poll() is None:
            members = family(self._process.pid)
            self.signal(signal.SIGINT)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.wait()
            until("nothing is left", lambda: not survivors(members))
        shutil.rmtree(self.folder)

    def last_words(self) -> str:
        """The end of what the supervisor said."""
        log = self.folder / "up.log"
        return log.read_text(errors="replace")[-2_000:] if log.exists() else ""

    # ---- its processes ---------------------------------------------------------------------------------------------

    def run_file(self) -> Document:
        """Where everything is."""
        document: Document = json.loads((self.data / "run.json").read_text())
        return document

    def pid(self, name: str) -> int:
        """The present process of a child: payment, wallet, ledger, edge, psp, ray, database, supervisor."""
        return int(self.run_file()["pids"][name])

    def shard_pids(self, service: str) -> dict[int, int]:
        """The process of each shard, as its server's metrics tell it."""
        with urllib.request.urlopen(self.run_file()["metrics"][service], timeout=5) as response:  # noqa: S310 - loopback
            lines = response.read().decode().splitlines()
        found = [line for line in lines if line.startswith('zerosum_shard{figure="pid"')]
        return {int(line.split('shard="')[1].split('"')[0]): int(float(line.split()[-1])) for line in found}

    def live_shard_pids(self, service: str) -> dict[int, int]:
        """The same, once every shard runs."""

        def look() -> dict[int, int]:
            pids = self.shard_pids(service)
            shards = {"payment": self.settings.checkout_shards}.get(service, 1)
            return pids if len(pids) == shards and all(map(is_alive, pids.values())) else {}

        return until(f"every shard of {service} runs", look)

    def kill(self, name: str) -> None:
        """SIGKILL to a child of the supervisor; returns when another process stands in its place."""
        before = self.pid(name)
        os.kill(before, signal.SIGKILL)
        self.until_replaced(name, before)

    def until_replaced(self, name: str, before: int) -> None:
        """Waits until the child runs as another process."""
        until(f"{name} runs again", lambda: self.run_file()["pids"][name] not in (None, before))

    def order_crash(self, process: Process, point: Point, *, detail: str = "", nth: int = 1) -> Path:
        """See `zerosum.crash.place_order`."""
        assert self.settings.crash_dir is not None
        return place_order(self.settings.crash_dir, process, point, detail=detail, nth=nth)

    # ---- what it is about ------------------------------------------------------------------------------------------

    def psp(self, method: str, route: str, document: Document | None = None) -> bytes:
        """Calls an admin route of the simulator."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.run_file()['psp']}/_admin/{route}",
            data=None if document is None else json.dumps(document).encode(), method=method,
            headers={"Authorization": f"Bearer {read_key(self.data, 'psp_admin_token')}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - loopback
            return bytes(response.read())

    def release(self) -> None:
        """Lets go all answers that the simulator withholds, as soon as there is one."""
        until("the simulator answers", lambda: self._asked("POST", "release", {}))

    def _asked(self, method: str, route: str, document: Document | None = None) -> bytes:
        try:
            return self.psp(method, route, document)
        except (URLError, ConnectionError):
            return b""

    def psp_stats(self) -> Document:
        """The simulator's counters."""
        document: Document = json.loads(self.psp("GET", "stats"))
        return document

    def truth(self, type_: str) -> list[Document]:
        """What the PSP knows, of one type: intent, charge, balance_transaction, webhook."""
        told = until("the simulator answers", lambda: self._asked("GET", "truth"))
        lines = [json.loads(line) for line in told.splitlines()]
        return [line for line in lines if line["type"] == type_]

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows, as the auditor reads them."""
        url = EmbeddedPostgres(self.data / "postgres").urls()["auditor"].replace("+psycopg", "")
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED  # one statement is a snapshot by itself
            return connection.execute(statement.encode(), values).fetchall()
