"""What becomes of a pair, and of a line or a movement alone: the state, and the discrepancy with its proposal. Pure.

A pair's fields are compared in one order of precedence (`_differences`); the first that differs names the kind, and all of
them are shown. Only then does the order's standing count, and last the fee. Where something else is the matter too, the fee
is a case of its own beside it (`with_fee`): settlement believes no fee but the contract's, whatever becomes of the line. A
refund costs nothing, a dispute its own fee or nothing.

Invariant: `discrepancy` is set exactly where the state is MISMATCH, and its postings sum to zero per currency.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from zerosum.domain import journal as ledger
from zerosum.domain.discrepancy import Action, Discrepancy, Kind, Proposal, mismatch_id, rule_of
from zerosum.domain.fee_contract import FeeContract, charge_fee_minor, dispute_fee_minor
from zerosum.domain.identity import OrderId, Tenant
from zerosum.domain.journal import Entry
from zerosum.domain.money import Money
from zerosum.domain.reconcile_item import (
    MOVED,
    Item,
    MatchedBy,
    Movement,
    MovementKind,
    Rules,
    Standing,
    State,
)
from zerosum.domain.settlement import OTHERS, Category, Line
from zerosum.domain.settlement_posting import (
    cost_minor,
    fee_entries,
    postings_of,
    write_off_entries,
)

UNKNOWN: Final[Mapping[Category, Kind]] = MappingProxyType(
    {
        Category.CHARGE: Kind.UNKNOWN_CHARGE,
        Category.REFUND: Kind.UNKNOWN_REFUND,
        Category.PARTIAL_CAPTURE_REVERSAL: Kind.UNKNOWN_REFUND,
        Category.DISPUTE: Kind.UNKNOWN_DISPUTE,
        Category.DISPUTE_REVERSAL: Kind.UNKNOWN_DISPUTE,
        Category.FEE: Kind.UNKNOWN_FEE,
        Category.REFUND_FAILURE: Kind.REFUND_FAILURE,
        **dict.fromkeys(OTHERS, Kind.OTHER_MOVEMENT),
    }
)
"""What a line is whose object and order are not ours. Payouts need no origin."""

_NAMES_MAX: Final = 10
"""Candidates of an ambiguity that are told by name: a page of text; the items of the run name all."""


class _Difference(NamedTuple):
    """One field that differs, as people read it; alone it would be a case of this kind."""

    kind: Kind
    field: str
    ours: str
    theirs: str


# ---- a pair --------------------------------------------------------------------------------------------------------


def judge(line: Line, movement: Movement, rules: Rules, by: MatchedBy) -> Item:
    """A line and the movement it belongs to. Money is as both tell it; nothing is posted here."""
    differences = list(_differences(line, movement, by)) or list(_standing(movement))
    expected_minor = contract_fee_minor(line, rules.contract)
    if not differences and line.fee_minor != expected_minor:
        return Item(line, movement, State.MISMATCH, by, _wrong_fee(line, movement, rules.contract))
    if not differences:
        return Item(line, movement, State.MATCHED, by, None)
    kind = differences[0].kind
    found = _discrepancy(
        kind, line, movement,
        field=", ".join(one.field for one in differences),
        ours=", ".join(one.ours for one in differences),
        theirs=", ".join(one.theirs for one in differences),
        money=_at_stake(line, movement),
    )  # fmt: skip
    return Item(line, movement, State.MISMATCH, by, found)


def with_fee(item: Item, contract: FeeContract) -> Item:
    """The item, with a case of its fee beside its own where that is not the contract's.

    Where the two sides tell different amounts the fee may be that of either: the PSP computed it from what it charged. The fee
    belongs where the case beside it does: to the order, and into the books, that the line is about.
    """
    line, found = item.line, item.discrepancy
    if line is None or found is None or found.kind in _FEE_IS_SEEN or line.category in _COST_ITSELF:
        return item
    monies = (line.gross, *([item.movement.signed] if item.movement else []))
    if line.fee_minor in {fee for money in monies for fee in _fees_minor(line.category, money, contract)}:
        return item
    beside = _wrong_fee(line, item.movement, contract)
    return replace(
        item, fee=replace(beside, tenant=found.tenant, checkout_id=found.checkout_id, order_id=found.order_id)
    )


_COST_ITSELF: Final = frozenset({Category.FEE, Category.PAYOUT})
"""Lines that are a cost, or have none: of all others the contract tells the fee."""

_FEE_IS_SEEN: Final = frozenset({Kind.WRONG_FEE, Kind.DUPLICATE_LINE})
"""The fee is the case itself, or the line settles nothing."""


def _wrong_fee(line: Line, movement: Movement | None, contract: FeeContract) -> Discrepancy:
    expected = Money(contract_fee_minor(line, contract), line.gross.currency)
    asked = Money(line.fee_minor, line.gross.currency)
    off = Money(expected.amount_minor - asked.amount_minor, line.gross.currency)
    return _discrepancy(Kind.WRONG_FEE, line, movement, field="fee", ours=told(expected), theirs=told(asked), money=off)


def _differences(line: Line, movement: Movement, by: MatchedBy) -> Iterator[_Difference]:
    """In order of precedence. What a pair of the third pass does not name is no difference."""
    names = by is not MatchedBy.AMOUNT_DAY
    if names and movement.object_id and line.object_id != movement.object_id:
        yield _Difference(Kind.WRONG_PSP_ID, "object_id", movement.object_id, line.object_id)
    if line.gross.currency != movement.money.currency:
        yield _Difference(Kind.WRONG_CURRENCY, "currency", told(movement.signed), told(line.gross))
    elif line.gross != movement.signed:
        yield _Difference(Kind.WRONG_AMOUNT, "amount", told(movement.signed), told(line.gross))
    if names and line.reference != movement.order_id:
        yield _Difference(Kind.WRONG_REFERENCE, "reference", movement.order_id, line.reference)
    if line.tenant and line.tenant != movement.tenant:
        yield _Difference(Kind.WRONG_REFERENCE, "tenant", movement.tenant, line.tenant)
    if line.checkout_id and line.checkout_id != movement.checkout_id:
        yield _Difference(Kind.WRONG_REFERENCE, "checkout_id", movement.checkout_id, line.checkout_id)


_STANDINGS: Final[Mapping[tuple[MovementKind, Standing], _Difference]] = MappingProxyType(
    {
        (MovementKind.CHARGE, Standing.IN_FLIGHT): _Difference(Kind.UNRESOLVED_ORDER, "status", "in flight", "charged"),
        (MovementKind.REFUND, Standing.IN_FLIGHT): _Difference(
            Kind.UNRESOLVED_ORDER, "status", "in flight", "refunded"
        ),
        (MovementKind.CHARGE, Standing.GIVEN_UP): _Difference(Kind.LATE_CHARGE, "status", "given up", "charged"),
        (MovementKind.REFUND, Standing.GIVEN_UP): _Difference(Kind.UNKNOWN_REFUND, "status", "given up", "refunded"),
    }
)
"""What a line means for a movement that our books do not hold for done."""


def _standing(movement: Movement) -> Iterator[_Difference]:
    if movement.standing not in MOVED:
        yield _STANDINGS[movement.kind, movement.standing]


def contract_fee_minor(line: Line, contract: FeeContract) -> int:
    """What the contract lets the PSP keep of this line."""
    return _fees_minor(line.category, line.gross, contract)[0]


def _fees_minor(category: Category, money: Money, contract: FeeContract) -> tuple[int, ...]:
    """Fees of the contract, the one that is believed where the line tells another first: a charge costs, and a dispute does, or
    is told without its fee, which is a row of its own then; a dispute that is won may bring it back. All else is free."""
    match category:
        case Category.CHARGE:
            return (charge_fee_minor(contract, money),)
        case Category.DISPUTE:
            return (dispute_fee_minor(contract, money.currency), 0)
        case Category.DISPUTE_REVERSAL:
            return (0, -dispute_fee_minor(contract, money.currency))
        case _:
            return (0,)


def _at_stake(line: Line, movement: Movement) -> Money:
    """Theirs less ours, as the clearing account has it; what our books hold for undone is not in it."""
    if movement.standing not in MOVED or line.gross.currency != movement.money.currency:
        return line.gross
    return Money(line.gross.amount_minor - movement.signed.amount_minor, line.gross.currency)


# ---- a line alone --------------------------------------------------------------------------------------------------


def told_again(line: Line, first: Line) -> Item:
    """The same movement of the PSP, listed once more, in the same file or in another: nothing moved twice."""
    where = "" if first.file_id == line.file_id else f" of file {first.file_id[:12]}"
    found = _discrepancy(
        Kind.DUPLICATE_LINE, line, None, field="line_id", ours=f"line {first.number}{where}", theirs=f"line {line.number}",
        money=Money(0, line.gross.currency),
    )  # fmt: skip
    return Item(line, None, State.MISMATCH, MatchedBy.NOTHING, found)


def told_before(line: Line, movement: Movement) -> Item:
    """A movement that another line has already: the same line of an earlier file, or a second one of the PSP's."""
    is_same = line.id == movement.settled_by
    second = Kind.DUPLICATE_CHARGE if movement.kind is MovementKind.CHARGE else Kind.UNKNOWN_REFUND
    kind = Kind.DUPLICATE_LINE if is_same else second
    money = Money(0, line.gross.currency) if is_same else line.gross
    found = _discrepancy(
        kind, line, movement, field="line_id", ours=movement.settled_by, theirs=line.id, money=money, is_its_own=False
    )
    return Item(line, None, State.MISMATCH, MatchedBy.NOTHING, found)


