"""What must hold once all is at rest, whatever happened: read from the tables, the PSP's book and the replies.

Every finding is a sentence that begins with its invariant, so that a failing seed says what is wrong.

Invariant: nothing here believes a status that it can count, and no rule of the product is asked.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from simulator.psp.stripe.objects import Charge
from simulator.world.database import SERVICES, Database
from simulator.world.proof_refund import all_or_none, closed_is_closed, given_back, refunds_are_right, refused_by_psp
from simulator.world.psp import Psp
from zerosum.store.chain import GENESIS

_CLEARING: Final = "psp:stripe:clearing:"


@dataclass(frozen=True, slots=True)
class Carried:
    """What earlier stories of the same house left, whose other rows were audited and are gone.

    `wallets`: pending and version by id; `slots`: seq, epoch and hash by service and slot.
    """

    TABLES: ClassVar = frozenset({"slots", "wallets", "owners", "closures"})
    """Tables whose rows stay: all else belongs to checkouts that are settled."""

    wallets: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    slots: Mapping[tuple[str, int], tuple[int, int, bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, database: Database) -> "Carried":
        """As it stands now."""
        wallets = database.rows("wallet", "wallets")
        slots = [(service, row) for service in SERVICES for row in database.rows(service, "slots")]
        return cls(
            {row["wallet_id"]: (row["pending_minor"], row["version"]) for row in wallets},
            {(service, row["slot"]): (row["seq"], row["epoch"], row["hash"]) for service, row in slots},
        )


def findings(database: Database, psp: Psp, told: Mapping[str, set[bytes]], carried: Carried = Carried()) -> list[str]:
    """Everything that is wrong. `told`: every fixed reply anyone ever got, by checkout."""
    return [
        *_charges(database, psp),
        *_cases(database, psp),
        *refunds_are_right(database),
        *all_or_none(database),
        *closed_is_closed(database),
        *_given_up(database, psp),
        *_keys(database, psp),
        *_forgotten(psp),
        *_conservation(database, psp),
        *_wallets(database, carried),
        *_ledger(database),
        *_open_ends(database),
        *_replies(database, told),
        *_versions(database),
        *_webhooks(database, psp),
        *(finding for service in SERVICES for finding in _slots(database, service, carried)),
    ]


def _charges(database: Database, psp: Psp) -> list[str]:
    """I3, I4: a charge an order that is SUCCESS, of its amount, given back where a refund says so; for others all went back."""
    account = psp.engine.account
    charged: defaultdict[str, list[Charge]] = defaultdict(list)
    for charge in account.charges.values():
        if charge.is_captured:
            charged[charge.metadata.get("payment_order_id", charge.id)].append(charge)
    wrong, given = [], given_back(database)
    orders, queued = (
        {row["payment_order_id"]: row for row in database.rows("payment", "payment_orders")},
        _queued(database),
    )
    for order_id, order in orders.items():
        charges, status = charged[order_id], order["payment_order_status"]
        back = sum(charge.amount_refunded for charge in charges)
        taken = [(charge.amount_captured, charge.currency.upper()) for charge in charges]
        asked = (order["amount_minor"], order["currency"])
        if status == "SUCCESS":
            is_right = taken == [asked] and back == (asked[0] if order_id in given else 0)
        elif order_id in queued:
            is_right = not taken
        else:
            is_right = status in {"FAILED", "CANCELED"} and len(taken) <= 1 and back == sum(each[0] for each in taken)
        if not is_right:
            wrong.append(f"I3: order {order_id} of {asked} is {status}, the book took {taken} and gave back {back}")
    wrong.extend(f"I3: a charge of nobody's order {name}" for name in charged if name not in orders)
    return wrong


_FOR_PEOPLE: Final = frozenset({"wrong_money", "wrong_reference"})
"""Kinds of cases that stay open: a PSP that has taken an order down wrongly is a matter for people (row S9)."""


def _queued(database: Database) -> set[str]:
    """Orders that wait for people: what the PSP says of them is not what was asked."""
    return {
        case["payment_order_id"]
        for case in database.rows("payment", "mismatches")
        if case["kind"] in _FOR_PEOPLE and case["state"] == "OPEN"
    }


def _cases(database: Database, psp: Psp) -> list[str]:
    """I3: every case is resolved, but for those about an order that the PSP took down wrongly or would not give back."""
    refused = {row["payment_order_id"] for row in refused_by_psp(database)}
    stays_open = {**dict.fromkeys(_FOR_PEOPLE, psp.wronged), **dict.fromkeys(_NOT_GIVEN_BACK, refused)}
    return [
        f"I3: case {case['mismatch_id']} is {case['state']}"
        for case in database.rows("payment", "mismatches")
        if case["state"] != "RESOLVED" and case["payment_order_id"] not in stays_open.get(case["kind"], ())
    ]


_NOT_GIVEN_BACK: Final = frozenset({"account_closed", "reversal_failed"})
"""Kinds of cases that stay open where the PSP refused to give the money back (row P18)."""


_FINAL: Final = frozenset({"succeeded", "canceled"})
"""An object in one of these can never be paid, or has been: all others could be, without asking us."""


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


def _forgotten(psp: Psp) -> list[str]:
    """I4, before it is broken: nothing is asked for anew under a key that the PSP has carried out and forgotten (row S10)."""
    done = Counter(
        record["key"]
        for record in psp.book.records
        if record.get("key") and any(record.get(made) for made in ("intents", "charges", "refunds"))
    )
    return [f"I4: the PSP has carried out {key} {count} times" for key, count in done.items() if count > 1]


def _conservation(database: Database, psp: Psp) -> list[str]:
    """I22: what the book took and did not give back is what the ledger says the PSP has for us."""
    book: Counter[str] = Counter()
    for movement in psp.engine.account.balance.values():
        book[movement.currency.upper()] += movement.amount
    ledger: Counter[str] = Counter()
    for row in database.rows("ledger", "entries"):
        if row["account"].startswith(_CLEARING):
            ledger[row["currency"]] += row["amount_minor"]
    return [
        f"I22: the book has {book[currency]} {currency}, the ledger {ledger[currency]}"
        for currency in sorted({*book, *ledger})
        if book[currency] != ledger[currency]
    ]


_NO_WALLET: Final = {"pending_minor": 0, "version": 0}


def _wallets(database: Database, carried: Carried) -> list[str]:
    """I5: pending is the sum of the SUCCESS orders it has and has not given back, of its entries, and what the ledger says."""
    owed, given = Counter[str](), given_back(database)
    for row in database.rows("payment", "payment_orders"):
        is_kept = row["wallet_updated"] and row["ledger_updated"] and row["payment_order_id"] not in given
        if row["payment_order_status"] == "SUCCESS" and is_kept:
            owed[f"{row['seller_account']}:{row['currency']}"] += row["amount_minor"]
    entries: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for row in database.rows("wallet", "entries"):
        entries[row["wallet_id"]] += row["amount_minor"]
        counts[row["wallet_id"]] += 1
    for row in database.rows("wallet", "closures"):
        counts[row["wallet_id"]] += row["version"] > carried.wallets.get(row["wallet_id"], (0, 0))[1]
    ledger: Counter[str] = Counter()
    for row in database.rows("ledger", "entries"):
        owner, _, currency = row["account"].removeprefix("seller:").partition(":pending:")
        ledger[f"{owner}:{currency}"] -= row["amount_minor"]
    wallets = {row["wallet_id"]: row for row in database.rows("wallet", "wallets")}
    wrong = []
    for name in dict.fromkeys([*owed, *entries, *wallets]):
        row, (pending_minor, version) = wallets.get(name, _NO_WALLET), carried.wallets.get(name, (0, 0))
        is_right = owed[name] == entries[name] == ledger[name] == row["pending_minor"] - pending_minor
        if not is_right or counts[name] != row["version"] - version:
            wrong.append(
                f"I5: wallet {name}: owed {owed[name]}, entries {entries[name]}, ledger {ledger[name]}, pending "
                f"{row['pending_minor']}, "
                f"{counts[name]} entries at version {row['version']}"
            )
    return wrong


_HOMELESS, _REVERSAL_FAILED = "account_closed", "reversal_failed"


def _ledger(database: Database) -> list[str]:
    """I1, I2: every journal sums to zero; a capture an order that is SUCCESS, two journals a case, all given back is undone."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in database.rows("ledger", "entries"):
        sums[row["journal_id"], row["currency"]] += row["amount_minor"]
    wrong = [f"I1: journal {journal} sums to {rest} {currency}" for (journal, currency), rest in sums.items() if rest]
    posted = Counter((row["movement"], row["payment_order_id"]) for row in database.rows("ledger", "journals"))
    expected, given, captured = Counter[tuple[str, str]](), given_back(database), set[str]()
    homeless = {
        case["payment_order_id"] for case in database.rows("payment", "mismatches") if case["kind"] == _HOMELESS
    }
    for row in database.rows("payment", "payment_orders"):
        name = row["payment_order_id"]
        if row["payment_order_status"] != "SUCCESS":
            continue
        if row["ledger_updated"]:
            captured.add(name)
            expected["capture", name] = 1
        expected["refund", name] = int(name in given and name not in homeless)
        if not (row["wallet_updated"] and row["ledger_updated"]) and name not in homeless:
            wrong.append(f"I9: order {name} is SUCCESS and not posted everywhere")
    for case in database.rows("payment", "mismatches"):
        if case["kind"] in _FOR_PEOPLE or case["kind"] == _REVERSAL_FAILED:
            continue
        name = case["payment_order_id"]
        expected["suspense_capture" if name in captured else "suspense_charge", name] += 1
        expected["suspense_refund", name] += case["state"] == "RESOLVED"
    expected += Counter()
    wrong.extend(f"I2: journals {sorted((posted - expected).items())} too many" for _ in [0] if posted - expected)
    wrong.extend(f"I2: journals {sorted((expected - posted).items())} are missing" for _ in [0] if expected - posted)
    return wrong


