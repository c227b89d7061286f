"""The part of docs/reconciliation.md that is drawn: every kind of discrepancy with an example, by the code that finds it.

Each example is a handful of lines and movements that the real matching judges here; field, values and postings on the page are
what it says of them. Used by `docs/draw.py`.

Invariant: the page promises nothing that the code does not do.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zerosum.domain.discrepancy import Class, Discrepancy, Kind, rule_of
from zerosum.domain.fee_contract import STRIPE, charge_fee_minor
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant, derived_key
from zerosum.domain.journal import Journal, entries_of, journal
from zerosum.domain.journal import Movement as JournalMovement
from zerosum.domain.money import Money, format_amount
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_inside import OpenItem, Posted, Promise, Side, compare, compare_clearing
from zerosum.domain.reconcile_item import Movement, MovementKind, Rules, Standing
from zerosum.domain.settlement import Category, Line
from zerosum.domain.todo import TodoState
from zerosum.domain.wallet import Transfer, TransferKind

DAY_MS = 86_400_000
RULES = Rules(now_ms=10 * DAY_MS, due_after_ms=3 * DAY_MS, contract=STRIPE)
TENANT = Tenant("acme")
ORDER = OrderId("order-7")

MEANINGS = {
    Kind.UNRESOLVED_ORDER: (
        "The PSP has booked a charge (or a refund) of an order that we still hold for open. The line is told to "
        "the payment service under the key (PSP, line id); a webhook that comes later finds it settled."
    ),
    Kind.LATE_CHARGE: (
        "We gave the order up as FAILED or CANCELED, and the PSP took the money all the same. The payment service "
        "puts it into suspense and refunds it under its own key; once that case is there, the line matches it."
    ),
    Kind.DUPLICATE_LINE: (
        "The same balance transaction stands in the file twice, or again in a later file. Nothing moved twice, "
        "nothing is posted; the second one is set aside."
    ),
    Kind.MISSING_LINE: (
        "We know of a charge whose line has not come by the deadline. Until then it is EXPECTED, and a line of a "
        "later day closes it."
    ),
    Kind.DUPLICATE_CHARGE: (
        "Two lines with different ids for one charge, or a second object charged under the order's reference. The "
        "buyer paid twice: finance refunds at the PSP, or keeps the money in suspense until it is clear whose it "
        "is."
    ),
    Kind.WRONG_AMOUNT: ("The line is about our object and tells another amount than the PSP told us when it charged."),
    Kind.WRONG_CURRENCY: "The line is about our object and tells another currency; amounts are not compared.",
    Kind.WRONG_REFERENCE: (
        "The object is ours; the PSP's record of it names another order, tenant or checkout, or none."
    ),
    Kind.WRONG_PSP_ID: "The line names our order, and another object than the order's own, which has no line.",
    Kind.WRONG_FEE: (
        "Everything agrees but the fee. Settlement books the contract's fee; the difference stays in the clearing "
        "account until somebody books it, or the PSP gives it back."
    ),
    Kind.UNKNOWN_CHARGE: (
        "Neither the object nor the order is ours: after a backup was restored, or another system charges through "
        "the same account."
    ),
    Kind.UNKNOWN_REFUND: (
        "Money went back that nobody asked us for: a refund under a key that is not ours, the whole of a charge in "
        "the PSP's own console, or a refund that the PSP had told us was declined."
    ),
    Kind.UNKNOWN_DISPUTE: "A dispute of a charge that we do not have.",
    Kind.UNKNOWN_FEE: (
        "A fee row that belongs to no dispute of a charge of ours, or is not the contract's for one. Settlement does "
        "not believe it: it is an open item of the clearing account."
    ),
    Kind.DISPUTE: (
        "The buyer's bank took a charge of ours back, or gave it again. Disputes are classified here, not applied."
    ),
    Kind.PARTIAL_REFUND: ("A part of a charge of ours went back, outside of our own refunds. Classified, not applied."),
    Kind.PARTIAL_REVERSAL: "The PSP released a part that was authorized and not captured. Classified, not applied.",
    Kind.REFUND_FAILURE: (
        "A refund had gone out, and the buyer's bank sent it back: the PSP has the money again, for a buyer who is owed it. "
        "Our books posted the refund, out of the seller's account or out of suspense, and say that the buyer has it; the "
        "write-off puts what came back into suspense, and people send it another way. The payment service's own case "
        "`refund_failed`, where its webhook came, posts nothing: close it as well. A line of a refund that we do not have is "
        "the same case, with nothing on our side."
    ),
    Kind.OTHER_MOVEMENT: (
        "A line of a category that Stripe documents and no payment of ours makes: an adjustment, a failed payout, a network's "
        "cost, a tax, a top-up, a reserve, a transfer to a connected account. The field is the category. Its file counts and "
        "the line settles like any other, so that its money stands open in the clearing account; nothing is proposed before "
        "somebody has asked the PSP what it was. Then `write-off` puts it into suspense, or `close` says why nothing is needed."
    ),
    Kind.AMBIGUOUS: (
        "Several lines or orders fit equally well, or one line id tells two stories. The first is never taken."
    ),
    Kind.MISSING_JOURNAL: (
        "An order's posting was confirmed and is not in the ledger: it was restored from a backup. It is sent "
        "again, whole, under the id it always had."
    ),
    Kind.MISSING_TRANSFER: "The same, in a wallet.",
    Kind.EXTRA_JOURNAL: "The ledger holds a journal that no order promises.",
    Kind.EXTRA_TRANSFER: "A wallet holds a transfer that no order promises.",
    Kind.POSTED_DIFFERENTLY: "The posting is there under its id, with another amount, account, owner or order.",
    Kind.CLEARING_NOT_OPEN_ITEMS: (
        "The PSP's clearing account holds something else than what is captured and not settled, or settled and not "
        "written off. The items that differ are named; sums that agree by chance do not hide them."
    ),
    Kind.PAYMENT_CASE: (
        "A case of the payment service: a fact that it recorded and could not apply (a second charge, another "
        "amount or reference in an answer, an order that is unknown). It is shown here so that there is one queue."
    ),
}


def _charge(**changed: Any) -> Movement:
    made = Movement(
        kind=MovementKind.CHARGE, number=1, tenant=TENANT, checkout_id=CheckoutId("checkout-3"), order_id=ORDER, psp="stripe",
        object_id="pi_7", refund_key="", money=Money(10_000, "EUR"), at_ms=0, standing=Standing.SETTLED, buyer="buyer-1",
        seller="seller-9",
    )  # fmt: skip
    return replace(made, **changed)


def _refund() -> Movement:
    """One that has its line, in an earlier file."""
    return _charge(kind=MovementKind.REFUND, refund_key="refund-7", settled_by="txn_2")


def _line(amount_minor: int = 10_000, currency: str = "EUR", **changed: Any) -> Line:
    gross = Money(amount_minor, currency)
    fee_minor = changed.pop("fee_minor", charge_fee_minor(STRIPE, gross))
    made = Line(
        psp="stripe", number=4, id="txn_4", category=Category.CHARGE, object_id="pi_7", tenant=TENANT, checkout_id="checkout-3",
        reference=ORDER, refund_key="", gross=gross, fee_minor=fee_minor, net_minor=amount_minor - fee_minor, created_at_ms=0,
        payout_id="po_1",
    )  # fmt: skip
    return replace(made, **changed)


def _more(category: Category, amount_minor: int) -> Line:
    return _line(amount_minor, fee_minor=0, category=category, id="txn_5", number=5)


STRANGE: dict[str, Any] = {"object_id": "pi_99", "reference": "order-99", "checkout_id": "", "tenant": Tenant("")}

_OF_LINES: dict[Kind, tuple[list[Line], list[Movement]]] = {
    Kind.UNRESOLVED_ORDER: ([_line()], [_charge(standing=Standing.IN_FLIGHT)]),
    Kind.LATE_CHARGE: ([_line()], [_charge(standing=Standing.GIVEN_UP)]),
    Kind.DUPLICATE_LINE: ([_line(), _line(number=5)], [_charge()]),
    Kind.MISSING_LINE: ([], [_charge()]),
    Kind.DUPLICATE_CHARGE: ([_line(), _line(id="txn_5", number=5)], [_charge()]),
    Kind.WRONG_AMOUNT: ([_line(12_000)], [_charge()]),
    Kind.WRONG_CURRENCY: ([_line(currency="USD")], [_charge()]),
    Kind.WRONG_REFERENCE: ([_line(reference="order-8")], [_charge()]),
    Kind.WRONG_PSP_ID: ([_line(object_id="pi_99")], [_charge()]),
    Kind.WRONG_FEE: ([_line(fee_minor=370)], [_charge()]),
    Kind.UNKNOWN_CHARGE: ([replace(_line(), **STRANGE)], []),
    Kind.UNKNOWN_REFUND: ([_line(), _more(Category.REFUND, -10_000)], [_charge()]),
    Kind.UNKNOWN_DISPUTE: ([replace(_more(Category.DISPUTE, -10_000), **STRANGE)], []),
    Kind.UNKNOWN_FEE: ([replace(_more(Category.FEE, -900), object_id="", reference="")], []),
    Kind.DISPUTE: ([_line(), _more(Category.DISPUTE, -10_000)], [_charge()]),
    Kind.PARTIAL_REFUND: ([_line(), _more(Category.REFUND, -4_000)], [_charge()]),
    Kind.PARTIAL_REVERSAL: ([_line(), _more(Category.PARTIAL_CAPTURE_REVERSAL, -4_000)], [_charge()]),
    Kind.REFUND_FAILURE: ([_more(Category.REFUND_FAILURE, 10_000)], [_charge(settled_by="txn_4"), _refund()]),
    Kind.OTHER_MOVEMENT: ([replace(_more(Category.NETWORK_COST, -900), object_id="", reference="")], []),
    Kind.AMBIGUOUS: (
        [_line(object_id="", reference="")],
        [_charge(), _charge(order_id=OrderId("order-8"), object_id="pi_8")],
    ),
}


def _credit() -> Promise:
    name = derived_key(TENANT, ORDER, "credit", 1)
    request = Transfer(TENANT, name, "seller-9", TransferKind.CREDIT_PENDING, Money(10_000, "EUR"), ORDER)
    return Promise(Side.WALLET, CheckoutId("checkout-3"), request, TodoState.DONE)


def _capture() -> Promise:
    gross, no_fee, movement = Money(10_000, "EUR"), Money(0, "EUR"), JournalMovement.CAPTURE
    entries = entries_of(movement, gross=gross, fee=no_fee, buyer="buyer-1", seller="seller-9", psp="stripe")
    name = derived_key(TENANT, ORDER, movement, 1)
    made = journal(tenant=TENANT, journal_id=name, owner="seller-9", movement=movement, entries=entries, order_id=ORDER)
    assert isinstance(made, Journal)
    return Promise(Side.LEDGER, CheckoutId("checkout-3"), made, TodoState.DONE)


def _posted(side: Side, *sides: tuple[str, int]) -> Posted:
    name = _credit().id if side is Side.WALLET else Key("capture-1-5c0f")
    return Posted(side, name, TENANT, "seller-9", ORDER, "EUR", sides)


_INSIDE: dict[Kind, Callable[[], Discrepancy | None]] = {
    Kind.MISSING_JOURNAL: lambda: compare([_capture()], [])[0].discrepancy,
    Kind.MISSING_TRANSFER: lambda: compare([_credit()], [])[0].discrepancy,
    Kind.EXTRA_JOURNAL: lambda: compare(
        [], [_posted(Side.LEDGER, ("psp:stripe:clearing:EUR", 500), ("suspense:EUR", -500))]
    )[0].discrepancy,
    Kind.EXTRA_TRANSFER: lambda: compare([], [_posted(Side.WALLET, ("pending", 500))])[0].discrepancy,
    Kind.POSTED_DIFFERENTLY: lambda: compare([_credit()], [_posted(Side.WALLET, ("pending", 9_000))])[0].discrepancy,
    Kind.CLEARING_NOT_OPEN_ITEMS: lambda: compare_clearing(
        TENANT, "stripe", "EUR", booked=[OpenItem(ORDER, 10_000)],
        open_items=[OpenItem(ORDER, 10_000), OpenItem("order-8", 500)],
    ),
    Kind.PAYMENT_CASE: lambda: None,
}  # fmt: skip


def example_of(kind: Kind) -> Discrepancy | None:
    """What the code finds in the kind's example; None for PAYMENT_CASE, which another service has found."""
    if kind in _INSIDE:
        return _INSIDE[kind]()
    return next(item.discrepancy for item in reconcile(*_OF_LINES[kind], RULES) if item.discrepancy)


