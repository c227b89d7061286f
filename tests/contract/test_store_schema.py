# ruff: noqa: S608 - statements here are made of table names of ours
"""Who may touch what, which index serves which list, and how a database comes to its revision."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, TextClause, create_engine, make_url, text

from tests.contract.house import session, through_cockroachdb
from zerosum.domain.checkout_state import CheckoutStatus
from zerosum.domain.todo import TodoState
from zerosum.errors import Misconfigured, Unavailable
from zerosum.readers import ListFilter
from zerosum.store import ledger_reader, migrate, payment_reader, sql, statement, wallet_reader
from zerosum.store.catalog import AGGREGATES
from zerosum.store.engine import connect_args
from zerosum.store.mapping import key_of
from zerosum.store.opening import open_reader
from zerosum.store.paging import EVERY_SLOT
from zerosum.store.reconciliation.table import RECONCILIATION, SCHEMA
from zerosum.store.table import APPEND_ONLY_KINDS, INBOX, METADATA, PAYMENT_ORDERS, SERVICES

TABLES = [*METADATA.tables.values(), *RECONCILIATION.tables.values()]
APPEND_ONLY = [table for table in TABLES if table.info["kind"] in APPEND_ONLY_KINDS]
NOT_ALLOWED = psycopg.errors.InsufficientPrivilege


# ---- grants and triggers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", APPEND_ONLY, ids=lambda table: str(table.fullname))
def test_append_only_tables_refuse_change_to_their_service_and_to_the_administrator(
    postgres_urls: Mapping[str, str], table: Table
) -> None:
    """O3, I11: by grant for the role, by trigger for whoever owns the table."""
    column = key_of(table)[0]
    statements = (
        f"UPDATE {table.fullname} SET {column} = {column}",
        f"DELETE FROM {table.fullname}",
        f"TRUNCATE {table.fullname}",
    )
    with session(postgres_urls["reconciler" if table.schema == SCHEMA else str(table.schema)]) as service:
        for changing in statements:
            with pytest.raises(NOT_ALLOWED):
                service.execute(changing.encode())
    with session(postgres_urls["admin"]) as owner:
        with pytest.raises(psycopg.errors.IntegrityError, match="append-only"):
            owner.execute(f"TRUNCATE {table.fullname}".encode())
        triggers = owner.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname LIKE 'refuse_%%'",
            [table.fullname],
        ).fetchone()
    assert triggers == (2,)


def test_a_row_of_history_cannot_be_changed_even_by_its_owner(postgres_urls: Mapping[str, str]) -> None:
    """The trigger fires for each row."""
    with session(postgres_urls["admin"]) as owner, owner.transaction(force_rollback=True):
        owner.execute("INSERT INTO payment.slot_log VALUES (1, 999999, 1, '\\x00', 1)")
        for changing in ("UPDATE payment.slot_log SET at_ms = 2", "DELETE FROM payment.slot_log"):
            with pytest.raises(psycopg.errors.IntegrityError, match="append-only"), owner.transaction():
                owner.execute(changing.encode())


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reaches_its_own_schema_only(postgres_urls: Mapping[str, str], service: str) -> None:
    """Each service has its own role; none reads another's tables."""
    with session(postgres_urls[service]) as connection:
        for table in TABLES:
            reading = f"SELECT 1 FROM {table.fullname} LIMIT 1".encode()
            if table.schema == service:
                connection.execute(reading)
            else:
                with pytest.raises(NOT_ALLOWED):
                    connection.execute(reading)
        with pytest.raises(NOT_ALLOWED):
            connection.execute(f"CREATE TABLE {service}.mine (id INT)".encode())