def _open_ends(database: Database) -> list[str]:
    """I9: nothing is owed, and only orders that the PSP took down wrongly wait for people."""
    queued = _queued(database)
    wrong = [
        f"I9: to-do {row['checkout_id']}/{row['todo_id']} is {row['state']}: {row['reason']}"
        for row in database.rows("payment", "todos")
        if row["state"] != "DONE" and not (row["state"] == "DEAD" and row["payment_order_id"] in queued)
    ]
    events = database.rows("payment", "payment_events")
    wrong.extend(f"I9: checkout {row['checkout_id']} has no reply" for row in events if row["reply"] is None)
    return wrong


def _replies(database: Database, told: Mapping[str, set[bytes]]) -> list[str]:
    """I6: every reply to a checkout has the bytes that are stored; whoever has one, has a checkout."""
    stored = {row["checkout_id"]: row["reply"] for row in database.rows("payment", "payment_events")}
    return [
        f"I6: checkout {checkout_id} was told {len(replies)} replies, stored is {'one' if checkout_id in stored else 'none'}"
        for checkout_id, replies in told.items()
        if replies != {stored.get(checkout_id)}
    ]


def _versions(database: Database) -> list[str]:
    """I7, I8: an entity's versions rise by one, and the history leads to the state that is stored."""
    seen: defaultdict[str, list[int]] = defaultdict(list)
    status: dict[str, str] = {}
    history = database.rows("payment", "history")
    for row in sorted(history, key=lambda row: (row["checkout_id"], row["version"])):
        seen[row["checkout_id"]].append(row["version"])
        if row["payment_order_id"] and row["status"]:
            status[row["payment_order_id"]] = row["status"]
    wrong = []
    for event in database.rows("payment", "payment_events"):
        versions = seen[event["checkout_id"]]
        if versions != list(range(1, event["version"] + 1)):
            wrong.append(
                f"I7: checkout {event['checkout_id']} is at version {event['version']}, its history {versions}"
            )
    for order in database.rows("payment", "payment_orders"):
        is_told = status.get(order["payment_order_id"], "NOT_STARTED")
        if is_told != order["payment_order_status"]:
            wrong.append(
                f"I8: order {order['payment_order_id']} is {order['payment_order_status']}, its history says {is_told}"
            )
    return wrong


