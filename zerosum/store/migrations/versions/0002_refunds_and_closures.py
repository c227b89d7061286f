"""What reversals and refunds need: closures of wallets and of owners' accounts.

Expands only: code of 0001 writes and reads its tables as before.
"""

from sqlalchemy import BigInteger, Column, Integer, MetaData, PrimaryKeyConstraint, Table, Text

from zerosum.store.migrations import step

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_METADATA = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _long(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


WALLET_CLOSURES = Table(
    "closures", _METADATA,
    Column("slot", Integer, nullable=False), _text("tenant"), _text("wallet_id"), _long("version"), _text("closed_by"),
    _text("reason"), _long("closed_at_ms"),
    PrimaryKeyConstraint("slot", "tenant", "wallet_id"), schema="wallet", info={"kind": "fact"},
)  # fmt: skip

OWNER_CLOSURES = Table(
    "closures", _METADATA,
    Column("slot", Integer, nullable=False), _text("tenant"), _text("owner"), _text("currency"), _long("version"),
    _text("closed_by"), _text("reason"), _long("closed_at_ms"),
    PrimaryKeyConstraint("slot", "tenant", "owner", "currency"), schema="ledger", info={"kind": "fact"},
)  # fmt: skip


def upgrade() -> None:
    """One statement a step; each may be run again."""
    step.make_tables([WALLET_CLOSURES, OWNER_CLOSURES])


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
