"""Lists of files and runs by time: a page costs what it brings, however many years of them there are.

Expands only: code of 0005 writes and reads its tables as before.
"""

from zerosum.store.migrations import step

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INDEXES = {
    "files_by_time": "reconciliation.files (received_at_ms, file_id) WHERE received_at_ms > 0",
    "files_of_psp_by_time": "reconciliation.files (psp, received_at_ms, file_id) WHERE received_at_ms > 0",
    "runs_by_time": "reconciliation.runs (kind, started_at_ms, run_id) WHERE started_at_ms > 0",
}


def upgrade() -> None:
    """One statement a step; each may be run again."""
    for name, on in _INDEXES.items():
        step.make_index(name, on)


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