def test_only_the_payment_role_may_erase_a_buyer_and_nothing_else_of_its_own(postgres_urls: Mapping[str, str]) -> None:
    """DELETE is granted on the private table alone."""
    with session(postgres_urls["payment"]) as connection:
        connection.execute("DELETE FROM payment.buyers WHERE tenant = 'nobody'")
        for table in TABLES:
            if table.schema == "payment" and table.info["kind"] != "private":
                with pytest.raises(NOT_ALLOWED):
                    connection.execute(f"DELETE FROM {table.fullname} WHERE false".encode())


def test_the_auditor_reads_everything_and_writes_nothing(postgres_urls: Mapping[str, str]) -> None:
    """Read-only, over all three schemas."""
    with session(postgres_urls["auditor"]) as connection:
        for table in TABLES:
            connection.execute(f"SELECT 1 FROM {table.fullname} LIMIT 1".encode())
            column = key_of(table)[0]
            for writing in (
                f"INSERT INTO {table.fullname} DEFAULT VALUES",
                f"UPDATE {table.fullname} SET {column} = {column}",
            ):
                with pytest.raises(NOT_ALLOWED):
                    connection.execute(writing.encode())


# ---- migrations ----------------------------------------------------------------------------------------------------


def test_the_revision_servers_want_is_the_newest_there_is() -> None:
    """HEAD is a constant, so that servers need not load Alembic."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))

    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


@pytest.mark.slow
@pytest.mark.parametrize("through", [str, through_cockroachdb], ids=["postgresql", "cockroachdb"])
async def test_migrating_makes_every_table_and_again_changes_nothing(new_database: str, through: Any) -> None:
    """D11: run twice, by either dialect, the same schema."""
    url = through(new_database)
    migrate.migrate(url)
    first = _schema(new_database)
    with session(new_database) as connection:
        connection.execute("DELETE FROM schema_revision")  # as if a run had died before it wrote its revision

    migrate.migrate(url)
    migrate.migrate(url)

    assert _schema(new_database) == first
    assert {name for kind, name, _ in first if kind == "table"} == {table.fullname for table in TABLES}
    named = {str(index.name) for table in TABLES for index in table.indexes}
    assert named <= {name for kind, name, _ in first if kind == "index"}
    assert sum(kind == "trigger" for kind, _, _ in first) == 2 * len(APPEND_ONLY)


def _schema(url: str) -> set[tuple[str, str, str]]:
    with session(url) as connection:
        rows = connection.execute(
            "SELECT 'table', schemaname || '.' || tablename, '' FROM pg_tables WHERE schemaname = ANY(%(all)s) "
            "UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = ANY(%(all)s) "
            "UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "UNION ALL SELECT 'trigger', tgname || tgrelid::regclass::text, '' FROM pg_trigger WHERE NOT tgisinternal",
            {"all": [*SERVICES, SCHEMA]},
        ).fetchall()
    return {(row[0], row[1], row[2]) for row in rows}


async def test_a_server_of_this_revision_starts_and_of_another_does_not(
    new_database: str, postgres_urls: Mapping[str, str]
) -> None:
    """Never migrated, another revision, the right one."""
    role = make_url(postgres_urls["payment"]).set(database=make_url(new_database).database)
    reader = open_reader("payment", role.render_as_string(hide_password=False))
    with pytest.raises(Misconfigured, match="never migrated"):
        await migrate.require_revision(reader.database)

    migrate.migrate(new_database)
    await migrate.require_revision(reader.database)

    with session(new_database) as connection:
        connection.execute("UPDATE schema_revision SET version_num = '9999'")
    with pytest.raises(Misconfigured, match="9999"):
        await migrate.require_revision(reader.database)
    await reader.close()


async def test_a_database_that_is_away_is_neither_migrated_nor_judged() -> None:
    """Away is not wrong."""
    url = "postgresql://payment:x@127.0.0.1:1/zerosum"
    reader = open_reader("payment", url)

    with pytest.raises(Unavailable):
        migrate.migrate(url)
    with pytest.raises(Unavailable):
        await migrate.require_revision(reader.database)
    await reader.close()


# ---- plans ---------------------------------------------------------------------------------------------------------

FILL = (
    "INSERT INTO payment.payment_events SELECT n % 64, 't' || n % 3, 'c' || n, 1, 'f', 'b', 'p', 'NONE', '', 'OPEN', false, "
    "NULL, n, n FROM generate_series(1, 6000) AS n",
    "INSERT INTO payment.payment_orders SELECT n % 64, 't' || n % 3, 'c' || n, 'o' || n, 0, 'b', 's' || n % 50, '1', 1, 'USD', "
    "CASE WHEN n % 20 = 0 THEN 'EXECUTING' ELSE 'SUCCESS' END, '', false, false, '', n, n FROM generate_series(1, 6000) AS n",
    "INSERT INTO payment.todos SELECT n % 64, 't' || n % 3, 'c' || n, 'answer/1', '', 'answer', 1, 1, n, "
    "CASE n % 20 WHEN 0 THEN 'OPEN' WHEN 1 THEN 'DEAD' ELSE 'DONE' END, '', n FROM generate_series(1, 6000) AS n",
    "INSERT INTO payment.history SELECT n % 64, n, 0, 't' || n % 3, 'c' || n, 1, 'X', '', '', '{}', n "
    "FROM generate_series(1, 6000) AS n",
    "INSERT INTO wallet.entries SELECT n % 64, n, 0, 't' || n % 3, 'w' || n % 64, n, 't' || n, 'pending', 1, 'USD', 'o', n "
    "FROM generate_series(1, 6000) AS n",
    "INSERT INTO ledger.entries SELECT n % 64, n, 0, 0, 't' || n % 3, 'j' || n, 'a' || n % 50 || ':USD', 'USD', 1, n "
    "FROM generate_series(1, 6000) AS n",
    "ANALYZE",
)


@contextmanager
def prepared_database(admin_url: str, fillers: tuple[str, ...]) -> Iterator[Connection]:
    """A migrated database of its own, and a connection to it that is set up as ours are."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = make_url(admin_url).set(database=name)
    with session(admin_url) as maker:
        maker.execute(f"CREATE DATABASE {name}".encode())
        migrate.migrate(url.render_as_string(hide_password=False))
        with session(url.render_as_string(hide_password=False)) as filling:
            for filler in fillers:
                filling.execute(filler.encode())
        engine = create_engine(url, connect_args=connect_args(url))
        with engine.connect() as connection:
            yield connection
        engine.dispose()
        maker.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def filled(postgres_urls: Mapping[str, str]) -> Iterator[Connection]:
    """A database with enough rows that the planner chooses as it will in service."""
    with prepared_database(postgres_urls["admin"], FILL) as connection:
        yield connection


