"""Revisions one by one: the first is frozen for ever, and a database with rows comes from it to the newest."""

import hashlib
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from tests.contract.house import session
from zerosum.domain.identity import EntityKey, Tenant, slot_of
from zerosum.store import migrate
from zerosum.store.migrations import frozen_0001
from zerosum.store.opening import open_reader
from zerosum.store.table import METADATA, SERVICES


def test_the_first_revision_is_what_was_released() -> None:
    """A revision that has been released is never edited: databases were made by it. Method: the hash of its DDL."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects come without types
    tables = list(frozen_0001.METADATA.tables.values())
    ddl = [str(CreateTable(table).compile(dialect=dialect)) for table in tables]
    ddl += sorted(str(CreateIndex(index).compile(dialect=dialect)) for table in tables for index in table.indexes)

    digest = hashlib.sha256("".join(" ".join(statement.split()) for statement in ddl).encode()).hexdigest()

    assert digest == "e63a7dd0f69f4fba5fe945d37e811dd35be5d396ff3540073ffe5c853ada7725"


OLD_ROWS = (
    "INSERT INTO payment.payment_events VALUES (%(c)s, 't', 'c1', 1, 'f', 'b', 'pm_x', 'NONE', '', 'OPEN', false, NULL, 7, 7)",
    "INSERT INTO payment.payment_orders VALUES (%(c)s, 't', 'c1', 'o1', 0, 'b', 's', '1.00', 100, 'USD', 'EXECUTING', '', "
    "false, false, '', 7, 7)",
    "INSERT INTO wallet.wallets VALUES (%(w)s, 't', 's:USD', 1, 's', 'USD', 100, 0, 0, 0, 7, 7)",
    "INSERT INTO ledger.owners VALUES (%(l)s, 't', 's', 1, 7, 7)",
)


async def test_rows_of_the_first_revision_live_on_at_the_newest(
    new_database: str, postgres_urls: Mapping[str, str]
) -> None:
    """D11: expand only. Rows made by 0001 load at HEAD as open, unrefunded and kept; 0001's writes still work there."""
    tenant = Tenant("t")
    slots = {"c": slot_of(tenant, "c1"), "w": slot_of(tenant, "s:USD"), "l": slot_of(tenant, "s")}
    migrate.migrate(new_database, revision="0001")
    with session(new_database) as old:
        for statement in OLD_ROWS:
            old.execute(statement.encode(), slots)

    migrate.migrate(new_database)

    urls = {
        service: make_url(postgres_urls[service]).set(database=make_url(new_database).database) for service in SERVICES
    }
    readers: Any = {
        service: open_reader(service, url.render_as_string(hide_password=False)) for service, url in urls.items()  # type: ignore[call-overload]  # by parameter
    }  # fmt: skip
    checkout = await readers["payment"].checkout(EntityKey(tenant, "c1"))
    wallet = await readers["wallet"].wallet(tenant, "s", "USD")
    for reader in readers.values():
        await reader.close()
    assert [order.status for order in checkout.orders.values()] == ["EXECUTING"]
    assert (wallet.pending_minor, wallet.closure) == (100, None)
    with session(new_database) as old:  # a process of the revision before goes on writing
        old.execute(OLD_ROWS[0].replace("'c1'", "'c2'").encode(), slots)


LISTS_BY_TIME = ["files_by_time", "files_of_psp_by_time", "runs_by_time"]


def test_revision_0006_makes_the_indexes_that_table_py_has(new_database: str) -> None:
    """A new database gets them with their tables, an older one from the revision. Method: they are taken away before it."""
    migrate.migrate(new_database, revision="0005")
    with session(new_database) as connection:
        made = _definitions(connection)
        for name in LISTS_BY_TIME:
            connection.execute(f"DROP INDEX reconciliation.{name}".encode())

    migrate.migrate(new_database)

    with session(new_database) as connection:
        assert _definitions(connection) == made
    assert [name for name, _ in made] == LISTS_BY_TIME


def _definitions(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'reconciliation' AND indexname = ANY(%s) "
        "ORDER BY indexname", [LISTS_BY_TIME],
    ).fetchall()  # fmt: skip


def test_the_newest_revision_is_what_table_py_says(postgres_urls: Mapping[str, str]) -> None:
    """Every column of every table, its type and whether it may be NULL: revisions and metadata are two texts of one schema."""
    with session(postgres_urls["admin"]) as connection:
        found = connection.execute(
            "SELECT table_schema || '.' || table_name, column_name, upper(data_type), is_nullable = 'YES' "
            "FROM information_schema.columns WHERE table_schema = ANY(%s)", [list(SERVICES)],
        ).fetchall()  # fmt: skip
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # likewise
    wanted = {
        (table.fullname, column.name, column.type.compile(dialect), column.nullable)
        for table in METADATA.tables.values()
        for column in table.columns
    }

    assert {tuple(row) for row in found} == wanted
