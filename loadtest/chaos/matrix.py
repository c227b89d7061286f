"""The matrix: every crash point with every kind of harm, each on a checkout of its own, and where its money is afterwards.

For each cell: the system is at rest; an order to die or stop is placed; a checkout is submitted, or its refund asked for, and
repeated under its key (`journey.py`); the harm is seen; what comes back serves a new checkout of the same shard; the first
checkout's money has moved once, there and back where it had to go back, and the same key brings the same bytes.

A cut at a commit stops the process before the COMMIT, arms the proxy, and lets it go on: the connection ends when the COMMIT
passes, before the server has it or after. Elsewhere all of the process's connections end while it stands at the point.

Invariant: a cell is good only when its harm was seen; a cell that could not be carried out is wrong, not left out.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from actors.front import shard_of
from loadtest.chaos import journey, process
from loadtest.chaos.arena import Arena
from loadtest.chaos.case import Case, Cell, Harm
from loadtest.chaos.client import new_checkout
from loadtest.chaos.money import ENDS, movement_of
from loadtest.chaos.proxy import Cut
from loadtest.chaos.result import Result, Results
from loadtest.chaos.wait import TROUBLE, NeverCame, reason_of, until
from loadtest.clock import wall_ms
from loadtest.shape import Checkout
from servers.keys import DEMO_TENANT
from zerosum.crash import Act, Point, Process, place_order
from zerosum.domain.identity import EntityKey
from zerosum.service import Service

WRONG_MAX: Final = 3
"""A system that does not come back is told within minutes, not after each of 150 cells has waited for it."""

CUT_WITHIN_S: Final = 60.0

Tell = Callable[[Result], None]

_RISK: Final = (Point.RISK_BEFORE, Point.RISK_AFTER)
_COMMIT: Final = {Point.COMMIT_BEFORE: Cut.BEFORE, Point.COMMIT_AFTER: Cut.AFTER}
_SERVICE_OF: Final[Mapping[Process, Service]] = {
    Process.PAYMENT_SHARD: "payment", Process.WALLET_SHARD: "wallet", Process.LEDGER_SHARD: "ledger",
}  # fmt: skip
_POSTERS: Final = (Process.WALLET_SHARD, Process.LEDGER_SHARD)
"""Recovered when a checkout is done to its end: the reply does not wait for them."""


@dataclass(frozen=True, slots=True)
class Struck:
    """What a cell has shown so far: who was hit, and how long nobody was served after it."""

    pid: int
    recovery_s: float


async def carry_out(arena: Arena, cells: Sequence[Cell], results: Results, *, stop_s: float, tell: Tell) -> None:
    """Runs the cells that have no good result yet, one after the other; gives up when WRONG_MAX in a row went wrong."""
    missing, row = set(results.missing(stops_of(cells, stop_s))), 0
    for cell in cells:
        if cell.name in missing and row < WRONG_MAX:
            result = await run_cell(arena, cell, stop_s=stop_s)
            results.put(result)
            tell(result)
            row = 0 if result.is_good else row + 1


def stops_of(cells: Sequence[Cell], stop_s: float) -> dict[str, float]:
    """How long each cell's process stands still; 0 where it is killed or cut off."""
    return {cell.name: stop_s if cell.harm is Harm.STOP else 0.0 for cell in cells}


async def run_cell(arena: Arena, cell: Cell, *, stop_s: float) -> Result:
    """One cell from rest to rest."""
    at_ms, pid, recovery_s, wrong = wall_ms(), 0, None, ""
    checkout = new_checkout("point")
    try:
        told = await journey.set_out(arena, cell.case.journey, checkout)
        struck, body = await _strike(arena, cell, checkout, stop_s)
        pid, recovery_s = struck.pid, round(struck.recovery_s, 2)
        wrong = await _judge(arena, cell.case, checkout, told | {body})
    except TROUBLE as trouble:
        wrong = reason_of(trouble)
    finally:
        for order in arena.crash_dir.glob("*@*"):
            order.unlink(missing_ok=True)
    stood_s = stops_of([cell], stop_s)[cell.name]
    return Result(cell=cell.name, at_ms=at_ms, pid=pid, recovery_s=recovery_s, wrong=wrong, stop_s=stood_s)


