"""Wallet, ledger and orders among themselves: ids, not sums; the clearing account by its items. Source: issue 4 point 3."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.reconcile_sample import is_balanced
from zerosum.domain.discrepancy import Action, Class, Discrepancy, Kind
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.journal import Journal, Movement, entries_of, journal
from zerosum.domain.money import Money
from zerosum.domain.reconcile_inside import (
    OpenItem,
    Posted,
    Promise,
    Side,
    Verdict,
    compare,
    compare_clearing,
)
from zerosum.domain.reconcile_item import State
from zerosum.domain.todo import TodoState
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug

TENANT = Tenant("t")


def credit(order: str = "o1", minor: int = 1_000, todo: TodoState | None = TodoState.DONE) -> Promise:
    name = Key(f"credit-1-{order}")
    request = Transfer(TENANT, name, "s", TransferKind.CREDIT_PENDING, Money(minor, "EUR"), OrderId(order))
    return Promise(Side.WALLET, CheckoutId("c1"), request, todo)


def capture(order: str = "o1", minor: int = 1_000, todo: TodoState | None = TodoState.DONE) -> Promise:
    gross, no_fee = Money(minor, "EUR"), Money(0, "EUR")
    entries = entries_of(Movement.CAPTURE, gross=gross, fee=no_fee, buyer="b", seller="s", psp="stripe")
    request = journal(
        tenant=TENANT, journal_id=Key(f"capture-1-{order}"), owner="s", movement=Movement.CAPTURE, entries=entries,
        order_id=OrderId(order),
    )  # fmt: skip
    assert isinstance(request, Journal)
    return Promise(Side.LEDGER, CheckoutId("c1"), request, todo)


def kept(promise: Promise) -> Posted:
    """The posting that keeps a promise."""
    request = promise.request
    if isinstance(request, Transfer):
        sign = -1 if request.kind is TransferKind.DEBIT_PENDING else 1
        sides: tuple[tuple[str, int], ...] = (("pending", sign * request.money.amount_minor),)
    else:
        sides = tuple((entry.account, entry.money.amount_minor) for entry in request.entries)
    return Posted(promise.side, promise.id, request.tenant, request.owner, request.order_id, "EUR", sides)


def case_of(verdicts: tuple[Verdict, ...]) -> Discrepancy:
    (found,) = (verdict.discrepancy for verdict in verdicts if verdict.discrepancy)
    return found


def test_promises_that_are_kept_match_whatever_the_order_of_sides() -> None:
    promises = [credit(), capture()]
    posted = [replace(found, sides=found.sides[::-1]) for found in map(kept, promises)]

    assert [verdict.state for verdict in compare(promises, posted)] == [State.MATCHED] * 2


@pytest.mark.parametrize(("promise", "kind"), [(credit(), Kind.MISSING_TRANSFER), (capture(), Kind.MISSING_JOURNAL)])
def test_a_promise_that_was_kept_and_is_gone_is_sent_again_by_code(promise: Promise, kind: Kind) -> None:
    found = case_of(compare([promise], []))

    assert (found.kind, found.group, found.proposal.action) == (kind, Class.AUTOMATIC, Action.REPLAY_TODO)
    assert (found.proposal.command, found.order_id, found.checkout_id) == (promise.id, "o1", "c1")
    assert is_balanced(found.proposal.postings)
    assert found.money == Money(1_000, "EUR")


def test_the_dry_run_of_a_transfer_that_is_sent_again_says_what_the_wallet_takes() -> None:
    """It is no posting of the ledger's, and it is all that moves."""
    request = Transfer(TENANT, Key("debit-1-o1"), "s", TransferKind.DEBIT_PENDING, Money(1_000, "EUR"), OrderId("o1"))

    credited, debited = (case_of(compare([one], [])).proposal for one in (credit(), replace(credit(), request=request)))

    assert (credited.postings, credited.follows) == ((), "the wallet of s takes pending 10.00 EUR")
    assert debited.follows == "the wallet of s takes pending -10.00 EUR"
    assert case_of(compare([capture()], [])).proposal.follows == ""


@pytest.mark.parametrize("promise", [credit(todo=None), capture(todo=None)])
def test_a_promise_without_a_to_do_is_not_waited_for(promise: Promise) -> None:
    (verdict,) = compare([promise], [])

    assert verdict.state is State.MISMATCH