# ---- the page ------------------------------------------------------------------------------------------------------


def table() -> str:
    """Every kind in a row."""
    rows = [
        f"| [`{kind}`](#{kind}) | {rule_of(kind).group} | {rule_of(kind).likely_cause} | `{rule_of(kind).action}` |"
        for kind in Kind
    ]
    return "\n".join(("| kind | class | likely cause | proposed |", "|---|---|---|---|", *rows, ""))


def sections() -> str:
    """Every kind with its meaning and its example, by class. Raises KeyError for a kind without either."""
    parts = []
    for group in Class:
        parts += [f"### Class {group}", ""]
        for kind in Kind:
            if rule_of(kind).group is group:
                parts += [f"#### {kind}", "", MEANINGS[kind], "", *_example(kind), ""]
    return "\n".join(parts)


def _example(kind: Kind) -> list[str]:
    found = example_of(kind)
    if found is None:
        return [f"Proposed: `{rule_of(kind).action}`."]
    proposal = found.proposal
    idle = "" if proposal.postings or proposal.follows else ", which posts nothing by itself"
    told = [
        f"Example: `{found.field}` is `{found.ours or '(nothing)'}` by our books and `{found.theirs or '(nothing)'}` "
        f"by the other side; at stake: {format_amount(found.money)} {found.money.currency}. "
        f"Proposed: `{proposal.action}`{idle}.",
    ]
    if proposal.postings:
        told += ["", "| account | debit | credit |", "|---|---:|---:|"]
        for side in proposal.postings:
            amount = format_amount(Money(abs(side.amount_minor), side.currency))
            debit, credit = (amount, "") if side.amount_minor > 0 else ("", amount)
            told.append(f"| `{side.account}` | {debit} | {credit} |")
    if proposal.follows:
        told += ["", f"What follows: {proposal.follows}."]
    return told
