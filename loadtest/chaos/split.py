"""Split brain: two live copies of one checkout shard, on real processes.

    A2, A10   the copy that Ray hosts is stopped in the middle of a commit, holding row locks; a second copy takes its slots
              and serves; then the first one wakes
    O2        both copies run, and the second belongs to another deployment on the same database

In both the first copy is superseded by the second, and the second by the third, which Ray starts when the first has ended.
Each is made to write after that, and each must be refused, end or fall silent, and be counted.

Invariant: a scenario is good only when both copies were seen alive at one instant and both refusals were counted.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from loadtest.calls import ProtoCodec
from loadtest.chaos import process
from loadtest.chaos.arena import Arena, root_of_the_code
from loadtest.chaos.client import new_checkout
from loadtest.chaos.money import ONCE, movement_of
from loadtest.chaos.scenario import Scenario, told
from loadtest.chaos.wait import WITHIN_S, NeverCame, until
from loadtest.shape import Checkout
from zerosum.crash import Act, Point, Process, place_order

SHARD: Final = 0

TAKING_MS_MAX: Final = 5_000
"""A successor has the slots within 5 s, whoever holds their rows (failures.md A10); counted by its own clock, which a machine
that starves it stretches: judged at four times that."""
_STARVED: Final = 4


@dataclass(slots=True, kw_only=True)
class SplitBrain(Scenario):
    """`first`, `second`, `third`: the process ids of the copies. `taking_ms`: how long the second needed to have the slots: it
    waits for whoever holds their rows. `refused`: writes of stale copies that were refused and counted."""

    first: int = 0
    second: int = 0
    third: int = 0
    taking_ms: int = 0
    refused: int = 0


class SecondCopy:
    """The process of `second_copy.py`."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running
        self.pid = running.pid

    async def hear(self) -> dict[str, Any]:
        """Its next line. Raises NeverCame where it has ended."""
        if self._running.stdout is None:
            raise NeverCame("the second copy has no output")
        try:
            line = await asyncio.wait_for(asyncio.to_thread(self._running.stdout.readline), WITHIN_S)
        except TimeoutError as never:
            raise NeverCame(f"the second copy said nothing for {WITHIN_S:g} s") from never
        if not line:
            raise NeverCame("the second copy has ended")
        document: dict[str, Any] = json.loads(line)
        return document

    async def ask(self, words: str) -> dict[str, Any]:
        """Has it do something; what it tells."""
        if self._running.stdin is None:
            raise NeverCame("the second copy takes no input")
        self._running.stdin.write(words + "\n")
        self._running.stdin.flush()
        return await self.hear()

    async def pay(self, checkout: Checkout) -> dict[str, Any]:
        """Hands a checkout to this very copy."""
        return await self.ask(f"pay {checkout.checkout_id} {ProtoCodec().submit(checkout).hex()}")


async def stopped_with_locks(arena: Arena) -> SplitBrain:
    """A2, A10, I7: the successor serves while its predecessor stands still with row locks; the woken one is refused."""
    split = SplitBrain(rows="A2, A10", title="a copy stopped inside its commit; its successor; its awakening")
    return await told(split, _stopped_with_locks(arena, split))


async def two_deployments(arena: Arena) -> SplitBrain:
    """O2, I7: a second deployment takes the slots of a copy that runs; whoever writes too late is refused."""
    split = SplitBrain(rows="O2", title="two deployments on one database")
    return await told(split, _two_deployments(arena, split))


async def _stopped_with_locks(arena: Arena, split: SplitBrain) -> None:
    await arena.until_at_rest()
    copies = await until("every checkout shard lives", lambda: arena.all_shards("payment"))
    checkout = mine(arena, "split")
    fired = place_order(arena.crash_dir, Process.PAYMENT_SHARD, Point.COMMIT_BEFORE, nth=2, act=Act.STOP)
    paying = asyncio.create_task(arena.buyer.pay(checkout))
    try:
        await until("the first copy has come to its second commit", fired.exists)
        split.first = int(fired.read_text(encoding="ascii"))
        if copies.get(SHARD) != split.first:
            raise NeverCame("another shard came to the point first")
        await until("the first copy stands still", lambda: arena.is_standing(split.first))
        refused = refusals(arena)
        async with _second_copy(arena, arena.settings.deployment) as second:
            await _served_by_second(arena, split, second)
            if not process.is_stopped(split.first):
                raise NeverCame("the first copy did not stand still until its successor had served")
            split.facts.append("the successor served while the stopped copy still stood inside its commit")
            arena.resume(split.first)
            await _superseded(arena, split, refused)
            await _stale_second(arena, split, second)
        reply = await paying
    finally:
        paying.cancel()
    await judge(arena, split, checkout, reply.body, refused_min=2)


