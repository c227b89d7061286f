"""What runs beside a server's calls: where it fails the server ends, and its supervisor starts it anew; chores go on."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from servers import wiring
from servers.metric import Metrics
from servers.wiring import keep_checkpoints, serve_service
from zerosum.errors import Misconfigured, Unavailable
from zerosum.settings import Settings


async def _fails() -> None:
    raise ValueError("a figure that is none")


async def _returns() -> None:
    """Its work is done."""


async def _serve_with(watch: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the server was told to stop before a moment was over; it is in any case closed."""
    told: list[bool] = []

    async def served(*_: Any, closers: Sequence[Any], stop: asyncio.Event, **__: Any) -> None:
        for _turn in range(5):
            await asyncio.sleep(0)
        told.append(stop.is_set())
        for close in closers:
            await close()

    monkeypatch.setattr(wiring, "serve_grpc", served)
    await serve_service(Settings(), "payment", [], 0, Metrics(), [watch], [], asyncio.Event())
    return told


async def test_a_server_whose_watch_fails_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its alarms would be silent, and nobody would know: started anew it has them again."""
    assert await _serve_with(_fails(), monkeypatch) == [True]


@pytest.mark.parametrize("watch", [_returns, asyncio.Event().wait])
async def test_a_server_whose_watch_goes_on_or_is_done_serves(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verifies the test above."""
    assert await _serve_with(watch(), monkeypatch) == [False]


@pytest.mark.parametrize("trouble", [Unavailable("away"), Misconfigured("not as this revision wants it")])
async def test_a_ledger_shard_goes_on_without_checkpoints(trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """They make balances quicker to read, not truer: whatever `roll_up` documents is tried again later."""
    tries: list[int] = []

    async def roll_up(_: Any, slots: Sequence[int]) -> int:
        tries.append(len(slots))
        raise trouble

    async def three_times(_: float) -> None:
        if len(tries) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(wiring, "roll_up", roll_up)
    with pytest.raises(asyncio.CancelledError):
        await keep_checkpoints(None, [1, 2], three_times)

    assert tries == [2, 2, 2]
