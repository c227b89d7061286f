"""The readers over a memory store: the same pages in the same orders, by looking at all rows.

Invariant: what the SQL readers show of the same commits, these show too; one contract suite holds both.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, OrderId, Tenant, slot_of
from zerosum.domain.journal import Balance, Journal, Owner
from zerosum.domain.money import Money
from zerosum.domain.todo import PSP_KINDS, TodoKind, TodoState
from zerosum.domain.wallet import Wallet, wallet_key
from zerosum.readers import (
    AccountRow,
    DeadLetters,
    HistoryRow,
    LedgerEntryRow,
    ListFilter,
    MalformedPosition,
    OrderView,
    Page,
    PaymentView,
    TodoRow,
    WalletEntryRow,
    view_of,
)
from zerosum.store import ledger_reader, wallet_reader
from zerosum.store.ledger import currency_of
from zerosum.store.mapping import Row
from zerosum.store.memory import MemoryStore
from zerosum.store.paging import Position, page, position_of
from zerosum.store.payment import todo_of

R = TypeVar("R")


class MemoryPaymentReader:
    """Implements `readers.PaymentReader` over a memory store."""

    def __init__(self, store: MemoryStore[Checkout]) -> None:
        self._store = store

    async def close(self) -> None:
        """Nothing is open."""

    async def payment(self, key: EntityKey) -> PaymentView | None:
        """See `readers.PaymentReader`."""
        found = await self.checkout(key)
        return view_of(found) if found is not None else None

    async def order(self, tenant: Tenant, order_id: OrderId) -> OrderView | None:
        """See `readers.PaymentReader`."""
        home = await self.home_of(tenant, order_id)
        shown = await self.payment(home) if home is not None else None
        return next((order for order in shown.orders if order.order_id == order_id), None) if shown else None

    async def reply(self, key: EntityKey) -> bytes | None:
        """See `readers.PaymentReader`."""
        found = await self.checkout(key)
        return found.reply if found is not None else None

    async def checkout(self, key: EntityKey) -> Checkout | None:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        return self._store.entity(key)

    async def home_of(self, tenant: Tenant, order_id: OrderId) -> EntityKey | None:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        return self._store.claim(EntityKey(tenant, order_id))

    async def checkouts(self, tenant: Tenant, wanted: ListFilter, rows_max: int, after: str) -> Page[Checkout]:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        keys = (EntityKey(tenant, row["checkout_id"]) for row in self._rows("payment_events", tenant))
        rows = [row for key in keys if (row := self._store.entity(key)) and _is_wanted(row, wanted)]
        if wanted.seller_account:
            name = "checkouts_of_seller"
            return _paged(rows, rows_max, after, name, lambda row: (slot_of(*row.key), row.key.id))
        of_time = lambda row: (row.created_at_ms, row.key.id)  # noqa: E731 - a key, used once
        return _paged(rows, rows_max, after, "checkouts", of_time, descending=True)

    async def history(self, key: EntityKey) -> Sequence[HistoryRow]:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        rows = [row for row in self._rows("history", key.tenant) if row["checkout_id"] == key.id]
        columns = ("version", "at_ms", "type", "payment_order_id", "status", "detail")
        return sorted((HistoryRow(*(row[name] for name in columns)) for row in rows), key=lambda row: row.version)

    async def todos(self, tenant: Tenant, state: TodoState | None, rows_max: int, after: str) -> Page[TodoRow]:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        states: tuple[TodoState, ...] = (state,) if state else (TodoState.DEAD, TodoState.OPEN)
        position = position_of("todos", after)
        if position is not None and position[0] not in states:
            raise MalformedPosition("not a position of this list")
        rows = [row for row in self._rows("todos", tenant) if row["state"] in states]
        rows.sort(key=lambda row: (states.index(TodoState(row["state"])), _todo_position(row)[1:]))
        if position is not None:
            since = (states.index(TodoState(position[0])), tuple(position[1:]))
            rows = [row for row in rows if (states.index(TodoState(row["state"])), _todo_position(row)[1:]) > since]
        read = page(rows, rows_max, "todos", _todo_position)
        return Page([TodoRow(EntityKey(tenant, row["checkout_id"]), todo_of(row), "") for row in read.rows], read.after)

    async def todo(self, key: EntityKey, todo_id: str) -> TodoRow | None:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        row = self._store.tables["todos"].rows.get((slot_of(*key), *key, todo_id))
        if row is None:
            return None
        todo = todo_of(row)
        operation = (slot_of(*key), *key, todo.order_id, todo.kind.value, todo.number)
        stored = self._store.tables["operations"].rows.get(operation) if todo.kind in PSP_KINDS else None
        return TodoRow(key, todo, stored["request"] if stored else "")

    async def in_flight(
        self, tenant: Tenant, older_than_ms: int, rows_max: int, after: str
    ) -> Page[tuple[EntityKey, OrderId]]:
        """See `readers.PaymentReader`."""
        rows = [row for row in self._old(older_than_ms) if row["tenant"] == tenant]
        order = ("created_at_ms", "checkout_id", "payment_order_id")
        read = _paged(rows, rows_max, after, "in_flight", lambda row: tuple(row[name] for name in order))
        return Page(
            [(EntityKey(tenant, row["checkout_id"]), OrderId(row["payment_order_id"])) for row in read.rows], read.after
        )

    async def count_in_flight(self, older_than_ms: int) -> int:
        """See `readers.PaymentReader`."""
        return len(self._old(older_than_ms))

    async def dead_letters(self) -> Sequence[DeadLetters]:
        """See `readers.PaymentReader`."""
        self._store.check_reachable()
        began = defaultdict[TodoKind, list[int]](list)
        for _, row in self._store.tables["todos"].in_index("todos_dead"):
            began[TodoKind(row["kind"])].append(row["created_at_ms"])
        now_ms = self._store.clock()
        return [DeadLetters(kind, len(found), now_ms - min(found)) for kind, found in began.items()]

    def _old(self, older_than_ms: int) -> list[Row]:
        self._store.check_reachable()
        limit = self._store.clock() - older_than_ms
        orders = self._store.tables["payment_orders"].in_index("payment_orders_in_flight")
        return [row for _, row in orders if row["created_at_ms"] <= limit]

    def _rows(self, table: str, tenant: Tenant) -> Iterable[Row]:
        return (row for row in self._store.tables[table].rows.values() if row["tenant"] == tenant)


class MemoryWalletReader:
    """Implements `readers.WalletReader` over a memory store."""

    def __init__(self, store: MemoryStore[Wallet]) -> None:
        self._store = store

    async def close(self) -> None:
        """Nothing is open."""

    async def wallet(self, tenant: Tenant, owner: str, currency: str) -> Wallet | None:
        """See `readers.WalletReader`."""
        self._store.check_reachable()
        return self._store.entity(wallet_key(tenant, owner, currency))

    async def entries(
        self, tenant: Tenant, owner: str, currency: str, rows_max: int, after: str
    ) -> Page[WalletEntryRow]:
        """See `readers.WalletReader`."""
        self._store.check_reachable()
        key = wallet_key(tenant, owner, currency)
        every = self._store.tables["entries"].rows.values()
        rows = [row for row in every if (row["tenant"], row["wallet_id"]) == key]
        read = _paged(rows, rows_max, after, "wallet_entries", lambda row: (row["version"], row["ord"]))
        return Page([wallet_reader.entry_of(row) for row in read.rows], read.after)


class MemoryLedgerReader:
    """Implements `readers.LedgerReader` over a memory store."""

    def __init__(self, store: MemoryStore[Owner]) -> None:
        self._store = store

    async def close(self) -> None:
        """Nothing is open."""

    async def journal(self, tenant: Tenant, journal_id: str) -> tuple[Journal, int] | None:
        """See `readers.LedgerReader`."""
        self._store.check_reachable()
        head = self._store.tables["journals"].holder({"tenant": tenant, "journal_id": journal_id})
        if head is None:
            return None
        lines = [row for row in self._entries(tenant) if row["journal_id"] == journal_id]
        return ledger_reader.journal_of([head], sorted(lines, key=lambda row: int(row["line"])))

    async def entries(self, tenant: Tenant, account: str, rows_max: int, after: str) -> Page[LedgerEntryRow]:
        """See `readers.LedgerReader`."""
        rows = [row for row in self._entries(tenant) if row["account"] == account]
        order = ("slot", "seq", "ord", "line")
        read = _paged(rows, rows_max, after, "ledger_entries", lambda row: tuple(row[name] for name in order))
        return Page([ledger_reader.entry_of(row) for row in read.rows], read.after)

    async def balance(self, tenant: Tenant, account: str) -> Balance | None:
        """See `readers.LedgerReader`."""
        amounts = [row["amount_minor"] for row in self._entries(tenant) if row["account"] == account]
        return Balance(sum(amounts), len(amounts)) if amounts else None

    async def trial_balance(self, tenant: Tenant, rows_max: int, after: str) -> Page[AccountRow]:
        """See `readers.LedgerReader`."""
        sums: dict[str, Balance] = {}
        for row in self._entries(tenant):
            before = sums.get(row["account"], Balance(0, 0))
            sums[row["account"]] = Balance(before.balance_minor + row["amount_minor"], before.entry_count + 1)
        rows = [AccountRow(account, currency_of(account), balance) for account, balance in sums.items()]
        return _paged(rows, rows_max, after, "trial_balance", lambda row: (row.account,))

    async def sums(self, tenant: Tenant) -> Sequence[Money]:
        """See `readers.LedgerReader`."""
        sums: dict[str, int] = {}
        for row in self._entries(tenant):
            sums[row["currency"]] = sums.get(row["currency"], 0) + row["amount_minor"]
        return [Money(minor, currency) for currency, minor in sorted(sums.items())]

    def _entries(self, tenant: Tenant) -> list[Row]:
        self._store.check_reachable()
        return [row for row in self._store.tables["entries"].rows.values() if row["tenant"] == tenant]


def _is_wanted(checkout: Checkout, wanted: ListFilter) -> bool:
    sellers = {order.seller_account for order in checkout.orders.values()}
    return (
        (wanted.status is None or checkout.status is wanted.status)
        and (not wanted.seller_account or wanted.seller_account in sellers)
        and (wanted.created_from_ms is None or checkout.created_at_ms >= wanted.created_from_ms)
        and (wanted.created_before_ms is None or checkout.created_at_ms < wanted.created_before_ms)
    )


def _todo_position(row: Row) -> Position:
    time = {"OPEN": row["due_at_ms"], "DEAD": row["created_at_ms"]}.get(row["state"], 0)
    return row["state"], time, row["checkout_id"], row["todo_id"]


def _paged(
    rows: Iterable[R],
    rows_max: int,
    after: str,
    name: str,
    position: Callable[[R], tuple[Any, ...]],
    *,
    descending: bool = False,
) -> Page[R]:
    since = position_of(name, after)
    ordered = sorted(rows, key=position, reverse=descending)
    if since is not None:
        start = tuple(since)
        ordered = [row for row in ordered if (position(row) < start if descending else position(row) > start)]
    return page(ordered, rows_max, name, position)
