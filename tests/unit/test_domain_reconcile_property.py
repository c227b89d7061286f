"""Whatever the lines and movements are: one state each, in any order, and every dry run balances. Source: issue 4 point 2.

Method: names, amounts and days from alphabets so small that everything collides with everything.
"""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.reconcile_sample import DAY_MS, NOON_MS, OVERDUE, RULES, charge, line
from zerosum.domain.discrepancy import RULES as KINDS
from zerosum.domain.discrepancy import Action, Kind, Posting
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.journal import Entry, Journal, journal
from zerosum.domain.journal import Movement as JournalMovement
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import MOVED, Item, Movement, MovementKind, Rules, Standing, State
from zerosum.domain.settlement import OTHERS, Category, Line
from zerosum.domain.settlement_posting import books_of, settled, settlement_entries, total

pytestmark = pytest.mark.slow

names = st.sampled_from(["", "1", "2", "3"])
days = st.sampled_from([0, 1, 2])
TENANT = Tenant("t")
POSTS = {Action.REPORT_TO_PAYMENT, Action.WRITE_OFF_TO_SUSPENSE, Action.BOOK_FEE}
CURRENCIES = ("EUR", "JPY")
currencies = st.sampled_from(CURRENCIES)
categories = st.sampled_from([*sorted(set(Category) - OTHERS), Category.NETWORK_COST])
"""One of the many that are judged alike is enough: the others would crowd out what collides."""


@st.composite
def movements_of_a_day(draw: st.DrawFn) -> list[Movement]:
    """Movements with one name each, as our own keys see to."""
    names_given = draw(
        st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(MovementKind)), max_size=6, unique=True)
    )
    return [
        charge(
            kind=kind, tenant=Tenant(draw(st.sampled_from("tu"))), checkout_id=CheckoutId(draw(st.sampled_from("cd"))),
            order_id=OrderId(order), object_id=draw(names), standing=draw(st.sampled_from(Standing)),
            refund_key="" if kind is MovementKind.CHARGE else f"refund-{draw(names)}",
            money=Money(draw(st.sampled_from([100, 200])), draw(currencies)), at_ms=NOON_MS + draw(days) * DAY_MS,
            settled_by=draw(st.sampled_from(["", "", "", "txn_1", "txn_9"])), is_from_suspense=draw(st.booleans()),
        )
        for order, kind in names_given
    ]  # fmt: skip


@st.composite
def lines_of_a_day(draw: st.DrawFn) -> list[Line]:
    """Lines of one file: only their numbers are their own. One in four costs more than the contract says."""
    told = []
    for number in range(draw(st.integers(0, 7))):
        category, more_minor = draw(categories), draw(st.sampled_from([0, 0, 0, 7]))
        sign = 1 if category in (Category.CHARGE, Category.DISPUTE_REVERSAL, Category.REFUND_FAILURE) else -1
        made = line(
                number=number, id=f"txn_{draw(st.sampled_from('123456'))}", category=category, object_id=draw(names),
                tenant=Tenant(draw(st.sampled_from(["", "t", "u"]))), checkout_id=draw(st.sampled_from(["", "c"])),
                reference=draw(names), refund_key=draw(st.sampled_from(["", "refund-1", "refund-2"])),
                amount_minor=sign * draw(st.sampled_from([100, 200, 1_500])), currency=draw(currencies),
                created_at_ms=NOON_MS + draw(days) * DAY_MS,
            )  # fmt: skip
        told.append(replace(made, fee_minor=made.fee_minor + more_minor, net_minor=made.net_minor - more_minor))
    return told


@settings(max_examples=100, deadline=None)
@given(lines_of_a_day(), movements_of_a_day(), st.randoms(use_true_random=False))
def test_any_order_of_lines_and_movements_gives_the_same(
    lines: list[Line], movements: list[Movement], random: Random
) -> None:
    found = reconcile(lines, movements, RULES)
    random.shuffle(lines)
    random.shuffle(movements)

    assert reconcile(lines, movements, RULES) == found


@settings(max_examples=100, deadline=None)
@given(lines_of_a_day(), movements_of_a_day(), st.sampled_from([RULES, OVERDUE]))
def test_every_line_and_every_movement_ends_in_exactly_one_state(
    lines: list[Line], movements: list[Movement], rules: Rules
) -> None:
    items = reconcile(lines, movements, rules)

    assert Counter(item.line for item in items if item.line) == Counter(lines)
    assert Counter(item.movement for item in items if item.movement) == Counter(movements)
    assert all((item.discrepancy is not None) == (item.state is State.MISMATCH) for item in items)
    assert all(item.line and item.movement for item in items if item.state is State.MATCHED)


