"""The system under chaos: everything of one deployment, with a proxy of ours between its roles and their database.

Leases and the PSP's timeout are shorter than in production, so that recovery takes seconds; everything else is as shipped.

Invariant: nothing that is started here outlives `stop`, and nobody is left stopped by a signal.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from loadtest.chaos import process
from loadtest.chaos.client import Buyer
from loadtest.chaos.proxy import DatabaseProxy
from loadtest.chaos.wait import EVERY_S, TROUBLE, WITHIN_S, NeverCame, Patience
from loadtest.journal import Journal
from loadtest.probe import Books, Psp, is_refused, shard_figures
from servers.keys import DEMO_TENANT, HOUSE_FINANCE, read_key, token_path
from servers.supervisor import Simulated, System
from servers.wiring import database_url
from zerosum.errors import Misconfigured
from zerosum.service import SERVICES, Service
from zerosum.settings import Settings, environment_with
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1.reconciliation_pb2_grpc import ReconciliationServiceStub

FASTER: Final = {"effect_lease_ms": 4_000, "psp_timeout_ms": 2_500, "backoff_cap_ms": 1_000}
"""A to-do that a dead shard left is taken up when its lease ends: 4 s instead of 15 s."""

REST_LIMIT_S: Final = 900.0
"""Longest wait for rest while there is progress: an hour's backlog at the PSP is not what chaos makes."""

COMPARED_WITHIN_S: Final = 60.0
"""For one comparison of everything: a second one begun beside it would make both slower."""

ROLES_CUT: Final = ("payment", "wallet", "ledger", "reconciler")
"""Database roles whose connections go through the proxy."""


