"""The composition root: which adapters stand behind which ports, one page a process.

`*_host` are the factories of shard processes, named by dotted path; `serve_*` are the server processes. Nothing here
decides anything about money.

Invariant: this is the only place that knows the concrete classes; everything below is handed what it needs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from actors import ray_cluster
from actors.clock import SystemClock
from actors.front import Front, slots_of_shard
from actors.host import Host
from actors.loop import start_loop
from actors.payment import PaymentBinding
from actors.posting import ledger_binding, wallet_binding
from actors.runner import Runner
from actors.shard import Shard
from servers.collector import settle
from servers.keys import read_key, token_provider, webhook_secrets
from servers.log import log_to, logger_of
from servers.main import Served, serve_grpc
from servers.metric import Metrics
from servers.monitor import Watch, watch_dead_letters, watch_in_flight, watch_shards
from servers.reply import encode_reply
from servers.webhook import stripe_reader
from zerosum import crash, limits
from zerosum.domain import message as m
from zerosum.domain.draft import Policy
from zerosum.errors import Misconfigured, Retryable
from zerosum.peers.batch import open_channel
from zerosum.peers.ledger import GrpcLedgerPeer
from zerosum.peers.wallet import GrpcWalletPeer
from zerosum.psp.breaker import Breaker
from zerosum.psp.gateway import Gateway
from zerosum.psp.limiter import Limiter
from zerosum.psp.stripe import PSP as STRIPE
from zerosum.risk.allow_list import AllowList
from zerosum.service import Service
from zerosum.settings import Settings
from zerosum.store.checkpoint import roll_up
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.migrate import require_revision
from zerosum.store.opening import open_reader, open_store
from zerosum.store.preflight import preflight
from zerosum.v1 import ledger_pb2_grpc, payment_pb2_grpc, wallet_pb2_grpc

_log = logger_of("ledger")


def database_url(settings: Settings, role: str) -> str:
    """The URL of a role: its setting, else that of the embedded database in the data folder. Raises Misconfigured."""
    given: str = getattr(settings, f"{role}_database_url")
    if given:
        return given
    if settings.database_url:
        raise Misconfigured(f"ZEROSUM_{role.upper()}_DATABASE_URL is missing: the migrating role serves nobody")
    return EmbeddedPostgres(settings.data_dir / "postgres").urls()[role]


# ---- shard processes -----------------------------------------------------------------------------------------


async def payment_host(settings: Settings, slots: Sequence[int]) -> Host:
    """A checkout shard: the story, its store, and a runner that reaches the PSP, the wallet and the ledger."""
    from zerosum.psp.stripe.adapter import KEY_HORIZON_MS, StripeAdapter  # 0.3 s that the servers need not wait for

    log_to_file(settings, "payment", slots)
    crash.arm(settings.crash_dir, crash.Process.PAYMENT_SHARD)
    store, clock = open_store("payment", database_url(settings, "payment")), SystemClock()
    policy = Policy(
        psp=STRIPE, answer_after_ms=settings.answer_after_ms, lease_ms=settings.effect_lease_ms,
        backoff_base_ms=limits.BACKOFF_BASE_MS, backoff_cap_ms=settings.backoff_cap_ms, horizon_ms=KEY_HORIZON_MS,
    )  # fmt: skip
    risk = AllowList(settings.risk_blocked_buyers_file)
    shard: Shard[Any, Any] = Shard(
        binding=PaymentBinding(policy, encode_reply, risk.judge), store=store, slots=slots,
        deployment=settings.deployment, clock=clock,
    )  # fmt: skip
    adapter = StripeAdapter(
        _psp_api_key(settings), url=settings.psp_url, timeout_ms=settings.psp_timeout_ms,
        asks_first=settings.psp_asks_first,
    )  # fmt: skip
    gateway = Gateway(
        {STRIPE: adapter}, {STRIPE: Breaker(STRIPE, clock.monotonic_ms)}, {STRIPE: Limiter(STRIPE, clock.monotonic_ms)},
        clock_ms=clock.monotonic_ms, timeout_ms=settings.psp_timeout_ms,
    )  # fmt: skip
    token = token_provider(settings.data_dir, "payment")
    channels = [open_channel(settings.wallet_address), open_channel(settings.ledger_address)]
    wallet, ledger = GrpcWalletPeer(channels[0], token), GrpcLedgerPeer(channels[1], token)
    runner = Runner(
        gateway=gateway, risk=risk, wallet=wallet, ledger=ledger, clock=clock,
        lease_ms=settings.effect_lease_ms, tell=shard.tell,
    )  # fmt: skip
    await shard.start(runner)
    settle()
    closers = [runner.stop, shard.stop, wallet.close, ledger.close, adapter.close]
    closers += [*(channel.close for channel in channels), store.close]
    return Host(shard, partial(close_all, closers), (store.database.traffic,))


async def wallet_host(settings: Settings, slots: Sequence[int]) -> Host:
    """A shard of wallets."""
    return await _posting_host(settings, "wallet", wallet_binding(), slots, [])


async def ledger_host(settings: Settings, slots: Sequence[int]) -> Host:
    """A shard of the ledger; rolls up checkpoints of accounts without a balance row."""
    return await _posting_host(settings, "ledger", ledger_binding(), slots, [keep_checkpoints])


async def _posting_host(
    settings: Settings, service: Service, binding: Any, slots: Sequence[int], chores: Sequence[Any]
) -> Host:
    log_to_file(settings, service, slots)
    crash.arm(settings.crash_dir, crash.Process(f"{service}-shard"))
    store = open_store(service, database_url(settings, service))
    shard: Shard[Any, Any] = Shard(
        binding=binding, store=store, slots=slots, deployment=settings.deployment, clock=SystemClock(),
        expects_replays=False,
    )  # fmt: skip
    await shard.start(None)
    settle()
    running = [start_loop(chore(store.database, slots), f"a chore of {service}", shard.end) for chore in chores]

    async def end_chores() -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    return Host(shard, partial(close_all, [end_chores, shard.stop, store.close]), (store.database.traffic,))


async def keep_checkpoints(
    database: Any, slots: Sequence[int], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Rolls up for ever. What `roll_up` cannot do now it does later: without checkpoints balances are slower to read, and as
    exact, which is no reason to end a shard that serves."""
    while True:
        await sleep(limits.CHECKPOINT_EVERY_S)
        try:
            await roll_up(database, slots)
        except (Retryable, Misconfigured) as trouble:
            _log.warning("no checkpoints", reason=str(trouble))


