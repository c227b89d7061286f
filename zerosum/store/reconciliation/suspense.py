# ruff: noqa: S608 - statements here are made of names of ours
"""What stands in suspense, and since when: the ledger's own suspense accounts, order by order and case by case.

A part is what the journals of one payment order (or of one case, where there is no order) leave in one suspense account: late
and second charges of the payment service, what finance has written off, less what was refunded or taken back. It stands since
the posting after which it was never zero again. Money that came and money that went are told apart, for their sum hides both.
Source: failures.md L11.

Invariant: came less went is the balance of the suspense accounts, all tenants and the house together. A write-off that is
approved and not yet posted is no part: it is not in suspense yet.
"""

from sqlalchemy import text

from zerosum.domain.journal import suspense_account
from zerosum.domain.money import EXPONENTS, Money
from zerosum.finance_queue import Suspense
from zerosum.store.database import Database
from zerosum.store.statement import text_array
from zerosum.store.wire import compiled


async def in_suspense(database: Database) -> list[Suspense]:
    """By currency, those with nothing left out. Raises Unavailable."""
    rows = await database.look(_STANDS.call({"accounts": text_array([suspense_account(each) for each in EXPONENTS])}))
    return [
        Suspense(Money(int(came), currency), Money(int(went), currency), int(parts), int(oldest_ms))
        for currency, came, went, parts, oldest_ms in rows
    ]


# ---- statements ----------------------------------------------------------------------------------------------------

_NOW = "CAST(floor(extract(epoch FROM now()) * 1000) AS INT8)"

_TENANTS = (
    "tenants (tenant) AS (SELECT min(f.tenant) FROM ledger.entries AS f UNION ALL "
    "SELECT (SELECT min(n.tenant) FROM ledger.entries AS n WHERE n.tenant > t.tenant) FROM tenants AS t "
    "WHERE t.tenant IS NOT NULL)"
)
"""The next tenant by index, again and again: as many index probes as tenants."""

_ORDER = "PARTITION BY j.tenant, j.payment_order_id, e.currency ORDER BY e.at_ms, e.slot, e.seq, e.ord, e.line"
_POSTED = (
    "posted AS (SELECT j.tenant, j.payment_order_id, e.currency, e.amount_minor, e.at_ms, "
    f"row_number() OVER ({_ORDER}) AS number, "
    f"sum(e.amount_minor) OVER ({_ORDER} ROWS UNBOUNDED PRECEDING) AS stood_minor "
    "FROM tenants AS t CROSS JOIN unnest(CAST(:accounts AS TEXT[])) AS a (account) "
    "JOIN ledger.entries AS e ON e.tenant = t.tenant AND e.account = a.account "
    "JOIN ledger.journals AS j ON j.slot = e.slot AND j.seq = e.seq AND j.ord = e.ord)"
)
_PARTS = (
    "parts AS (SELECT tenant, payment_order_id, currency, sum(amount_minor) AS minor, "
    "coalesce(max(CASE WHEN stood_minor = 0 THEN number END), 0) AS cleared FROM posted "
    "GROUP BY tenant, payment_order_id, currency HAVING sum(amount_minor) <> 0)"
)

_STANDS = compiled(
    text(
        f"WITH RECURSIVE {_TENANTS}, {_POSTED}, {_PARTS} "
        "SELECT p.currency, sum(CASE WHEN p.minor < 0 THEN -p.minor ELSE 0 END), "
        "sum(CASE WHEN p.minor > 0 THEN p.minor ELSE 0 END), count(*), "
        f"max({_NOW} - s.at_ms) FROM parts AS p JOIN posted AS s ON s.tenant = p.tenant "
        "AND s.payment_order_id = p.payment_order_id AND s.currency = p.currency AND s.number = p.cleared + 1 "
        "GROUP BY p.currency ORDER BY p.currency"
    )
)
"""Suspense is credited by what came: negative in the ledger. Its entries are found by `ledger_entries_by_account`."""
