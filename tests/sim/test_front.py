"""The servers' way to a shard: a lone command goes at once, a crowd shares calls, webhooks have a lane of their own.

Method: one front over a link that keeps when it was called with how much, on virtual time.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from actors.answer import Answer, Applied
from actors.front import Front
from actors.outcome import News
from tests.sim.virtual import run
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.limits import CALL_PACE_MS

CALL_MS = 10


class Link:
    """A shard that takes 10 ms for every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool, int]] = []

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        now_ms = round(asyncio.get_running_loop().time() * 1_000)
        self.calls.append((now_ms, is_inner, len(commands)))
        await asyncio.sleep(CALL_MS / 1_000)
        return [Applied(is_replay=False)] * len(commands)

    async def outcomes(self, epoch: int, position: int) -> News:
        raise NotImplementedError


def _front(link: Link) -> Front[Any]:
    return Front(
        links=[link], entity_of=lambda name: EntityKey(Tenant("acme"), name), is_inner=lambda name: name.startswith("hook"),
        stored_reply=None,
    )  # fmt: skip


async def _submit_at(front: Front[Any], at_ms: int, name: str) -> None:
    await asyncio.sleep(at_ms / 1_000)
    await front.submit([name])


def _calls(*arrivals: tuple[int, str]) -> list[tuple[int, bool, int]]:
    """What a shard sees of commands that come at these milliseconds: when, in which lane, how many."""
    link = Link()
    front = _front(link)

    async def story() -> None:
        await asyncio.gather(*(_submit_at(front, at_ms, name) for at_ms, name in arrivals))
        await front.stop()

    run(story())
    return link.calls


def test_a_lone_command_never_waits() -> None:
    """docs/adr/0007: who comes alone goes at once, also right after another."""
    assert _calls((0, "a"), (CALL_MS + 1, "b")) == [(0, False, 1), (CALL_MS + 1, False, 1)]


def test_what_comes_while_a_call_is_under_way_shares_the_next() -> None:
    assert _calls((0, "a"), (3, "b"), (6, "c")) == [(0, False, 1), (CALL_MS, False, 2)]


def test_a_crowd_waits_for_the_pace_and_shares_the_call_after_it() -> None:
    """A call costs the same whatever it carries."""
    crowd = [(0, "a"), (0, "b"), (CALL_MS + 5, "c"), (CALL_MS + 25, "d")]

    assert _calls(*crowd) == [(0, False, 2), (CALL_PACE_MS, False, 2)]


def test_webhooks_never_wait_for_callers_nor_callers_for_webhooks() -> None:
    """Each lane has a call of its own."""
    assert _calls((0, "a"), (1, "hook-1"), (2, "hook-2")) == [(0, False, 1), (1, True, 1), (1 + CALL_MS, True, 1)]
