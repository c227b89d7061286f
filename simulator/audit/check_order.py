"""What an order may do, and that it comes to an end: I8, I9.

The table is our own copy of what docs/order-states.md (design section 5) prints, so that a wrong edit of the product's
table is seen here. Invariant: history is folded from nothing, in the order of its versions.
"""

from collections import Counter
from typing import Final

from simulator.audit.database import Database, OrderKey
from simulator.audit.evidence import Evidence, Options
from simulator.audit.finding import Findings, Harm

TRANSITIONS: Final = {
    ("NOT_STARTED", "AttemptOpened"): "EXECUTING",
    ("NOT_STARTED", "OrderFailed"): "FAILED",
    ("EXECUTING", "OrderPended"): "PENDING",
    ("EXECUTING", "OrderAuthorized"): "AUTHORIZED",
    ("EXECUTING", "OrderCharged"): "SUCCESS",
    ("EXECUTING", "OrderFailed"): "FAILED",
    ("EXECUTING", "OrderCanceled"): "CANCELED",
    ("PENDING", "OrderAuthorized"): "AUTHORIZED",
    ("PENDING", "OrderCharged"): "SUCCESS",
    ("PENDING", "OrderFailed"): "FAILED",
    ("PENDING", "OrderCanceled"): "CANCELED",
    ("AUTHORIZED", "OrderCharged"): "SUCCESS",
    ("AUTHORIZED", "OrderCanceled"): "CANCELED",
}
"""(status, event) -> status, as printed. Every other pair is illegal."""

EVENTS: Final = frozenset(event for _, event in TRANSITIONS)
TERMINAL: Final = frozenset({"SUCCESS", "FAILED", "CANCELED"})
_FIRST: Final = "NOT_STARTED"


def reachable_from(status: str) -> frozenset[str]:
    """The status itself and everything legal steps lead to."""
    reached, new = {status}, {status}
    while new:
        new = {after for (before, _), after in TRANSITIONS.items() if before in new} - reached
        reached |= new
    return frozenset(reached)


def states_are_folds(evidence: Evidence, found: Findings) -> None:
    """I8: every step of every order is in the table, and its present state is the fold of its history."""
    database = evidence.database
    folded: dict[OrderKey, str] = {}
    flags: set[tuple[OrderKey, str]] = set()
    for tenant, checkout_id, version, type_, order_id, status in database.stream(
        "SELECT tenant, checkout_id, version, type, payment_order_id, status FROM payment.history"
        " ORDER BY slot, tenant, checkout_id, version"
    ):
        found.examined += 1
        if not order_id:
            continue
        key = OrderKey(tenant, order_id)
        before = folded.get(key, _FIRST)
        where = f"order {key} at version {version} of {checkout_id}"
        if type_ in EVENTS:
            after = TRANSITIONS.get((before, type_))
            if after is None:
                found.add(where, f"{type_} does not apply to {before}", expected="a legal step", found=status)
                after = status or before
            folded[key] = after
        elif type_ in ("WalletUpdated", "LedgerUpdated"):
            flags.add((key, type_))
        if status and status != folded.get(key, _FIRST):
            found.add(where, f"{type_} left another status", expected=folded.get(key, _FIRST), found=status)
            folded[key] = status
    _compare_orders(database, folded, flags, found)
    _compare_checkouts(database, found)
    _compare_attempts(database, found)


def _compare_orders(
    database: Database, folded: dict[OrderKey, str], flags: set[tuple[OrderKey, str]], found: Findings
) -> None:
    for key, row in database.orders.items():
        status = folded.pop(key, _FIRST)
        if status != row.status:
            found.add(f"order {key}", "is not what its history says", expected=status, found=row.status)
        said = ((key, "WalletUpdated") in flags, (key, "LedgerUpdated") in flags)
        if said != (row.is_in_wallet, row.is_in_ledger):
            kept = (row.is_in_wallet, row.is_in_ledger)
            found.add(f"order {key}", "has other flags (wallet, ledger) than its history", expected=said, found=kept)
    for key, status in folded.items():
        found.add(f"order {key}", "has a history and is gone", expected=status, found="none", harm=Harm.LOSS)


def _compare_checkouts(database: Database, found: Findings) -> None:
    statuses: dict[tuple[str, str], Counter[str]] = {}
    done: Counter[tuple[str, str]] = Counter()
    reversed_: Counter[tuple[str, str]] = Counter()
    for key, row in database.orders.items():
        checkout = (key.tenant, row.checkout_id)
        statuses.setdefault(checkout, Counter())[row.status] += 1
        done[checkout] += row.status == "SUCCESS" and row.is_in_wallet and row.is_in_ledger
        refund = database.refund_of(key)
        is_reversed = refund is not None and refund.is_reversal and refund.status == "SUCCEEDED"
        reversed_[checkout] += row.status == "SUCCESS" and is_reversed
    for tenant, checkout_id, status, is_done in database.stream(
        "SELECT tenant, checkout_id, status, is_payment_done FROM payment.payment_events"
    ):
        counts = statuses.pop((tenant, checkout_id), Counter())
        is_reversed = 0 < counts["SUCCESS"] == reversed_[(tenant, checkout_id)]
        expected = (_status_of(counts, is_reversed=is_reversed), done[(tenant, checkout_id)] == counts.total() > 0)
        if expected != (status, is_done):
            found.add(
                f"checkout {tenant}/{checkout_id}",
                "is not what its orders say",
                expected=expected,
                found=(status, is_done),
            )
    for tenant, checkout_id in statuses:
        found.add(
            f"checkout {tenant}/{checkout_id}",
            "has orders and is gone",
            expected="a checkout",
            found="none",
            harm=Harm.LOSS,
        )


