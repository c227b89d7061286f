"""The common frame of a gRPC server process: start, serve, drain, end. Who is served is the wiring's business.

On SIGTERM or SIGINT: health says NOT_SERVING, new calls are told to go elsewhere, what has begun finishes within 10 s, then
the closers run in the order given, and the process ends.

Invariant: nothing is served before every servicer is there, and nothing is closed while a call still runs or its 10 s last.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from servers.auth import Verifier, load_public_keys
from servers.collector import settle
from servers.interceptors import STREAMS_MAX, Frame
from servers.keys import public_keys_folder
from servers.log import configure_logs, logger_of
from servers.metric import Metrics
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

DRAIN_S = 10.0
"""As long as one PSP call: what has begun may have one under way."""
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""A batch of 256 journals at its largest is 3.6 MB."""

SERVER_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # peers ping every 20 s
)

Closer = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Served:
    """One servicer: the full name of its service ("zerosum.v1.PaymentService"), and what adds it to a server.

    For example `Served("zerosum.v1.WalletService", partial(add_WalletServiceServicer_to_server, servicer))`.
    """

    name: str
    add_to: Callable[[Any], None]


async def serve_grpc(
    settings: Settings,
    service_name: str,
    served: Sequence[Served],
    *,
    port: int,
    metrics: Metrics,
    closers: Sequence[Closer] = (),
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until a signal comes (or `stop` is set), drains, closes. Returns when the process may end.

    `service_name`: payment, wallet or ledger, for logs. `port`: of `settings.bind_host`; 0 = any. Prometheus is at
    `port + settings.metrics_port_offset`. `closers` run after the drain, in order: shards' connections, readers, channels.
    Raises Misconfigured: no keys to verify tokens with, or a port is taken; nothing was served.
    """
    stop = stop or asyncio.Event()
    _stop_on_signals(stop)
    configure_logs(service_name, settings.log_level)
    log = logger_of(service_name)
    try:
        async with running(settings, service_name, served, port=port, metrics=metrics) as server:
            with _metrics_port(settings, server.port, metrics):
                settle()
                log.info("serving", address=f"{settings.bind_host}:{server.port}")
                await stop.wait()
                log.info("draining", in_flight=server.frame.in_flight)
        log.info("drained")
    finally:
        for close in closers:
            await close()


@dataclass(frozen=True, slots=True)
class Running:
    """A server that serves: its port and its frame."""

    port: int
    frame: Frame
    begin_drain: Callable[[], Awaitable[None]]
    """Health says NOT_SERVING, and nothing more is admitted."""


@asynccontextmanager
async def running(
    settings: Settings,
    service_name: str,
    served: Sequence[Served],
    *,
    port: int,
    metrics: Metrics,
    verifier: Verifier | None = None,
    drain_s: float = DRAIN_S,
    streams_max: int = STREAMS_MAX,
) -> AsyncIterator[Running]:
    """The server, serving inside the block; leaving it drains. For tests and `serve_grpc`. Raises Misconfigured."""
    frame = Frame(
        verifier=verifier or Verifier(load_public_keys(public_keys_folder(settings.data_dir))),
        metrics=metrics,
        log=logger_of(service_name),
        admission_max=settings.admission_max,
        streams_max=streams_max,
    )
    server = grpc.aio.server(
        interceptors=(frame,),
        options=SERVER_OPTIONS,
        # a second line: the frame refuses with RetryInfo first
        maximum_concurrent_rpcs=2 * frame.places_max,
    )
    names = [one.name for one in served]
    for one in served:
        one.add_to(server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    address = f"{settings.bind_host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise Misconfigured(f"cannot listen on {address}") from error
    await server.start()
    for name in ("", *names):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def begin_drain() -> None:
        await healthy.enter_graceful_shutdown()
        frame.stop_admitting()

    try:
        yield Running(bound, frame, begin_drain)
    finally:
        await begin_drain()
        await asyncio.gather(server.stop(drain_s), frame.drained(drain_s))


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


class _metrics_port:  # noqa: N801 - used as a with-block
    """Prometheus' port while the block lasts."""

    def __init__(self, settings: Settings, port: int, metrics: Metrics) -> None:
        self._address = (settings.bind_host, port + settings.metrics_port_offset)
        self._registry = metrics.registry

    def __enter__(self) -> None:
        host, port = self._address
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=self._registry)
        except OSError as error:
            raise Misconfigured(f"cannot listen on {host}:{port} for metrics") from error

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
