"""`zerosum up`: one machine's supervisor. Owns the embedded database, the Ray head, the servers, the edge, the simulator.

Starts them in the order in which they need one another, restarts what dies with back-off, and takes all of it down with
itself. It migrates before any server starts. Source: design section 3, "One machine".

Invariant: nothing it starts outlives it, and nothing it stops loses anything that was acknowledged. Where it is killed, only
shards in a Ray cluster that is not its own go on, until the next supervisor ends them.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from actors import ray_cluster
from actors.loop import start_loop
from servers.child import CANNOT_START, Child, free_port, run_once, until_listening
from servers.heads import export_once, keep_exporting
from servers.keys import make_keys, read_key
from servers.log import log_to, logger_of
from servers.run_file import run_file_of, write_run_file
from zerosum.errors import Bug, Misconfigured, ZerosumError
from zerosum.service import SERVERS, SERVICES, Server, Service
from zerosum.settings import Settings, environment_with
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.migrate import migrate

_log = logger_of("supervisor")

LOOPBACK = "127.0.0.1"
"""Where Ray's head and the simulator listen, whatever `ZEROSUM_BIND_HOST` says of the servers."""

READY_TIMEOUT_S = 60.0
"""A cold start of everything takes 12 to 25 s on two cores."""

END_SHARDS_WITHIN_S = 60.0
"""3 s on two cores; 21 s were seen where they had eight times too much to do. A cluster that is away is given up after 10 s."""

OBJECT_STORE_BYTES = 80_000_000
"""Ray's smallest useful object store: our messages are small and travel inline."""


@dataclass(slots=True)
class Simulated:
    """The PSP simulator to run beside. `seed`: of its faults; `options`: more of its command line."""

    seed: int = 1
    options: tuple[str, ...] = ()


