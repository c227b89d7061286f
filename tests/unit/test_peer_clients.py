"""The clients of wallet and ledger: whoever waits is told, whatever a call meets, and what cannot be written fails alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Journal, Movement, entries_of, journal
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Misconfigured, OutcomeUnknown
from zerosum.peers.ledger import GrpcLedgerPeer
from zerosum.peers.wallet import GrpcWalletPeer
from zerosum.ports import Done
from zerosum.v1 import ledger_pb2, wallet_pb2
from zerosum.v1.common_pb2 import ItemDone, ItemResult

TENANT = Tenant("acme")


class Channel:
    """A channel to services that take everything; `sent` is the batches they got, by ids."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []

    def unary_unary(self, method: str, **_: Any) -> Callable[..., Awaitable[Any]]:
        """The call of one method."""
        is_ledger = method.endswith("PostJournals")

        async def call(request: Any, **_: Any) -> Any:
            items = request.journals if is_ledger else getattr(request, "transfers", ())
            ids = [item.journal_id if is_ledger else item.transfer_id for item in items]
            self.sent.append(ids)
            results = [ItemResult(key=name, done=ItemDone(replayed=False)) for name in ids]
            respond = ledger_pb2.PostJournalsResponse if is_ledger else wallet_pb2.ApplyTransfersResponse
            return respond(results=results)

        return call


def posting(name: str, currency: str = "USD") -> Journal:
    gross = Money(1_000, currency)
    made = journal(
        tenant=TENANT, journal_id=Key(name), owner="s-1", movement=Movement.SUSPENSE_CHARGE, order_id=OrderId("o-1"),
        entries=entries_of(
            Movement.SUSPENSE_CHARGE, gross=gross, fee=Money(0, currency), buyer="b", seller="s-1", psp="stripe"
        ),
    )  # fmt: skip
    assert isinstance(made, Journal)
    return made


def transfer(name: str, currency: str = "USD") -> Transfer:
    return Transfer(TENANT, Key(name), "s-1", TransferKind.CREDIT_PENDING, Money(1_000, currency), OrderId("o-1"))


async def test_a_token_that_cannot_be_read_for_a_moment_is_an_unknown_outcome_for_all_and_the_next_call_goes() -> None:
    """failures.md I9: a file that is being rotated leaves nobody waiting for ever."""
    troubles: Iterator[Exception] = iter([Misconfigured("no token_payment.jwt"), OSError("rotated away")])

    def token() -> str:
        for trouble in troubles:
            raise trouble
        return "token"

    channel = Channel()
    peer = GrpcLedgerPeer(channel, token)

    async def posted(*names: str) -> list[object]:
        waiting = [asyncio.ensure_future(peer.post(posting(name))) for name in names]
        return await asyncio.gather(*waiting, return_exceptions=True)

    told = [*await posted("j-1", "j-2"), *await posted("j-3")]
    again = await posted("j-1", "j-2", "j-3")

    assert [type(each) for each in told] == [OutcomeUnknown] * 3
    assert again == [Done()] * 3
    assert channel.sent == [["j-1", "j-2", "j-3"]]


async def test_a_journal_in_a_currency_that_we_cannot_write_fails_alone() -> None:
    """The others of its batch, of other tenants too, go on; it is refused, so that its to-do is a dead letter."""
    channel = Channel()
    peer = GrpcLedgerPeer(channel, lambda: "token")
    waiting = [peer.post(each) for each in (posting("j-1"), posting("j-bad", "STD"), posting("j-2"))]
    good, bad, other = await asyncio.gather(*waiting)

    assert (good, other) == (Done(), Done())
    assert isinstance(bad, Refusal)
    assert (bad.reason, "unknown currency" in bad.message) == (Reason.MALFORMED, True)
    assert channel.sent == [["j-1", "j-2"]]


async def test_a_transfer_that_cannot_be_written_fails_alone_and_its_text_is_not_told() -> None:
    """As a journal; a text that is no UTF-8 is not echoed."""
    channel = Channel()
    peer = GrpcWalletPeer(channel, lambda: "token")
    strange = Transfer(
        TENANT, Key("t-bad"), "s-1", TransferKind.CREDIT_PENDING, Money(1, "USD"), OrderId("o-\ud800-secret")
    )
    good, bad, odd = await asyncio.gather(
        peer.apply(transfer("t-1")), peer.apply(strange), peer.apply(transfer("t-2", "STD"))
    )

    assert good == Done()
    assert [each.reason for each in (bad, odd) if isinstance(each, Refusal)] == [Reason.MALFORMED] * 2
    assert "secret" not in str(bad)
    assert channel.sent == [["t-1"]]
