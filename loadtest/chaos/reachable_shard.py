"""A checkout shard under Ray that whoever knows its process id reaches, as a caller with a stale handle does.

A request in `copy-<pid>.ask` of the crash folder is submitted to this very copy; its answer is in `copy-<pid>.told`.
Invariant: a copy writes through the product's own host only; nothing here knows of epochs.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import ray

from actors.host import Hosted
from actors.ray_host import ShardActor
from loadtest.chaos.second_copy import submit_to

LOOK_EVERY_S: Final = 0.05


class ReachableShard(ShardActor):
    """A shard that also takes requests from files."""

    async def whereabouts(self) -> tuple[int, str]:
        """Its process id, and the id of its node."""
        return os.getpid(), str(ray.get_runtime_context().get_node_id())

    async def _start(self) -> Hosted:
        host = await super()._start()
        self._listener = asyncio.create_task(_listen(host, self._settings.crash_dir / f"copy-{os.getpid()}"))
        return host


async def _listen(host: Hosted, post: Path) -> None:
    asked, told = post.with_suffix(".ask"), post.with_suffix(".told")
    while True:
        if asked.exists():
            checkout_id, request = asked.read_text(encoding="ascii").split()
            asked.unlink()
            half = post.with_suffix(".new")
            half.write_text(json.dumps(await submit_to(host, checkout_id, bytes.fromhex(request))), encoding="utf-8")
            half.rename(told)
        await asyncio.sleep(LOOK_EVERY_S)