def log_to_file(settings: Settings, service: str, slots: Sequence[int]) -> None:
    """A shard's lines go beside the servers', not into Ray's own folder."""
    log_to(settings.data_dir / "logs" / f"shard-{service}-{slots[0]}.log", f"shard-{service}", settings.log_level)


# ---- server processes ----------------------------------------------------------------------------------------


async def serve_payment(settings: Settings) -> None:
    """The payment server, until a signal. Raises Misconfigured, Unavailable at start: nothing was served."""
    from servers.oncall import OperatorServicer
    from servers.payment import PaymentServicer

    metrics = Metrics()
    crash.arm(settings.crash_dir, crash.Process.PAYMENT_SERVER)
    reader = open_reader("payment", database_url(settings, "payment"))
    metrics.database(reader.database.traffic)
    await require_fit(reader.database)

    links = links_of(settings, "payment")
    front: Front[m.CheckoutCommand] = Front(
        links=links,
        entity_of=lambda command: command.entity,
        is_inner=_is_fact,
        stored_reply=reader.reply,
        waiting_max=settings.admission_max,
    )
    stop = asyncio.Event()
    front.start(partial(_end_server, stop))
    watches = shard_watches(settings, metrics, links, stop)
    watches.append(watch_in_flight(reader, settings.in_flight_alert_ms, metrics))
    watches.append(watch_dead_letters(reader, metrics))
    now_s = wall_clock_s
    payment = PaymentServicer(
        shards=front, reader=reader, settings=settings, metrics=metrics,
        webhooks={STRIPE: stripe_reader(webhook_secrets(settings), now_s)},
    )  # fmt: skip
    oncall = OperatorServicer(shards=front, reader=reader, settings=settings)
    served = [
        Served("zerosum.v1.PaymentService", partial(payment_pb2_grpc.add_PaymentServiceServicer_to_server, payment)),
        Served("zerosum.v1.OperatorService", partial(payment_pb2_grpc.add_OperatorServiceServicer_to_server, oncall)),
    ]
    await serve_service(
        settings, "payment", served, settings.payment_port, metrics, watches, [front.stop, reader.close], stop
    )


async def serve_wallet(settings: Settings) -> None:
    """The wallet server, until a signal. Raises as `serve_payment`."""
    from servers.wallet import WalletServicer

    metrics = Metrics()
    reader = open_reader("wallet", database_url(settings, "wallet"))
    metrics.database(reader.database.traffic)
    await require_fit(reader.database)
    links = links_of(settings, "wallet")
    front = _posting_front(links, wallet_binding())
    servicer = WalletServicer(front, reader)
    add = partial(wallet_pb2_grpc.add_WalletServiceServicer_to_server, servicer)
    stop = asyncio.Event()
    watches = shard_watches(settings, metrics, links, stop)
    served, closers = [Served("zerosum.v1.WalletService", add)], [front.stop, reader.close]
    await serve_service(settings, "wallet", served, settings.wallet_port, metrics, watches, closers, stop)