@pytest.fixture(scope="module")
def empty(postgres_urls: Mapping[str, str]) -> Iterator[Connection]:
    """A database on its first day: no rows, no statistics."""
    with prepared_database(postgres_urls["admin"], ()) as connection:
        yield connection


_PAGE = {"tenant": "t1", "rows": 51, "slots": EVERY_SLOT}
_AFTER = {"after_0": 3_000, "after_1": "c3000", "after_2": "x"}
_WALLET = {"slot": 1, "tenant": "t1", "wallet_id": "w1", "rows": 51}
_ACCOUNT = {"tenant": "t1", "account": "a1:USD", "rows": 51}
_SWEEP = {
    "slots": "{1,2}", "overdue_ms": 0, "rows_max": 500,
    "after_0": 3_000, "after_1": 1, "after_2": "t1", "after_3": "c3000", "after_4": "x",
}  # fmt: skip
_FILTER = ListFilter(status=CheckoutStatus.DONE, created_from_ms=1, created_before_ms=9_000)
_FILTERED = {"status": "DONE", "created_from_ms": 1, "created_before_ms": 9_000}

PLANS: Mapping[str, tuple[TextClause, Mapping[str, Any], str]] = {
    "checkouts": (payment_reader.checkouts_clause(ListFilter(), is_first=True), _PAGE, "payment_events_by_time"),
    "checkouts, next": (
        payment_reader.checkouts_clause(ListFilter(), is_first=False), _PAGE | _AFTER, "payment_events_by_time",
    ),
    "checkouts of a seller": (
        payment_reader.sellers_clause(ListFilter(), is_first=True),
        {"tenant": "t1", "rows": 51, "seller_account": "s1"}, "payment_orders_by_seller",
    ),
    "checkouts of a seller, next": (
        payment_reader.sellers_clause(ListFilter(), is_first=False),
        {"tenant": "t1", "rows": 51, "seller_account": "s1", "after_0": 3, "after_1": "c3"}, "payment_orders_by_seller",
    ),
    "checkouts, filtered": (
        payment_reader.checkouts_clause(_FILTER, is_first=False), _PAGE | _AFTER | _FILTERED, "payment_events_by_time",
    ),
    "checkouts of a seller, filtered": (
        payment_reader.sellers_clause(_FILTER, is_first=True),
        {"tenant": "t1", "rows": 51, "seller_account": "s1"} | _FILTERED, "payment_orders_by_seller",
    ),
    "open to-dos, first": (payment_reader.todos_clause(TodoState.OPEN, is_first=True), _PAGE, "todos_due"),
    "dead to-dos, first": (payment_reader.todos_clause(TodoState.DEAD, is_first=True), _PAGE, "todos_dead"),
    "dead letters": (payment_reader.DEAD_LETTERS, {"slots": EVERY_SLOT}, "todos_dead"),
    "done to-dos, first": (payment_reader.todos_clause(TodoState.DONE, is_first=True), _PAGE, "todos_pkey"),
    "in flight, first": (
        payment_reader.in_flight_clause(is_first=True), _PAGE | {"older_than_ms": 60_000}, "payment_orders_in_flight",
    ),
    "open to-dos": (payment_reader.todos_clause(TodoState.OPEN, is_first=False), _PAGE | _AFTER, "todos_due"),
    "dead to-dos": (payment_reader.todos_clause(TodoState.DEAD, is_first=False), _PAGE | _AFTER, "todos_dead"),
    "done to-dos": (
        payment_reader.todos_clause(TodoState.DONE, is_first=False),
        _PAGE | {"after_1": "c3", "after_2": "x"}, "todos_pkey",
    ),
    "in flight": (
        payment_reader.in_flight_clause(is_first=False),
        _PAGE | _AFTER | {"older_than_ms": 60_000}, "payment_orders_in_flight",
    ),
    "history": (
        payment_reader.HISTORY_OF, {"slot": 1, "tenant": "t1", "checkout_id": "c1"}, "history_version_once",
    ),
    "sweep, first": (sql.DUE, _SWEEP | {"after_0": -1, "after_1": 0}, "todos_due"),
    "sweep": (sql.DUE, _SWEEP, "todos_due"),
    "wallet entries": (wallet_reader.entries_clause(is_first=True), _WALLET, "wallet_entries_by_wallet"),
    "wallet entries, next": (
        wallet_reader.entries_clause(is_first=False), _WALLET | {"after_0": 9, "after_1": 0}, "wallet_entries_by_wallet",
    ),
    "ledger entries": (ledger_reader.entries_clause(is_first=True), _ACCOUNT, "ledger_entries_by_account"),
    "ledger entries, next": (
        ledger_reader.entries_clause(is_first=False),
        _ACCOUNT | {"after_0": 9, "after_1": 0, "after_2": 0, "after_3": 0}, "ledger_entries_by_account",
    ),
    "accounts": (
        ledger_reader.ACCOUNTS_AFTER, {"tenant": "t1", "after": "a1:USD", "rows": 51}, "ledger_entries_by_account",
    ),
    "balances": (
        ledger_reader.SUMMED, {"tenant": "t1", "accounts": '{"a1:USD"}', "slots": EVERY_SLOT},
        "ledger_entries_by_account",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_every_list_is_served_by_its_index(filled: Connection, name: str) -> None:
    """Design section 7: pages in index order, and a test looks at their plans."""
    clause, values, index = PLANS[name]

    nodes = explained(filled, clause, values)

    assert index in {node.get("Index Name") for node in nodes}
    assert not FORBIDDEN & {node["Node Type"] for node in nodes}
    sorts = [node for node in nodes if node["Node Type"] == "Sort" and _reads(node, index)]
    assert len(sorts) <= ("slots" in values), "only the merge over slots may sort"


def hot_statements() -> Iterator[tuple[str, statement.Statement, str]]:
    """Every statement of a commit or a load that finds rows by key, and the index that must serve it."""
    for aggregate in AGGREGATES.values():
        root, commands, fixed = aggregate.root, aggregate.commands, aggregate.fixed
        yield f"slots of {aggregate.service}", statement.move_slots(aggregate.slots), "slots_pkey"
        yield f"commands of {aggregate.service}", statement.select(commands, key_of(commands)), "commands_pkey"
        yield f"swap {root}", statement.swap(root, fixed[root.name]), f"{root.name}_pkey"
        for table in (aggregate.root, *aggregate.children):
            yield f"load {table}", statement.select(table, key_of(aggregate.root)), f"{table.name}_pkey"
        for table in aggregate.children:
            if table.name in fixed:
                yield f"update {table}", statement.update(table, fixed[table.name]), f"{table.name}_pkey"
    yield "claims", statement.select(PAYMENT_ORDERS, ("tenant", "payment_order_id")), "payment_orders_id_once"
    yield "deliveries", statement.select(INBOX, ("psp", "event_id")), "inbox_event_once"


HOT = {name: (prepared, index) for name, prepared, index in hot_statements()}
ONE = {"INT4": "{1}", "INT8": "{1}", "TEXT": '{"t1"}', "BOOL": "{t}", "BYTEA": '{"x"}'}


@pytest.mark.parametrize("database", ["empty", "filled"])
@pytest.mark.parametrize("name", HOT)
def test_every_hot_statement_finds_its_rows_by_key_whatever_the_statistics(
    request: pytest.FixtureRequest, database: str, name: str
) -> None:
    """A prepared plan made on the first day of an empty database serves until it is analysed: it must be the right one."""
    connection: Connection = request.getfixturevalue(database)
    prepared, index = HOT[name]
    clause = prepared.plain.clause
    values = {found[1]: ONE[found[2]] for found in re.finditer(r"CAST\(:(\w+) AS (\w+)\[\]\)", clause.text)}

    nodes = explained(connection, clause, values)

    # Also a payment order, which is as unique by its id: that index's pages hold rows of other shards, and SERIALIZABLE would
    # see conflicts between batches that share no row.
    assert {node["Index Name"] for node in nodes if "Index Name" in node} <= {index}
    assert not FORBIDDEN & {node["Node Type"] for node in nodes}


FORBIDDEN = {"Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join", "Materialize"}


def explained(connection: Connection, clause: TextClause, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The nodes of the plan that serves any values."""
    connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
    found = connection.execute(text(f"EXPLAIN (FORMAT JSON) {clause.text}"), values).scalar_one()
    connection.rollback()
    plan = found if isinstance(found, list) else json.loads(found)
    return list(_nodes(plan[0]["Plan"]))


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _reads(node: Mapping[str, Any], index: str) -> bool:
    """The rows this node works on come from the index; a list made beforehand (CTE) does not count."""
    inner = (child for child in node.get("Plans", ()) if not str(child.get("Subplan Name", "")).startswith("CTE"))
    return node.get("Index Name") == index or any(_reads(child, index) for child in inner)
