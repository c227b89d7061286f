"""What must hold at rest of money that went back, and of accounts that are closed. See `proof.py`.

Invariant: likewise, nothing here asks a rule of the product.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

from simulator.world.database import Database

_FINAL: Final = frozenset({"SUCCESS", "FAILED", "CANCELED"})


def given_back(database: Database) -> set[str]:
    """Orders whose refund SUCCEEDED, as the tables say."""
    rows = database.rows("payment", "refunds")
    return {row["payment_order_id"] for row in rows if row["status"] == "SUCCEEDED"}


def refused_by_psp(database: Database) -> list[Mapping[str, Any]]:
    """Refunds that FAILED because the PSP would not give the money back."""
    return [
        row
        for row in database.rows("payment", "refunds")
        if row["status"] == "FAILED" and row["outcome"] != "BALANCE_TOO_LOW"
    ]


def refunds_are_right(database: Database) -> list[str]:
    """I14: at rest each refund has ended, one has not failed, and the PSP was asked for each once, under one key.

    A reversal has its cause: an account that is closed, or an order of its checkout that was not paid or had to go back.
    """
    wrong, live, asked = [], Counter[str](), Counter[tuple[str, int]]()
    closed = {row["wallet_id"].partition(":")[0] for row in database.rows("wallet", "closures")}
    closed |= {row["owner"] for row in database.rows("ledger", "closures")}
    orders = {row["payment_order_id"]: row for row in database.rows("payment", "payment_orders")}
    refunds = database.rows("payment", "refunds")
    for row in database.rows("payment", "operations"):
        if row["kind"] == "refund":
            asked[row["payment_order_id"], row["number"]] += 1
    for row in refunds:
        name = row["payment_order_id"]
        live[name] += row["status"] != "FAILED"
        if row["status"] == "PENDING":
            wrong.append(f"I14: the refund of order {name} is PENDING for good")
        if row["cause"] == "ACCOUNT_CLOSED" and orders[name]["seller_account"] not in closed:
            wrong.append(f"I14: order {name} was reversed, and the account of its seller is open")
    known = {(row["payment_order_id"], row["number"]) for row in refunds}
    success = (name for name, _ in asked if orders[name]["payment_order_status"] == "SUCCESS")
    wrong.extend(f"I14: order {name} has {live[name]} refunds" for name in live if live[name] > 1)
    for name in success:
        if any((name, number) not in known for order_id, number in asked if order_id == name):
            wrong.append(f"I14: the PSP was asked to give order {name} back without a refund of ours")
    return wrong


def all_or_none(database: Database) -> list[str]:
    """I14 of a checkout that wanted all or none: all of its orders are final, and one was not paid, or wallet or ledger refused
    what it took. Then of the others none is kept: its reversal was tried at least, or it went back because somebody asked."""
    sold = {row["checkout_id"] for row in database.rows("payment", "payment_events") if row["on_partial"] == "REVERSE"}
    refused = {
        row["payment_order_id"] for row in database.rows("payment", "history") if row["type"] == "PostingRefused"
    }
    back = {
        row["payment_order_id"]
        for row in database.rows("payment", "refunds")
        if row["cause"] != "REQUESTED" or row["status"] != "FAILED"
    }
    orders: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in database.rows("payment", "payment_orders"):
        orders[row["checkout_id"]].append(row)
    wrong: list[str] = []
    for checkout_id in sorted(sold):
        rows = orders[checkout_id]
        paid = {row["payment_order_id"] for row in rows if row["payment_order_status"] == "SUCCESS"} - refused
        if len(paid) < len(rows) and all(row["payment_order_status"] in _FINAL for row in rows):
            wrong.extend(
                f"I14: order {name} is kept, though its checkout wanted all or none" for name in sorted(paid - back)
            )
    return wrong


def closed_is_closed(database: Database) -> list[str]:
    """I13 of closing: what came after it is no new money. Both services number what they take, closings included."""
    wrong = []
    closed = {row["wallet_id"]: row["version"] for row in database.rows("wallet", "closures")}
    for row in database.rows("wallet", "entries"):
        is_new = row["transfer_id"].startswith("credit-") and row["version"] > closed.get(
            row["wallet_id"], row["version"]
        )
        if is_new:
            wrong.append(f"I13: the closed wallet {row['wallet_id']} took {row['transfer_id']}")
    owners = {row["owner"]: row["version"] for row in database.rows("ledger", "closures")}
    for row in database.rows("ledger", "journals"):
        if row["movement"] == "capture" and row["version"] > owners.get(row["owner"], row["version"]):
            wrong.append(f"I13: the ledger took {row['journal_id']} for {row['owner']}, whose account is closed")
    return wrong
