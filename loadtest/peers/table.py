"""The peers by name. A table, nothing else: another ledger is one more file and one more line.

Invariant: a peer whose package is missing raises `NotInstalled` when it is made, not when this file is read.
"""

from collections.abc import Callable, Mapping
from typing import Final

from loadtest.peers.hordak import HordakPeer
from loadtest.peers.house import HousePeer
from loadtest.peers.naive import NaivePeer
from loadtest.peers.peer import Ledger

OURS: Final = "zerosum"

Urls = Mapping[str, str]
"""The URLs of a server by role, as `EmbeddedPostgres.urls` has them."""

Peers = Mapping[str, Callable[[Urls], Ledger]]


def ours(urls: Urls, *, shards: int = 1) -> HousePeer:
    """Our own ledger, its slots shared by so many shards."""
    return HousePeer(urls["admin"], urls["ledger"], "post_zerosum", shards=shards)


PEERS: Final[Peers] = {
    OURS: ours,
    "naive": lambda urls: NaivePeer(urls["admin"], "post_naive"),
    "hordak": lambda urls: HordakPeer(urls["admin"], "post_hordak"),
}
"""How each is made on a server; every one makes a database of its own there."""
