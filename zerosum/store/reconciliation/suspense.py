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
    """By currency, those with nothing left out. Each tenant in a snapshot of its own. Raises Unavailable."""
    accounts = text_array([suspense_account(each) for each in EXPONENTS])
    found: dict[str, Suspense] = {}
    for (tenant,) in await database.look(_TENANTS):
        for row in await database.look(_STANDS.call({"tenant": tenant, "accounts": accounts})):
            currency, came, went, parts, oldest_ms = row
            before = found.get(currency, Suspense(Money(0, currency), Money(0, currency), 0, 0))
            found[currency] = Suspense(
                Money(before.came.amount_minor + int(came), currency), Money(before.went.amount_minor + int(went), currency),
                before.parts + int(parts), max(before.oldest_ms, int(oldest_ms)),
            )  # fmt: skip
    return [found[currency] for currency in sorted(found)]


# ---- statements ----------------------------------------------------------------------------------------------------

_NOW = "CAST(floor(extract(epoch FROM now()) * 1000) AS INT8)"

_TENANTS = compiled(
    text(
        "WITH RECURSIVE tenants (tenant) AS (SELECT min(f.tenant) FROM ledger.entries AS f UNION ALL "
        "SELECT (SELECT min(n.tenant) FROM ledger.entries AS n WHERE n.tenant > t.tenant) FROM tenants AS t "
        "WHERE t.tenant IS NOT NULL) SELECT tenant FROM tenants WHERE tenant IS NOT NULL"
    )
).call()
"""The next tenant by index, again and again: as many index probes as tenants."""

_PART = "PARTITION BY j.payment_order_id, e.currency"
_ORDER = f"{_PART} ORDER BY e.at_ms, e.slot, e.seq, e.ord, e.line"
_POSTED = (
    "posted AS (SELECT j.payment_order_id, e.currency, e.at_ms, "
    f"sum(e.amount_minor) OVER ({_PART}) AS minor, row_number() OVER ({_ORDER}) AS number, "
    f"sum(e.amount_minor) OVER ({_ORDER} ROWS UNBOUNDED PRECEDING) AS stood_minor FROM ledger.entries AS e "
    "JOIN ledger.journals AS j ON j.slot = e.slot AND j.seq = e.seq AND j.ord = e.ord "
    "WHERE e.tenant = :tenant AND e.account = ANY(CAST(:accounts AS TEXT[])))"
)
_STANDING = (
    "standing AS (SELECT currency, minor, at_ms, number, max(CASE WHEN stood_minor = 0 THEN number ELSE 0 END) "
    "OVER (PARTITION BY payment_order_id, currency) AS cleared FROM posted WHERE minor <> 0)"
)

_STANDS = compiled(
    text(
        f"WITH {_POSTED}, {_STANDING} SELECT currency, sum(CASE WHEN minor < 0 THEN -minor ELSE 0 END), "
        f"sum(CASE WHEN minor > 0 THEN minor ELSE 0 END), count(*), max({_NOW} - at_ms) "
        "FROM standing WHERE number = cleared + 1 GROUP BY currency"
    )
)
"""Suspense is credited by what came: negative in the ledger. A part has one row, of the posting since which it stands.

Its entries are found by `ledger_entries_by_account` and each is read once, some 10 us: suspense has few.
"""