def of_known(line: Line, origin: Movement, contract: FeeContract, *, is_disputed: bool = False) -> Item:
    """A line about a charge of ours, or a refund that came back, that has no movement of its own: classified, not applied.

    `is_disputed`: there is a dispute of the very object that no fee has been told for. A row of the contract's fee that names
    our order is that fee; in the name of another tenant, or without a dispute, it is one that nobody agreed to.
    """
    is_its_own = line.reference == origin.order_id and line.tenant in ("", origin.tenant)
    if is_disputed and is_its_own and is_dispute_fee(line, contract):
        return Item(line, None, State.EXPLAINED, MatchedBy.NOTHING, None)
    kind = _kind_of_known(line, origin)
    money = _cost(line) if kind is Kind.UNKNOWN_FEE else line.gross
    ours = f"a {origin.kind} of {told(origin.money)}"
    found = _discrepancy(
        kind, line, origin, field=line.category, ours=ours, theirs=told(money), money=money, is_its_own=False
    )
    return Item(line, None, State.MISMATCH, MatchedBy.NOTHING, found)


def is_dispute_fee(line: Line, contract: FeeContract) -> bool:
    """Whether it is a row of just the fee that the contract has for a dispute."""
    return line.category is Category.FEE and cost_minor(line) == dispute_fee_minor(contract, line.gross.currency)


