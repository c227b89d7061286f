"""The textbook's tables, as the specification lists them: payment event, payment order, wallet, ledger.

Invariant: money is integer minor units beside a currency; an order's entries sum to zero.
"""

from typing import Final

from sqlalchemy import BigInteger, ForeignKey, Identity, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NOT_STARTED: Final = "NOT_STARTED"
EXECUTING: Final = "EXECUTING"
SUCCESS: Final = "SUCCESS"
FAILED: Final = "FAILED"


class Base(DeclarativeBase):
    """What SQLAlchemy keeps its tables by."""


class PaymentEvent(Base):
    """A buyer's click. `checkout_id` is the idempotency key: inserting it wins, once."""

    __tablename__ = "payment_event"

    checkout_id: Mapped[str] = mapped_column(primary_key=True)
    buyer_account: Mapped[str]
    credit_card_info: Mapped[str]
    is_payment_done: Mapped[bool] = mapped_column(default=False)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    orders: Mapped[list["PaymentOrder"]] = relationship(order_by="PaymentOrder.position", lazy="selectin")


class PaymentOrder(Base):
    """Money for one seller. `amount` keeps the caller's string."""

    __tablename__ = "payment_order"

    payment_order_id: Mapped[str] = mapped_column(primary_key=True)
    checkout_id: Mapped[str] = mapped_column(ForeignKey(PaymentEvent.checkout_id), index=True)
    position: Mapped[int]
    seller_account: Mapped[str]
    amount: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    status: Mapped[str] = mapped_column(default=NOT_STARTED)
    reason: Mapped[str] = mapped_column(default="")
    psp_reference: Mapped[str] = mapped_column(default="")
    wallet_updated: Mapped[bool] = mapped_column(default=False)
    ledger_updated: Mapped[bool] = mapped_column(default=False)


class Wallet(Base):
    """A seller's balance in one currency."""

    __tablename__ = "wallet"

    owner: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    balance_minor: Mapped[int] = mapped_column(BigInteger, default=0)


class LedgerEntry(Base):
    """One side of a movement: debit positive. Once for ever per (order, account)."""

    __tablename__ = "ledger_entry"
    __table_args__ = (UniqueConstraint("payment_order_id", "account"),)

    entry_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    payment_order_id: Mapped[str]
    account: Mapped[str] = mapped_column(index=True)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
