"""Every paid order reached its seller and the ledger, once: lost and doubled postings. Where one of them refused, it went back.

Invariant: each order is looked at from both sides, so that a posting without an order is found as well.
"""

from dataclasses import dataclass

from simulator.audit.database import Database, OrderKey, OrderRow
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm

_SUCCESS = "SUCCESS"


@dataclass(frozen=True, slots=True)
class _Captured:
    """The capture journals of one order, summed by side."""

    journals: int
    clearing_minor: int
    seller_minor: int
    fee_minor: int
    seller_account: str
    currency: str


def posted_exactly_once(evidence: Evidence, found: Findings) -> None:
    """Each SUCCESS order has one capture journal over its amount and one wallet credit over the seller's part."""
    database = evidence.database
    found.examined = len(database.orders)
    captured, credited = _captured(database), _credited(database)
    for key, row in database.orders.items():
        journal, credit = captured.pop(key, None), credited.pop(key, None)
        if row.status != _SUCCESS:
            if journal or credit:
                found.add(f"order {key}", f"is {row.status} and has postings", expected="none", found=journal or credit)
            continue
        is_homeless = key in database.refunds and not (row.is_in_wallet and row.is_in_ledger)
        if row.is_in_ledger or not is_homeless or journal:
            _check_journal(key, row, journal, found)
        if row.is_in_wallet or not is_homeless or credit:
            _check_credit(key, row, journal, credit, found)
        if not (row.is_in_wallet and row.is_in_ledger) and not is_homeless:
            flags = f"wallet_updated {row.is_in_wallet}, ledger_updated {row.is_in_ledger}"
            found.add(f"order {key}", "does not know of its postings", expected="both", found=flags, harm=Harm.STUCK)
    for key in {*captured, *credited}:
        found.add(f"order {key}", "has postings and does not exist", expected="an order", found="none", harm=Harm.LOSS)


def _check_journal(key: OrderKey, row: OrderRow, journal: _Captured | None, found: Findings) -> None:
    subject = f"order {key}"
    if journal is None:
        found.add(subject, "is paid and not in the ledger", expected="1 capture", found=0, harm=Harm.LOSS)
        return
    if journal.journals > 1:
        for _ in range(journal.journals - 1):
            found.add(subject, "is in the ledger twice", expected=1, found=journal.journals, harm=Harm.DOUBLE)
        return
    expected = (row.amount_minor, row.currency, f"seller:{row.seller}:pending:{row.currency}", -row.amount_minor)
    said = (journal.clearing_minor, journal.currency, journal.seller_account, journal.seller_minor + journal.fee_minor)
    if expected != said:
        found.add(subject, "has a journal over something else", expected=expected, found=said)


def _check_credit(
    key: OrderKey, row: OrderRow, journal: _Captured | None, credit: tuple[int, int, str] | None, found: Findings
) -> None:
    subject = f"order {key}"
    if credit is None:
        found.add(subject, "is paid and not in the wallet", expected="1 credit", found=0, harm=Harm.LOSS)
        return
    times, total_minor, wallet_id = credit
    if times > 1:
        for _ in range(times - 1):
            found.add(subject, "is in the wallet twice", expected=1, found=times, harm=Harm.DOUBLE)
        return
    net_minor = -journal.seller_minor if journal and journal.journals == 1 else row.amount_minor
    expected = (net_minor, f"{row.seller}:{row.currency}")
    if expected != (total_minor, wallet_id):
        found.add(subject, "credited another sum or wallet", expected=expected, found=(total_minor, wallet_id))


def _captured(database: Database) -> dict[OrderKey, _Captured]:
    rows = database.stream(
        "SELECT j.tenant, j.payment_order_id, count(DISTINCT j.journal_id),"
        " coalesce(sum(e.amount_minor) FILTER (WHERE e.account LIKE 'psp:%:clearing:%'), 0)::bigint,"
        " coalesce(sum(e.amount_minor) FILTER (WHERE e.account LIKE 'seller:%'), 0)::bigint,"
        " coalesce(sum(e.amount_minor) FILTER (WHERE e.account LIKE 'fees:platform:%'), 0)::bigint,"
        " coalesce(min(e.account) FILTER (WHERE e.account LIKE 'seller:%'), ''), coalesce(min(e.currency), '')"
        " FROM ledger.journals j LEFT JOIN ledger.entries e ON e.tenant = j.tenant AND e.journal_id = j.journal_id"
        " WHERE j.movement = 'capture' GROUP BY j.tenant, j.payment_order_id"
    )
    return {OrderKey(tenant, order_id): _Captured(*rest) for tenant, order_id, *rest in rows}


def _credited(database: Database) -> dict[OrderKey, tuple[int, int, str]]:
    rows = database.stream(
        "SELECT tenant, payment_order_id, count(*), sum(amount_minor)::bigint, min(wallet_id) FROM wallet.entries"
        " WHERE bucket = 'pending' AND amount_minor > 0 AND transfer_id NOT LIKE 'return-%' GROUP BY tenant, payment_order_id"
    )
    return {OrderKey(tenant, order_id): (n, total, wallet_id) for tenant, order_id, n, total, wallet_id in rows}
