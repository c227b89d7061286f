"""A shard's actor: a start that failed is tried again by the next call, whatever it met."""

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from actors.packing import pack, unpack
from actors.ray_host import ShardActor
from zerosum.errors import Misconfigured, Unavailable

met: Iterator[Exception] = iter(())
starts: list[object] = []


async def factory(settings: Any, slots: Sequence[int]) -> Any:
    """A start that meets what is next in `met`; then a shard that answers with its number of starts."""
    starts.append(slots)
    await asyncio.sleep(0)
    for trouble in met:
        raise trouble

    async def submit(commands: Sequence[Any], is_inner: bool) -> Sequence[int]:
        return [len(starts)]

    shard = SimpleNamespace(ended=asyncio.Event(), figures=SimpleNamespace(__slots__=()))
    return SimpleNamespace(shard=shard, submit=submit)


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
