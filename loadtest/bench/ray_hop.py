"""How long a call to a Ray actor takes that does nothing: one call at a time, from this process to a worker of the cluster.

    python -m loadtest.bench.ray_hop HOST:PORT

Joins the cluster by its explicit address, with the token that the environment names, and leaves nothing behind: the actor ends
with this process. Prints the median call in µs.

Invariant: the cluster is somebody's; nothing of it is stopped, and nothing is started but one actor of our own.
"""

import asyncio
import json
import sys
from typing import Any, Final

import ray

from actors import ray_cluster
from loadtest.bench.echo import median_call_us

WARM_UP_CALLS: Final = 100
FOR_S: Final = 1.5


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
    return await median_call_us(lambda: echo.echo.remote(bytes(200)), for_s=FOR_S)


def main() -> None:
    """Joins, measures, prints."""
    ray_cluster.join(sys.argv[1], "bench-card")
    told_us = asyncio.run(_measure())
    sys.stdout.write(json.dumps(round(told_us, 1)) + "\n")


if __name__ == "__main__":
    main()
