"""How long a gRPC call takes that does nothing: one call at a time over loopback, from one process to another.

    python -m loadtest.bench.echo          starts the other process, measures, prints the median call in µs
    python -m loadtest.bench.echo serve    is that other process; prints its port

Invariant: what is measured is grpc.aio on both sides, as the product uses it, and nothing of the product.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

METHOD: Final = "/zerosum.bench.Echo/Echo"
MESSAGE: Final = bytes(200)
"""About the bytes of a checkout of one order."""

WARM_UP_CALLS: Final = 200
FOR_S: Final = 1.5


async def _echo(request: bytes, _context: Any) -> bytes:
    return request


async def _serve() -> None:
    server = grpc.aio.server()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("zerosum.bench.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


async def _measure(port: int) -> float:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)
        for _ in range(WARM_UP_CALLS):
            await call(MESSAGE)
        return await median_call_us(lambda: call(MESSAGE), for_s=FOR_S)


async def median_call_us(call: Callable[[], Awaitable[Any]], *, for_s: float) -> float:
    """One call after the other for so long. The median does not see what the machine did to a tenth of them; a mean does."""
    end_s, took_s = time.perf_counter() + for_s, []
    while (began_s := time.perf_counter()) < end_s:
        await call()
        took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s) * 1_000_000


def main() -> None:
    """Measures, or serves."""
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_serve())
        return
    command = [sys.executable, "-m", "loadtest.bench.echo", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None  # asked for
            told_us = asyncio.run(_measure(int(server.stdout.readline())))
        finally:
            server.kill()
    sys.stdout.write(json.dumps(round(told_us, 1)) + "\n")


if __name__ == "__main__":
    main()
