"""The books add up: I1, I2, I5, I13. SQL alone; holds at every instant, under load too.

Invariant: sums are made anew from the entries, never taken from a balance the product keeps.
"""

from typing import Final

from simulator.audit.database import Database
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm

_ACCOUNT: Final = r"^(buyer|seller|user|psp|fees|suspense|bank|provider)(:[A-Za-z0-9_.-]+)*:[A-Z]{3}$"
"""The chart of accounts of the design, section 6: a head that is in it, the currency last."""

_BUCKETS: Final = ("pending", "available", "in_payout", "receivable")


def journals_balance(evidence: Evidence, found: Findings) -> None:
    """I1: the entries of every journal sum to zero per currency, and there are some."""
    database = evidence.database
    found.examined = database.number("SELECT count(*) FROM ledger.journals")
    for tenant, journal_id, currency, total in database.stream(
        "SELECT tenant, journal_id, currency, sum(amount_minor)::bigint FROM ledger.entries"
        " GROUP BY tenant, journal_id, currency HAVING sum(amount_minor) <> 0"
    ):
        found.add(f"{tenant}/{journal_id}", f"does not sum to zero in {currency}", expected=0, found=total)
    for tenant, journal_id in database.stream(
        "SELECT j.tenant, j.journal_id FROM ledger.journals j LEFT JOIN ledger.entries e"
        " ON e.tenant = j.tenant AND e.journal_id = j.journal_id WHERE e.journal_id IS NULL"
    ):
        found.add(f"{tenant}/{journal_id}", "has no entries", expected="entries", found="none", harm=Harm.LOSS)


def ledger_balances(evidence: Evidence, found: Findings) -> None:
    """I2: the whole ledger sums to zero per currency; no entry has an unknown account, currency or journal."""
    database = evidence.database
    found.examined = database.number("SELECT count(*) FROM ledger.entries")
    for currency, total in database.all(
        "SELECT currency, sum(amount_minor)::bigint FROM ledger.entries GROUP BY currency HAVING sum(amount_minor) <> 0"
    ):
        found.add(f"ledger in {currency}", "does not sum to zero", expected=0, found=total)
    for tenant, journal_id, account, currency in database.stream(
        "SELECT tenant, journal_id, account, currency FROM ledger.entries"
        " WHERE account !~ %s OR right(account, 4) <> ':' || currency",
        (_ACCOUNT,),
    ):
        found.add(f"{tenant}/{journal_id}", "posts to an unknown account", expected=f"..:{currency}", found=account)
    for tenant, journal_id, account in database.stream(
        "SELECT e.tenant, e.journal_id, e.account FROM ledger.entries e LEFT JOIN ledger.journals j"
        " ON j.tenant = e.tenant AND j.journal_id = e.journal_id WHERE j.journal_id IS NULL"
    ):
        found.add(f"{tenant}/{journal_id}", "has an entry and no journal", expected="a journal", found=account)


def balances_are_projections(evidence: Evidence, found: Findings) -> None:
    """I5: every balance, count and checkpoint is the sum of its entries, in the wallet and in the ledger."""
    database = evidence.database
    found.examined = database.number("SELECT count(*) FROM wallet.wallets") + database.number(
        "SELECT count(*) FROM ledger.accounts"
    )
    _wallets(database, found)
    _accounts(database, found)
    _checkpoints(database, found)


