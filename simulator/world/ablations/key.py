"""Ablations of what makes a thing happen once: callers' keys, fingerprints, replies, and the ids derived from an order.

Invariant: see `plant.py`.
"""

from dataclasses import replace
from itertools import count
from typing import Any

from actors import payment
from actors.answer import Answer, Replied
from actors.payment import PaymentBinding
from actors.posting import PostingBinding
from actors.turn import Known, Turn
from servers.reply import encode_reply
from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import draft, effect
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import Key, derived_key
from zerosum.domain.journal import Journal
from zerosum.domain.request import PspRequest
from zerosum.domain.todo import TodoKind
from zerosum.domain.wallet import Transfer


@ablation("no-caller-key", "a caller's key is kept, and not looked up", "C1, C2, I6")
def no_caller_key(plant: Plant) -> None:
    """Beside it stands `checkout_id`, unique per tenant: the same checkout is not executed twice even so."""
    honest, again = PaymentBinding._submit, count()

    def submit(self: Any, state: Any, entity: Any, body: m.SubmitCheckout, known: Known, now_ms: int) -> Turn[Checkout]:
        if any(stored.key == body.key for stored in known.commands):
            body = replace(body, key=Key(f"{body.key}-{next(again)}"))
        return honest(self, state, entity, body, known, now_ms)

    plant.instead(PaymentBinding, "_submit", submit)


@ablation("no-fingerprint", "the same key with another body counts as the same request", "C2, I6")
def no_fingerprint(plant: Plant) -> None:
    plant.instead(m.SubmitCheckout, "fingerprint", lambda self: f"1:{self.checkout_id}")


@ablation("reply-not-stored", "the reply is made anew for whoever asks", "C5, I6")
def reply_not_stored(plant: Plant) -> None:
    honest = payment._standing

    def standing(state: Checkout | None) -> Answer:
        if state is None or state.reply is None:
            return honest(state)
        return Replied(encode_reply(state), is_replay=True)

    plant.instead(payment, "_standing", standing)


@ablation("key-without-order", "an operation's key is derived from the checkout, not from the order", "design 4, I3")
def key_without_order(plant: Plant) -> None:
    def short(tenant: str, order_id: str, operation: str, number: int) -> Key:
        return derived_key(tenant, order_id.rsplit("-", 1)[0], operation, number)

    plant.instead(draft, "derived_key", short)


@ablation("new-key-per-retry", "what is run again is sent again, under a key of its own", "S1, P17, I4, I14")
def new_key_per_retry(plant: Plant) -> None:
    """The money is safe even so: a confirm names an object that can be paid once. The keys that no row knows tell."""

    def request(operation: Any, todo: Any, *_: int) -> PspRequest:
        asked = effect.request_of(operation.request)
        return replace(asked, key=f"{asked.key}-{todo.tries}") if todo.tries > 1 else asked

    plant.instead(effect, "_psp_request", request)


@ablation("credit-id-per-run", "a wallet is credited under a new id with every run", "P5, P30, I5")
def credit_id_per_run(plant: Plant) -> None:
    def effect_of(checkout: Checkout, todo: Any, now_ms: int, horizon_ms: int) -> Any:
        made: Any = effect.effect_of(checkout, todo, now_ms, horizon_ms)
        if todo.kind is not TodoKind.CREDIT_WALLET:
            return made
        return replace(made, transfer_id=Key(f"{made.transfer_id}-{todo.tries}"))

    plant.instead(payment, "effect_of", effect_of)


@ablation("no-webhook-dedup", "the inbox does not look whether it knows an event", "S4, I10, I19")
def no_webhook_dedup(plant: Plant) -> None:
    """What it says is a fact that changes nothing the second time; the row that nobody sent tells."""
    honest, again = PaymentBinding._webhook, count()

    def webhook(
        self: Any, state: Any, entity: Any, body: Any, delivery: Any, known: Known, now_ms: int
    ) -> Turn[Checkout]:
        if (delivery.psp, delivery.event_id) in known.deliveries:
            delivery = replace(delivery, event_id=f"{delivery.event_id}-{next(again)}")
        return honest(self, state, entity, body, delivery, known, now_ms)

    plant.instead(PaymentBinding, "_webhook", webhook)


def _posted_again(plant: Plant, kind: type[Any], again: Any) -> None:
    """An item whose id is known is posted once more, under an id that is free."""
    honest = PostingBinding.take

    def take(self: Any, state: Any, command: Any, known: Known, now_ms: int) -> Turn[Any]:
        if isinstance(command, kind) and self._key_of(command) in known.commands:
            command = again(command, state.version)
        return honest(self, state, command, known, now_ms)

    plant.instead(PostingBinding, "take", take)


@ablation("transfer-posted-twice", "a wallet does not look whether it knows a transfer", "P30, I5")
def transfer_posted_twice(plant: Plant) -> None:
    def again(transfer: Transfer, version: int) -> Transfer:
        return replace(transfer, transfer_id=Key(f"{transfer.transfer_id}-{version}"))

    _posted_again(plant, Transfer, again)


@ablation("journal-posted-twice", "the ledger does not look whether it knows a journal", "P5, I1, I22")
def journal_posted_twice(plant: Plant) -> None:
    def again(journal: Any, version: int) -> Any:
        return replace(journal, journal_id=Key(f"{journal.journal_id}-{version}"))

    _posted_again(plant, Journal, again)
