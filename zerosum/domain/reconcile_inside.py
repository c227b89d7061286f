"""Our own services among themselves: what orders say should be posted, against wallet and ledger. Pure.

What must be posted is read from the to-dos, for whoever decides an effect writes its to-do in the same commit, and from orders
that are SUCCESS, whose to-dos may be lost. The request a to-do stands for is `effect_of`'s: the id and the amounts it has
always had. Sets of ids are compared, not sums: two errors that cancel out are two errors. A posting that is missing is
EXPECTED while its to-do is open or a dead letter (which people see among the dead letters); everything else is a discrepancy.

Source: specification "Reconciliation"; design section 6.

Invariant: every promised and every found posting ends in exactly one verdict.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from zerosum.domain.checkout_state import Checkout
from zerosum.domain.discrepancy import Action, Discrepancy, Kind, Proposal, mismatch_id, rule_of
from zerosum.domain.effect import effect_of
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.journal import Journal, clearing_account
from zerosum.domain.money import Money, format_amount
from zerosum.domain.order import Order, OrderStatus
from zerosum.domain.reconcile_item import State
from zerosum.domain.refusal import Reason
from zerosum.domain.settlement_posting import postings_of
from zerosum.domain.todo import Todo, TodoKind, TodoState, todo_id
from zerosum.domain.wallet import Bucket, Transfer, TransferKind
from zerosum.errors import Bug

_NAMES_MAX: Final = 10
"""Items of a clearing account that are told by name: a page of text."""


class Side(StrEnum):
    """Which service holds a posting."""

    WALLET = "wallet"
    LEDGER = "ledger"


# ---- what must be posted -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """A posting that must exist. `request` is the whole of it, to be sent again as it is; `todo`: None where it is lost."""

    side: Side
    checkout_id: CheckoutId
    request: Transfer | Journal
    todo: TodoState | None

    @property
    def id(self) -> Key:
        """The id it has always had."""
        return self.request.transfer_id if isinstance(self.request, Transfer) else self.request.journal_id


POSTINGS: Final[Mapping[TodoKind, Side]] = MappingProxyType(
    {
        TodoKind.CREDIT_WALLET: Side.WALLET,
        TodoKind.DEBIT_WALLET: Side.WALLET,
        TodoKind.RETURN_WALLET: Side.WALLET,
        TodoKind.POST_JOURNAL: Side.LEDGER,
        TodoKind.POST_REFUND: Side.LEDGER,
        TodoKind.POST_SUSPENSE: Side.LEDGER,
        TodoKind.CLEAR_SUSPENSE: Side.LEDGER,
    }
)
"""To-dos that promise a posting, and where. A new kind of posting is a row here."""

OF_A_CHARGE: Final = (TodoKind.CREDIT_WALLET, TodoKind.POST_JOURNAL)
"""What every order that is SUCCESS has promised, whether or not its to-dos are there."""


def _is_not_covered(order: Order, todo: Todo) -> bool:
    return any(one.number == todo.number and one.outcome == Reason.BALANCE_TOO_LOW for one in order.refunds)


_REFUSED: Final[Mapping[TodoKind, Callable[[Order, Todo], bool]]] = MappingProxyType(
    {
        TodoKind.CREDIT_WALLET: lambda order, _: not order.wallet_updated,
        TodoKind.POST_JOURNAL: lambda order, _: not order.ledger_updated,
        TodoKind.DEBIT_WALLET: _is_not_covered,
    }
)
"""To-dos that may end with a "no" of wallet or ledger: whether one that is done did. Then nothing is promised by it."""


def promises_of(checkout: Checkout) -> tuple[Promise, ...]:
    """What wallet and ledger must hold because of a checkout."""
    return tuple(_promises(checkout))


def _promises(checkout: Checkout) -> Iterable[Promise]:
    todos = [todo for todo in checkout.todos.values() if todo.kind in POSTINGS]
    for todo in todos:
        order = checkout.orders[todo.order_id]
        is_refused = _REFUSED.get(todo.kind)
        if todo.state is not TodoState.DONE or is_refused is None or not is_refused(order, todo):
            yield _promise(checkout, todo, todo.state)
    for order in checkout.orders.values():
        for kind in OF_A_CHARGE if order.status is OrderStatus.SUCCESS else ():
            name = todo_id(kind, order.id, 1)
            if name not in checkout.todos:
                yield _promise(checkout, Todo(name, kind, order.id, 1, 0, 0, TodoState.DONE, "", 0), None)


def _promise(checkout: Checkout, todo: Todo, state: TodoState | None) -> Promise:
    request = effect_of(checkout, todo, 0, 0)
    if not isinstance(request, Transfer | Journal):
        raise Bug(f"to-do {todo.id} posts nothing")
    return Promise(POSTINGS[todo.kind], CheckoutId(checkout.key.id), request, state)


# ---- what is posted, and whether it is that ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Posted:
    """A posting that exists: of a wallet, its bucket and amount; of the ledger, all entries.

    `sides`: (bucket or account, signed minor units), in any order. `order_id`, `owner`: as stored beside it.
    """

    side: Side
    id: Key
    tenant: Tenant
    owner: str
    order_id: OrderId
    currency: str
    sides: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One posting judged. `todo`: the state of its to-do, None where it is lost or never was."""

    side: Side
    id: Key
    order_id: OrderId
    state: State
    todo: TodoState | None
    discrepancy: Discrepancy | None


