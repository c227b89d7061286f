"""How long a gRPC call takes that does nothing: one call at a time over loopback, from one process to another.

    python -m loadtest.bench.echo          starts the other process, measures, prints the median of its slices in µs
    python -m loadtest.bench.echo serve    is that other process; prints its port

Invariant: what is measured is grpc.aio on both sides, as the product uses it, and nothing of the product.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any, Final

import grpc

METHOD: Final = "/zerosum.bench.Echo/Echo"
MESSAGE: Final = bytes(200)
"""About the bytes of a checkout of one order."""

WARM_UP_CALLS: Final = 200
SLICES: Final = 5
SLICE_S: Final = 0.15


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
        return statistics.median([await _call_us(call) for _ in range(SLICES)])


async def _call_us(call: Any) -> float:
    began_s, count = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - began_s) < SLICE_S:
        await call(MESSAGE)
        count += 1
    return spent_s / count * 1_000_000


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
