"""A shard's actor: a start that failed is tried again by the next call, and the process of a shard that ended says why."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import ray_host
from actors.packing import pack, unpack
from actors.ray_host import ShardActor
from actors.shard import Figures
from zerosum.errors import Misconfigured, Unavailable
from zerosum.store.wire import Traffic

met: Iterator[Exception] = iter(())
starts: list[object] = []
hosted: list[Any] = []


async def factory(settings: Any, slots: Sequence[int]) -> Any:
    """A start that meets what is next in `met`; then a shard that answers with its number of starts."""
    starts.append(slots)
    await asyncio.sleep(0)
    for trouble in met:
        raise trouble

    async def submit(commands: Sequence[Any], is_inner: bool) -> Sequence[int]:
        return [len(starts)]

    shard = SimpleNamespace(ended=asyncio.Event(), end_reason="", figures=Figures(turns=7))
    hosted.append(shard)
    return SimpleNamespace(shard=shard, submit=submit, counters=(Traffic(round_trips=4, statements=11, commits=1),))


@pytest.mark.parametrize(
    "trouble",
    [OSError(28, "No space left on device"), Misconfigured("no key"), Unavailable("database"), KeyError("a bug")],
)
async def test_a_start_that_failed_is_tried_again_by_the_next_call(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full or a secret that is being rotated for a moment is no end: the process lives on."""
    monkeypatch.setitem(globals(), "met", iter([trouble]))
    monkeypatch.setitem(globals(), "starts", [])
    actor = ShardActor(f"{__name__}:factory", None, (0,))
    call = pack(((), False))

    first = await asyncio.gather(actor.submit(call), actor.submit(call), return_exceptions=True)
    then = [unpack(await actor.submit(call)) for _ in range(2)]

    assert list(first) == [trouble, trouble]
    assert then == [[2], [2]]


async def test_figures_tell_what_the_shard_did_and_what_it_sent_to_the_database() -> None:
    """Issue 5: statements and round trips are counted where they are sent, and told with the shard's own."""
    actor = ShardActor(f"{__name__}:factory", None, (0,))
    await actor.submit(pack(((), False)))

    figures = await actor.figures()

    assert {name: figures[name] for name in ("calls", "turns", "round_trips", "statements", "commits")} == {
        "calls": 1, "turns": 7, "round_trips": 4, "statements": 11, "commits": 1
    }  # fmt: skip


@pytest.mark.parametrize("reason", ["slot 3 was taken by epoch 8", "a loop of the shard failed: Bug('b')"])
async def test_a_process_whose_shard_ended_tells_the_true_reason_and_ends(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies and a bug of ours are told apart: people do other things about them."""
    exits: list[int] = []
    monkeypatch.setattr(ray_host, "LAST_WORDS_S", 0)
    monkeypatch.setattr(os, "_exit", exits.append)
    actor = ShardActor(f"{__name__}:factory", None, (0,))
    await actor.submit(pack(((), False)))
    shard = hosted[-1]

    with capture_logs() as said:
        shard.end_reason = reason
        shard.ended.set()
        await actor._watcher

    assert exits == [0]
    assert [(line["event"], line["reason"]) for line in said] == [("the shard's process ends with its shard", reason)]