class System:
    """Everything of one deployment on one machine. `start`, wait for `ending`, `stop`. `lost`: what it cannot supervise
    any more, and why; it ends then, as it would only seem to supervise."""

    def __init__(
        self, settings: Settings, simulated: Simulated | None, *, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._simulated = simulated
        self._tell = tell
        self._data = settings.data_dir.resolve()
        self._data.mkdir(parents=True, exist_ok=True)
        (self._data / "logs").mkdir(exist_ok=True)
        self._database = EmbeddedPostgres(self._data / "postgres") if not settings.database_url else None
        self._watcher: asyncio.Task[None] | None = None
        self._reviving: asyncio.Future[None] | None = None
        self._exporter: asyncio.Task[None] | None = None
        self.children: dict[str, Child] = {}
        self._database_pid: int | None = None
        self.database_restarts = 0
        self._psp_port = free_port() if simulated else 0
        self._ray_port = free_port()
        self._is_up = False
        self.ending, self.lost = asyncio.Event(), list[str]()
        ray_address = settings.ray_address or f"{LOOPBACK}:{self._ray_port}"
        self._owns_ray = not settings.ray_address
        self._has_joined = False
        self.settings = settings.model_copy(
            update={"data_dir": self._data, "ray_address": ray_address, **(self._of_simulator() if simulated else {})}
        )

    def _of_simulator(self) -> dict[str, object]:
        """Its address and, as it has no others, the key and the secrets in the data folder; never those of a real PSP."""
        keys = dict.fromkeys(("psp_api_key_file", "psp_webhook_secrets_file"))
        return {"psp_url": f"http://{LOOPBACK}:{self._psp_port}", **keys}

    @property
    def psp_url(self) -> str:
        """The simulator's address; without one what `ZEROSUM_PSP_URL` says, "" = the real PSP."""
        return self.settings.psp_url

    # ---- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts everything and waits until it serves. Raises Misconfigured, Unavailable; what runs is stopped then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        make_keys(self._data)
        ray_cluster.use_token(self._data, existing="" if self._owns_ray else self.settings.ray_address)
        if self._database is not None:
            self._tell("database")
            self._database.start()
            self._database_pid = self._database.pid
            self._watcher = start_loop(
                self._keep_database(self._database), "the supervision of the database", self._lose
            )
        migrate(self._admin_url())
        if self._owns_ray:
            self._tell("Ray head")
            shutil.rmtree(self._ray_folder(), ignore_errors=True)  # of a supervisor that was killed
            await self._start_child("ray", self._ray_command(), port=self._ray_port, is_group=True)
        else:
            self._tell("shards in the Ray cluster that is there")
            self._has_joined = await self._end_shards()
            if not self._has_joined:
                raise Misconfigured(f"cannot join Ray at {self.settings.ray_address}; see {self._log_of('ray')}")
        if self._simulated is not None:
            self._tell("PSP simulator")
            await self._start_child("psp", self._simulator_command(self._simulated), port=self._psp_port)
        self._tell("ledger, wallet, payment and reconciliation servers")
        for server in SERVERS:
            port = self.settings.port_of(server)
            await self._start_child(server, self._serve_command(server), port=port, is_awaited=False)
        for server in SERVERS:
            await self._await_child(server, self.settings.port_of(server), host=self.settings.reach_host)
        self._tell("shards")
        await asyncio.gather(*(self._await_shards(service) for service in SERVICES))
        self._is_up = True
        self._exporter = asyncio.create_task(keep_exporting(self.settings))
        self._write_run_file()

    async def stop(self) -> None:
        """Stops everything in reverse order. Ray's processes are killed: they hold nothing, and Ray takes 6 s to end them."""
        self._is_up = False
        run_file_of(self._data).unlink(missing_ok=True)
        doors = [self.children[server] for server in SERVERS if server in self.children]
        await asyncio.gather(*(door.stop() for door in doors))
        if self._has_joined:
            await self._end_shards()
        for name in ("psp", "ray"):
            if name in self.children:
                await self.children[name].stop()
        if self._exporter is not None:
            self._exporter.cancel()
            await asyncio.gather(self._exporter, return_exceptions=True)
            await export_once(self.settings)  # nothing writes any more: these are the heads to come back to
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        # A start under way is one thread's: it ends before another stops what it started.
        if self._reviving is not None:
            await asyncio.gather(self._reviving, return_exceptions=True)
        if self._database is not None:
            self._database.stop()
        shutil.rmtree(self._ray_folder(), ignore_errors=True)

    async def _end_shards(self) -> bool:
        """Ends our shards in a cluster that is not ours: they are detached, outlive every server, and keep the settings they
        were made with, the simulator's address among them. False: the cluster could not be asked; `ray.log` says why."""
        command = [sys.executable, "-m", "actors.ray_cluster", self.settings.ray_address, self.settings.deployment]
        env, log = self.environment(), self._log_of("ray")
        status = await run_once(command, env=env, log=log, timeout_s=END_SHARDS_WITHIN_S)
        if status != 0:
            _log.error("shards could not be ended", address=self.settings.ray_address, code=status)
        return status == 0

    async def _keep_database(self, database: EmbeddedPostgres) -> None:
        """A database that dies is reaped and started again: the data is what was committed."""
        while True:
            await asyncio.sleep(0.2)
            if database.poll() is None:
                continue
            _log.warning("database ended", code=database.poll())
            self.database_restarts += 1
            while not await self._revive(database):  # noqa: ASYNC110 - tried again, not waited for
                await asyncio.sleep(1.0)
            self._write_run_file()

    async def _revive(self, database: EmbeddedPostgres) -> bool:
        """One try, in a thread: on a full disk it takes a minute to fail, and the other children die and start meanwhile."""
        self._reviving = asyncio.ensure_future(asyncio.to_thread(database.start))
        try:
            await asyncio.shield(self._reviving)
        except (ZerosumError, *CANNOT_START) as trouble:  # its own small files cannot be written either
            _log.error("the database does not start", reason=str(trouble))
            return False
        self._database_pid = database.pid
        return True

    def _lose(self, reason: str) -> None:
        self.lost.append(reason)
        self.ending.set()

    def database_pid(self) -> int | None:
        """The postmaster's process id, for those who test what happens when it dies."""
        return self._database_pid

    # ---- children --------------------------------------------------------------------------------------------

    async def _start_child(
        self, name: str, argv: list[str], *, port: int, is_group: bool = False, is_awaited: bool = True
    ) -> None:
        secrets = self._simulator_secrets() if name == "psp" else {}
        child = Child(
            name, argv, env={**self.environment(), **secrets}, log=self._log_of(name), is_group=is_group,
            on_start=self._write_run_file, end_signal=signal.SIGKILL if is_group else signal.SIGTERM, on_exit=self._child_ended,
            on_lost=self._lose,
        )  # fmt: skip
        self.children[name] = child
        await child.start()
        if is_awaited:
            await self._await_child(name, port, host=LOOPBACK)

    def _log_of(self, name: str) -> Path:
        return self._data / "logs" / f"{name}.log"

    def _child_ended(self, name: str, _code: int) -> None:
        """Servers of a Ray that is lost go with it: no call of theirs can end, and the next head is another cluster."""
        if name == "ray":
            for service in SERVICES:
                if service in self.children:
                    self.children[service].kill()

    async def _await_child(self, name: str, port: int, *, host: str) -> None:
        child = self.children[name]

        def has_patience() -> bool:
            return child.restarts < 10  # noqa: PLR2004 - a child that died ten times at start will not come up

        if not await until_listening(host, port, is_alive=has_patience, timeout_s=READY_TIMEOUT_S):
            raise Misconfigured(f"{name} does not serve on {host}:{port}; see {self._log_of(name)}")

    async def _await_shards(self, service: Service) -> None:
        """Waits until every shard of a service has told its figures: only then does a call find it ready."""
        url, shards = self.settings.metrics_url_of(service), self.settings.shards_of(service)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + READY_TIMEOUT_S
        while await asyncio.to_thread(_count_shards, url) < shards:
            if loop.time() > end_s:
                raise Misconfigured(f"the shards of {service} do not serve; see {self._data / 'logs'}")
            await asyncio.sleep(0.1)

    def _serve_command(self, server: Server) -> list[str]:
        return [sys.executable, "-m", "servers.cli", "serve", server]

    def _ray_command(self) -> list[str]:
        ray = str(Path(sys.executable).parent / "ray")
        return [
            ray, "start", "--head", "--block", f"--port={self._ray_port}", f"--node-ip-address={LOOPBACK}", "--num-cpus=1",
            f"--ray-client-server-port={free_port()}", "--no-monitor", "--include-log-monitor=false",  # asked by nobody
            f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-dashboard=false", "--disable-usage-stats",
            f"--temp-dir={self._ray_folder()}",
        ]  # fmt: skip

    def _ray_folder(self) -> Path:
        """Ray puts unix sockets there, whose paths may have 107 bytes: a short name of our own outside the data folder."""
        name = hashlib.sha256(str(self._data).encode()).hexdigest()[:8]
        return Path(tempfile.gettempdir()) / f"zerosum-ray-{name}"

    def _simulator_command(self, simulated: Simulated) -> list[str]:
        return [
            sys.executable, "-m", "simulator.psp", "--data", str(self._data / "psp"), "--port", str(self._psp_port),
            "--seed", str(simulated.seed), "--webhook-url",
            f"http://{self.settings.reach_host}:{self.settings.edge_port}/v1/webhooks/stripe", *simulated.options,
        ]  # fmt: skip

    def _simulator_secrets(self) -> dict[str, str]:
        """What the simulator shares with us, in its environment and nobody else's; never in a command line."""
        return {
            "PSP_API_KEY": read_key(self._data, "psp_api_key"),
            "PSP_WEBHOOK_SECRET": read_key(self._data, "psp_webhook_secrets").splitlines()[0],
            "PSP_ADMIN_TOKEN": read_key(self._data, "psp_admin_token"),
        }

    def environment(self) -> dict[str, str]:
        """This process's environment with the system's settings and no others; secrets stay in their files."""
        return {**environment_with(self.settings, os.environ), "PYTHONUNBUFFERED": "1"}

    def _admin_url(self) -> str:
        return self.settings.database_url or self._embedded_urls()["admin"]

    def _embedded_urls(self) -> dict[str, str]:
        if self._database is None:
            raise Misconfigured("the database is not embedded: its URLs are settings")
        return self._database.urls()

    def _write_run_file(self) -> None:
        """Where everything is, and as which process it runs now; while all of it is up."""
        if not self._is_up:
            return
        try:
            write_run_file(self.settings, {name: child.pid for name, child in self.children.items()} | self._own_pids())
        except OSError as trouble:  # a full disk: whoever reads it is told too little, and nobody is left unsupervised
            _log.error("run.json cannot be written", reason=str(trouble))

    def _own_pids(self) -> dict[str, int]:
        pid = self.database_pid()
        return {"supervisor": os.getpid()} | ({"database": pid} if pid is not None else {})


def _count_shards(metrics_url: str) -> int:
    """Shards that have told a server their figures."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=2) as page:  # noqa: S310 - our own loopback address
            return page.read().count(b'zerosum_shard{figure="pid"') if page.status == HTTPStatus.OK else 0
    except OSError:
        return 0


def log_beside_children(settings: Settings) -> None:
    """What this process tells of its children goes to a file beside theirs, never between the lines that a person reads."""
    log_to(settings.data_dir / "logs" / "supervisor.log", "supervisor", settings.log_level)


async def run_until_signal(system: System, ready: Callable[[], None]) -> None:
    """Starts the system, says that it is ready, and stops it cleanly on SIGINT or SIGTERM. Raises Bug where its supervision has
    failed; it is stopped then too, and whoever started it may do so again."""
    loop, ended = asyncio.get_running_loop(), system.ending
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    starting = asyncio.create_task(system.start())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        await asyncio.gather(starting)
        ready()
        await waiting
    except asyncio.CancelledError:
        if not ended.is_set():
            raise
    finally:
        waiting.cancel()
        await system.stop()
    if system.lost:
        raise Bug("; ".join(system.lost))


EXAMPLE = """
  curl -s {edge}/v1/payments \\
    -H "Authorization: Bearer $(cat {data}/keys/token_service.jwt)" -H 'Content-Type: application/json' \\
    -H 'Idempotency-Key: cart-1' -d '{{
      "checkout_id": "cart-1", "buyer_info": {{"buyer_account": "buyer-1"}},
      "credit_card_info": {{"token": "pm_card_visa"}},
      "payment_orders": [{{"payment_order_id": "cart-1-a", "seller_account": "seller-1", "amount": "12.50", "currency": "USD"}}]
    }}'
