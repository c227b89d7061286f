"""The ledger as stored, for the doors: SQL for every method of `readers.LedgerReader`.

An account's balance is its balance row where its owner keeps one; else the newest checkpoint of each slot and the entries
after it. The sum over all entries is taken from the entries alone, so that it proves what the balances only claim.

Invariant: each method reads one snapshot; entries come in the order of `ledger_entries_by_account`.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text

from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, slot_of
from zerosum.domain.journal import Balance, Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.readers import AccountRow, LedgerEntryRow, Page
from zerosum.store import statement
from zerosum.store.database import Database
from zerosum.store.ledger import balance_of, currency_of
from zerosum.store.mapping import Row, key_of
from zerosum.store.paging import EVERY_SLOT, PARTS, after_parameters, beyond, page, position_of
from zerosum.store.session import Session
from zerosum.store.table import ACCOUNTS
from zerosum.store.wire import compiled


class SqlLedgerReader:
    """Implements `readers.LedgerReader`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def close(self) -> None:
        """Closes every connection."""
        await self.database.close()

    async def journal(self, tenant: Tenant, journal_id: str) -> tuple[Journal, int] | None:
        """The journal and when it was posted."""
        values = {"tenant": tenant, "journal_id": journal_id}
        rows = (await self.database.look(_JOURNAL.call(values))).by_name()
        return journal_of(rows, rows) if rows else None

    async def entries(self, tenant: Tenant, account: str, rows_max: int, after: str) -> Page[LedgerEntryRow]:
        """The account's entries, slot by slot in the order they were posted. Raises MalformedPosition."""
        position = position_of("ledger_entries", after)
        values: dict[str, Any] = {"tenant": tenant, "account": account, "rows": rows_max + 1}
        values |= after_parameters(position or ())
        clause = entries_clause(is_first=position is None)
        rows = (await self.database.look(compiled(clause).call(values))).by_name()
        read = page(rows, rows_max, "ledger_entries", lambda row: (row["slot"], row["seq"], row["ord"], row["line"]))
        return Page([entry_of(row) for row in read.rows], read.after)

    async def balance(self, tenant: Tenant, account: str) -> Balance | None:
        """None: no entry ever."""
        found = await self.database.read(lambda session: balances(session, tenant, [account]))
        return found.get(account)

    async def trial_balance(self, tenant: Tenant, rows_max: int, after: str) -> Page[AccountRow]:
        """Every account with its sum, by name. Raises MalformedPosition."""
        position = position_of("trial_balance", after)
        values = {"tenant": tenant, "after": position[0] if position else "", "rows": rows_max + 1}

        async def work(session: Session) -> list[AccountRow]:
            (reply,) = (await session.send([compiled(ACCOUNTS_AFTER).call(values)])).all()
            names = [name for (name,) in reply]
            found = await balances(session, tenant, names)
            return [AccountRow(name, currency_of(name), found[name]) for name in names]

        rows = await self.database.read(work)
        return page(rows, rows_max, "trial_balance", lambda row: (row.account,))

    async def sums(self, tenant: Tenant) -> Sequence[Money]:
        """From the entries alone, each currency once, by its code."""
        rows = await self.database.look(_SUMS.call({"tenant": tenant}))
        return [Money(int(minor), currency) for currency, minor in rows]


def owner_of(account: str) -> str | None:
    """Who may keep a balance row of this account: the seller or user it names."""
    parts = account.split(":")
    return parts[1] if parts[0] in {"seller", "user"} and len(parts) > 2 else None  # noqa: PLR2004 - kind:owner:..:currency


async def balances(session: Session, tenant: Tenant, accounts: Sequence[str]) -> dict[str, Balance]:
    """The balance of each account that has any entry."""
    owned = {account: owner for account in accounts if (owner := owner_of(account)) is not None}
    kept = await _kept(session, tenant, owned) if owned else {}
    others = [account for account in accounts if account not in kept]
    if not others:
        return kept
    values = {"tenant": tenant, "accounts": statement.text_array(others), "slots": EVERY_SLOT}
    (summed,) = (await session.send([compiled(SUMMED).call(values)])).all()
    return kept | {account: Balance(minor, count) for account, minor, count in summed if count}