def test_two_errors_that_cancel_out_are_two_errors() -> None:
    """Sums would agree: one credit is lost, and one of the same amount is nobody's."""
    stranger = replace(kept(credit()), id=Key("credit-1-o9"), order_id=OrderId("o9"))

    kinds = [verdict.discrepancy.kind for verdict in compare([credit()], [stranger]) if verdict.discrepancy]

    assert kinds == [Kind.MISSING_TRANSFER, Kind.EXTRA_TRANSFER]


@pytest.mark.parametrize(("side", "kind"), [(credit(), Kind.EXTRA_TRANSFER), (capture(), Kind.EXTRA_JOURNAL)])
def test_a_posting_that_nobody_promised_is_too_much_and_for_people(side: Promise, kind: Kind) -> None:
    found = case_of(compare([], [kept(side)]))

    assert (found.kind, found.group, found.ours, found.proposal.postings) == (kind, Class.UNCLASSIFIED, "", ())
    assert "10.00 EUR" in found.theirs


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"sides": (("pending", 999),)}, "wallet.sides"),
        ({"sides": (("available", 1_000),)}, "wallet.sides"),
        ({"owner": "x"}, "wallet.owner"),
        ({"order_id": OrderId("o2")}, "wallet.order"),
        ({"owner": "x", "sides": (("pending", 1),)}, "wallet.owner, sides"),
    ],
)
def test_a_posting_that_says_something_else_under_its_id_tells_both(changed: dict[str, object], field: str) -> None:
    found = case_of(compare([credit()], [replace(kept(credit()), **changed)]))  # type: ignore[arg-type] # fields by name

    assert (found.kind, found.field) == (Kind.POSTED_DIFFERENTLY, field)
    assert found.ours != found.theirs


def test_one_id_twice_on_one_side_is_impossible() -> None:
    with pytest.raises(Bug):
        compare([], [kept(credit()), replace(kept(credit()), owner="x")])


states = st.sampled_from([*TodoState, None])


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 5), states), unique_by=lambda one: one[0]),
    st.sets(st.integers(0, 5)),
    st.randoms(),
)
def test_every_promise_and_every_posting_has_one_verdict_in_any_order(
    promised: list[tuple[int, TodoState | None]], there: set[int], random: Random
) -> None:
    promises = [make(f"o{number}", todo=todo) for number, todo in promised for make in (credit, capture)]
    posted = [kept(make(f"o{number}")) for number in there for make in (credit, capture)]
    verdicts = compare(promises, posted)
    random.shuffle(promises)
    random.shuffle(posted)

    assert sorted((one.side, one.id) for one in verdicts) == sorted(
        {*((one.side, one.id) for one in promises), *((one.side, one.id) for one in posted)}
    )
    assert compare(promises, posted) == verdicts


# ---- the clearing account ------------------------------------------------------------------------------------------


def test_a_clearing_account_that_is_its_open_items_has_no_case() -> None:
    """Parts of one item add up; what is zero may be told or not."""
    booked = [OpenItem("o1", 700), OpenItem("o1", 300), OpenItem("o2", 0)]

    assert compare_clearing(TENANT, "stripe", "EUR", booked=booked, open_items=[OpenItem("o1", 1_000)]) is None


def test_a_clearing_account_that_is_not_tells_both_sums_and_the_items_that_differ() -> None:
    found = compare_clearing(
        TENANT, "stripe", "EUR", booked=[OpenItem("o1", 1_000), OpenItem("o2", 500)],
        open_items=[OpenItem("o1", 1_000), OpenItem("case", -200)],
    )  # fmt: skip

    assert found is not None
    assert (found.kind, found.field, found.psp) == (
        Kind.CLEARING_NOT_OPEN_ITEMS, "psp:stripe:clearing:EUR", "stripe",
    )  # fmt: skip
    assert found.ours == "15.00 EUR (case 0.00, o2 5.00)"
    assert found.theirs == "8.00 EUR (case -2.00, o2 0.00)"
    assert found.money == Money(-700, "EUR")


def test_items_that_differ_and_cancel_out_are_a_case_all_the_same() -> None:
    found = compare_clearing(TENANT, "stripe", "EUR", booked=[OpenItem("o1", 100)], open_items=[OpenItem("o2", 100)])

    assert found is not None
    assert found.money == Money(0, "EUR")


def test_of_many_items_the_first_ten_are_named_and_the_rest_counted() -> None:
    found = compare_clearing(
        TENANT, "stripe", "EUR", booked=[OpenItem(f"o{number:02}", 1) for number in range(12)], open_items=[]
    )

    assert found is not None
    assert found.ours.endswith("o09 0.01, 2 more)")
