"""Where the money of a checkout is, by every account of it: ours, the PSP's own book, the wallet, the ledger, the inbox.

Invariant: nothing here is believed because one side says so.
"""

import json
from dataclasses import dataclass
from typing import Any

import psycopg

from loadtest.chaos.client import AMOUNT_MINOR
from loadtest.probe import Psp
from loadtest.shape import Checkout


@dataclass(frozen=True, slots=True)
class Movement:
    """The money of a checkout of one order, in minor units. `webhooks`: of every event the PSP announced, what it thinks
    became of it and how often we hold it."""

    statuses: tuple[str, ...]
    charges: tuple[int, ...]
    credits: tuple[int, ...]
    postings: tuple[int, ...]
    webhooks: tuple[tuple[str, int], ...]


ONCE = Movement(("SUCCESS",), (AMOUNT_MINOR,), (AMOUNT_MINOR,), (-AMOUNT_MINOR,), (("delivered", 1),))
"""Charged once, credited once, posted once, told once."""

_ORDERS = "SELECT payment_order_status FROM payment.payment_orders WHERE payment_order_id = %s"
_CREDITS = "SELECT amount_minor FROM wallet.entries WHERE payment_order_id = %s"
_POSTINGS = (
    "SELECT entry.amount_minor FROM ledger.journals JOIN ledger.entries AS entry USING (tenant, journal_id)"
    " WHERE payment_order_id = %s AND entry.account LIKE 'seller:%%'"
)
_HELD = "SELECT count(*) FROM payment.inbox WHERE event_id = %s"


def movement_of(checkout: Checkout, psp: Psp, auditor_url: str) -> Movement:
    """Looks into every book. Blocking. Raises psycopg.Error, OSError where one cannot be read."""
    order_id = checkout.orders[0].payment_order_id
    truth = [json.loads(line) for line in psp.truth() if order_id.encode() in line]
    charges = [line["amount_captured"] for line in truth if line["type"] == "charge" and line["is_captured"]]
    events = [(line["id"], line["state"]) for line in truth if line["type"] == "webhook"]
    with psycopg.connect(auditor_url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:

        def column(statement: str, value: str) -> tuple[Any, ...]:
            return tuple(row[0] for row in connection.execute(statement.encode(), [value]).fetchall())

        return Movement(
            statuses=column(_ORDERS, order_id), charges=tuple(charges), credits=column(_CREDITS, order_id),
            postings=column(_POSTINGS, order_id),
            webhooks=tuple((state, int(column(_HELD, event_id)[0])) for event_id, state in events),
        )  # fmt: skip
