"""The reconciler: its role, its schema, and what it may read of the services.

Expands only: servers of the revision before do not look at it. Until the first release this revision is the metadata of
`reconciliation_table.py` as it stands.
"""

from alembic import op
from sqlalchemy import Table, text
from sqlalchemy.schema import CreateIndex, CreateTable

from zerosum.store.migrate import VERSION_TABLE
from zerosum.store.migrations import grant
from zerosum.store.reconciliation_table import RECONCILIATION, ROLE, SCHEMA
from zerosum.store.table import METADATA

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One statement a step; each may be run again."""
    known = set(op.get_bind().execute(text("SELECT rolname FROM pg_catalog.pg_roles")).scalars())
    if ROLE not in known:
        op.execute(f"CREATE ROLE {ROLE} LOGIN")
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for statement in grant.schema_grants(SCHEMA, ROLE):
        op.execute(statement)
    tables = list(RECONCILIATION.tables.values())
    for table in tables:
        _table(table)
    if _is_postgres():
        op.execute(grant.REFUSE_CHANGE.format(schema=SCHEMA))
        for table in tables:
            for statement in grant.refusals(table):
                op.execute(statement)
    for statement in grant.reading_grants(METADATA.tables.values()):
        op.execute(statement)
    op.execute(f"GRANT SELECT ON {VERSION_TABLE} TO {ROLE}")


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")


def _table(table: Table) -> None:
    op.execute(CreateTable(table, if_not_exists=True))
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        op.execute(CreateIndex(index, if_not_exists=True))
    for statement in grant.table_grants(table, ROLE):
        op.execute(statement)


def _is_postgres() -> bool:
    version = str(op.get_bind().execute(text("SELECT version()")).scalar_one())
    return "CockroachDB" not in version