async def _kept(session: Session, tenant: Tenant, owned: dict[str, str]) -> dict[str, Balance]:
    select = statement.select(ACCOUNTS, key_of(ACCOUNTS))
    asked: list[Row] = [
        {"slot": slot_of(*EntityKey(tenant, owner)), "tenant": tenant, "owner": owner, "account": account}
        for account, owner in sorted(owned.items())
    ]
    (reply,) = (await session.send([session.call(select, asked)])).all()
    return {row["account"]: balance_of(row) for row in select.rows(reply)}


# ---- statements ----------------------------------------------------------------------------------------------------

_JOURNAL = compiled(
    text(
        "SELECT j.tenant, j.journal_id, j.owner, j.movement, j.payment_order_id, j.at_ms, e.account, e.amount_minor, "
        "e.currency FROM ledger.journals AS j JOIN ledger.entries AS e ON e.slot = j.slot AND e.seq = j.seq "
        "AND e.ord = j.ord WHERE j.tenant = :tenant AND j.journal_id = :journal_id ORDER BY e.line"
    )
)


def entries_clause(*, is_first: bool) -> TextClause:
    """Entries of one account."""
    order = ("slot", "seq", "ord", "line")
    since = "" if is_first else f" AND {beyond(order, PARTS['ledger_entries'])}"
    return text(
        "SELECT * FROM ledger.entries WHERE tenant = :tenant AND account = :account"  # noqa: S608 - our own text
        f"{since} ORDER BY {', '.join(order)} LIMIT CAST(:rows AS INT8)"
    )


# The next account by index, again and again: as many index probes as accounts, however many entries each has.
ACCOUNTS_AFTER = text(
    "WITH RECURSIVE a (account, place) AS ("
    "SELECT (SELECT min(f.account) FROM ledger.entries AS f WHERE f.tenant = :tenant AND f.account > :after), 1 "
    "UNION ALL SELECT (SELECT min(n.account) FROM ledger.entries AS n WHERE n.tenant = :tenant AND n.account > a.account), "
    "a.place + 1 FROM a WHERE a.account IS NOT NULL AND a.place < CAST(:rows AS INT8)"
    ") SELECT account FROM a WHERE account IS NOT NULL ORDER BY place"
)

SUMMED = text(
    "SELECT a.account, CAST(sum(coalesce(c.balance_minor, 0) + e.balance_minor) AS INT8), "
    "CAST(sum(coalesce(c.entry_count, 0) + e.entry_count) AS INT8) "
    "FROM unnest(CAST(:accounts AS TEXT[])) AS a (account) CROSS JOIN unnest(CAST(:slots AS INT4[])) AS s (slot) "
    "LEFT JOIN LATERAL (SELECT k.seq, k.balance_minor, k.entry_count FROM ledger.checkpoints AS k WHERE k.slot = s.slot "
    "AND k.tenant = :tenant AND k.account = a.account ORDER BY k.seq DESC LIMIT 1) AS c ON true "
    "CROSS JOIN LATERAL (SELECT coalesce(sum(n.amount_minor), 0) AS balance_minor, count(*) AS entry_count "
    "FROM ledger.entries AS n WHERE n.tenant = :tenant AND n.account = a.account AND n.slot = s.slot "
    "AND n.seq > coalesce(c.seq, 0)) AS e GROUP BY a.account"
)

_SUMS = compiled(
    text(
        "SELECT currency, sum(amount_minor) FROM ledger.entries WHERE tenant = :tenant GROUP BY currency ORDER BY currency"
    )
)


def journal_of(heads: Sequence[Row], lines: Sequence[Row]) -> tuple[Journal, int]:
    """The journal that a row of `journals` and its entries, in the order of lines, stand for; and when it was posted."""
    head = heads[0]
    entries = tuple(Entry(line["account"], Money(line["amount_minor"], line["currency"])) for line in lines)
    made = Journal(
        tenant=Tenant(head["tenant"]), journal_id=Key(head["journal_id"]), owner=head["owner"],
        movement=Movement(head["movement"]), entries=entries, order_id=OrderId(head["payment_order_id"]),
    )  # fmt: skip
    return made, head["at_ms"]


def entry_of(row: Row) -> LedgerEntryRow:
    """The entry a row stands for."""
    return LedgerEntryRow(row["journal_id"], row["account"], Money(row["amount_minor"], row["currency"]), row["at_ms"])
