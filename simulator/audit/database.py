"""The first source: the product's rows, read in one SERIALIZABLE READ ONLY transaction by a plain driver.

Works on PostgreSQL and CockroachDB. The invariant: nothing is written, and every answer is of the same instant.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg

from simulator.audit.finding import SourceBroken

SERVICES: Final = ("payment", "wallet", "ledger")
_ROWS_A_FETCH: Final = 5_000
"""Rows of about 200 bytes: a megabyte at a time."""
_STATEMENT_LIMIT_MS: Final = 120_000
"""A million history rows sort in a few seconds; two minutes and something is wrong with the database."""

_WHOLE_TABLES: Final = (
    "enable_nestloop = off",
    "enable_mergejoin = off",
    "enable_hashjoin = on",
    "enable_seqscan = on",
)
"""Right after a load PostgreSQL has no statistics and takes tables for empty; a nested loop over 60,000 rows took 80 s."""


class OrderKey(NamedTuple):
    """A payment order's name: unique within its tenant only."""

    tenant: str
    order_id: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.order_id}"


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A payment order as stored."""

    checkout_id: str
    seller: str
    amount: str
    amount_minor: int
    currency: str
    status: str
    is_in_wallet: bool
    is_in_ledger: bool
    psp_reference: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class MismatchRow:
    """A case for finance as stored."""

    order: OrderKey
    kind: str
    psp_object_id: str
    amount_minor: int
    currency: str
    state: str


@dataclass(frozen=True, slots=True)
class RefundRow:
    """Money on its way back to the buyer, as stored."""

    number: int
    cause: str
    status: str
    amount_minor: int
    currency: str
    outcome: str

    @property
    def is_reversal(self) -> bool:
        """The product decided it itself."""
        return self.cause != "REQUESTED"


class Database:
    """One snapshot. What several checks need is loaded once."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._names = count(1)

    def stream(self, statement: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, through a cursor of the server, so that they are never in memory all at once."""
        with self._connection.cursor(f"audit_{next(self._names)}", binary=True) as cursor:
            cursor.itersize = _ROWS_A_FETCH
            cursor.execute(statement, parameters or None)
            yield from cursor

    def all(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query that has few."""
        return self._connection.execute(statement, parameters or None).fetchall()

    def number(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """The one number a query brings."""
        return int(self.all(statement, parameters)[0][0])

    @cached_property
    def is_cockroach(self) -> bool:
        """Whether this is CockroachDB, which has no triggers of ours."""
        return "CockroachDB" in self.all("SELECT version()")[0][0]

    @cached_property
    def now_ms(self) -> int:
        """The database's clock at the snapshot."""
        return self.number("SELECT (extract(epoch FROM transaction_timestamp()) * 1000)::bigint")

    @cached_property
    def orders(self) -> dict[OrderKey, OrderRow]:
        """Every payment order: about 600 bytes each."""
        rows = self.stream(
            "SELECT tenant, payment_order_id, checkout_id, seller_account, amount, amount_minor, currency,"
            " payment_order_status, wallet_updated, ledger_updated, psp_reference, created_at_ms"
            " FROM payment.payment_orders"
        )
        return {OrderKey(tenant, order_id): OrderRow(*rest) for tenant, order_id, *rest in rows}

    @cached_property
    def order_of_object(self) -> dict[str, OrderKey]:
        """PSP object id -> the order one of whose attempts or finished payments names it."""
        known = {row.psp_reference: key for key, row in self.orders.items() if row.psp_reference}
        for object_id, tenant, order_id in self.stream(
            "SELECT psp_object_id, tenant, payment_order_id FROM payment.attempts WHERE psp_object_id <> ''"
        ):
            known[object_id] = OrderKey(tenant, order_id)
        return known

    @cached_property
    def tenants_of_order_id(self) -> dict[str, list[str]]:
        """Payment order id -> the tenants that have one of this name."""
        found: dict[str, list[str]] = {}
        for key in self.orders:
            found.setdefault(key.order_id, []).append(key.tenant)
        return found

    @cached_property
    def mismatches(self) -> list[MismatchRow]:
        """Every case for finance: few, or the audit has other worries."""
        rows = self.stream(
            "SELECT tenant, payment_order_id, kind, psp_object_id, amount_minor, currency, state FROM payment.mismatches"
        )
        return [MismatchRow(OrderKey(tenant, order_id), *rest) for tenant, order_id, *rest in rows]

    @cached_property
    def refunds(self) -> dict[OrderKey, list[RefundRow]]:
        """The refunds of each order that has one, in their order: few."""
        found: dict[OrderKey, list[RefundRow]] = {}
        for tenant, order_id, *rest in self.all(
            "SELECT tenant, payment_order_id, number, cause, status, amount_minor, currency, outcome FROM payment.refunds"
            " ORDER BY tenant, payment_order_id, number"
        ):
            found.setdefault(OrderKey(tenant, order_id), []).append(RefundRow(*rest))
        return found

    def refund_of(self, key: OrderKey) -> RefundRow | None:
        """The refund of an order that has not failed."""
        return next((refund for refund in self.refunds.get(key, ()) if refund.status != "FAILED"), None)

    def find_order(self, object_id: str, reference: str, tenant: str = "") -> OrderKey | None:
        """The order a PSP's object pays: by the object's id, else by its reference where that is not ambiguous."""
        known = self.order_of_object.get(object_id)
        if known is not None:
            return known
        tenants = self.tenants_of_order_id.get(reference, [])
        if tenant:
            return OrderKey(tenant, reference) if tenant in tenants else None
        return OrderKey(tenants[0], reference) if len(tenants) == 1 else None


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    """Open the snapshot. `url`: the auditor's, SQLAlchemy's spelling is understood. Raises SourceBroken when it is away."""
    try:
        connection = psycopg.connect(plain_url(url), connect_timeout=10)
    except psycopg.OperationalError as away:
        raise SourceBroken(f"the database is away: {away}") from away
    with connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        connection.execute(f"SET LOCAL statement_timeout = {_STATEMENT_LIMIT_MS}")
        connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {_STATEMENT_LIMIT_MS}")
        database = Database(connection)
        if not database.is_cockroach:
            for setting in _WHOLE_TABLES:
                connection.execute(f"SET LOCAL {setting}".encode())
        yield database


def plain_url(url: str) -> str:
    """The URL as libpq reads it, without SQLAlchemy's driver: "cockroachdb+psycopg://.." -> "postgresql://...".

    SQLAlchemy has the hosts of a cluster in the query, "?host=a:1&host=b:1"; libpq has them in one place, "a:1,b:1".
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme.split("+")[0] not in ("postgresql", "cockroachdb"):
        return url
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    hosts = [value for name, value in query if name == "host" and not value.startswith("/")]
    if parts.hostname or not hosts:
        return f"postgresql://{rest}"
    others = urlencode([pair for pair in query if pair[0] != "host"], safe="/")
    return f"postgresql://{parts.netloc}{','.join(hosts)}{parts.path}" + (f"?{others}" if others else "")