def compare(promises: Iterable[Promise], posted: Iterable[Posted]) -> tuple[Verdict, ...]:
    """Every promise against what is there, in order of names. Everything that is handed in belongs together: all of one order,
    all of one checkout, or all there is; a part of either side would be missed, or be too much.

    MISSING_TRANSFER, MISSING_JOURNAL (REPLAY_TODO: the promise is sent again, whole), EXTRA_TRANSFER, EXTRA_JOURNAL,
    POSTED_DIFFERENTLY. A posting that is there while its to-do is still open is MATCHED: the answer was lost, not the money.
    Raises Bug for one id twice on one side: wallet and ledger take an id once, for ever.
    """
    there = _by_id(posted)
    verdicts = []
    for promise in sorted(promises, key=lambda one: (one.side, one.id)):
        verdicts.append(_of_promise(promise, there.pop((promise.side, promise.id), None)))
    verdicts += [_extra(found) for _, found in sorted(there.items())]
    return tuple(verdicts)


def _by_id(posted: Iterable[Posted]) -> dict[tuple[Side, Key], Posted]:
    there: dict[tuple[Side, Key], Posted] = {}
    for found in posted:
        if there.setdefault((found.side, found.id), found) is not found:
            raise Bug(f"{found.side} has {found.id} twice")
    return there


def _of_promise(promise: Promise, found: Posted | None) -> Verdict:
    request, expected = promise.request, _sides(promise.request)
    name, order_id = promise.id, promise.request.order_id
    if found is None and promise.todo in (TodoState.OPEN, TodoState.DEAD):
        return Verdict(promise.side, name, order_id, State.EXPECTED, promise.todo, None)
    if found is None:
        kind = Kind.MISSING_TRANSFER if promise.side is Side.WALLET else Kind.MISSING_JOURNAL
        differs = ("posting", _told(expected), "")
    elif differences := _differences(request, found):
        kind = Kind.POSTED_DIFFERENTLY
        field, ours, theirs = (", ".join(texts) for texts in zip(*differences, strict=True))
        differs = (field, ours, theirs)
    else:
        return Verdict(promise.side, name, order_id, State.MATCHED, promise.todo, None)
    action = rule_of(kind).action
    is_sent_again = action is Action.REPLAY_TODO
    entries = request.entries if is_sent_again and isinstance(request, Journal) else ()
    is_in_wallet = is_sent_again and isinstance(request, Transfer)
    follows = f"the wallet of {request.owner} takes {_told(expected)}" if is_in_wallet else ""
    proposal = Proposal(action, postings_of(entries), name if is_sent_again else "", follows)
    case = _case(kind, promise.side, name, request.tenant, order_id, promise.checkout_id, differs, expected, proposal)
    return Verdict(promise.side, name, order_id, State.MISMATCH, promise.todo, case)


def _extra(found: Posted) -> Verdict:
    kind = Kind.EXTRA_TRANSFER if found.side is Side.WALLET else Kind.EXTRA_JOURNAL
    sides = tuple((account, Money(minor, found.currency)) for account, minor in found.sides)
    proposal = Proposal(rule_of(kind).action, (), "")
    differs = ("posting", "", _told(sides))
    case = _case(kind, found.side, found.id, found.tenant, found.order_id, CheckoutId(""), differs, sides, proposal)
    return Verdict(found.side, found.id, found.order_id, State.MISMATCH, None, case)


_Sides = tuple[tuple[str, Money], ...]

