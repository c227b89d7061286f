"""When a shard begins its next batch: at once after a lone turn, not before the pace after a crowd; a pace of 0 never waits.

Method: one ledger shard over the memory store on virtual time; a commit takes none of it.
"""

import asyncio
from typing import Any

import pytest

from actors.posting import ledger_binding
from actors.shard import Shard
from tests.sim.virtual import VirtualClock, run
from zerosum import limits
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.store.memory import memory_store


def _journal(number: int) -> Journal:
    entries = (
        Entry("psp:stripe:clearing:USD", Money(100, "USD")),
        Entry("seller:a:pending:USD", Money(-100, "USD")),
    )
    return Journal(Tenant("acme"), Key(f"j-{number}"), "a", Movement.CAPTURE, entries, OrderId(f"o-{number}"))


def _answered_ms(crowd: int, **options: Any) -> list[int]:
    """When a crowd's journals are answered, and then one more, which comes when the crowd has its answer."""

    async def story() -> list[int]:
        loop, clock = asyncio.get_running_loop(), VirtualClock()
        shard: Shard[Any, Any] = Shard(
            binding=ledger_binding(), store=memory_store("ledger", clock.monotonic_ms), slots=range(limits.SLOTS),
            deployment="d", clock=clock, **options,
        )  # fmt: skip
        await shard.start(None)
        began_s, ended = loop.time(), []
        for call in ([_journal(number) for number in range(crowd)], [_journal(crowd)]):
            await shard.submit(call)
            ended.append(round((loop.time() - began_s) * 1_000))
        await shard.stop()
        return ended

    return run(story())


@pytest.mark.parametrize(
    ("crowd", "options", "expected"),
    [(1, {}, [0, 0]), (2, {}, [0, limits.BATCH_PACE_MS]), (2, {"pace_ms": 0}, [0, 0]), (2, {"pace_ms": 7}, [0, 7])],
)
def test_after_a_crowd_the_next_batch_waits_for_the_pace(
    crowd: int, options: dict[str, int], expected: list[int]
) -> None:
    """docs/adr/0007: who comes alone never waits; what comes after a crowd shares the next commit."""
    assert _answered_ms(crowd, **options) == expected
