"""R2: Ray itself makes two live copies of a shard. Its head takes a node for dead whose processes live.

A second raylet on this machine hosts a checkout shard. That raylet alone is stopped: the shard's process runs on, and nobody
tells it anything. The head declares the node dead and starts another copy, which takes the slots and serves. Then the first
one, which knows of nothing, is handed a checkout, as by a caller with a stale handle.

Invariant: good only when both copies were seen alive at one instant, and the first one's write was refused, counted and not
stored. The second raylet is ended with the scenario, by its own session.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from loadtest.calls import ProtoCodec
from loadtest.chaos import process
from loadtest.chaos.arena import Arena, root_of_the_code
from loadtest.chaos.scenario import told
from loadtest.chaos.split import SHARD, SplitBrain, judge, mine, refusals
from loadtest.chaos.wait import NeverCame, until
from servers.child import Child
from servers.supervisor import OBJECT_STORE_BYTES

NODE: Final = "second"

HEALTH_CHECK: Final = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "4",
}
"""For Ray's head, in its environment: a raylet that is silent is declared dead after 4 x (0.5 + 1.5) = 8 s instead of about
5 x 13 = 65 s. Long enough that a raylet which merely waits for a busy machine answers one of four."""

PLACED_WITHIN_S: Final = 120.0


async def paused_raylet(arena: Arena) -> SplitBrain:
    """R2, I7: two copies by Ray's own doing; the one that Ray gave up is refused."""
    split = SplitBrain(rows="R2", title="a stopped raylet, whose shard lives on; the copy that Ray starts in its place")
    return await told(split, _paused_raylet(arena, split))


async def _paused_raylet(arena: Arena, split: SplitBrain) -> None:
    await arena.until_at_rest()
    async with _second_node(arena) as node:
        placed = await ask_ray(arena, NODE)
        split.first = int(placed["pid"])
        if placed["node"] != NODE or split.first not in process.session_of(node):
            raise NeverCame(f"the shard's process {split.first} is not of the second node")
        await until("the first copy serves", lambda: arena.shards("payment").get(SHARD) == split.first)
        checkout = mine(arena, "split")
        reply = await arena.buyer.pay(checkout)
        refused = refusals(arena)
        raylet = await _pause(arena, node)
        await _both_alive(arena, split, raylet)
        await _stale_first(arena, split, refused)
        if not process.is_stopped(raylet):
            raise NeverCame("the raylet did not stand still until the first copy was refused")
    await arena.buyer.until_served("split", shard=SHARD, shards=arena.settings.checkout_shards)
    await judge(arena, split, checkout, reply.body, refused_min=1)


@asynccontextmanager
async def _second_node(arena: Arena) -> AsyncIterator[int]:
    """Another raylet on this machine, in a session of its own, which is ended with the block. The session's leader."""
    command = [
        str(Path(sys.executable).parent / "ray"), "start", f"--address={arena.settings.ray_address}", "--block",
        "--node-ip-address=127.0.0.1", f"--node-name={NODE}", "--num-cpus=0", "--min-worker-port=0", "--max-worker-port=0",
        f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats",
    ]  # fmt: skip
    log = arena.run_folder / "second_node.log"
    node = Child("second node", command, env=arena.environment(), log=log, is_group=True, end_signal=signal.SIGKILL)
    await node.start()
    leader = node.pid
    try:
        if leader is None:
            raise NeverCame(f"the second node has ended; see {log}")
        await until("a second raylet runs", lambda: _raylet_of(leader))
        yield leader
    finally:
        await node.stop()


def _raylet_of(leader: int) -> int | None:
    commands = process.session_of(leader)
    return next((pid for pid, command in commands.items() if "raylet/raylet" in command.partition(" ")[0]), None)


async def ask_ray(arena: Arena, *words: str) -> dict[str, Any]:
    """Has `placed_shard.py` end the shard's actor, and place it on the node that is named; what it tells. Raises NeverCame."""
    command = [sys.executable, "-m", "loadtest.chaos.placed_shard", str(SHARD), *words]
    with (arena.run_folder / "placed_shard.log").open("ab") as log:
        asked = await asyncio.create_subprocess_exec(
            *command, cwd=root_of_the_code(), env=arena.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(asked.communicate(), PLACED_WITHIN_S)
    except TimeoutError as never:
        raise NeverCame(f"the shard was not placed within {PLACED_WITHIN_S:g} s") from never
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
    if asked.returncode:
        raise NeverCame(f"the shard could not be placed; see {arena.run_folder / 'placed_shard.log'}")
    document: dict[str, Any] = json.loads(said.splitlines()[-1])
    return document


async def _pause(arena: Arena, node: int) -> int:
    """Stops the raylet of that node, and nobody else."""
    raylet = await until("the second raylet is there to be stopped", lambda: _raylet_of(node))
    arena.pause(raylet)
    await until("the raylet stands still", lambda: process.is_stopped(raylet))
    return raylet


async def _both_alive(arena: Arena, split: SplitBrain, raylet: int) -> None:
    """The head gives the node up; its next copy serves while the first one, not stopped, lives."""
    began_s = time.monotonic()

    def second() -> int | None:
        pid = arena.shards("payment").get(SHARD)
        return pid if pid not in (None, split.first) else None

    split.second = await until("Ray has started a second copy", second)
    split.taking_ms = round((time.monotonic() - began_s) * 1_000)
    await arena.buyer.until_served("second", shard=SHARD, shards=arena.settings.checkout_shards)
    first, other = process.state(split.first), process.state(split.second)
    if process.GONE in (first, other) or first == process.STOPPED:
        raise NeverCame(f"two live copies were not seen at one instant: {first or 'gone'}, {other or 'gone'}")
    split.facts.append(
        f"{split.taking_ms / 1_000:.1f} s after raylet {raylet} was stopped Ray had started process {split.second}, which "
        f"served while process {split.first} lived"
    )


async def _stale_first(arena: Arena, split: SplitBrain, refused_before: int) -> None:
    """The first copy, which has not been told of anything, is handed a checkout."""
    checkout, post = mine(arena, "stale"), arena.crash_dir / f"copy-{split.first}"
    request = ProtoCodec().submit(checkout).hex()
    half = post.with_suffix(".half")
    half.write_text(f"{checkout.checkout_id} {request}", encoding="ascii")
    half.rename(post.with_suffix(".ask"))
    answer_file = post.with_suffix(".told")
    await until("the first copy has answered", answer_file.exists)
    answer = json.loads(answer_file.read_text(encoding="utf-8"))
    await until("the first copy has ended", lambda: not process.is_alive(split.first))
    split.refused += refusals(arena) - refused_before
    if answer["answer"] != "Failed":
        split.wrong = f"a stale write was not refused: {answer}"
    if await asyncio.to_thread(arena.books.knows, checkout.checkout_id):
        split.wrong = f"the stale copy's {checkout.checkout_id} was stored"
    split.facts.append(f"process {split.first} wrote too late, and has ended: {answer['said']}")