async def _two_deployments(arena: Arena, split: SplitBrain) -> None:
    await arena.until_at_rest()
    split.first = (await until("every checkout shard lives", lambda: arena.all_shards("payment")))[SHARD]
    refused = refusals(arena)
    async with _second_copy(arena, f"{arena.settings.deployment}-other") as second:
        await _served_by_second(arena, split, second)
        checkout = mine(arena, "split")
        paying = asyncio.create_task(arena.buyer.pay(checkout))
        try:
            await _superseded(arena, split, refused)
            await _stale_second(arena, split, second)
            reply = await paying
        finally:
            paying.cancel()
    await judge(arena, split, checkout, reply.body, refused_min=2)


@asynccontextmanager
async def _second_copy(arena: Arena, deployment: str) -> AsyncIterator[SecondCopy]:
    """Another copy of the shard, in a session of its own, ended with the block."""
    environment = {**arena.environment(), "ZEROSUM_DEPLOYMENT": deployment}
    environment.pop("ZEROSUM_CRASH_DIR", None)  # orders are for the copies of Ray
    with (arena.run_folder / "second_copy.log").open("ab") as log:
        running = subprocess.Popen(  # noqa: ASYNC220 - a fork
            [sys.executable, "-m", "loadtest.chaos.second_copy", str(SHARD)], cwd=root_of_the_code(), env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        yield SecondCopy(running)
    finally:
        running.kill()
        await asyncio.to_thread(running.communicate)


async def _served_by_second(arena: Arena, split: SplitBrain, second: SecondCopy) -> None:
    """The second copy takes the slots and commits a checkout of its own; both copies are seen alive at that moment."""
    taken = await second.hear()
    answer = await second.pay(mine(arena, "second"))
    split.taking_ms = taken["taken_ms"]
    split.second = second.pid
    if taken["taken_ms"] > _STARVED * TAKING_MS_MAX:
        split.wrong = f"the successor had the slots after {taken['taken_ms']:,} ms only"
    split.facts.append(
        f"the slots were had after {taken['taken_ms']:,} ms and {taken['tries']} tries; its first commit: {answer['answer']}"
    )
    if answer["answer"] not in ("Accepted", "Replied"):
        raise NeverCame(f"the second copy did not serve: {answer}")
    if not (process.is_alive(split.first) and process.is_alive(split.second)):
        raise NeverCame("two live copies were not seen at one instant")


async def _superseded(arena: Arena, split: SplitBrain, refused_before: int) -> None:
    """The first copy's next write is refused; it ends, and Ray starts a third."""
    await until("the first copy's stale write is refused", lambda: refusals(arena) > refused_before)
    await until("the first copy has ended", lambda: not process.is_alive(split.first))
    split.refused += refusals(arena) - refused_before

    def third() -> int | None:
        pid = arena.shards("payment").get(SHARD)
        return pid if pid not in (None, split.first) else None

    split.third = await until("Ray has started a third copy", third)
    await arena.buyer.until_served("third", shard=SHARD, shards=arena.settings.checkout_shards)
    split.facts.append(f"process {split.first} was refused and ended; process {split.third} serves")


async def _stale_second(arena: Arena, split: SplitBrain, second: SecondCopy) -> None:
    """The second copy, stale by now and alive, is made to write."""
    checkout = mine(arena, "stale")
    if not process.is_alive(second.pid):
        raise NeverCame("the second copy did not live long enough to be refused")
    answer, figures = await second.pay(checkout), await second.ask("figures")
    if answer["answer"] != "Failed" or figures["fenced"] != 1:
        split.wrong = f"a stale write was not refused: {answer}, {figures}"
    if await asyncio.to_thread(arena.books.knows, checkout.checkout_id):
        split.wrong = f"the stale copy's {checkout.checkout_id} was stored"
    split.refused += int(figures["fenced"])
    split.facts.append(f"the second copy wrote too late: {answer['said']}")


async def judge(arena: Arena, split: SplitBrain, checkout: Checkout, body: bytes, *, refused_min: int) -> None:
    """The money of that checkout moved once, its key brings these bytes, and so many stale writes were counted."""
    await arena.buyer.until_done(checkout)
    await arena.until_at_rest()
    moved = await asyncio.to_thread(movement_of, checkout, arena.psp, arena.auditor_url)
    if moved != ONCE:
        split.wrong = f"the money of {checkout.checkout_id} moved otherwise than once: {moved}"
    elif (await arena.buyer.pay(checkout)).body != body:
        split.wrong = f"{checkout.checkout_id} was told two things under one key"
    elif not split.wrong and split.refused < refused_min:
        split.wrong = f"only {split.refused} stale writes were counted"


def mine(arena: Arena, name: str) -> Checkout:
    """A new checkout of that shard."""
    return new_checkout(name, shard=SHARD, shards=arena.settings.checkout_shards)


def refusals(arena: Arena) -> int:
    """How often copies of this shard that Ray hosts have said that they were superseded and end."""
    return sum(
        path.read_text(encoding="utf-8", errors="replace").count("superseded: this copy of the shard ends")
        for path in (arena.settings.data_dir / "logs").glob("shard-payment-*.log")
    )
