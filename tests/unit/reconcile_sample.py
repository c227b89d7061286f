"""Lines and movements as tests of reconciliation need them: one charge that matches, and what is changed of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from zerosum.domain.discrepancy import Discrepancy, Posting
from zerosum.domain.fee_contract import STRIPE, charge_fee_minor
from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Item, Movement, MovementKind, Rules, Standing
from zerosum.domain.settlement import Category, Line

DAY_MS = 86_400_000
NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
DUE_AFTER_MS = 3 * DAY_MS
RULES = Rules(now_ms=NOON_MS + DAY_MS, due_after_ms=DUE_AFTER_MS, contract=STRIPE)
"""A day after the charge: nothing is overdue."""
OVERDUE = replace(RULES, now_ms=NOON_MS + DUE_AFTER_MS)


def charge(order: str = "o1", amount_minor: int = 10_000, currency: str = "EUR", **changed: Any) -> Movement:
    """A charge that the PSP has told us of; its object is "pi_<order>"."""
    made = Movement(
        kind=MovementKind.CHARGE, number=1, tenant=Tenant("t"), checkout_id=CheckoutId("c1"), order_id=OrderId(order),
        psp="stripe", object_id=f"pi_{order}", refund_key="", money=Money(amount_minor, currency), at_ms=NOON_MS,
        standing=Standing.SETTLED, buyer="b", seller="s",
    )  # fmt: skip
    return replace(made, **changed)


def refund(order: str = "o1", amount_minor: int = 10_000, **changed: Any) -> Movement:
    """The full refund of `charge`."""
    return charge(order, amount_minor, **{"kind": MovementKind.REFUND, "refund_key": f"refund-{order}", **changed})


def line(order: str = "o1", amount_minor: int = 10_000, currency: str = "EUR", **changed: Any) -> Line:
    """The line of `charge`. A changed gross brings the contract's fee and the net with it, unless they are given too."""
    gross = Money(amount_minor, currency)
    fee_minor = changed.pop("fee_minor", charge_fee_minor(STRIPE, gross))
    made = Line(
        psp="stripe", number=1, id=f"txn_{order}", category=Category.CHARGE, object_id=f"pi_{order}", tenant=Tenant("t"),
        checkout_id="c1", reference=order, refund_key="", gross=gross, fee_minor=fee_minor,
        net_minor=amount_minor - fee_minor, created_at_ms=NOON_MS, payout_id="po_1", file_id="f",
    )  # fmt: skip
    return replace(made, **changed)


def refund_line(order: str = "o1", amount_minor: int = -10_000, **changed: Any) -> Line:
    """The line of `refund`."""
    told = {"id": f"txn_re_{order}", "number": 2, "category": Category.REFUND, "refund_key": f"refund-{order}"}
    return line(order, amount_minor, **{**told, **changed})


def returned(order: str = "o1", amount_minor: int = 10_000, **changed: Any) -> Line:
    """The line of `refund` that came back: the buyer's bank did not take it."""
    told = {"id": f"txn_back_{order}", "number": 3, "category": Category.REFUND_FAILURE, "fee_minor": 0}
    return refund_line(order, amount_minor, **{**told, **changed})


def states(items: Iterable[Item]) -> list[tuple[str, str, str]]:
    """(line id, order, state or kind) of each item: what a reader wants to see of an outcome."""
    return sorted(
        (
            item.line.id if item.line else "",
            item.movement.order_id if item.movement else "",
            item.discrepancy.kind if item.discrepancy else item.state,
        )
        for item in items
    )


def found_by(lines: list[Line], movements: list[Movement]) -> list[tuple[str, str, str]]:
    """`states` of the whole reconciliation, before anything is overdue."""
    return states(reconcile(lines, movements, RULES))


def the_discrepancy(items: Iterable[Item]) -> Discrepancy:
    """The only one there is."""
    (found,) = (item.discrepancy for item in items if item.discrepancy is not None)
    return found


def is_balanced(postings: Iterable[Posting]) -> bool:
    """They sum to zero per currency."""
    sums: Counter[str] = Counter()
    for posting in postings:
        sums[posting.currency] += posting.amount_minor
    return not any(sums.values())
