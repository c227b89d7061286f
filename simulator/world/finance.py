"""Finance at work in every second world: accounts are closed while money comes in, refunds are asked for, choices are made.

Sellers that close do so at the wallet and at the ledger on their own, whenever each is reached: captures meet an account that
is open, closed on one side, or closed on both. Some checkouts want all or none, some cards are declined above a limit, and of
some the bank refuses every refund.

Invariant: a chance of its own draws all of it, so that a world without finance is the same story it always was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from actors.answer import Answer, Applied, Refused
from simulator.world.house import House
from simulator.world.network import Lost
from simulator.world.network import Refused as NobodyThere
from simulator.world.psp import SERVER
from zerosum.domain.account import CloseAccount
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.message import OnPartial, OrderLine, SubmitCheckout
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Reason
from zerosum.errors import Unavailable

SHARE: Final = 0.5
"""Of the seeds, those with finance at work."""
_SELLERS: Final = 2
_CLOSING_ORDERS, _ALL_OR_NONE, _REFUNDED, _TWICE = 0.35, 0.4, 0.3, 0.4
_CARDS: Final = ("pm_card_limited", "pm_card_refundRefused")
_ODD_CARDS: Final = 0.3
_PAUSE_S: Final = 2.0
_TIRED_S: Final = 16.0
_PATIENCE_S: Final = 20.0
_NO: Final = frozenset({Reason.NOT_REFUNDABLE, Reason.ALREADY_REFUNDED, Reason.UNKNOWN_ID})


class Finance:
    """What finance does in one story. `first`: the number of its first checkout. `wrong`: what it was answered wrongly."""

    def __init__(self, house: House, tenant: Tenant, trouble_s: float, first: int) -> None:
        self._house, self._tenant, self._trouble_s = house, tenant, trouble_s
        self._chance = Random(f"finance {house.weather.seed} {first}")
        self.is_at_work = self._chance.random() < SHARE
        self._closing = tuple(f"closing-{first}-{number}" for number in range(_SELLERS))
        self._promised: dict[str, str] = {}
        self.wrong: list[str] = []

    def choose(self, command: SubmitCheckout) -> SubmitCheckout:
        """The checkout as its buyer makes it in this world: for a seller that closes, all or none, with an odd card."""
        if not self.is_at_work:
            return command
        chance = self._chance
        lines = tuple(self._sold_by(line) for line in command.lines)
        on_partial = OnPartial.REVERSE if chance.random() < _ALL_OR_NONE else OnPartial.KEEP
        token = chance.choice(_CARDS) if chance.random() < _ODD_CARDS else command.token
        return replace(command, lines=lines, on_partial=on_partial, token=token)

    def _sold_by(self, line: OrderLine) -> OrderLine:
        if self._chance.random() >= _CLOSING_ORDERS:
            return line
        return replace(line, seller_account=self._chance.choice(self._closing))

    def acts(self, commands: Sequence[SubmitCheckout]) -> Iterator[Coroutine[Any, Any, None]]:
        """Everything that finance does, each an act of its own."""
        if not self.is_at_work:
            return
        for seller in self._closing:
            for service in ("wallet", "ledger"):
                yield self._close(service, seller)
        for command in commands:
            for line in command.lines:
                if self._chance.random() < _REFUNDED:
                    yield self._refund(command, line.order_id)

    # ---- acts ------------------------------------------------------------------------------------------------

    async def _close(self, service: str, seller: str) -> None:
        await asyncio.sleep(self._chance.random() * self._trouble_s)
        asked = CloseAccount(self._tenant, Key(f"close-{seller}"), seller, "USD", "fin", "SELLER_LEFT")
        what = f"close {seller}"
        answer = await self._until_told(lambda: self._ask(f"{service}-server", what, lambda at: at.submit([asked])))
        if not isinstance(answer, Applied):
            self.wrong.append(f"O1: closing {seller} at the {service} was answered {answer}")
        self._house.trace.met["account_closed"] += 1

    async def _refund(self, command: SubmitCheckout, order_id: OrderId) -> None:
        """Once or twice under one key, and perhaps under another one at the same time."""
        await asyncio.sleep(self._chance.random() * self._trouble_s)
        keys = [f"refund-{order_id}", *[f"refund-{order_id}-other"] * (self._chance.random() < _TWICE)]
        told = await asyncio.gather(*(self._refund_once(command, order_id, key) for key in (*keys, keys[0])))
        granted = {key for key, is_granted in told if is_granted}
        if len(granted) > 1 and command.token not in _CARDS:
            self.wrong.append(f"P16: order {order_id} was promised {len(granted)} refunds")
        if granted:
            self._promised[order_id] = command.checkout_id
            self._house.trace.met["refund_promised"] += 1

    async def _refund_once(self, command: SubmitCheckout, order_id: OrderId, key: str) -> tuple[str, bool]:
        home = EntityKey(command.tenant, command.checkout_id)
        asked = RequestRefund(order_id, Key(key), None, "REQUESTED_BY_CUSTOMER", "fin")
        answer = await self._until_told(lambda: self._ask(SERVER, f"refund {order_id}", lambda at: at.act(home, asked)))
        if isinstance(answer, Refused) and answer.refusal.reason not in _NO:
            self.wrong.append(f"O1: the refund of {order_id} was answered {answer}")
        return key, isinstance(answer, Applied)

    async def _until_told(self, ask: Callable[[], Awaitable[Answer | None]]) -> Answer:
        pause_s = _PAUSE_S
        while True:
            answer = await ask()
            if isinstance(answer, Applied | Refused):
                return answer
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _TIRED_S)

    async def _ask(self, address: str, what: str, work: Callable[[Any], Any]) -> Answer | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                told = await self._house.network.ask(address, what, work)
        except (Lost, NobodyThere, Unavailable, TimeoutError):
            return None
        answer: Answer = told[0] if isinstance(told, Sequence) else told
        return answer

    # ---- at rest ---------------------------------------------------------------------------------------------

    def look(self, refunds: Collection[Any]) -> list[str]:
        """What was answered with yes is there (I24): a refund that somebody asked for."""
        self._house.trace.met.update(f"refund {row['cause']} {row['status']}" for row in refunds)
        kept = {row["payment_order_id"] for row in refunds if row["cause"] == "REQUESTED"}
        lost = [order_id for order_id in self._promised if order_id not in kept]
        return [*self.wrong, *(f"I24: the promised refund of order {order_id} is gone" for order_id in lost)]