@settings(max_examples=100, deadline=None)
@given(lines_of_a_day(), movements_of_a_day())
def test_every_dry_run_is_a_journal_that_the_ledger_would_take(lines: list[Line], movements: list[Movement]) -> None:
    """Balanced, of well-formed accounts, nothing of zero; and nothing at all where the action posts nothing."""
    for item in reconcile(lines, movements, OVERDUE):
        found = item.discrepancy
        if found is None:
            continue
        proposal = found.proposal
        entries = tuple(Entry(side.account, Money(side.amount_minor, side.currency)) for side in proposal.postings)
        posted = journal(
            tenant=TENANT, journal_id=Key("j"), owner="psp:stripe", movement=JournalMovement.WRITE_OFF, entries=entries,
            order_id=OrderId(""),
        )  # fmt: skip

        assert proposal.action is KINDS[found.kind].action
        assert bool(entries) == (proposal.action in POSTS)
        assert isinstance(posted, Journal) == bool(entries)
        assert bool(proposal.command) == (proposal.action is Action.REPORT_TO_PAYMENT)


@settings(max_examples=100, deadline=None)
@given(lines_of_a_day(), movements_of_a_day())
def test_settlement_brings_the_bank_the_net_of_the_lines_and_leaves_clearing_what_cases_post(
    lines: list[Line], movements: list[Movement]
) -> None:
    """After settlement and every approved write-off and fee, clearing has moved by what our own books put there: the gross
    of lines that belong to a movement of ours, and nothing else."""
    items = [item for item in reconcile(lines, movements, RULES) if settled(item) is not None]
    for currency in CURRENCIES:
        of_currency = [item for item in items if item.line and item.line.gross.currency == currency]
        if not of_currency:
            continue
        whole = total(part for item in of_currency if (part := settled(item)))
        entries = {entry.account: entry.money.amount_minor for entry in settlement_entries("stripe", whole)}
        clearing = f"psp:stripe:clearing:{currency}"
        corrected = sum(
            side.amount_minor for item in of_currency for side in _posted_by_finance(item) if side.account == clearing
        )

        assert sum(entries.values()) == 0
        assert entries.get(f"bank:in_transit:{currency}", 0) == sum(_net(item) for item in of_currency)
        assert entries.get(clearing, 0) + corrected == -sum(_gross_of_ours(item) for item in of_currency)


def _net(item: Item) -> int:
    return item.line.net_minor if item.line else 0


def _posted_by_finance(item: Item) -> tuple[Posting, ...]:
    found = (case for case in (item.discrepancy, item.fee) if case is not None)
    return tuple(
        side
        for case in found
        if case.proposal.action is not Action.REPORT_TO_PAYMENT
        for side in case.proposal.postings
    )


def _gross_of_ours(item: Item) -> int:
    """What stays in clearing against a movement, or for the PSP to explain."""
    if item.line is None or item.line.category is Category.FEE:
        return 0
    is_written_off = item.discrepancy is not None and item.discrepancy.proposal.action is Action.WRITE_OFF_TO_SUSPENSE
    return 0 if is_written_off else item.line.gross.amount_minor


@settings(max_examples=150, deadline=None)
@given(lines_of_a_day(), movements_of_a_day(), st.sampled_from([RULES, OVERDUE]))
def test_writing_off_what_is_off_leaves_in_clearing_what_is_still_expected(
    lines: list[Line], movements: list[Movement], rules: Rules
) -> None:
    """Each tenant's clearing holds what its books say moved. Settlement takes the lines out; what is left, less the money of
    every case, is what the next files must bring. Nobody can say so of an ambiguity, or of a movement in two currencies."""
    told = [replace(line, id=f"txn_{line.number}x") for line in lines]
    items = reconcile(told, movements, rules)
    assume(not any(item.discrepancy and item.discrepancy.kind is Kind.AMBIGUOUS for item in items))
    assume(
        all(item.line.gross.currency == item.movement.money.currency for item in items if item.line and item.movement)
    )

    clearing, open_items = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for item in items:
        if item.movement and item.movement.standing in MOVED and not item.movement.settled_by:
            ours = item.movement.signed
            clearing[item.movement.tenant, ours.currency] += ours.amount_minor
            open_items[item.movement.tenant, ours.currency] += ours.amount_minor if item.state is State.EXPECTED else 0
        if part := settled(item):
            clearing[_books(item), part.currency] -= part.net_minor + part.fee_minor
        for case in (item.discrepancy, item.fee):
            if case is not None:
                clearing[books_of(case.tenant), case.money.currency] += case.money.amount_minor

    assert clearing == open_items


def _books(item: Item) -> Tenant:
    """Whose books a line settles in."""
    return books_of(*(one.tenant for one in (item.movement, item.discrepancy, item.line) if one is not None))
