"""What must hold whatever happened, read from the tables, the PSP's own counts and the replies: no code of the story.

Every finding is a sentence, so that a failing seed says what is wrong.

Invariant: nothing here believes a status that it can count.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.sim.house import SERVICES, House, rows


def findings(house: House, *, dead_letters: Iterable[str] = ()) -> list[str]:
    """Everything that is wrong once the house has come to rest. `dead_letters`: reasons that are explained."""
    return [
        *_charges(house),
        *_wallets(house),
        *_ledger(house),
        *_open_ends(house, tuple(dead_letters)),
        *_versions(house),
        *(finding for service in SERVICES for finding in _slots(house, service)),
    ]


def _charges(house: House) -> list[str]:
    """I3, I4, I14: a charge an order that is SUCCESS, given back exactly where a refund says so; a refunded case for others."""
    orders = {row["payment_order_id"]: row["payment_order_status"] for row in rows(house, "payment", "payment_orders")}
    given = _given_back(house)
    refunded = Counter({obj.order_id: obj.given_back for obj in house.psp.objects.values() if obj.given_back})
    wrong = []
    for order_id, status in orders.items():
        charged, back = house.psp.charges[order_id], refunded[order_id]
        expected = {"SUCCESS": (1, int(order_id in given)), "FAILED": (back, charged), "CANCELED": (back, charged)}.get(
            status
        )
        if expected is None:
            wrong.append(f"order {order_id} is {status} for good")
        elif (charged, back) != expected or charged > 1:
            wrong.append(f"order {order_id} is {status}, charged {charged} and refunded {back} times")
    wrong.extend(f"a charge of nobody's order {order_id}" for order_id in set(house.psp.charges) - set(orders))
    cases = rows(house, "payment", "mismatches")
    wrong.extend(f"case {case['mismatch_id']} is {case['state']}" for case in cases if case["state"] != "RESOLVED")
    return wrong


def _given_back(house: House) -> set[str]:
    """Orders whose refund SUCCEEDED: one each, or it is a finding of `_charges`."""
    ended = [row for row in rows(house, "payment", "refunds") if row["status"] == "SUCCEEDED"]
    return {row["payment_order_id"] for row in ended}


def _wallets(house: House) -> list[str]:
    """I5: pending is the sum of SUCCESS orders a seller that were not given back, and the sum of its entries."""
    given, owed = _given_back(house), Counter[str]()
    for row in rows(house, "payment", "payment_orders"):
        if row["payment_order_status"] == "SUCCESS" and row["payment_order_id"] not in given:
            owed[f"{row['seller_account']}:{row['currency']}"] += row["amount_minor"]
    entries: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for row in rows(house, "wallet", "entries"):
        entries[row["wallet_id"]] += row["amount_minor"]
        counts[row["wallet_id"]] += 1
    counts.update(row["wallet_id"] for row in rows(house, "wallet", "closures"))
    wallets = {row["wallet_id"]: row for row in rows(house, "wallet", "wallets")}
    wrong = []
    for name in owed | entries | Counter(dict.fromkeys(wallets, 1)):
        row = wallets.get(name, {"pending_minor": 0, "version": 0})
        if not owed[name] == entries[name] == row["pending_minor"] or counts[name] != row["version"]:
            wrong.append(f"wallet {name}: owed {owed[name]}, entries {entries[name]}, pending {row['pending_minor']}")
    return wrong


def _ledger(house: House) -> list[str]:
    """I1, I2: every journal sums to zero; a capture an order that is SUCCESS, two journals a case, all given back."""
    sums: Counter[tuple[str, str]] = Counter()
    accounts: Counter[str] = Counter()
    for row in rows(house, "ledger", "entries"):
        sums[row["journal_id"], row["currency"]] += row["amount_minor"]
        accounts[row["account"]] += row["amount_minor"]
    wrong = [f"journal {journal} sums to {rest} {currency}" for (journal, currency), rest in sums.items() if rest]
    posted = Counter((row["movement"], row["payment_order_id"]) for row in rows(house, "ledger", "journals"))
    expected, given, captured = Counter[tuple[str, str]](), _given_back(house), set[str]()
    for row in rows(house, "payment", "payment_orders"):
        if row["payment_order_status"] != "SUCCESS":
            continue
        name, is_everywhere = row["payment_order_id"], row["wallet_updated"] and row["ledger_updated"]
        if row["ledger_updated"]:
            captured.add(name)
            expected["capture", name] = 1
        if name in given and is_everywhere:
            expected["refund", name] = 1
        if name not in given and not is_everywhere:
            wrong.append(f"order {name} is SUCCESS and not posted everywhere")
    for case in rows(house, "payment", "mismatches"):
        name = case["payment_order_id"]
        expected["suspense_capture" if name in captured else "suspense_charge", name] += 1
        expected["suspense_refund", name] += 1
    for row in rows(house, "wallet", "wallets"):
        account = f"seller:{row['owner']}:pending:{row['currency']}"
        if row["pending_minor"] != -accounts.pop(account, 0):
            wrong.append(f"wallet {row['wallet_id']} is not what {account} says")
    lost = {account: rest for account, rest in accounts.items() if rest and account.startswith(("suspense", "seller"))}
    wrong.extend(f"{account} stands at {rest}" for account, rest in lost.items())
    wrong.extend(f"journals {sorted((posted - expected).items())} too many" for _ in [0] if posted - expected)
    wrong.extend(f"journals {sorted((expected - posted).items())} are missing" for _ in [0] if expected - posted)
    return wrong


def _open_ends(house: House, explained: tuple[str, ...]) -> list[str]:
    """I9: nothing is owed, nobody waits for people without a reason that is known."""
    wrong = []
    for row in rows(house, "payment", "todos"):
        if row["state"] == "OPEN":
            wrong.append(f"to-do {row['checkout_id']}/{row['todo_id']} is open: {row['reason']}")
        elif row["state"] == "DEAD" and not any(reason in row["reason"] for reason in explained):
            wrong.append(f"to-do {row['checkout_id']}/{row['todo_id']} is dead: {row['reason']}")
    events = rows(house, "payment", "payment_events")
    wrong.extend(f"checkout {row['checkout_id']} has no reply" for row in events if row["reply"] is None)
    return wrong


def _versions(house: House) -> list[str]:
    """I7, I8: an entity's versions rise by one, and the history leads to the state that is stored."""
    seen: dict[str, list[int]] = {}
    status: dict[str, str] = {}
    for row in sorted(rows(house, "payment", "history"), key=lambda row: (row["checkout_id"], row["version"])):
        seen.setdefault(row["checkout_id"], []).append(row["version"])
        if row["payment_order_id"] and row["status"]:
            status[row["payment_order_id"]] = row["status"]
    wrong = []
    for event in rows(house, "payment", "payment_events"):
        versions = seen.get(event["checkout_id"], [])
        if versions != list(range(1, event["version"] + 1)):
            wrong.append(f"checkout {event['checkout_id']} is at version {event['version']}, its history {versions}")
    for order in rows(house, "payment", "payment_orders"):
        told = status.get(order["payment_order_id"], "NOT_STARTED")
        if told != order["payment_order_status"]:
            wrong.append(
                f"order {order['payment_order_id']} is {order['payment_order_status']}, its history says {told}"
            )
    return wrong


def _slots(house: House, service: str) -> list[str]:
    """I7: each slot's log is gapless, ends at its head, and its epochs never fall."""
    logs: dict[int, list[dict[str, Any]]] = {}
    for row in rows(house, service, "slot_log"):
        logs.setdefault(row["slot"], []).append(row)
    wrong = []
    for slot in rows(house, service, "slots"):
        log = sorted(logs.pop(slot["slot"], []), key=lambda row: int(row["seq"]))
        epochs = [row["epoch"] for row in log]
        if [row["seq"] for row in log] != list(range(1, slot["seq"] + 1)) or epochs != sorted(epochs):
            wrong.append(f"the log of {service} slot {slot['slot']} has gaps, or epochs that fall")
        if log and (log[-1]["hash"] != slot["hash"] or log[-1]["epoch"] > slot["epoch"]):
            wrong.append(f"the head of {service} slot {slot['slot']} is not the end of its log")
    return wrong + [f"{service} slot {slot} has a log and no head" for slot in logs]
