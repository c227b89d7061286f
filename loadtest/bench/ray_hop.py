"""How long a call to a Ray actor takes that does nothing: one call at a time, from this process to a worker of the cluster.

    python -m loadtest.bench.ray_hop HOST:PORT

Joins the cluster by its explicit address, with the token that the environment names, and leaves nothing behind: the actor ends
with this process. Prints the median of its slices in µs.

Invariant: the cluster is somebody's; nothing of it is stopped, and nothing is started but one actor of our own.
"""

import asyncio
import json
import statistics
import sys
import time
from typing import Any, Final

import ray

from actors import ray_cluster

WARM_UP_CALLS: Final = 100
SLICES: Final = 5
SLICE_S: Final = 0.15


class Echo:
    """An asyncio actor, as the product's shards are."""

    async def echo(self, request: bytes) -> bytes:
        """What it was given."""
        return request


async def _measure() -> float:
    actor: Any = ray.remote(Echo)
    echo = actor.options(num_cpus=0).remote()
    for _ in range(WARM_UP_CALLS):
        await echo.echo.remote(b"warm")
    return statistics.median([await _hop_us(echo) for _ in range(SLICES)])


async def _hop_us(echo: Any) -> float:
    began_s, count = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - began_s) < SLICE_S:
        await echo.echo.remote(bytes(200))
        count += 1
    return spent_s / count * 1_000_000


def main() -> None:
    """Joins, measures, prints."""
    ray_cluster.join(sys.argv[1], "bench-card")
    told_us = asyncio.run(_measure())
    sys.stdout.write(json.dumps(round(told_us, 1)) + "\n")


if __name__ == "__main__":
    main()