def _webhooks(database: Database, psp: Psp) -> list[str]:
    """I10, I19: what was answered 2xx is in the inbox once; what is in the inbox, the PSP has sent and signed."""
    inbox = Counter(row["event_id"] for row in database.rows("payment", "inbox"))
    announced = {each["id"]: each for each in psp.engine.outbox.log()}
    wrong = []
    for event_id, each in announced.items():
        is_ours = each["accepted"] > 0 and each["event"] not in psp.ignored
        if is_ours and inbox[event_id] != 1:
            wrong.append(
                f"I10: {each['event']} {event_id} was answered 2xx and is {inbox[event_id]} times in the inbox"
            )
    strange: Iterable[str] = (name for name in inbox if name not in announced or not announced[name]["attempts"])
    return wrong + [f"I19: {name} is in the inbox and was never sent" for name in strange]


def _slots(database: Database, service: str, carried: Carried) -> list[str]:
    """I7, I18: each slot's log is gapless, begins where it was left, ends at its head, and its epochs never fall."""
    logs: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in database.rows(service, "slot_log"):
        logs[row["slot"]].append(row)
    wrong = []
    for slot in database.rows(service, "slots"):
        seq, epoch, end = carried.slots.get((service, slot["slot"]), (0, 0, GENESIS))
        log = sorted(logs.pop(slot["slot"], []), key=lambda row: int(row["seq"]))
        epochs = [epoch, *[row["epoch"] for row in log]]
        if [row["seq"] for row in log] != list(range(seq + 1, slot["seq"] + 1)) or epochs != sorted(epochs):
            wrong.append(f"I7: the log of {service} slot {slot['slot']} has gaps, or epochs that fall")
        if log:
            end, epoch = log[-1]["hash"], log[-1]["epoch"]
        if end != slot["hash"] or epoch > slot["epoch"]:
            wrong.append(f"I18: the head of {service} slot {slot['slot']} is not the end of its log")
    return wrong + [f"I7: {service} slot {slot} has a log and no head" for slot in logs]
