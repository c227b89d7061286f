"""What a night looks up across nights: the movement of a case, and the way from a movement or a line to what became of it.

Expands only: code of 0003 writes and reads its tables as before.
"""

from zerosum.store.migrations import step

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEXES = {
    "refunds_by_time": "payment.operations (slot, started_at_ms, checkout_id) WHERE kind = 'refund' AND started_at_ms > 0",
    "mismatches_by_time": "payment.mismatches (slot, opened_at_ms, checkout_id) WHERE opened_at_ms > 0",
    "lines_by_id": "reconciliation.lines (line_id)",
    "items_by_item": "reconciliation.items (item)",
}


def upgrade() -> None:
    """One statement a step; each may be run again."""
    step.add_column("reconciliation.mismatches", "movement TEXT DEFAULT '' NOT NULL")
    for name, on in _INDEXES.items():
        step.make_index(name, on)


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
