"""A Ray cluster of somebody else on this machine: one head, on loopback, with ports, a folder and a token of its own.

Invariant: `end` ends exactly the processes of this head, by their ids, and no other Ray that may run here.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from servers.child import free_port
from tests.e2e.deadline import until
from tests.e2e.process import family, survivors
from tests.e2e.system import ROOT
from tests.tie import tied

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 80_000_000
"""Ray's smallest useful object store."""


class RayHead:
    """The head, from `start` to `end`. `token`: the file its token is in."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="zs-ray-"))  # short: its sockets' paths may have 107 bytes
        self.token = self._folder / "operators.token"
        self.token.touch(mode=0o600)
        self.token.write_text("f" * 64)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it is joined."""
        return f"{LOOPBACK}:{self._port}"

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        options = [
            "start", "--head", "--block", f"--port={self._port}", f"--node-ip-address={LOOPBACK}", "--num-cpus=1",
            f"--ray-client-server-port={free_port()}", "--no-monitor", "--include-log-monitor=false",
            "--include-dashboard=false", "--disable-usage-stats", f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--temp-dir={self._folder / 'ray'}",
        ]  # fmt: skip
        named = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), "RAY_worker_niceness": "0"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tied("-m", "ray.scripts.scripts", *options), cwd=ROOT, env={**os.environ, **named}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until("the Ray head takes connections", self._answers)

    def processes(self) -> set[int]:
        """The head and all that it has started, as long as it lives."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-2_000:]
        return family(self._process.pid)

    def end(self) -> None:
        """Ends it, its raylet and their workers: they hold nothing, and Ray takes 6 s to end them politely."""
        if self._process is not None and self._process.poll() is None:
            members = self.processes()
            for pid in sorted(members - {self._process.pid}):
                _kill(pid)
            _kill(self._process.pid)
            self._process.wait()
            until("nothing of the Ray head is left", lambda: not survivors(members))
        shutil.rmtree(self._folder)

    @property
    def _log(self) -> Path:
        return self._folder / "head.log"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-2_000:]
        try:
            socket.create_connection((LOOPBACK, self._port), timeout=1.0).close()
        except OSError:
            return False
        return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