_SIGNS: Final[Mapping[TransferKind, int]] = MappingProxyType(
    {TransferKind.CREDIT_PENDING: 1, TransferKind.DEBIT_PENDING: -1, TransferKind.RETURN_PENDING: 1}
)
"""What a transfer does to the pending bucket."""


def _sides(request: Transfer | Journal) -> _Sides:
    """(bucket or account, signed money)."""
    if isinstance(request, Journal):
        return tuple((entry.account, entry.money) for entry in request.entries)
    money = Money(_SIGNS[request.kind] * request.money.amount_minor, request.money.currency)
    return ((Bucket.PENDING.value, money),)


def _differences(request: Transfer | Journal, found: Posted) -> list[tuple[str, str, str]]:
    """(field, ours, theirs) of each field that differs."""
    there = tuple((account, Money(minor, found.currency)) for account, minor in found.sides)
    compared = (
        ("owner", request.owner, found.owner),
        ("order", request.order_id, found.order_id),
        ("sides", _told(_sides(request)), _told(there)),
    )
    return [(field, ours, theirs) for field, ours, theirs in compared if ours != theirs]


def _told(sides: _Sides) -> str:
    """Sides as people read them, in one order whatever order they came in."""
    return "; ".join(sorted(f"{account} {format_amount(money)} {money.currency}" for account, money in sides))


def _case(
    kind: Kind, side: Side, name: Key, tenant: Tenant, order_id: OrderId, checkout_id: CheckoutId,
    differs: tuple[str, str, str], sides: _Sides, proposal: Proposal,
) -> Discrepancy:  # fmt: skip
    field, ours, theirs = differs
    return Discrepancy(
        id=mismatch_id(kind, tenant, f"{side}/{name}"),
        kind=kind,
        psp="",
        tenant=tenant,
        checkout_id=checkout_id,
        order_id=order_id,
        object_id="",
        line_id="",
        file_id="",
        field=f"{side}.{field}",
        ours=ours,
        theirs=theirs,
        money=max((money for _, money in sides), key=lambda money: abs(money.amount_minor)),
        proposal=proposal,
    )


# ---- the clearing account ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenItem:
    """A part of the clearing account, signed, debit positive. `id`: what it is about, by the same name on both sides: an order
    (what it was charged less what was refunded and settled) or a case (what settled without a home)."""

    id: str
    amount_minor: int


def compare_clearing(
    tenant: Tenant, psp: str, currency: str, *, booked: Iterable[OpenItem], open_items: Iterable[OpenItem]
) -> Discrepancy | None:
    """The clearing account's entries, by what they are about, against the items that should still be open; None: they agree.

    Several items of one name add up; what adds up to zero need not be handed in, on either side. CLEARING_NOT_OPEN_ITEMS tells
    both sums and the names that differ, also where the sums are equal. Memory: all that is not zero.
    """
    here, there = _summed(booked), _summed(open_items)
    differing = sorted(name for name in {*here, *there} if here[name] != there[name])
    if not differing:
        return None
    kind = Kind.CLEARING_NOT_OPEN_ITEMS
    account = clearing_account(psp, currency)
    off_minor = sum(there.values()) - sum(here.values())
    return Discrepancy(
        id=clearing_case(tenant, account),
        kind=kind,
        psp=psp,
        tenant=tenant,
        checkout_id="",
        order_id=OrderId(""),
        object_id="",
        line_id="",
        file_id="",
        field=account,
        ours=_told_sum(here, differing, currency),
        theirs=_told_sum(there, differing, currency),
        money=Money(off_minor, currency),
        proposal=Proposal(rule_of(kind).action, (), ""),
    )


def clearing_case(tenant: Tenant, account: str) -> Key:
    """The id of the case of a clearing account: the same whatever differs, today or in a year."""
    return mismatch_id(Kind.CLEARING_NOT_OPEN_ITEMS, tenant, account)


def _summed(items: Iterable[OpenItem]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for item in items:
        sums[item.id] += item.amount_minor
    return sums


def _told_sum(sums: Counter[str], differing: list[str], currency: str) -> str:
    """ "12.00 EUR (o1 7.00, o2 5.00)": the whole sum, and of the items only those that differ."""
    named = [f"{name} {format_amount(Money(sums[name], currency))}" for name in differing[:_NAMES_MAX]]
    more = [f"{len(differing) - _NAMES_MAX} more"] if len(differing) > _NAMES_MAX else []
    return f"{format_amount(Money(sum(sums.values()), currency))} {currency} ({', '.join(named + more)})"
