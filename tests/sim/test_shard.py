"""What a shard promises whoever talks to it: in which order commands are taken, and why it ended. Row A2."""

import asyncio
from typing import Any

import pytest

from actors.batch import Batcher
from actors.posting import wallet_binding
from actors.shard import Shard
from tests.sim.house import TENANT
from tests.sim.virtual import VirtualClock, run
from zerosum.domain.identity import Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug
from zerosum.store.memory import MemoryStore, memory_store

# ---- in which order ------------------------------------------------------------------------------------------------


def test_commands_of_an_entity_are_taken_in_the_order_they_came_within_a_lane_and_the_inner_lane_first() -> None:
    """Facts go before wishes: what a caller asked for earlier is decided knowing what came in since."""

    async def tell() -> list[str]:
        store, shard = house()
        await shard.start(None)
        lanes = shard.submit([credit("asked-1"), credit("asked-2")]), shard.deliver([credit("told-1")])
        await asyncio.gather(*lanes, shard.submit([credit("asked-3")]), shard.deliver([credit("told-2")]))
        entries = (row for row in store.tables["entries"].rows.values())
        return [row["transfer_id"] for row in sorted(entries, key=lambda row: int(row["version"]))]

    assert run(tell()) == ["told-1", "told-2", "asked-1", "asked-2", "asked-3"]


# ---- why it ended --------------------------------------------------------------------------------------------------


def test_a_shard_that_a_newer_copy_has_superseded_says_so() -> None:
    """A2: two copies lived at once."""

    async def tell() -> tuple[str, int, str]:
        store, older = house()
        await older.start(None)
        before = older.end_reason
        await Shard(
            binding=wallet_binding(), store=store, slots=range(64), deployment="sim", clock=VirtualClock()
        ).start(None)
        await older.submit([credit("late")])
        await older.stop()
        return before, older.figures.fenced, older.end_reason

    before, fenced, reason = run(tell())

    assert (before, fenced) == ("", 1)
    assert reason.startswith("a newer copy owns slots")


def test_a_shard_whose_loop_failed_says_so_and_counts_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours must not read as two copies."""

    async def stumble(*_: object) -> None:
        raise Bug("a broken invariant")

    monkeypatch.setattr(Batcher, "run", stumble)

    async def tell() -> tuple[int, str]:
        _, shard = house()
        await shard.start(None)
        shard.tell(credit("any"))
        await shard.ended.wait()
        await shard.stop()
        return shard.figures.fenced, shard.end_reason

    assert run(tell()) == (0, "a loop of the shard failed: Bug('a broken invariant')")


def house() -> tuple[MemoryStore[Any], Shard[Any, Any]]:
    """A store of wallets and a shard of all its slots."""
    store = memory_store("wallet", lambda: 1_700_000_000_000)
    shard = Shard(binding=wallet_binding(), store=store, slots=range(64), deployment="sim", clock=VirtualClock())
    return store, shard


def credit(name: str) -> Transfer:
    """One to the same wallet."""
    return Transfer(TENANT, Key(name), "hot", TransferKind.CREDIT_PENDING, Money(100, "USD"), OrderId(f"o-{name}"))
