"""Buyers who submit another checkout under what is known: two checkouts with one idempotency key, or with one payment order.

Both come at once, or one after the other, and often to different shards, where nothing but the database stands between them.

Invariant: a chance of its own draws all of it. Of two rivals one has its reply and the other is refused, then and for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from actors.answer import Answer, Refused, Replied
from simulator.world.house import House
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.message import Buyer, OrderLine, SubmitCheckout
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason

Ask = Callable[[SubmitCheckout], Awaitable[Answer | None]]
"""One call to the payment server; None: no answer came."""

REFUSED_FOR: Final = {"key": Reason.KEY_REUSED, "order": Reason.PAYMENT_ORDER_ID_TAKEN}
"""What two rivals share, and what the loser is told. Source: failures.md row P36."""

_PAIRS: Final = (0, 0, 0, 0, 1, 2)
_APART_S: Final = (0.0, 0.0, 0.0, 5.0)
_PAUSE_S: Final = 2.0


@dataclass(slots=True)
class _Pair:
    """Two checkouts of which one may be. `told`: what each was answered in the end."""

    shared: str
    rivals: tuple[SubmitCheckout, SubmitCheckout]
    told: dict[CheckoutId, Answer] = field(default_factory=dict)


class Rivals:
    """The rivals of one story. `first`: the number of its first checkout. `told`: replies by checkout, added to."""

    def __init__(self, house: House, tenant: Tenant, trouble_s: float, first: int, told: dict[str, set[bytes]]) -> None:
        self._met, self._trouble_s, self._told = house.trace.met, trouble_s, told
        self._chance = Random(f"rivals {house.weather.seed} {first}")
        self._pairs = [self._pair(tenant, f"rival-{first}-{number}") for number in range(self._chance.choice(_PAIRS))]

    def _pair(self, tenant: Tenant, name: str) -> _Pair:
        chance = self._chance
        shared = chance.choice(tuple(REFUSED_FOR))
        one, other = (self._command(tenant, f"{name}-{side}", chance.randint(1, 2)) for side in "ab")
        taken: dict[str, Any] = {"key": one.key} if shared == "key" else {"lines": (*other.lines, one.lines[0])}
        return _Pair(shared, (one, replace(other, **taken)))

    def _command(self, tenant: Tenant, name: str, orders: int) -> SubmitCheckout:
        lines = []
        for position in range(orders):
            minor = self._chance.randint(100, 9_999)
            amount, seller = f"{minor // 100}.{minor % 100:02}", f"seller-{self._chance.randint(1, 3)}"
            lines.append(OrderLine(OrderId(f"{name}-o{position}"), seller, amount, Money(minor, "USD")))
        buyer = Buyer(f"buyer-{name}", "Eve", "eve@example.com", "GB")
        return SubmitCheckout(tenant, CheckoutId(name), Key(f"k-{name}"), buyer, "pm_card_visa", tuple(lines))

    # ---- acts ------------------------------------------------------------------------------------------------

    def acts(self, ask: Ask) -> Iterator[Coroutine[Any, Any, None]]:
        """Each pair's contest, within the trouble."""
        for pair in self._pairs:
            yield self._contend(pair, ask)

    async def _contend(self, pair: _Pair, ask: Ask) -> None:
        chance = self._chance
        await asyncio.sleep(chance.random() * self._trouble_s)
        waits_s = [0.0, chance.choice(_APART_S) * chance.random()]
        chance.shuffle(waits_s)
        contest = zip(pair.rivals, waits_s, strict=True)
        await asyncio.gather(*(self._until_told(pair, rival, ask, wait_s) for rival, wait_s in contest))

    async def _until_told(self, pair: _Pair, rival: SubmitCheckout, ask: Ask, wait_s: float) -> None:
        answer = None
        while not isinstance(answer, Replied | Refused):
            await asyncio.sleep(wait_s)
            answer, wait_s = await ask(rival), _PAUSE_S
        pair.told[rival.checkout_id] = answer
        if isinstance(answer, Replied):
            self._told.setdefault(rival.checkout_id, set()).add(answer.reply)
        else:
            self._met[f"rival_{pair.shared}_refused"] += 1

    # ---- at rest ---------------------------------------------------------------------------------------------

    async def findings(self, ask: Ask) -> list[str]:
        """I6: one of two rivals has its reply, the other was refused for what it shares, and both are told so again."""
        wrong = []
        for pair in self._pairs:
            names = " and ".join(rival.checkout_id for rival in pair.rivals)
            if len(pair.told) < len(pair.rivals):
                wrong.append(f"I9: {names} were not both answered")
                continue
            for rival in pair.rivals:
                first, again = pair.told[rival.checkout_id], await ask(rival)
                if _what(again) != _what(first):
                    wrong.append(f"I6: {rival.checkout_id} was answered {_what(first)}, and then {_what(again)}")
            ends = [_what(answer) for answer in pair.told.values()]
            losses = [end for end in ends if end == REFUSED_FOR[pair.shared]]
            if len(losses) != 1 or not any(isinstance(answer, Replied) for answer in pair.told.values()):
                wrong.append(f"I6: {names} share one {pair.shared} and were answered {ends[0]} and {ends[1]}")
        return wrong


def _what(answer: Answer | None) -> object:
    """What of an answer stays the same for ever."""
    match answer:
        case Refused(refusal, _):
            return refusal.reason
        case Replied(reply, _):
            return reply
        case _:
            return answer
