"""Where the money of a checkout is, by every account of it: ours, the PSP's own book, the wallet, the ledger, the inbox.

Invariant: nothing here is believed because one side says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from loadtest.chaos.case import Journey
from loadtest.chaos.client import AMOUNT_MINOR
from loadtest.probe import Psp
from loadtest.shape import Checkout


@dataclass(frozen=True, slots=True)
class Movement:
    """The money of a checkout of one order, in minor units. `given_back`: of each refund at the PSP; `refunds`: what we say of
    them; `wallet`, `seller`, `suspense`: each entry in its order. `webhooks`: of every event the PSP announced, what it thinks
    became of it and how often we hold it."""

    statuses: tuple[str, ...]
    charges: tuple[int, ...]
    wallet: tuple[int, ...]
    seller: tuple[int, ...]
    webhooks: tuple[tuple[str, int], ...]
    refunds: tuple[str, ...] = ()
    given_back: tuple[int, ...] = ()
    suspense: tuple[int, ...] = ()


_TOLD: Final = (("delivered", 1),)
_ALL: Final = AMOUNT_MINOR

ENDS: Final[Mapping[Journey, Movement]] = {
    Journey.CHECKOUT: Movement(("SUCCESS",), (_ALL,), wallet=(_ALL,), seller=(-_ALL,), webhooks=_TOLD),
    Journey.REFUND: Movement(
        ("SUCCESS",), (_ALL,), wallet=(_ALL, -_ALL), seller=(-_ALL, _ALL), webhooks=_TOLD * 3,
        refunds=("SUCCEEDED",), given_back=(_ALL,),
    ),
    Journey.REVERSAL: Movement(
        ("SUCCESS",), (_ALL,), wallet=(), seller=(), webhooks=_TOLD * 3,
        refunds=("SUCCEEDED",), given_back=(_ALL,), suspense=(-_ALL, _ALL),
    ),
}  # fmt: skip
"""Where it is when all is over: charged once and credited, posted and told once; what went back did so once, by every book.
The PSP tells of a refund twice: `charge.refunded`, `refund.updated`."""

ONCE: Final = ENDS[Journey.CHECKOUT]
"""Charged once, credited once, posted once, told once."""

_ORDERS = "SELECT payment_order_status FROM payment.payment_orders WHERE payment_order_id = %s"
_REFUNDS = "SELECT status FROM payment.refunds WHERE payment_order_id = %s ORDER BY number"
_WALLET = "SELECT amount_minor FROM wallet.entries WHERE payment_order_id = %s ORDER BY version"
_POSTINGS = (
    "SELECT entry.amount_minor FROM ledger.journals JOIN ledger.entries AS entry USING (tenant, journal_id)"
    " WHERE payment_order_id = %s AND entry.account LIKE %s ORDER BY journals.version"
)
_HELD = "SELECT count(*) FROM payment.inbox WHERE event_id = %s"


def movement_of(checkout: Checkout, psp: Psp, auditor_url: str) -> Movement:
    """Looks into every book. Blocking. Raises psycopg.Error, OSError where one cannot be read."""
    order_id = checkout.orders[0].payment_order_id
    truth = [json.loads(line) for line in psp.truth() if order_id.encode() in line]
    charges = [line["amount_captured"] for line in truth if line["type"] == "charge" and line["is_captured"]]
    given_back = [line["amount"] for line in truth if line["type"] == "refund"]
    events = [(line["id"], line["state"]) for line in truth if line["type"] == "webhook"]
    with psycopg.connect(auditor_url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:

        def column(statement: str, *values: str) -> tuple[Any, ...]:
            return tuple(row[0] for row in connection.execute(statement.encode(), values).fetchall())

        return Movement(
            statuses=column(_ORDERS, order_id), charges=tuple(charges), wallet=column(_WALLET, order_id),
            seller=column(_POSTINGS, order_id, "seller:%"),
            webhooks=tuple((state, int(column(_HELD, event_id)[0])) for event_id, state in events),
            refunds=column(_REFUNDS, order_id), given_back=tuple(given_back),
            suspense=column(_POSTINGS, order_id, "suspense:%"),
        )  # fmt: skip