async def serve_ledger(settings: Settings) -> None:
    """The ledger server, until a signal. Raises as `serve_payment`."""
    from servers.ledger import LedgerServicer

    metrics = Metrics()
    reader = open_reader("ledger", database_url(settings, "ledger"))
    metrics.database(reader.database.traffic)
    await require_fit(reader.database)
    links = links_of(settings, "ledger")
    front = _posting_front(links, ledger_binding())
    servicer = LedgerServicer(front, reader)
    add = partial(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, servicer)
    stop = asyncio.Event()
    watches = shard_watches(settings, metrics, links, stop)
    served, closers = [Served("zerosum.v1.LedgerService", add)], [front.stop, reader.close]
    await serve_service(settings, "ledger", served, settings.ledger_port, metrics, watches, closers, stop)


async def serve_reconciliation(settings: Settings) -> None:
    """The reconciliation server, until a signal. Raises as `serve_payment`."""
    from servers.wiring_reconciliation import serve_reconciliation as serve

    await serve(settings)


async def serve_edge(settings: Settings) -> None:
    """The HTTP edge, until a signal."""
    from servers.edge import serve_edge as serve

    await serve(settings)


async def serve_service(
    settings: Settings,
    service: Service,
    served: Sequence[Served],
    port: int,
    metrics: Metrics,
    watches: Sequence[Watch],
    closers: Sequence[Callable[[], Awaitable[object]]],
    stop: asyncio.Event,
) -> None:
    """The server process of a service, until a signal, or until a watch fails: it ends then, so that its supervisor starts it
    anew with all its alarms. `watches` run beside it; `closers` after the drain. Raises as `serve_grpc`."""
    running = [start_loop(watch, f"a watch of the {service} server", partial(_end_server, stop)) for watch in watches]

    async def end_watches() -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    await serve_grpc(settings, service, served, port=port, metrics=metrics, closers=[end_watches, *closers], stop=stop)


def _end_server(stop: asyncio.Event, _reason: str) -> None:
    stop.set()


_FACTORIES: dict[Service, str] = {"reconciliation": "servers.wiring_reconciliation"}
"""Where the factory of a service's actor stands, if not here."""


def links_of(settings: Settings, service: Service) -> list[Any]:
    """Joins Ray and names the service's shards; each is created where there is none."""
    from actors.ray_host import RayLink

    ray_cluster.join(settings.ray_address, settings.deployment)
    shards, space = settings.shards_of(service), ray_cluster.namespace(settings.deployment)
    factory = f"{_FACTORIES.get(service, 'servers.wiring')}:{service}_host"
    return [
        RayLink(f"{service}-{number}-of-{shards}", space, factory, settings, slots_of_shard(number, shards))
        for number in range(shards)
    ]


def _posting_front(links: Sequence[Any], binding: Any) -> Front[Any]:
    return Front(links=links, entity_of=binding.entity, is_inner=lambda _: False, stored_reply=None)


def shard_watches(settings: Settings, metrics: Metrics, links: Sequence[Any], stop: asyncio.Event) -> list[Watch]:
    """What every server watches; a service adds its own. `stop` is set where Ray is lost for good."""
    return [watch_shards(links, metrics, settings.ray_address, stop)]


async def require_fit(database: Any) -> None:
    """Refuses to serve on another revision or on a database that is not fit for money. Raises Misconfigured."""
    await require_revision(database)
    async with database.engine.connect() as connection:
        await connection.run_sync(preflight)


def _psp_api_key(settings: Settings) -> str:
    path = settings.psp_api_key_file
    return path.read_text(encoding="ascii").strip() if path else read_key(settings.data_dir, "psp_api_key")


def _is_fact(command: m.CheckoutCommand) -> bool:
    """Webhooks and settlement lines: what has happened is never turned away. Their senders bound themselves: the edge by what
    it has in flight, the reconciler by one call of 256 lines at a time."""
    return isinstance(command.body, m.Report)


async def close_all(closers: Sequence[Callable[[], Any]]) -> None:
    """Closes one after another, in this order. Raises what one of them raises; those behind it stay open then."""
    for close in closers:
        await close()


def wall_clock_s() -> int:
    """Only for the age of signatures: a PSP signs with the wall clock."""
    return int(time.time())
