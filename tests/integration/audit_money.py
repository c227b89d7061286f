"""The sides of each movement as the posting table of the design has them, and money that goes back, for `audit_world.py`."""

from typing import Any

NOW_MS = 1_790_000_000_000
Row = dict[str, Any]


def sides_of(movement: str, seller: str, currency: str, minor: int) -> list[tuple[str, int]]:
    """Account and signed amount, debit positive."""
    clearing, pending = f"psp:stripe:clearing:{currency}", f"seller:{seller}:pending:{currency}"
    buyer, suspense = f"buyer:b:{currency}", f"suspense:{currency}"
    capture = [(buyer, minor), (clearing, minor), (pending, -minor), (buyer, -minor)]
    return {
        "capture": capture,
        "refund": [(account, -amount) for account, amount in capture],
        "suspense_capture": [(pending, minor), (suspense, -minor)],
        "suspense_charge": [(clearing, minor), (suspense, -minor)],
        "suspense_refund": [(suspense, minor), (clearing, -minor)],
    }[movement]


def go_back(world: Any, place: Row, row: Row, intent: str, happened: Any, *, is_reversed: bool) -> None:
    """An order's money goes back: refunded out of wallet and ledger, or reversed out of the capture through suspense."""
    order_id, cause = row["payment_order_id"], "ACCOUNT_CLOSED" if is_reversed else "REQUESTED"
    happened("RefundOpened", order_id, "SUCCESS")
    happened("RefundSucceeded", order_id, "SUCCESS")
    money = {"amount_minor": row["amount_minor"], "currency": row["currency"]}
    refund = {"number": 1, "cause": cause, "status": "SUCCEEDED", "reason": "", "requested_by": "", "outcome": ""}
    times = {"opened_at_ms": NOW_MS, "ended_at_ms": NOW_MS}
    world.rows["payment.refunds"].append(place | {"payment_order_id": order_id} | money | refund | times)
    asked = {"kind": "refund", "number": 1, "attempt": 1, "key": f"refund-1-{order_id}", "request": "{}"}
    asked |= {"state": "DONE", "answer": intent, "started_at_ms": NOW_MS}
    world.rows["payment.operations"].append(place | {"payment_order_id": order_id} | asked)
    if not is_reversed:
        world.credit(row, sign=-1)
        world.post(row, "refund", 1)
        return
    world.post(row, "suspense_capture", 1)
    world.post(row, "suspense_refund", 1)
    case = {
        "mismatch_id": f"closed/{order_id}",
        "number": 1,
        "payment_order_id": order_id,
        "kind": "account_closed",
    }
    case |= money | {"psp": "stripe", "psp_object_id": intent, "detail": "", "state": "RESOLVED"}
    world.rows["payment.mismatches"].append(place | case | {"opened_at_ms": NOW_MS})