def _wallets(database: Database, found: Findings) -> None:
    sums = ", ".join(
        f"coalesce(sum(amount_minor) FILTER (WHERE bucket = '{bucket}'), 0)::bigint AS {bucket}" for bucket in _BUCKETS
    )
    balances = ", ".join(f"coalesce(w.{bucket}_minor, 0), coalesce(e.{bucket}, 0)" for bucket in _BUCKETS)
    rows = database.stream(
        f"WITH e AS (SELECT tenant, wallet_id, {sums}, count(DISTINCT version) AS transfers FROM wallet.entries"  # noqa: S608 (names of ours)
        " GROUP BY tenant, wallet_id)"
        " SELECT coalesce(w.tenant, e.tenant), coalesce(w.wallet_id, e.wallet_id), coalesce(w.version, 0),"
        f" coalesce(e.transfers, 0) + (c.wallet_id IS NOT NULL)::int, {balances}"
        " FROM wallet.wallets w FULL OUTER JOIN e ON e.tenant = w.tenant AND e.wallet_id = w.wallet_id"
        " LEFT JOIN wallet.closures c ON c.tenant = w.tenant AND c.wallet_id = w.wallet_id"
    )
    for tenant, wallet_id, version, transfers, *pairs in rows:
        subject = f"wallet {tenant}/{wallet_id}"
        if version != transfers:
            found.add(
                subject, "counts other transfers and closings than it has rows of", expected=transfers, found=version
            )
        for bucket, kept, made in zip(_BUCKETS, pairs[::2], pairs[1::2], strict=True):
            if kept != made:
                found.add(subject, f"{bucket} is not the sum of its entries", expected=made, found=kept)


def _accounts(database: Database, found: Findings) -> None:
    rows = database.stream(
        "WITH e AS (SELECT tenant, account, sum(amount_minor)::bigint AS total, count(*) AS entries FROM ledger.entries"
        " WHERE account LIKE 'seller:%' OR account LIKE 'user:%' GROUP BY tenant, account)"
        " SELECT coalesce(a.tenant, e.tenant), coalesce(a.account, e.account), coalesce(a.balance_minor, 0),"
        " coalesce(e.total, 0), coalesce(a.entry_count, 0), coalesce(e.entries, 0)"
        " FROM ledger.accounts a FULL OUTER JOIN e ON e.tenant = a.tenant AND e.account = a.account"
        " WHERE a.balance_minor IS DISTINCT FROM e.total OR a.entry_count IS DISTINCT FROM e.entries"
    )
    for tenant, account, kept, made, count_kept, count_made in rows:
        found.add(
            f"account {tenant}/{account}",
            "is not the sum of its entries",
            expected=f"{made} in {count_made} entries",
            found=f"{kept} in {count_kept} entries",
        )


def _checkpoints(database: Database, found: Findings) -> None:
    rows = database.stream(
        "SELECT c.slot, c.tenant, c.account, c.seq, c.balance_minor, c.entry_count,"
        " coalesce(sum(e.amount_minor), 0)::bigint, count(e.amount_minor) FROM ledger.checkpoints c"
        " LEFT JOIN ledger.entries e ON e.tenant = c.tenant AND e.account = c.account AND e.slot = c.slot"
        " AND e.seq <= c.seq GROUP BY c.slot, c.tenant, c.account, c.seq, c.balance_minor, c.entry_count"
        " HAVING coalesce(sum(e.amount_minor), 0) <> c.balance_minor OR count(e.amount_minor) <> c.entry_count"
    )
    for slot, tenant, account, seq, kept, count_kept, made, count_made in rows:
        found.add(
            f"checkpoint of {tenant}/{account} at {slot}:{seq}",
            "is not the sum of the entries up to it",
            expected=f"{made} in {count_made} entries",
            found=f"{kept} in {count_kept} entries",
        )


def never_below_zero(evidence: Evidence, found: Findings) -> None:
    """I13: pending, available and in pay-out were never below zero, at no version of any wallet."""
    database = evidence.database
    found.examined = database.number("SELECT count(*) FROM wallet.entries WHERE bucket <> 'receivable'")
    for tenant, wallet_id, bucket, version, running in database.stream(
        "SELECT tenant, wallet_id, bucket, version, running::bigint FROM (SELECT tenant, wallet_id, bucket, version,"
        " sum(amount_minor) OVER (PARTITION BY tenant, wallet_id, bucket ORDER BY version, ord) AS running"
        " FROM wallet.entries WHERE bucket <> 'receivable') AS runs WHERE running < 0"
    ):
        subject = f"wallet {tenant}/{wallet_id}"
        found.add(subject, f"{bucket} was below zero at version {version}", expected=">= 0", found=running)
