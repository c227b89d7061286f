"""The PSP simulator as a real process, for tests: start it, talk to it, kill it, start it again on the same book.

Import `PspProcess` and use it as a context manager; it leaves no process behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import stripe

ROOT = Path(__file__).resolve().parents[2]
API_KEY = "sk_test_simulator"
ADMIN_TOKEN = "admin_simulator"
WEBHOOK_SECRET = "whsec_simulator"

Document = dict[str, Any]


class AdminRefused(Exception):
    """An admin route answered with an error; the message holds its status and body."""


class PspProcess:
    """One simulator on one folder. The first start picks a free port, later ones keep it.

    `options` are further command-line options without the dashes: `webhook_url="http://.."`, `key_expiry_ms=1000`.
    """

    def __init__(self, folder: Path, *, seed: int = 1, **options: object) -> None:
        self.folder = folder
        self.port = 0
        self.seed = seed
        self.options = options
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The base address of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and return when it listens. Raises RuntimeError when it does not come up."""
        command = [sys.executable, "-m", "simulator.psp", "--data", str(self.folder), "--port", str(self.port)]
        command += ["--seed", str(self.seed)]
        for name, value in self.options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "listening on" not in line:
            self.kill()
            raise RuntimeError(f"the PSP simulator did not start: {line!r}")
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); nothing when it does not run."""
        self._end(lambda process: process.kill())

    def stop(self) -> int:
        """End it politely (SIGTERM) and return its exit status."""
        return self._end(lambda process: process.terminate())

    def restart(self) -> None:
        """Kill it and start it again on the same book and port."""
        self.kill()
        self.start()

    def admin(self, method: str, route: str, document: Document | None = None, *, token: str = ADMIN_TOKEN) -> Any:
        """Call an admin route and return its JSON document. Raises AdminRefused."""
        return json.loads(self._admin_bytes(method, route, document, token))

    def truth(self) -> list[Document]:
        """Return every line of the truth but the last, which must be there and is checked against them."""
        *lines, end = [json.loads(line) for line in self._admin_bytes("GET", "truth", None, ADMIN_TOKEN).splitlines()]
        assert end["type"] == "end"
        assert sum(end["counts"].values()) == len(lines)
        return lines

    def truth_of(self, type_: str) -> list[Document]:
        """Return the lines of one type: intent, charge, refund, balance_transaction or webhook."""
        return [line for line in self.truth() if line["type"] == type_]

    @asynccontextmanager
    async def client(self, api_key: str = API_KEY) -> AsyncIterator[stripe.StripeClient]:
        """Yield the official SDK's client, pointed here, its own retries off."""
        http_client = stripe.AIOHTTPClient()
        try:
            yield stripe.StripeClient(
                api_key, base_addresses={"api": self.url}, http_client=http_client, max_network_retries=0
            )
        finally:
            await http_client.close_async()  # type: ignore[no-untyped-call] # the SDK leaves it untyped

    def _admin_bytes(self, method: str, route: str, document: Document | None, token: str) -> bytes:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.url}/_admin/{route}", data=body, method=method, headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our own loopback address
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise AdminRefused(f"{error.code} {error.read().decode()}") from error

    def _end(self, signal_it: Any) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            signal_it(process)
        if process.stdout is not None:
            process.stdout.close()
        return process.wait(timeout=30)
