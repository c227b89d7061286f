"""The composition root of reconciliation: the reconciler's actor, and the server of ReconciliationService.

Invariant: as in `wiring.py`: the concrete classes are known here only, and nothing here decides anything about money.
"""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from actors.inbox import Inbox
from actors.reconciler import Reconciler, ReconcilerHost, RemoteReconciler, keep
from actors.schedule import Schedule
from servers.collector import settle
from servers.keys import token_provider
from servers.main import Served
from servers.metric import Metrics
from servers.reconciliation_watch import QueueGauges, watch_queue
from servers.wiring import (
    close_all,
    database_url,
    links_of,
    log_to_file,
    require_fit,
    serve_service,
    shard_watches,
    wall_clock_s,
)
from zerosum import crash
from zerosum.peers.batch import open_channel
from zerosum.peers.ledger import GrpcLedgerPeer
from zerosum.peers.payment import GrpcPaymentPeer
from zerosum.peers.wallet import GrpcWalletPeer
from zerosum.ports import Dialect
from zerosum.settings import Settings
from zerosum.store.loading import CLOCK
from zerosum.store.opening import open_reconciliation
from zerosum.store.reconciliation.outbox import Peers
from zerosum.store.reconciliation.queue import SqlFinanceQueue
from zerosum.store.reconciliation.store import AFTER_CATCH_UP_DAYS, Reconciliation, ReconciliationPolicy
from zerosum.v1 import reconciliation_pb2_grpc


async def reconciliation_host(settings: Settings, slots: Sequence[int]) -> ReconcilerHost:
    """The reconciler: its tables, its watched folder, its way to the ledger, the wallet and the payment service."""
    log_to_file(settings, "reconciliation", slots)
    crash.arm(settings.crash_dir, crash.Process.RECONCILER)
    store = _open(settings)
    token = token_provider(settings.data_dir, "reconciler")
    addresses = (settings.ledger_address, settings.wallet_address, settings.payment_address)
    channels = [open_channel(address) for address in addresses]
    peers = Peers(
        ledger=GrpcLedgerPeer(channels[0], token),
        wallet=GrpcWalletPeer(channels[1], token),
        payment=GrpcPaymentPeer(channels[2], token),
    )

    async def clock_ms() -> int:
        ((now_ms,),) = await store.database.look(CLOCK)
        return int(now_ms)

    psps = tuple(_dialects())
    reconciler = Reconciler(
        files=store.files, runs=store.runs, outbox=store.outbox(peers),
        inbox=Inbox(settlement_folder(settings), store.files, psps), clock_ms=clock_ms,
        schedule=Schedule(
            psps=psps, due_after_ms=settings.settlement_file_due_ms, catch_up_days=settings.reconcile_catch_up_days,
            inside_every_hours=settings.reconcile_inside_every_h,
        ),
        holder=f"{socket.gethostname()}/{os.getpid()}",
    )  # fmt: skip
    await require_fit(store.database)
    ticking = asyncio.create_task(keep(reconciler, settings.reconcile_tick_ms / 1_000))
    settle()

    async def end_ticking() -> None:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)

    closers = [end_ticking, reconciler.stop, *(channel.close for channel in channels), store.close]
    return ReconcilerHost(reconciler, partial(close_all, closers), (store.database.traffic,))


async def serve_reconciliation(settings: Settings) -> None:
    """The reconciliation server, until a signal. Raises Misconfigured, Unavailable at start: nothing was served."""
    from servers.reconciliation import ReconciliationServicer

    metrics, store = Metrics(), _open(settings)
    metrics.database(store.database.traffic)
    await require_fit(store.database)
    queue = SqlFinanceQueue(store.database)
    links = links_of(settings, "reconciliation")
    stop = asyncio.Event()
    watches = shard_watches(settings, metrics, links, stop)
    watches.append(
        watch_queue(
            queue=queue, runs=store.runs, files=store.files, gauges=QueueGauges(metrics.registry),
            overdue_after_ms=settings.case_alert_ms,
        )
    )  # fmt: skip
    servicer = ReconciliationServicer(
        files=store.files, runs=store.runs, queue=queue, reconciler=RemoteReconciler(links[0]), psps=tuple(_dialects()),
        spool=_spool(settings), overdue_after_ms=settings.case_alert_ms, now_s=wall_clock_s,
    )  # fmt: skip
    add = partial(reconciliation_pb2_grpc.add_ReconciliationServiceServicer_to_server, servicer)
    served = [Served("zerosum.v1.ReconciliationService", add)]
    port = settings.reconciliation_port
    await serve_service(settings, "reconciliation", served, port, metrics, watches, [store.close], stop)


def settlement_folder(settings: Settings) -> Path:
    """Where settlement files come in and go."""
    return settings.settlement_dir or settings.data_dir / "settlement"


def _spool(settings: Settings) -> Path:
    """Where an upload is while it comes in; unnamed files, so that nothing stays after a death."""
    folder = settlement_folder(settings) / "spool"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _open(settings: Settings) -> Reconciliation:
    dialects = _dialects()
    policy = ReconciliationPolicy(
        psps=tuple(dialects),
        file_due_ms=settings.settlement_file_due_ms,
        line_due_ms=settings.settlement_line_due_ms,
        lease_ms=settings.reconcile_lease_ms,
        kept_days=settings.reconcile_catch_up_days + AFTER_CATCH_UP_DAYS,
    )
    return open_reconciliation(database_url(settings, "reconciler"), dialects, policy)


def _dialects() -> Mapping[str, Dialect]:
    from zerosum.psp.dialect import DIALECTS  # brings the PSPs' parsers

    return DIALECTS
