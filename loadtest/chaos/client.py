"""A buyer who asks over gRPC, again and again under the same key, and writes down every try.

Invariant: a repeated ask is the same bytes; every ask has its intent in the journal before it is sent.
"""

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import grpc

from actors.front import shard_of
from loadtest.calls import ProtoCodec
from loadtest.chaos.wait import WITHIN_S, NeverCame, Patience
from loadtest.clock import wall_ms
from loadtest.journal import Journal
from loadtest.journeys import CREATE, VIEW_PAYMENT
from loadtest.outcome import FINAL_STATUSES, OK, may_retry, result_of
from loadtest.shape import GOOD_CARD, Checkout, Order, fingerprint
from servers.keys import DEMO_TENANT
from zerosum.domain.identity import EntityKey
from zerosum.v1 import payment_pb2 as pb

ASK_EVERY_S: Final = 0.05
ATTEMPT_S: Final = 15.0
AMOUNT: Final = "12.50"
AMOUNT_MINOR: Final = 1_250

_CHANNEL: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)
_SERVICE: Final = "/zerosum.v1.PaymentService/"


@dataclass(frozen=True, slots=True)
class Told:
    """What one ask brought. `statuses`: of its orders, where there is a reply."""

    code: str
    body: bytes = b""
    statuses: tuple[tuple[str, str], ...] = ()

    @property
    def is_final(self) -> bool:
        """A reply, and every order in it has come to its end."""
        return self.code == OK and all(status in FINAL_STATUSES for _, status in self.statuses)


def new_checkout(name: str, *, shard: int | None = None, shards: int = 1) -> Checkout:
    """A checkout of one order to a seller of its own, under ids nobody has used; of that shard of so many, if one is named."""
    while True:
        checkout_id = f"{name}-{uuid4().hex[:12]}"
        if shard is None or shard_of(EntityKey(DEMO_TENANT, checkout_id), shards) == shard:
            break
    order = Order(f"{checkout_id}-a", f"seller-{checkout_id}", AMOUNT, "USD")
    return Checkout(checkout_id, "buyer-chaos", GOOD_CARD, (order,))


class Buyer:
    """Asks the payment service. `close` ends its channel."""

    def __init__(self, address: str, token: str, journal: Journal) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL)
        self._create: Any = self._channel.unary_unary(_SERVICE + CREATE)
        self._view: Any = self._channel.unary_unary(_SERVICE + VIEW_PAYMENT)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._journal = journal
        self._codec = ProtoCodec()

    async def close(self) -> None:
        """Calls under way are cancelled; the journal stays open."""
        await self._channel.close()

    async def ask(self, checkout: Checkout, *, timeout_s: float = ATTEMPT_S) -> Told:
        """Once."""
        call = uuid4().hex
        self._journal.intend(call, checkout, fingerprint=fingerprint(checkout), sent_ms=wall_ms())
        try:
            body = await self._create(self._codec.submit(checkout), timeout=timeout_s, metadata=self._metadata)
            told = Told(OK, bytes(body), self._codec.told(body))
        except grpc.aio.AioRpcError as error:
            told = Told(error.code().name)
        self._journal.answer(
            call, checkout, result=result_of(told.code), code=told.code, replayed=False, orders=told.statuses,
            reply_sha256=hashlib.sha256(told.body).hexdigest() if told.code == OK else "", answered_ms=wall_ms(),
        )  # fmt: skip
        return told

    async def pay(self, checkout: Checkout, *, within_s: float = WITHIN_S) -> Told:
        """The same key until there is a reply that stands. Raises NeverCame."""
        patience = Patience(within_s)
        while may_retry((told := await self.ask(checkout)).code):
            if patience.is_over:
                raise NeverCame(
                    f"{checkout.checkout_id} had no reply within {within_s:g} s; the last code was {told.code}"
                )
            await patience.sleep(ASK_EVERY_S)
        return told

    async def is_done(self, checkout: Checkout) -> bool:
        """Whether it says of itself that everything of it has come to its end; False while nobody answers."""
        request = self._codec.view(VIEW_PAYMENT, checkout.checkout_id)
        try:
            body = await self._view(request, timeout=5.0, metadata=self._metadata)
        except grpc.aio.AioRpcError:
            return False
        return pb.GetPaymentResponse.FromString(body).payment.is_payment_done

    async def until_done(self, checkout: Checkout, *, within_s: float = WITHIN_S) -> None:
        """Returns when it is done: wallet and ledger have what is theirs. Raises NeverCame."""
        patience = Patience(within_s)
        while not await self.is_done(checkout):
            if patience.is_over:
                raise NeverCame(f"{checkout.checkout_id} was not done within {within_s:g} s")
            await patience.sleep(ASK_EVERY_S)

    async def until_served(
        self,
        name: str,
        *,
        shard: int | None = None,
        shards: int = 1,
        to_the_end: bool = False,
        within_s: float = WITHIN_S,
    ) -> None:
        """Returns when a new checkout has its final reply, and where `to_the_end` is done. Raises NeverCame.

        A reply that is not final (its process went in the middle, a lease must end first) is followed by another checkout.
        """
        end_s = time.monotonic() + within_s
        while True:
            checkout = new_checkout(name, shard=shard, shards=shards)
            told = await self.pay(checkout, within_s=max(0.0, end_s - time.monotonic()))
            if told.is_final:
                break
        if to_the_end:
            await self.until_done(checkout, within_s=max(0.0, end_s - time.monotonic()))
