"""What reversals and refunds need: refunds, the caller's choice for partly failed checkouts, closed accounts.

Expands only: code of 0001 writes and reads its tables as before.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

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


REFUNDS = Table(
    "refunds", _METADATA,
    Column("slot", Integer, nullable=False), _text("tenant"), _text("checkout_id"), _text("payment_order_id"),
    Column("number", Integer, nullable=False), _text("cause"), _text("status"), _long("amount_minor"), _text("currency"),
    _text("reason"), _text("requested_by"), _text("outcome"), _long("opened_at_ms"), _long("ended_at_ms"),
    CheckConstraint("amount_minor > 0", name="refunds_amount_positive"),
    Index("refunds_one_live", "payment_order_id", "tenant", unique=True, postgresql_where=text("status <> 'FAILED'")),
    PrimaryKeyConstraint("slot", "tenant", "checkout_id", "payment_order_id", "number"),
    schema="payment", info={"kind": "child"},
)  # fmt: skip

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
    step.add_column("payment.payment_events", "on_partial TEXT DEFAULT 'KEEP' NOT NULL")
    step.make_tables([REFUNDS, WALLET_CLOSURES, OWNER_CLOSURES])


def downgrade() -> None:
    """There is none: money is not undone by a schema."""
    raise NotImplementedError("restore a backup instead")