def has_no_fee(line: Line) -> bool:
    """Whether it is a dispute whose fee may come as a row of its own."""
    return line.category is Category.DISPUTE and line.fee_minor == 0


def _kind_of_known(line: Line, origin: Movement) -> Kind:
    match line.category:
        case Category.DISPUTE | Category.DISPUTE_REVERSAL:
            return Kind.DISPUTE
        case Category.PARTIAL_CAPTURE_REVERSAL:
            return Kind.PARTIAL_REVERSAL
        case Category.REFUND:
            is_part = (
                line.gross.currency == origin.money.currency and -line.gross.amount_minor < origin.money.amount_minor
            )
            return Kind.PARTIAL_REFUND if is_part else Kind.UNKNOWN_REFUND
        case _:
            return UNKNOWN[line.category]


def unknown(line: Line) -> Item:
    """A line that belongs to nothing of ours; a payout belongs to nothing, and needs not."""
    kind = UNKNOWN.get(line.category)
    if kind is None:
        return Item(line, None, State.EXPLAINED, MatchedBy.NOTHING, None)
    money = _cost(line) if kind is Kind.UNKNOWN_FEE else line.gross
    named = ", ".join(name for name in (line.object_id, line.reference, told(money)) if name)
    found = _discrepancy(kind, line, None, field=line.category, ours="", theirs=named, money=money)
    return Item(line, None, State.MISMATCH, MatchedBy.NOTHING, found)


def _cost(line: Line) -> Money:
    """A fee row's money: negative, for it went from us."""
    return Money(-cost_minor(line), line.gross.currency)


# ---- a movement alone ----------------------------------------------------------------------------------------------


def waiting(movement: Movement, rules: Rules) -> Item:
    """A movement that no line names."""
    if movement.settled_by or movement.standing is Standing.GIVEN_UP:
        return Item(None, movement, State.EXPLAINED, MatchedBy.NOTHING, None)
    if movement.standing is Standing.IN_FLIGHT or movement.at_ms + rules.due_after_ms > rules.now_ms:
        return Item(None, movement, State.EXPECTED, MatchedBy.NOTHING, None)
    found = _discrepancy(
        Kind.MISSING_LINE, None, movement, field="line", ours=told(movement.signed), theirs="",
        money=_negated(movement.signed),
    )  # fmt: skip
    return Item(None, movement, State.MISMATCH, MatchedBy.NOTHING, found)


# ---- an ambiguity --------------------------------------------------------------------------------------------------


