"""The servers' way to a shard: a lone command goes at once, a crowd shares calls, webhooks have a lane of their own; and past
what a shard serves, callers are turned away instead of waiting.

Method: one front over a link that keeps when it was called with how much, on virtual time.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from actors.answer import Answer, Applied, Busy, Failed
from actors.front import Front
from actors.outcome import News
from tests.sim.virtual import run
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.errors import Misconfigured, SerializationConflict, Unavailable
from zerosum.limits import ADMISSION_WAIT_MS, CALL_PACE_MS

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


def _front(link: Link, waiting_max: int | None = None) -> Front[Any]:
    return Front(
        links=[link], entity_of=lambda name: EntityKey(Tenant("acme"), name), is_inner=lambda name: name.startswith("hook"),
        stored_reply=None, waiting_max=waiting_max,
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
    crowd = [(0, "a"), (0, "b"), (CALL_MS + 1, "c"), (CALL_PACE_MS - 1, "d")]

    assert _calls(*crowd) == [(0, False, 2), (CALL_PACE_MS, False, 2)]


def test_webhooks_never_wait_for_callers_nor_callers_for_webhooks() -> None:
    """Each lane has a call of its own."""
    assert _calls((0, "a"), (1, "hook-1"), (2, "hook-2")) == [(0, False, 1), (1, True, 1), (1 + CALL_MS, True, 1)]


class SlowLink(Link):
    """A shard that takes 10 ms for a call and 5 ms for each command in it: less than 200 a second, in any batches."""

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        await asyncio.sleep((CALL_MS + 5 * len(commands)) / 1_000)
        return [Applied(is_replay=False)] * len(commands)


class AwayLink(Link):
    """A shard that cannot be reached for the first three seconds, and is quick afterwards."""

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        if asyncio.get_running_loop().time() < 3.0:
            raise Unavailable("its process has died")
        return await super().submit(commands, is_inner)


def _waits(
    link: Link, *, per_s: int, seconds: int, waiting_max: int | None, first: str = "co"
) -> list[tuple[float, bool]]:
    """Of each command that comes, evenly spaced: how long it waited in ms, and whether it was taken on."""
    front, waits = _front(link, waiting_max), list[tuple[float, bool]]()

    async def one(number: int) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(number / per_s)
        began_s = loop.time()
        (answer,) = await front.submit([f"{first}-{number}"])
        waits.append(((loop.time() - began_s) * 1_000, not isinstance(answer, Busy)))

    async def story() -> None:
        await asyncio.gather(*(one(number) for number in range(per_s * seconds)))
        await front.stop()

    run(story())
    return waits


def test_at_twice_what_a_shard_serves_callers_taken_on_wait_no_longer() -> None:
    """Issue 5, point 7; docs/adr/0013. Who is not taken on is told so at once, and the shard has enough to do."""
    waits = _waits(SlowLink(), per_s=400, seconds=20, waiting_max=2_000)
    settled = waits[len(waits) // 4 :]

    served = [wait_ms for wait_ms, is_served in settled if is_served]
    assert max(served) < 4 * ADMISSION_WAIT_MS
    assert len(served) > 140 * 15
    assert {wait_ms for wait_ms, is_served in settled if not is_served} == {0.0}


def test_without_the_bound_the_same_crowd_waits_for_seconds() -> None:
    """What the bound is for: the queue grows for as long as more comes than is served."""
    waits = _waits(SlowLink(), per_s=400, seconds=20, waiting_max=None)

    assert max(wait_ms for wait_ms, _ in waits) > 10_000
    assert all(is_served for _, is_served in waits)


def test_below_what_a_shard_serves_nobody_is_turned_away() -> None:
    waits = _waits(SlowLink(), per_s=80, seconds=20, waiting_max=2_000)

    assert all(is_served for _, is_served in waits)


def test_webhooks_are_never_turned_away() -> None:
    """Design section 3: admission never refuses the inner lane."""
    waits = _waits(SlowLink(), per_s=400, seconds=5, waiting_max=2_000, first="hook")

    assert all(is_served for _, is_served in waits)


def test_the_time_a_shard_was_away_is_not_taken_for_a_crowd() -> None:
    """A restart turns nobody away: who came meanwhile waits and is served, and so is who comes after it."""
    waits = _waits(AwayLink(), per_s=40, seconds=10, waiting_max=2_000)

    assert all(is_served for _, is_served in waits)
    assert max(wait_ms for wait_ms, _ in waits) > 2_900


class OddLink(Link):
    """A shard whose first call brings what no call should, and whose news are always that some may be missing."""

    async def submit(self, commands: Sequence[Any], is_inner: bool) -> Sequence[Answer]:
        answers = await super().submit(commands, is_inner)
        return answers if len(self.calls) > 1 else [*answers, *answers]

    async def outcomes(self, epoch: int, position: int) -> News:
        return News(epoch=1, position=1, replies=[], is_reset=True)


def test_a_call_that_fails_is_answered_and_the_lane_goes_on_with_those_behind_it() -> None:
    """Nobody waits for somebody else to come: what is left in the lane is sent."""
    front = _front(OddLink())

    async def story() -> tuple[Answer, Answer]:
        first = asyncio.create_task(front.submit(["a"]))
        await asyncio.sleep(CALL_MS / 2_000)
        async with asyncio.timeout(60):
            (behind,) = await front.submit(["b"])
            (failed,) = await first
        await front.stop()
        return failed, behind

    failed, behind = run(story())
    assert failed == Failed("Unavailable", "the server stopped asking the shard")
    assert behind == Applied(is_replay=False)


def _listens(trouble: Exception) -> tuple[list[str], int]:
    """What ends a server that cannot read a reply while it listens, and how often it tried within a minute."""
    ended, tries = list[str](), list[EntityKey]()

    async def unreadable(entity: EntityKey) -> bytes | None:
        tries.append(entity)
        raise trouble

    key = EntityKey(Tenant("acme"), "co-1")
    link = PacedNews()
    front: Front[Any] = Front(
        links=[link], entity_of=lambda _: key, is_inner=lambda _: False, stored_reply=unreadable
    )  # fmt: skip

    async def story() -> None:
        waiter = asyncio.create_task(front.outcome(key, 60_000))
        await asyncio.sleep(0)
        front.start(ended.append)
        await asyncio.sleep(1)
        waiter.cancel()
        await front.stop()

    run(story())
    return ended, len(tries)


class PacedNews(OddLink):
    """Asks ten times a second to look at everything."""

    async def outcomes(self, epoch: int, position: int) -> News:
        await asyncio.sleep(0.1)
        return await super().outcomes(epoch, position)


def test_a_front_that_cannot_listen_any_more_ends_its_server() -> None:
    """It would only seem to live: every waiter would pay the silence, 2 s, before it looks into the database."""
    ended, tries = _listens(Misconfigured("the database is not as this revision wants it"))

    assert (len(ended), tries) == (1, 1)
    assert ended[0].startswith("a front's wait for outcomes failed: Misconfigured(")


@pytest.mark.parametrize("trouble", [Unavailable("away"), SerializationConflict("again")])
def test_a_front_listens_on_while_the_database_is_away(trouble: Exception) -> None:
    """Verifies the test above: what passes ends nobody."""
    ended, tries = _listens(trouble)

    assert ended == []
    assert tries > 1