async def _strike(arena: Arena, cell: Cell, checkout: Checkout, stop_s: float) -> tuple[Struck, bytes]:
    """Asks, sees the harm, and then the recovery. The bytes of the checkout's reply."""
    case = cell.case
    before = (
        {}
        if case.process is Process.PAYMENT_SERVER
        else await asyncio.to_thread(arena.shards, _SERVICE_OF[case.process])
    )
    fired = place_order(
        arena.crash_dir, case.process, _point(cell), detail=case.detail, nth=case.nth,
        act=Act.KILL if cell.harm is Harm.KILL else Act.STOP,
    )  # fmt: skip
    async with _risk_asked_later(arena, case, checkout):
        asking = asyncio.create_task(journey.ask(arena, case.journey, checkout))
    try:
        await until(f"a {case.process} has come to {case.point}", fired.exists)
        pid = int(fired.read_text(encoding="ascii"))
        await _harm(arena, cell, pid, stop_s)
        began_s = time.monotonic()
        await _until_served_again(arena, case, _shard_hit(arena, before, pid, checkout))
        recovery_s = time.monotonic() - began_s
        body = await asking
    finally:
        asking.cancel()
    return Struck(pid, recovery_s), body


def _point(cell: Cell) -> Point:
    """Where the process is met: a cut at a commit waits for the COMMIT itself, which comes after the point before it."""
    is_cut_commit = cell.harm is Harm.CUT and cell.case.point in _COMMIT
    return Point.COMMIT_BEFORE if is_cut_commit else cell.case.point


async def _harm(arena: Arena, cell: Cell, pid: int, stop_s: float) -> None:
    """What is done once the process is at the point; returns when it is over."""
    if cell.harm is Harm.KILL:
        await until(f"process {pid} is dead", lambda: not process.is_alive(pid))
        return
    await until(f"process {pid} stands still", lambda: arena.is_standing(pid))
    if cell.harm is Harm.STOP:
        await arena.resume_after([pid], stop_s)
        return
    try:
        ports = await until(f"process {pid} has connections to cut", lambda: arena.database_ports(pid))
        if (cut := _COMMIT.get(cell.case.point)) is None:
            if not arena.proxy.cut_now(ports):
                raise NeverCame("no connection was there to be cut")
            return
        order = arena.proxy.cut_at_commit(ports, cut)
    finally:
        arena.resume(pid)
    try:
        await asyncio.wait_for(order.carried_out, CUT_WITHIN_S)
    except TimeoutError as never:
        raise NeverCame("no COMMIT came to be cut") from never


def _shard_hit(arena: Arena, before: dict[int, int], pid: int, checkout: Checkout) -> int:
    """The number of the shard that was hit."""
    numbers = [number for number, known in before.items() if known == pid]
    entity = EntityKey(DEMO_TENANT, checkout.checkout_id)
    return numbers[0] if numbers else shard_of(entity, arena.settings.checkout_shards)


async def _until_served_again(arena: Arena, case: Case, shard: int) -> None:
    shards = arena.settings.checkout_shards
    if case.process in _POSTERS:
        await arena.buyer.until_served("probe", to_the_end=True)
    else:
        await arena.buyer.until_served("probe", shard=shard, shards=shards)


async def _judge(arena: Arena, case: Case, checkout: Checkout, told: set[bytes]) -> str:
    """What speaks against it: money that moved otherwise than once, or another reply under the same key."""
    await journey.until_over(arena, case.journey, checkout)
    again = await journey.ask(arena, case.journey, checkout)
    await arena.until_at_rest()
    moved = await asyncio.to_thread(movement_of, checkout, arena.psp, arena.auditor_url)
    if moved != ENDS[case.journey]:
        return f"the money of {checkout.checkout_id} moved otherwise than once: {moved}"
    return "" if told == {again} else f"{checkout.checkout_id} was told two things under one key"


@asynccontextmanager
async def _risk_asked_later(arena: Arena, case: Case, checkout: Checkout) -> AsyncIterator[None]:
    """For points of the risk check: its file is away when the checkout comes, so that its verdict is an effect of its own."""
    if case.point not in _RISK:
        yield
        return
    arena.blocked_buyers.unlink()
    try:
        yield
        await until("the checkout waits for its verdict", lambda: arena.books.waits_for_risk(checkout.checkout_id))
    finally:
        arena.blocked_buyers.touch()