def ambiguous(lines: Sequence[Line], movements: Sequence[Movement]) -> tuple[Item, ...]:
    """Lines and movements that fit one another equally well: one case, an item for each."""
    first = min(lines, key=lambda line: (line.id, line.number))
    ours, theirs = sorted({one.order_id for one in movements}), sorted({one.id for one in lines})
    found = _discrepancy(
        Kind.AMBIGUOUS, first, min(movements, key=lambda one: one.item) if movements else None, field="candidates",
        ours=", ".join(ours[:_NAMES_MAX]), theirs=", ".join(theirs[:_NAMES_MAX]), money=first.gross,
        is_its_own=False,
    )  # fmt: skip
    nothing, state = MatchedBy.NOTHING, State.MISMATCH
    return (
        *(Item(line, None, state, nothing, found) for line in lines),
        *(Item(None, movement, state, nothing, found) for movement in movements),
    )


# ---- the discrepancy -----------------------------------------------------------------------------------------------


def _discrepancy(
    kind: Kind, line: Line | None, movement: Movement | None, *, field: str, ours: str, theirs: str, money: Money,
    is_its_own: bool = True,
) -> Discrepancy:  # fmt: skip
    """Its subject is the line where there is one, else the movement: what is the same in every run and every file.

    `is_its_own`: the case is about this movement, and not about a line that comes on top of what it has.
    """
    psp = line.psp if line else movement.psp if movement else ""
    tenant = movement.tenant if movement else line.tenant if line else Tenant("")
    scope, subject = (psp, line.id) if line else (tenant, movement.item if movement else "")
    return Discrepancy(
        id=mismatch_id(kind, scope, subject),
        kind=kind,
        psp=psp,
        tenant=tenant,
        checkout_id=movement.checkout_id if movement else line.checkout_id if line else "",
        order_id=movement.order_id if movement else OrderId(line.reference if line else ""),
        object_id=line.object_id if line else movement.object_id if movement else "",
        line_id=line.id if line else "",
        file_id=line.file_id if line else "",
        field=field,
        ours=ours,
        theirs=theirs,
        money=money,
        proposal=_proposal(kind, line, movement, money),
        movement=movement.item if movement and is_its_own else "",
    )


def _proposal(kind: Kind, line: Line | None, movement: Movement | None, money: Money) -> Proposal:
    action = rule_of(kind).action
    entries: tuple[Entry, ...] = ()
    if line is not None and movement is not None and action is Action.REPORT_TO_PAYMENT:
        entries = _report_entries(kind, movement)
        return Proposal(action, postings_of(entries), f"{line.psp}/{line.id}", _report_follows(kind, movement))
    if line is not None and action is Action.WRITE_OFF_TO_SUSPENSE:
        entries = write_off_entries(line.psp, money)
    elif line is not None and action is Action.BOOK_FEE:
        entries = fee_entries(line.psp, _negated(money))
    return Proposal(action, postings_of(entries), "")


def _report_entries(kind: Kind, movement: Movement) -> tuple[Entry, ...]:
    """What the payment service posts once it believes the line; `_report_follows` says the rest."""
    is_charge = movement.kind is MovementKind.CHARGE
    if kind is Kind.LATE_CHARGE:
        posted = ledger.Movement.SUSPENSE_CHARGE
    elif is_charge or not movement.is_from_suspense:
        posted = ledger.Movement.CAPTURE
    else:
        posted = ledger.Movement.SUSPENSE_REFUND
    entries = ledger.entries_of(
        posted, gross=movement.money, fee=Money(0, movement.money.currency), buyer=movement.buyer,
        seller=movement.seller, psp=movement.psp,
    )  # fmt: skip
    if is_charge or movement.is_from_suspense:
        return entries
    return tuple(Entry(entry.account, _negated(entry.money)) for entry in entries)


def _report_follows(kind: Kind, movement: Movement) -> str:
    """What moves besides: a late charge goes back to its buyer by its own road, any other charge is credited to the seller's
    wallet. Of a refund the wallet was debited before the PSP was asked."""
    if movement.kind is not MovementKind.CHARGE:
        return ""
    if kind is not Kind.LATE_CHARGE:
        return f"the wallet of {movement.seller} takes pending {told(movement.money)}"
    cleared = ledger.entries_of(
        ledger.Movement.SUSPENSE_REFUND, gross=movement.money, fee=Money(0, movement.money.currency),
        buyer=movement.buyer, seller=movement.seller, psp=movement.psp,
    )  # fmt: skip
    sides = "; ".join(f"{entry.account} {told(entry.money)}" for entry in cleared)
    return f"the PSP is asked to refund it, and with proof of that is posted: {sides}; refused for good, it stays in suspense"


def _negated(money: Money) -> Money:
    return Money(-money.amount_minor, money.currency)


def told(money: Money) -> str:
    """Money as people read it: "12.34 EUR". Never raises, whatever its currency."""
    return str(money)
