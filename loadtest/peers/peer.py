"""What a ledger must offer to stand in the bench: take a posting, and say afterwards what it holds.

Invariant: `post` returns when every posting of the call is durable, and not before; a peer that answers earlier would be
counted for what it has not done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Posting:
    """A capture for one seller: the PSP's clearing account is debited, the seller's credited, the seller's balance raised."""

    posting_id: str
    seller: str
    amount_minor: int


class Peer(Protocol):
    """One ledger, in this process or behind a door. Used from one event loop."""

    async def open(self, sellers: Sequence[str]) -> None:
        """Makes its own database, and accounts for these sellers."""
        ...

    async def post(self, postings: Sequence[Posting]) -> None:
        """Posts all of them, each on its own; one call of many where the ledger has such a call.

        Raises SerializationConflict where the ledger gave up: the call is told as such, and its caller goes on.
        """
        ...

    async def stored(self) -> set[str]:
        """The ids of every posting that is stored whole: both its sides."""
        ...

    async def close(self) -> None:
        """Closes what it opened; the data stays."""
        ...

    def remark(self) -> str:
        """What it has to say of its run, in a line; "" where nothing."""
        ...


class Ledger(Peer, Protocol):
    """One ledger in this process, whose balances are read."""

    async def fill(self, seller: str, entries: int) -> int:
        """Writes postings of 1.00 for a seller who is open, straight into its own tables, all rows of a posting that a balance
        may look at, and has the database gather its statistics. How many entries the seller's account has then, counted.

        Not for a seller who is posted to: the ledger's own process hears nothing of it.
        """
        ...

    async def balance(self, seller: str) -> int:
        """What the seller is owed, in minor units, by the ledger's own call."""
        ...


class NotInstalled(Exception):
    """The peer's package is not here: the bench says so and goes on without it."""
