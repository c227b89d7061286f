"""The steps of the textbook flow, each a function of one session and one transaction: read, change, write.

Invariant: a step that runs again, after a crash or a conflict, changes nothing twice: flags and keys are looked at first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from loadtest.naive.model import EXECUTING, SUCCESS, LedgerEntry, PaymentEvent, PaymentOrder, Wallet

CLEARING: Final = "psp:stripe:clearing"


@dataclass(frozen=True, slots=True)
class Charged:
    """What the PSP said of an order. `status`: SUCCESS or FAILED, then with a reason."""

    status: str
    psp_reference: str
    reason: str = ""


def store(session: Session, *, make_event: Callable[[], PaymentEvent]) -> PaymentEvent:
    """Step 1: the click and its orders. IntegrityError where the checkout or an order was there before."""
    event = make_event()
    session.add(event)
    return event


def begin(session: Session, *, order_id: str) -> PaymentOrder:
    """Step 2, per order: it is handed to the executor."""
    order = session.get_one(PaymentOrder, order_id)
    order.status = EXECUTING
    return order


def record(session: Session, *, order_id: str, charged: Charged) -> PaymentOrder:
    """Step 3, after the PSP's answer: what came of it."""
    order = session.get_one(PaymentOrder, order_id)
    order.status, order.psp_reference, order.reason = charged.status, charged.psp_reference, charged.reason
    return order


def credit_wallet(session: Session, *, order_id: str) -> PaymentOrder:
    """Step 4: the seller's balance, read, raised and written."""
    order = session.get_one(PaymentOrder, order_id)
    if not order.wallet_updated:
        add_to_wallet(session, order.seller_account, order.currency, order.amount_minor)
        order.wallet_updated = True
    return order


def post_ledger(session: Session, *, order_id: str) -> PaymentOrder:
    """Step 5: a debit and a credit; and with the last order of a checkout, the checkout is done."""
    order = session.get_one(PaymentOrder, order_id)
    if not order.ledger_updated:
        add_entries(session, order_id, order.seller_account, order.currency, order.amount_minor)
        order.ledger_updated = True
        event = session.get_one(PaymentEvent, order.checkout_id)
        event.is_payment_done = all(_is_done(each) for each in event.orders)
    return order


def _is_done(order: PaymentOrder) -> bool:
    return order.status == SUCCESS and order.wallet_updated and order.ledger_updated


def read(session: Session, *, checkout_id: str) -> PaymentEvent | None:
    """A checkout with its orders; None where there is none."""
    return session.scalars(select(PaymentEvent).where(PaymentEvent.checkout_id == checkout_id)).one_or_none()


# ---- the changes themselves, which the posting peer of the bench makes too ---------------------------------------------


def add_to_wallet(session: Session, owner: str, currency: str, amount_minor: int) -> None:
    """Opens the wallet at its first money."""
    wallet = session.get(Wallet, (owner, currency))
    if wallet is None:
        session.add(Wallet(owner=owner, currency=currency, balance_minor=amount_minor))
    else:
        wallet.balance_minor += amount_minor


def add_entries(session: Session, order_id: str, owner: str, currency: str, amount_minor: int) -> None:
    """The clearing account's debit and the seller's credit."""
    sides = ((f"{CLEARING}:{currency}", amount_minor), (f"seller:{owner}:{currency}", -amount_minor))
    session.add_all(
        LedgerEntry(payment_order_id=order_id, account=account, amount_minor=minor, currency=currency)
        for account, minor in sides
    )


def post(session: Session, *, posting_id: str, owner: str, currency: str, amount_minor: int) -> None:
    """Wallet and ledger in one transaction, without a payment around them."""
    add_to_wallet(session, owner, currency, amount_minor)
    add_entries(session, posting_id, owner, currency, amount_minor)


def open_wallets(session: Session, *, owners: Sequence[str], currency: str) -> None:
    """Empty wallets for new owners."""
    session.add_all(Wallet(owner=owner, currency=currency, balance_minor=0) for owner in owners)
