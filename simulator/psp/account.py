"""The objects of the account, folded from changes. The truth that the product is audited against.

The invariant: objects are only ever replaced by `apply`, in the order of the book.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from simulator.psp.change import Change
from simulator.psp.stripe.objects import BalanceTransaction, Charge, Intent, Refund

# Reads lag for seconds; 10,000 changed intents are more than ten seconds at full speed.
_PREVIOUS_MAX: Final = 10_000


class Account:
    """Everything the PSP holds, by id, in the order of creation."""

    def __init__(self) -> None:
        self.intents: dict[str, Intent] = {}
        self.charges: dict[str, Charge] = {}
        self.refunds: dict[str, Refund] = {}
        self.refunds_of: dict[str, list[str]] = {}
        self.balance: dict[str, BalanceTransaction] = {}
        self.payouts: dict[str, int] = {}
        self.payout_of: dict[str, str] = {}
        self.settled_until_ms = 0
        self._previous: OrderedDict[str, tuple[Intent, int]] = OrderedDict()

    def apply(self, change: Change) -> None:
        """Take over what the change made of the objects."""
        for intent in change.intents:
            if (before := self.intents.get(intent.id)) is not None:
                self._previous[intent.id] = (before, change.at_ms)
                self._previous.move_to_end(intent.id)
                if len(self._previous) > _PREVIOUS_MAX:
                    self._previous.popitem(last=False)
            self.intents[intent.id] = intent
        for charge in change.charges:
            self.charges[charge.id] = charge
        for refund in change.refunds:
            if refund.id not in self.refunds:
                self.refunds_of.setdefault(refund.intent, []).append(refund.id)
            self.refunds[refund.id] = refund
        for movement in change.balance:
            self.balance[movement.id] = movement
        if payout := change.extra.get("payout"):
            self.payouts[payout] = change.at_ms
            for movement_id in change.extra["balance_transactions"]:
                self.payout_of[movement_id] = payout
            self.settled_until_ms = max(self.settled_until_ms, change.extra.get("until_ms", change.at_ms))

    def stale(self, intent: Intent, *, now_ms: int, window_ms: int) -> Intent:
        """Return the intent as it was before its last change, if that is younger than the window."""
        previous = self._previous.get(intent.id)
        if previous is None or now_ms - previous[1] >= window_ms:
            return intent
        return previous[0]

    def find(self, of: str) -> Intent | Charge | Refund:
        """Return the object of this id. Raises KeyError when there is none."""
        for table in (self.intents, self.refunds, self.charges):
            if (thing := table.get(of)) is not None:
                return thing
        raise KeyError(of)
