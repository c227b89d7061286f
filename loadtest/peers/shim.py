"""Any peer behind gRPC, so that RPC is compared with RPC: a process of its own, a unary method a call of `Peer`, JSON in bytes.

    python -m loadtest.peers.shim hordak      the URLs of a server as JSON in PEER_URLS; prints its port; ends with its input

Source: speed.md "The bench", equal doors compared. Invariant: a call is answered when the peer's own call has returned.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple
from typing import Any, Final

import grpc

from loadtest.peers.peer import NotInstalled, Peer, Posting
from loadtest.peers.table import PEERS, Urls
from servers.collector import settle
from zerosum.errors import SerializationConflict, Unavailable

URLS_VARIABLE: Final = "PEER_URLS"
_SERVICE: Final = "zerosum.bench.Peer"
_OPTIONS: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
"""What is stored is told in one answer, of any length."""


class ShimPeer:
    """A peer in a process of its own, as its callers see it. Implements `Peer`.

    Raises NotInstalled as the peer itself does, Unavailable where the process does not come up.
    """

    def __init__(self, name: str, urls: Urls) -> None:
        environment = {**os.environ, URLS_VARIABLE: json.dumps(dict(urls)), "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.peers.shim", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        assert self._process.stdout is not None  # asked for
        told = self._process.stdout.readline().strip()
        if not told.isdecimal():
            self._process.communicate()
            raise NotInstalled(told) if told else Unavailable(f"{name} did not start")
        self._address = f"127.0.0.1:{told}"
        self._channel: grpc.aio.Channel | None = None
        self._remark = ""

    async def open(self, sellers: Sequence[str]) -> None:
        """As the peer does. Here the channel is made: it is one event loop's."""
        self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        await self._call("Open", list(sellers))

    async def post(self, postings: Sequence[Posting]) -> None:
        """One call, however many. Raises SerializationConflict where the peer does, grpc's error for everything else."""
        try:
            self._remark = await self._call("Post", [astuple(posting) for posting in postings])
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.ABORTED:
                raise SerializationConflict(error.details() or "") from error
            raise

    async def stored(self) -> set[str]:
        """As the peer says."""
        return set(await self._call("Stored", None))

    async def close(self) -> None:
        """Ends the process; its connections go with it."""
        if self._channel is not None:
            await self._channel.close()
        self._process.terminate()
        await asyncio.to_thread(self._process.communicate)

    def remark(self) -> str:
        """What the peer had to say when it last answered."""
        return self._remark

    async def _call(self, method: str, asked: Any) -> Any:
        assert self._channel is not None  # opened first
        call: Any = self._channel.unary_unary(f"/{_SERVICE}/{method}")
        return json.loads(await call(json.dumps(asked).encode()))


# ---- the process ---------------------------------------------------------------------------------------------------


def _ways(peer: Peer) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    """What each method does; all take and return JSON."""

    async def post(asked: Any) -> str:
        await peer.post([Posting(*each) for each in asked])
        return peer.remark()

    async def stored(_: Any) -> list[str]:
        return sorted(await peer.stored())

    return {"Open": peer.open, "Post": post, "Stored": stored}


def handler(way: Callable[[Any], Awaitable[Any]]) -> Any:
    """The way as a unary method: ABORTED where the peer gave up, UNAVAILABLE where it failed."""

    async def answer(request: bytes, context: Any) -> bytes:
        try:
            return json.dumps(await way(json.loads(request))).encode()
        except SerializationConflict as gave_up:
            await context.abort(grpc.StatusCode.ABORTED, str(gave_up))
        except Exception as error:  # noqa: BLE001 - the edge of a server; each peer's library has errors of its own
            await context.abort(grpc.StatusCode.UNAVAILABLE, type(error).__name__)
        return b""

    return grpc.unary_unary_rpc_method_handler(answer)


async def _serve(peer: Peer) -> None:
    server = grpc.aio.server(options=_OPTIONS)
    handlers = {name: handler(way) for name, way in _ways(peer).items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settle()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def main() -> None:
    """Serves the peer named until the input ends; says so instead where it is not installed."""
    urls = json.loads(os.environ.pop(URLS_VARIABLE))
    try:
        peer = PEERS[sys.argv[1]](urls)
    except NotInstalled as away:
        sys.stdout.write(f"{away}\n")
        return
    asyncio.run(_serve(peer))


if __name__ == "__main__":
    main()