class Arena:
    """One system on one data folder. `start`, do harm, `stop`."""

    def __init__(self, settings: Settings, *, seed: int, tell: Callable[[str], None]) -> None:
        if settings.database_url or settings.ray_address:
            raise Misconfigured("chaos is for a system of its own: unset ZEROSUM_DATABASE_URL and ZEROSUM_RAY_ADDRESS")
        self._tell = tell
        self._seed = seed
        data = settings.data_dir.resolve()
        self.folder = data / "chaos"
        self.run_folder = data / "runs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-chaos"
        self.crash_dir = self.folder / "orders"
        self.blocked_buyers = self.folder / "blocked_buyers"
        quicker = {name: min(getattr(settings, name), value) for name, value in FASTER.items()}
        own = {
            "data_dir": data, "crash_dir": self.crash_dir, "risk_blocked_buyers_file": self.blocked_buyers,
            "settlement_dir": None,
        }  # fmt: skip
        self._settings = settings.model_copy(update={**own, **quicker})
        self._journal: Journal | None = None
        self._stopped: set[int] = set()

    async def start(self) -> None:
        """Starts everything and waits until it serves. Raises Misconfigured, Unavailable; what runs is stopped then."""
        self._empty_folders()
        urls = self._make_database()
        self.proxy = DatabaseProxy(_port_of(urls["payment"]))
        await self.proxy.start()
        through = {
            f"{role}_database_url": urls[role].replace(f":{_port_of(urls[role])}/", f":{self.proxy.port}/")
            for role in ROLES_CUT
        }
        self.system = System(self._settings.model_copy(update=through), Simulated(self._seed), tell=self._tell)
        try:
            await self.system.start()
            self._meet()
        except BaseException:
            await self.stop()
            raise

    def _meet(self) -> None:
        """Learns the way to everybody who runs now."""
        settings, data = self.system.settings, self.system.settings.data_dir
        self.settings = settings
        self.psp = Psp(self.system.psp_url, read_key(data, "psp_admin_token"))
        self.auditor_url = database_url(settings, "auditor")
        self.books = Books(self.auditor_url)
        self._journal = Journal(self.run_folder / "journal.jsonl", tenant=DEMO_TENANT)
        self.token_file = token_path(data, "service")
        self.buyer = Buyer(settings.payment_address, self.token_file.read_text(encoding="ascii").strip(), self._journal)

    async def stop(self) -> None:
        """Lets go on who stands still, and stops everything."""
        for pid in tuple(self._stopped):
            self.resume(pid)
        if self._journal is not None:
            await self.buyer.close()
            self._journal.close()
            self.books.close()
        try:
            await self.system.stop()
        finally:
            await self.proxy.stop()

    def make_folders(self) -> None:
        """There must be a place to write down what became of it before anything is begun."""
        for folder in (self.crash_dir, self.run_folder):
            folder.mkdir(parents=True, exist_ok=True)

    def _empty_folders(self) -> None:
        self.make_folders()
        for left in self.crash_dir.glob("*@*"):
            left.unlink()
        self.blocked_buyers.touch()

    def _make_database(self) -> dict[str, str]:
        """Started once and stopped: its port and passwords must be known before the shards are told of the proxy."""
        database = EmbeddedPostgres(self._settings.data_dir / "postgres")
        database.start()
        database.stop()
        return database.urls()

    # ---- who is who ------------------------------------------------------------------------------------------------

    def shards(self, service: Service) -> dict[int, int]:
        """The process of each shard that lives, by its number, as its server's metrics tell it. Blocking."""
        figures_of = shard_figures(self.settings.metrics_url_of(service))
        found = {int(shard): int(figures.get("pid", 0)) for shard, figures in figures_of.items()}
        return {shard: pid for shard, pid in found.items() if process.is_alive(pid)}

    def all_shards(self, service: Service) -> dict[int, int] | None:
        """The same, once every one of them lives."""
        found = self.shards(service)
        return found if len(found) == self.settings.shards_of(service) else None

    def child(self, name: str) -> int | None:
        """The process of a child of the supervisor: payment, wallet, ledger, edge, psp, ray; and database."""
        return self.system.database_pid() if name == "database" else self.system.children[name].pid

    def database_ports(self, pid: int) -> set[int]:
        """Its connections to the proxy."""
        return process.ports_to(pid, self.proxy.port)

    def environment(self) -> dict[str, str]:
        """What another process of this system runs in."""
        return environment_of(self.settings)

    # ---- signals ---------------------------------------------------------------------------------------------------

    def is_standing(self, pid: int) -> bool:
        """Whether it stands still; who was seen so is let go on by `stop` at the latest."""
        if not process.is_stopped(pid):
            return False
        self._stopped.add(pid)
        return True

    def pause(self, pid: int) -> bool:
        """SIGSTOP; False where there is nobody."""
        self._stopped.add(pid)
        return process.send(pid, signal.SIGSTOP)

    def resume(self, pid: int) -> None:
        """SIGCONT."""
        self._stopped.discard(pid)
        process.send(pid, signal.SIGCONT)

    async def resume_after(self, pids: Collection[int], seconds: float) -> None:
        """SIGCONT to each after that time, also when this is cancelled."""
        try:
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                self.resume(pid)

    # ---- rest ------------------------------------------------------------------------------------------------------

    def edge_answers(self) -> bool:
        """Whether the HTTP edge takes a request. Blocking."""
        edge = f"http://{self.settings.reach_host}:{self.settings.edge_port}"
        return is_refused(edge, self.token_file.read_text(encoding="ascii").strip(), {})

    def reconciles(self) -> bool:
        """Whether the present hour is compared once more, by its server and by its actor, to the end. Blocking."""
        settings = self.settings
        token = token_path(settings.data_dir, f"finance_{HOUSE_FINANCE[0]}").read_text(encoding="ascii").strip()
        asked = pb.RunReconciliationRequest(kind=pb.RUN_KIND_INSIDE, again=True)
        with grpc.insecure_channel(f"{settings.reach_host}:{settings.reconciliation_port}") as channel:
            try:
                told = ReconciliationServiceStub(channel).RunReconciliation(
                    asked, timeout=COMPARED_WITHIN_S, metadata=[("authorization", f"Bearer {token}")]
                )
            except grpc.RpcError:
                return False
        return bool(told.run.state == "DONE")

    async def until_at_rest(self, *, within_s: float = WITHIN_S) -> float:
        """Returns when every shard lives, every effect is finished, every webhook delivered; how long that took.

        Waits as long as something moves, at most REST_LIMIT_S. Raises NeverCame with what is not at rest.
        """
        began_s = time.monotonic()
        patience, limit = Patience(within_s), Patience(max(within_s, REST_LIMIT_S))
        seen = ""
        while unrest := await asyncio.to_thread(self._unrest):
            if patience.is_over or limit.is_over:
                raise NeverCame(f"the system did not come to rest; for {within_s:g} s there was: {unrest}")
            if unrest != seen:
                seen, patience = unrest, Patience(within_s)
            await patience.sleep(EVERY_S)
        return time.monotonic() - began_s

    def _unrest(self) -> str:
        """What is not at rest, "" = nothing."""
        try:
            webhooks = self.psp.webhooks_pending()
        except TROUBLE as trouble:
            return f"the simulator does not answer ({type(trouble).__name__})"
        if todos := self.books.open_todos():
            return "the database does not answer" if todos < 0 else f"{todos} effects that are not finished"
        missing = [name for name in SERVICES if not self.all_shards(name)]
        if missing:
            return f"shards that do not live: {', '.join(missing)}"
        return f"{webhooks} webhooks that are not delivered" if webhooks else ""


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment, with these settings and no others."""
    return environment_with(settings, os.environ)


def root_of_the_code() -> Path:
    """The folder that the packages of the product lie in."""
    return Path(__file__).resolve().parents[2]
