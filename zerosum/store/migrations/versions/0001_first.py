"""The first schema: every table of that day (`frozen_0001.py`), grants per role, append-only triggers."""

from alembic import op

from zerosum.store.migrate import VERSION_TABLE
from zerosum.store.migrations import step
from zerosum.store.migrations.frozen_0001 import METADATA, ROLES, SERVICES

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One statement a step; each may be run again."""
    step.make_roles(ROLES)
    for service in SERVICES:
        step.make_schema(service)
    step.make_tables(list(METADATA.tables.values()))
    for role in ROLES:
        op.execute(f"GRANT SELECT ON {VERSION_TABLE} TO {role}")


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
