"""The steps revisions are made of: one DDL statement each, safe to run again, for either database.

Invariants: a step says everything it needs in its arguments; nothing here looks at `table.py`, which moves on. What is slow
(an index of a table with rows) stands in nobody's way.
"""

from collections.abc import Iterable, Sequence

from alembic import op
from sqlalchemy import Table, text
from sqlalchemy.schema import CreateIndex, CreateTable

from zerosum.store import migrate
from zerosum.store.migrations import grant


def make_schema(schema: str, role: str = "") -> None:
    """A schema, its way in, and on PostgreSQL the function that refuses changes of append-only tables.

    `role`: who works in it; named as the schema where it is a service's.
    """
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for statement in grant.schema_grants(schema, role):
        op.execute(statement)
    if is_postgres():
        op.execute(grant.REFUSE_CHANGE.format(schema=schema))


def make_tables(tables: Sequence[Table], role: str = "") -> None:
    """Tables with their indexes and grants, and on PostgreSQL the triggers of those that are append-only."""
    for table in tables:
        op.execute(CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            op.execute(CreateIndex(index, if_not_exists=True))
        for statement in grant.table_grants(table, role):
            op.execute(statement)
    if is_postgres():
        for table in tables:
            for statement in grant.refusals(table):
                op.execute(statement)


def make_roles(roles: Iterable[str]) -> None:
    """Roles that log in, without a password; those that are there stay as they are."""
    known = set(op.get_bind().execute(text("SELECT rolname FROM pg_catalog.pg_roles")).scalars())
    for role in roles:
        if role not in known:
            op.execute(f"CREATE ROLE {role} LOGIN")


def add_column(table: str, definition: str) -> None:
    """A column with a default, so that code of the revision before goes on writing rows. `definition`: its DDL."""
    op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {definition}")


def make_index(name: str, on: str) -> None:
    """An index of a table that has rows, made beside those who write to it. `on`: schema, table, columns and condition.

    PostgreSQL keeps what is left of one that was ended half way, invalid, under its name: that is dropped first. It waits for
    transactions that are older than it, without standing in anybody's way: for as long as they take.
    """
    if not is_postgres():  # CockroachDB always builds so
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {on}")
        return
    schema = on.partition(".")[0]
    op.execute("SET lock_timeout = 0")
    if op.get_bind().execute(_INVALID, {"schema": schema, "name": name}).all():
        op.execute(f"DROP INDEX CONCURRENTLY {schema}.{name}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")
    op.execute("RESET lock_timeout")


_INVALID = text(
    "SELECT 1 FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname = :schema AND c.relname = :name AND NOT i.indisvalid"
)


def is_postgres() -> bool:
    """PostgreSQL itself, not CockroachDB."""
    return migrate.is_postgres(op.get_bind())