"""


def up(settings: Settings, *, with_simulator: bool, seed: int) -> int:
    """Runs the system until Ctrl-C and says where everything is. The exit status: 0 after a clean stop."""

    def tell(what: str) -> None:
        sys.stdout.write(f"  starting {what}\n")
        sys.stdout.flush()

    log_beside_children(settings)
    system = System(settings, Simulated(seed) if with_simulator else None, tell=tell)

    def ready() -> None:
        sys.stdout.write(_greeting(system))
        sys.stdout.flush()

    sys.stdout.write("zerosum\n")
    asyncio.run(run_until_signal(system, ready))
    sys.stdout.write("stopped; the data is kept\n")
    return 0


def _greeting(system: System) -> str:
    settings, data = system.settings, system.settings.data_dir
    edge = f"http://{settings.reach_host}:{settings.edge_port}"
    rows = [
        ("payment service", f"{settings.payment_address} (gRPC)"), ("wallet service", f"{settings.wallet_address} (gRPC)"),
        ("ledger service", f"{settings.ledger_address} (gRPC)"),
        ("reconciliation", f"{settings.reconciliation_address} (gRPC)"), ("edge", f"{edge}  API page: {edge}/docs"),
        ("PSP simulator", system.psp_url or "none: ZEROSUM_PSP_URL"), ("data, keys, logs", str(data)),
    ]  # fmt: skip
    lines = "".join(f"  {name:<18}{value}\n" for name, value in rows)
    return f"\nup\n{lines}\nAn example call:\n{EXAMPLE.format(edge=edge, data=data)}\nCtrl-C stops all of it.\n"