def _status_of(counts: Counter[str], *, is_reversed: bool) -> str:
    if not counts:
        return "an order"
    if not set(counts) <= TERMINAL:
        return "OPEN"
    if is_reversed:
        return "REVERSED"
    if set(counts) == {"SUCCESS"}:
        return "DONE"
    return "PARTIAL" if counts["SUCCESS"] else "FAILED"


def _compare_attempts(database: Database, found: Findings) -> None:
    """FAILED and CANCELED need the proof that no money moved; SUCCESS needs the attempt that moved it."""
    for tenant, order_id, status, charged, unproven in database.stream(
        "SELECT o.tenant, o.payment_order_id, o.payment_order_status, count(*) FILTER (WHERE a.state = 'CHARGED'),"
        " count(*) FILTER (WHERE a.state <> 'NO_CHARGE')"
        " FROM payment.payment_orders o LEFT JOIN payment.attempts a ON a.slot = o.slot AND a.tenant = o.tenant"
        " AND a.checkout_id = o.checkout_id AND a.payment_order_id = o.payment_order_id"
        " WHERE o.payment_order_status IN ('SUCCESS', 'FAILED', 'CANCELED')"
        " GROUP BY o.tenant, o.payment_order_id, o.payment_order_status"
    ):
        expected = 1 if status == "SUCCESS" else 0
        counted = charged if status == "SUCCESS" else unproven
        if counted != expected:
            problem = f"is {status}, and its attempts say otherwise"
            found.add(f"order {tenant}/{order_id}", problem, expected=expected, found=counted)


def nothing_is_stuck(evidence: Evidence, found: Findings) -> None:
    """I9: no order, to-do or caller waits past its limit, unless a named queue holds it (dead letters, mismatches)."""
    database, options = evidence.database, evidence.options
    queued = {case.order for case in database.mismatches}
    for tenant, order_id, checkout_id, todo_id, reason in database.stream(
        "SELECT tenant, payment_order_id, checkout_id, todo_id, reason FROM payment.todos WHERE state = 'DEAD'"
    ):
        found.examined += 1
        queued.add(OrderKey(tenant, order_id))
        if options.do_dead_letters_count:
            subject = f"to-do {todo_id} of {tenant}/{checkout_id}"
            found.add(subject, "is a dead letter", expected="done", found=reason, harm=Harm.STUCK)
    found.examined += len(database.orders)
    for key, row in database.orders.items():
        if row.status in TERMINAL or key in queued:
            continue
        age_ms = database.now_ms - row.created_at_ms
        limit_ms = options.pending_limit_ms if row.status == "PENDING" else options.in_flight_limit_ms
        if age_ms >= limit_ms:
            found.add(
                f"order {key}", f"is {row.status} for {age_ms} ms", expected="final", found=row.status, harm=Harm.STUCK
            )
    _check_todos(database, options, found)
    _check_callers(database, options, found)


def _check_todos(database: Database, options: Options, found: Findings) -> None:
    for tenant, checkout_id, todo_id, order_id, tries, created_at_ms, reason in database.stream(
        "SELECT tenant, checkout_id, todo_id, payment_order_id, tries, created_at_ms, reason FROM payment.todos"
        " WHERE state = 'OPEN'"
    ):
        found.examined += 1
        row = database.orders.get(OrderKey(tenant, order_id))
        limit_ms = options.pending_limit_ms if row and row.status == "PENDING" else options.in_flight_limit_ms
        if database.now_ms - created_at_ms >= limit_ms:
            subject = f"to-do {todo_id} of {tenant}/{checkout_id}"
            found.add(subject, f"is open after {tries} tries", expected="done", found=reason or "OPEN", harm=Harm.STUCK)


def _check_callers(database: Database, options: Options, found: Findings) -> None:
    for tenant, checkout_id, created_at_ms in database.stream(
        "SELECT tenant, checkout_id, created_at_ms FROM payment.payment_events WHERE reply IS NULL"
    ):
        if database.now_ms - created_at_ms >= options.in_flight_limit_ms:
            subject = f"checkout {tenant}/{checkout_id}"
            found.add(subject, "was never answered", expected="a fixed reply", found="none", harm=Harm.STUCK)
