"""The reconciler: its role, its schema, and what it may read of the services.

Expands only: servers of the revision before do not look at it. Until the first release this revision is the metadata of
`reconciliation/table.py` as it stands.
"""

from alembic import op

from zerosum.store.migrate import VERSION_TABLE
from zerosum.store.migrations import grant, step
from zerosum.store.reconciliation.table import RECONCILIATION, ROLE, SCHEMA

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One statement a step; each may be run again."""
    step.make_roles([ROLE])
    step.make_schema(SCHEMA, ROLE)
    step.make_tables(list(RECONCILIATION.tables.values()), ROLE)
    for statement in grant.reading_grants(("payment", "wallet", "ledger")):
        op.execute(statement)
    op.execute(f"GRANT SELECT ON {VERSION_TABLE} TO {ROLE}")


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
