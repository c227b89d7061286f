"""The first schema: every table of `table.py`, grants per role, append-only triggers.

Until the first release this revision is the metadata as it stands. The next revision freezes a copy of it here.
"""

from alembic import op
from sqlalchemy import Table, text
from sqlalchemy.schema import CreateIndex, CreateTable

from zerosum.store.migrate import VERSION_TABLE
from zerosum.store.migrations import grant
from zerosum.store.role import ROLES
from zerosum.store.table import METADATA, SERVICES

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One statement a step; each may be run again."""
    _roles()
    for service in SERVICES:
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {service}")
        for statement in grant.schema_grants(service):
            op.execute(statement)
    tables = list(METADATA.tables.values())
    for table in tables:
        _table(table)
    if _is_postgres():
        _triggers(tables)
    for role in ROLES:
        op.execute(f"GRANT SELECT ON {VERSION_TABLE} TO {role}")


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")


def _roles() -> None:
    known = set(op.get_bind().execute(text("SELECT rolname FROM pg_catalog.pg_roles")).scalars())
    for role in ROLES:
        if role not in known:
            op.execute(f"CREATE ROLE {role} LOGIN")


def _table(table: Table) -> None:
    op.execute(CreateTable(table, if_not_exists=True))
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        op.execute(CreateIndex(index, if_not_exists=True))
    for statement in grant.table_grants(table):
        op.execute(statement)


def _triggers(tables: list[Table]) -> None:
    for service in SERVICES:
        op.execute(grant.REFUSE_CHANGE.format(schema=service))
    for table in tables:
        for statement in grant.refusals(table):
            op.execute(statement)


def _is_postgres() -> bool:
    version = str(op.get_bind().execute(text("SELECT version()")).scalar_one())
    return "CockroachDB" not in version
