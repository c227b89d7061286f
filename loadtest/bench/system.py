"""The system under a bench: a whole one of its own, on an empty folder and free ports, gone when the bench has ended.

Invariant: a bench never meets the data or the ports of a system that somebody runs.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtest.bench.card import Card, take_card
from loadtest.bench.plan import WARM_UP_S, LoadPlan
from loadtest.clock import wall_ms
from servers.child import free_ports
from servers.keys import token_path
from servers.log import log_to
from servers.supervisor import Simulated, System
from servers.wiring import database_url
from zerosum.service import SERVERS, SERVICES, Service
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres

PSP_AT_ONCE: Final = ("--gather-ms", "1")
"""The simulator's own book waits 1 ms for company, so that a PSP that answers at once does."""


def folder_of(settings: Settings, what: str) -> Path:
    """Where a bench's files go: a folder of its own below the data folder. Made here."""
    folder = settings.data_dir.resolve() / "bench" / f"{what}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    return folder


@asynccontextmanager
async def own_system(settings: Settings, folder: Path, console: Console) -> AsyncIterator[System]:
    """A system of its own in the folder, started; stopped and removed at the end."""
    data = folder / "system"
    # What the supervisor has to say of a database that is killed on purpose belongs beside the figures, not among them.
    log_to(folder / "bench.log", "supervisor", settings.log_level)
    system = System(
        with_free_ports(of_its_own(settings).model_copy(update={"data_dir": data})),
        Simulated(1, PSP_AT_ONCE),
        tell=lambda what: console.print(f"starting {what}", style="dim"),
    )
    try:
        await system.start()
        yield system
    finally:
        await system.stop()
        await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)


def of_its_own(settings: Settings) -> Settings:
    """The settings without the database, the Ray and the inbox that they name: those are somebody's.

    They would be fenced or killed, and the settlement files that wait there taken away.
    """
    urls = {name: "" for name in Settings.model_fields if name.endswith("database_url")}
    return settings.model_copy(update={**urls, "ray_address": "", "settlement_dir": None})


def with_free_ports(settings: Settings) -> Settings:
    """The same settings on ports that nobody uses now. Raises Misconfigured where there are none."""
    base = free_ports(len(SERVERS), settings.metrics_port_offset, settings.bind_host)
    ports = {f"{name}_port": base + place for place, name in enumerate(SERVERS)}
    addresses = {f"{name}_address": f"{settings.reach_host}:{ports[f'{name}_port']}" for name in SERVICES}
    return settings.model_copy(update={**ports, **addresses})


async def card_of(system: System) -> Card:
    """The card of the machine, on the disk, the database and the Ray of this system."""
    settings = system.settings
    return await asyncio.to_thread(take_card, admin_url(system), settings.data_dir, ray_address=settings.ray_address)


def load_plan(
    system: System,
    folder: Path,
    *,
    tps: float,
    seconds: float,
    seed: int = 0,
    warm_up_s: float = WARM_UP_S,
    orders: int = 1,
    hot_share: float = 0.0,
    reads: int = 0,
) -> LoadPlan:
    """A load on this system's payment server (`plan.py`), with ids that no other load of it has."""
    settings = system.settings
    return LoadPlan(
        target=settings.payment_address, token_file=str(token_path(settings.data_dir, "service")), folder=str(folder),
        tps=tps, seconds=seconds, seed=seed, run_id=f"{wall_ms():x}", warm_up_s=warm_up_s, orders=orders,
        hot_share=hot_share, reads_per_checkout=reads,
    )  # fmt: skip


def metrics_pages(system: System) -> dict[Service, str]:
    """The Prometheus page of each service."""
    return {service: system.settings.metrics_url_of(service) for service in SERVICES}


def auditor_url(system: System) -> str:
    """The database as the auditor's role sees it."""
    return database_url(system.settings, "auditor")


def admin_url(system: System) -> str:
    """The database as its administrator sees it, as SQLAlchemy writes it."""
    return system.settings.database_url or EmbeddedPostgres(system.settings.data_dir / "postgres").urls()["admin"]
