"""What the hunt for ablations showed to be missing from the proof: rules whose breach is only later a loss of money.

Invariant: as `proof.py`: nothing here believes a status that it can count, and no rule of the product is asked.
"""

from typing import Final

from simulator.world.database import Database
from simulator.world.psp import Psp

_FINAL: Final = frozenset({"succeeded", "canceled"})
"""An object in one of these can never be paid, or has been: all others could be, without asking us."""


def findings(database: Database, psp: Psp) -> list[str]:
    """Everything that is wrong."""
    return [*_given_up(database, psp), *_keys(database, psp)]


def _given_up(database: Database, psp: Psp) -> list[str]:
    """I3, before it is broken: the object of an order that is FAILED or CANCELED can never be paid (design section 4)."""
    intents = psp.engine.account.intents
    orders = {
        row["payment_order_id"]: row["payment_order_status"] for row in database.rows("payment", "payment_orders")
    }
    wrong = []
    for attempt in database.rows("payment", "attempts"):
        order_id, object_id = attempt["payment_order_id"], attempt["psp_object_id"]
        status, intent = orders.get(order_id), intents.get(object_id)
        if status in {"FAILED", "CANCELED"} and intent is not None and intent.status not in _FINAL:
            wrong.append(f"I3: order {order_id} is {status}, and {object_id}, {intent.status}, could still be paid")
    return wrong


def _keys(database: Database, psp: Psp) -> list[str]:
    """I4, before it is broken: whatever the PSP carried out, it was asked for under the key of an operation (row P3)."""
    stored = {row["key"] for row in database.rows("payment", "operations")}
    asked = dict.fromkeys(record["key"] for record in psp.book.records if record.get("key"))
    return [f"I4: the PSP was asked under {key}, which no operation has" for key in asked if key not in stored]
