"""Money that goes back to buyers: I14. Of captured orders only, all of it, at most once, and out of every book.

Invariant: that money left a book is counted from its entries; what a refund says of itself is only what it is held to.
"""

from collections import defaultdict

from simulator.audit.database import Database, OrderKey, RefundRow
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm


def refunds_are_whole(evidence: Evidence, found: Findings) -> None:
    """I14: refunds asked for <= captured, one live; of those that SUCCEEDED nothing is left in wallet, ledger or suspense."""
    database = evidence.database
    found.examined = len(database.orders)
    _check_rows(database, found)
    _check_operations(database, found)
    _check_books(database, found)
    _check_closed(database, found)


def _check_rows(database: Database, found: Findings) -> None:
    for key, refunds in database.refunds.items():
        row = database.orders.get(key)
        subject = f"refund of order {key}"
        if row is None or row.status != "SUCCESS":
            found.add(subject, "is of an order that took no money", expected="SUCCESS", found=row and row.status)
            continue
        for refund in refunds:
            if (refund.amount_minor, refund.currency) != (row.amount_minor, row.currency):
                expected, said = (row.amount_minor, row.currency), (refund.amount_minor, refund.currency)
                found.add(subject, "is of other money than was captured", expected=expected, found=said)
        live = sum(refund.status != "FAILED" for refund in refunds)
        for _ in range(live - 1):
            found.add(subject, "is one of several", expected=1, found=live, harm=Harm.DOUBLE)


def _check_operations(database: Database, found: Findings) -> None:
    """The PSP is asked for each refund once, under one key; for a late charge without a row of its own likewise."""
    known = {(key, refund.number) for key, refunds in database.refunds.items() for refund in refunds}
    late = {case.order for case in database.mismatches if case.kind == "late_charge"}
    for tenant, order_id, number in database.stream(
        "SELECT tenant, payment_order_id, number FROM payment.operations WHERE kind = 'refund'"
    ):
        key = OrderKey(tenant, order_id)
        if (key, number) not in known and key not in late:
            found.add(
                f"order {key}", "was asked back without a refund", expected="a refund", found=f"operation {number}"
            )


def _check_books(database: Database, found: Findings) -> None:
    """What SUCCEEDED nets to zero by order, account by account and in the wallet; once no posting of it is open."""
    owed = {
        OrderKey(tenant, order_id)
        for tenant, order_id in database.all(
            "SELECT DISTINCT tenant, payment_order_id FROM payment.todos WHERE state <> 'DONE' AND payment_order_id <> ''"
        )
    }
    rests = _rests(database)
    for key, refunds in database.refunds.items():
        live: RefundRow | None = next((refund for refund in refunds if refund.status == "SUCCEEDED"), None)
        if live is None or key in owed:
            continue
        for book, rest in rests[key].items():
            if rest:
                found.add(f"order {key}", f"went back and is still in {book}", expected=0, found=rest, harm=Harm.LOSS)


def _rests(database: Database) -> dict[OrderKey, dict[str, int]]:
    """By order with a refund: what is left in each ledger account and in the seller's wallet."""
    rests: defaultdict[OrderKey, dict[str, int]] = defaultdict(dict)
    for tenant, order_id, account, total in database.stream(
        "SELECT j.tenant, j.payment_order_id, e.account, sum(e.amount_minor)::bigint FROM ledger.journals j"
        " JOIN payment.refunds r ON r.tenant = j.tenant AND r.payment_order_id = j.payment_order_id AND r.status = 'SUCCEEDED'"
        " JOIN ledger.entries e ON e.tenant = j.tenant AND e.journal_id = j.journal_id"
        " WHERE j.movement IN ('capture', 'refund', 'suspense_charge', 'suspense_capture', 'suspense_refund')"
        " GROUP BY j.tenant, j.payment_order_id, e.account"
    ):
        rests[OrderKey(tenant, order_id)][account] = total
    for tenant, order_id, total in database.stream(
        "SELECT w.tenant, w.payment_order_id, sum(w.amount_minor)::bigint FROM wallet.entries w"
        " JOIN payment.refunds r ON r.tenant = w.tenant AND r.payment_order_id = w.payment_order_id AND r.status = 'SUCCEEDED'"
        " GROUP BY w.tenant, w.payment_order_id"
    ):
        rests[OrderKey(tenant, order_id)]["the wallet"] = total
    return rests


def _check_closed(database: Database, found: Findings) -> None:
    """Closed means closed: no new money came to an account after its closing, by the versions of its own log."""
    for tenant, wallet_id, transfer_id in database.stream(
        "SELECT e.tenant, e.wallet_id, e.transfer_id FROM wallet.entries e JOIN wallet.closures c ON c.tenant = e.tenant"
        " AND c.wallet_id = e.wallet_id WHERE e.version > c.version AND e.amount_minor > 0"
        " AND e.transfer_id NOT LIKE 'return-%'"
    ):
        found.add(
            f"wallet {tenant}/{wallet_id}", "took new money while closed", expected="a refusal", found=transfer_id
        )
    for tenant, owner, journal_id in database.stream(
        "SELECT j.tenant, j.owner, j.journal_id FROM ledger.journals j JOIN ledger.closures c ON c.tenant = j.tenant"
        " AND c.owner = j.owner JOIN ledger.entries e ON e.tenant = j.tenant AND e.journal_id = j.journal_id"
        " AND e.currency = c.currency AND e.account LIKE 'seller:%' WHERE j.version > c.version AND j.movement = 'capture'"
    ):
        found.add(f"owner {tenant}/{owner}", "took a capture while closed", expected="a refusal", found=journal_id)
