"""The ledgers that stand in `zerosum bench post`: each posts, is filled, tells its balances, and does the same behind gRPC."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest

from loadtest.own_database import own_server
from loadtest.peers.peer import Ledger, NotInstalled, Posting
from loadtest.peers.shim import ShimPeer, handler
from loadtest.peers.table import PEERS
from zerosum.errors import SerializationConflict
from zerosum.store.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

POSTINGS = [Posting(f"p-{number}", "seller-1", 1_250) for number in range(3)]
BEHIND = [Posting(f"behind-{number}", "seller-behind", 1_250) for number in range(3)]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """One for all of them."""
    with own_server() as (server, _):
        yield server


@pytest.mark.parametrize("name", PEERS)
def test_what_is_posted_and_what_is_filled_in_is_in_the_balance(server: EmbeddedPostgres, name: str) -> None:
    """Else a balance that is read quickly might be one that is not there. A seller of ours is opened by 1.00."""
    entries, filled, posted = asyncio.run(_balances(PEERS[name](server.urls())))

    opened = int(name == "zerosum")
    assert (entries, filled, posted) == (40 + opened, 100 * (40 + opened), 3 * 1_250 + 100 * opened)


async def _balances(peer: Ledger) -> tuple[int, int, int]:
    await peer.open(["seller-1", "seller-2"])
    await peer.post(POSTINGS)
    entries = await peer.fill("seller-2", 40)
    try:
        return entries, await peer.balance("seller-2"), await peer.balance("seller-1")
    finally:
        await peer.close()


def test_a_peer_behind_the_shim_keeps_what_it_acknowledged_and_tells_what_it_refused(server: EmbeddedPostgres) -> None:
    """RPC with RPC: the call ends when the peer's own has, and as that has: an id that is there already is no posting."""
    told, refused, stored = asyncio.run(_behind(ShimPeer("naive", server.urls())))

    assert told.endswith(" conflicts (40001)")
    assert refused is grpc.StatusCode.UNAVAILABLE
    assert {posting.posting_id for posting in BEHIND} <= stored


async def _behind(peer: ShimPeer) -> tuple[str, grpc.StatusCode, set[str]]:
    try:
        await peer.open(["seller-behind"])
        await peer.post(BEHIND)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await peer.post(BEHIND)
        return peer.remark(), refused.value.code(), await peer.stored()
    finally:
        await peer.close()


def test_a_peer_that_gives_up_behind_the_shim_is_told_from_one_that_fails() -> None:
    """The load counts the first, and ends with the second."""

    async def gives_up(_: object) -> None:
        raise SerializationConflict("no more")

    async def fails(_: object) -> None:
        raise OSError("the database is away")

    assert asyncio.run(_code(gives_up)) is grpc.StatusCode.ABORTED
    assert asyncio.run(_code(fails)) is grpc.StatusCode.UNAVAILABLE


async def _code(way: Callable[[object], Awaitable[None]]) -> grpc.StatusCode:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Peer", {"Post": handler(way)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary("/a.Peer/Post")(b"[]")
        return error.value.code()
    finally:
        await server.stop(None)


def test_a_peer_that_is_not_installed_is_told_by_its_process(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in process: the bench says so and goes on without it."""
    (tmp_path / "hordak.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NotInstalled, match="django-hordak is not installed"):
        ShimPeer("hordak", server.urls())
