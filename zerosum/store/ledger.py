"""How the ledger is kept: an owner, the balances of its own accounts, and journals with their entries, for ever.

The ledger service keeps no table of refused key reuses: its one caller is the payment service, which derives every key.

Invariant: a journal and its entries share (slot, seq, ord); `line` counts the entries as the journal gives them.
"""

from collections.abc import Iterator, Mapping, Sequence

from zerosum.domain.account import AccountClosed, Closure
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.domain.journal import Balance, Journal, JournalPosted, Owner
from zerosum.errors import Bug
from zerosum.ports import Change, TurnRecord
from zerosum.store import table as t
from zerosum.store.mapping import Aggregate, LogRow, Row, RowPair


def pairs(slot: int, before: Owner | None, after: Owner) -> Iterator[RowPair]:
    """The owner's row, those of its accounts whose balance is another object than it was, and closures when they come."""
    yield t.OWNERS, _owner_row(slot, before) if before else None, _owner_row(slot, after)
    earlier = before.accounts if before else {}
    for account, balance in after.accounts.items():
        was = earlier.get(account)
        if was is not balance:
            was_row = _account_row(slot, after.key, account, was) if was else None
            yield t.ACCOUNTS, was_row, _account_row(slot, after.key, account, balance)
    for currency, closure in after.closures.items():
        if before is None or currency not in before.closures:
            yield t.OWNER_CLOSURES, None, _closure_row(slot, after.key, currency, closure)


def _owner_row(slot: int, owner: Owner) -> Row:
    return {
        "slot": slot, "tenant": owner.key.tenant, "owner": owner.key.id, "version": owner.version,
        "created_at_ms": owner.created_at_ms, "updated_at_ms": owner.updated_at_ms,
    }  # fmt: skip


def _account_row(slot: int, key: EntityKey, account: str, balance: Balance) -> Row:
    return {
        "slot": slot, "tenant": key.tenant, "owner": key.id, "account": account, "currency": currency_of(account),
        "balance_minor": balance.balance_minor, "entry_count": balance.entry_count,
    }  # fmt: skip


def _closure_row(slot: int, key: EntityKey, currency: str, closure: Closure) -> Row:
    return {
        "slot": slot, "tenant": key.tenant, "owner": key.id, "currency": currency, "version": closure.version,
        "closed_by": closure.closed_by, "reason": closure.reason, "closed_at_ms": closure.at_ms,
    }  # fmt: skip


def currency_of(account: str) -> str:
    """Every account id ends in its currency."""
    return account.rpartition(":")[2]


def log_rows(change: Change[Owner] | None, turns: Sequence[tuple[int, TurnRecord]], now_ms: int) -> Iterator[LogRow]:
    """One journal a turn, followed by its entries; a closing has a row of its own beside the owner's."""
    for index, turn in turns:
        for offset, event in enumerate(turn.events):
            if isinstance(event, AccountClosed):
                continue
            if change is None or not isinstance(event, JournalPosted) or event.journal.owner != turn.entity.id:
                raise Bug(f"owner {turn.entity.id}: {type(event).__name__} is not a journal of this owner")
            yield from _journal_rows(index, event.journal, turn.first_version + offset, now_ms)


def _journal_rows(index: int, journal: Journal, version: int, now_ms: int) -> Iterator[LogRow]:
    head: Row = {
        "tenant": journal.tenant, "owner": journal.owner, "version": version, "journal_id": journal.journal_id,
        "movement": journal.movement, "payment_order_id": journal.order_id, "at_ms": now_ms,
    }  # fmt: skip
    yield index, t.JOURNALS, head
    for line, entry in enumerate(journal.entries):
        row: Row = {
            "line": line, "tenant": journal.tenant, "journal_id": journal.journal_id, "account": entry.account,
            "currency": entry.money.currency, "amount_minor": entry.money.amount_minor, "at_ms": now_ms,
        }  # fmt: skip
        yield index, t.LEDGER_ENTRIES, row


def state_of(root: Row, children: Mapping[str, Sequence[Row]]) -> Owner:
    """The owner these rows stand for."""
    return Owner(
        key=EntityKey(Tenant(root["tenant"]), root["owner"]),
        version=root["version"],
        accounts={row["account"]: balance_of(row) for row in children.get("accounts", ())},
        created_at_ms=root["created_at_ms"],
        updated_at_ms=root["updated_at_ms"],
        closures={row["currency"]: closure_of(row) for row in children.get("closures", ())},
    )


def closure_of(row: Row) -> Closure:
    """The closing a row stands for."""
    return Closure(row["version"], row["closed_by"], row["reason"], row["closed_at_ms"])


def balance_of(row: Row) -> Balance:
    """The balance a row of `accounts` or `checkpoints` stands for."""
    return Balance(row["balance_minor"], row["entry_count"])


LEDGER: Aggregate[Owner] = Aggregate(
    service="ledger",
    slots=t.LEDGER_SLOTS,
    slot_log=t.LEDGER_SLOT_LOG,
    commands=t.LEDGER_COMMANDS,
    root=t.OWNERS,
    children=(t.ACCOUNTS, t.OWNER_CLOSURES),
    fixed={"owners": frozenset({"created_at_ms"}), "accounts": frozenset({"currency"})},
    pairs=pairs,
    log_rows=log_rows,
    state_of=state_of,
)
"""The ledger service's mapping."""
