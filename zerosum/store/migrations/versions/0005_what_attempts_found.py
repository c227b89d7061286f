"""Attempts of a run: who asked for each, what it said of an item, and lines in the order of their PSP's ids to compare two by.

Expands only: code of 0004 writes and reads its tables as before.
"""

from zerosum.store.migrations import step

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One statement a step; each may be run again."""
    step.add_column("reconciliation.runs", "asked_by TEXT DEFAULT '' NOT NULL")
    step.add_column("reconciliation.items", "found TEXT DEFAULT '' NOT NULL")
    step.make_index("lines_by_file_and_id", "reconciliation.lines (file_id, line_id) WHERE line_id <> ''")


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
