"""What orders promise is what wallet and ledger hold, in every story of the house; and what is damaged is named.

Source: issue 4 point 3. Method: whole stories on memory stores at rest; the comparison reads the services' own tables.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.sim.house import TENANT, House, checkout, rows, webhook
from tests.sim.psp import ScriptedPsp
from tests.sim.test_refund import ASKED, KEY, told
from tests.sim.test_reversal import SIDES, paid
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.discrepancy import Kind
from zerosum.domain.effect import effect_of
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Journal
from zerosum.domain.message import OnPartial
from zerosum.domain.money import Money
from zerosum.domain.reconcile_inside import POSTINGS, Posted, Side, compare, promises_of
from zerosum.domain.reconcile_item import State
from zerosum.domain.record import replace
from zerosum.domain.todo import TodoKind, TodoState
from zerosum.domain.wallet import Transfer, TransferKind

Story = Callable[[], Coroutine[Any, Any, tuple[Checkout, House]]]


def posted_in(house: House) -> list[Posted]:
    """Everything that wallet and ledger hold."""
    found = [
        Posted(
            Side.WALLET, Key(row["transfer_id"]), Tenant(row["tenant"]), row["wallet_id"].rpartition(":")[0],
            OrderId(row["payment_order_id"]), row["currency"], ((row["bucket"], row["amount_minor"]),),
        )
        for row in rows(house, "wallet", "entries")
    ]  # fmt: skip
    entries = defaultdict(list)
    for row in rows(house, "ledger", "entries"):
        entries[row["journal_id"]].append(row)
    for row in rows(house, "ledger", "journals"):
        sides = entries[row["journal_id"]]
        found.append(
            Posted(
                Side.LEDGER, Key(row["journal_id"]), Tenant(row["tenant"]), row["owner"], OrderId(row["payment_order_id"]),
                sides[0]["currency"], tuple((side["account"], side["amount_minor"]) for side in sides),
            )
        )  # fmt: skip
    return [each for each in found if each.id != SPENT.transfer_id]


async def all_paid() -> tuple[Checkout, House]:
    return await paid((), 1_000, 2_000)


async def charged_late() -> tuple[Checkout, House]:
    house = await House().start()
    await house.pay(checkout("c-1", 1_000, token="tok_decline"))
    failed = await house.settle("c-1")
    house.psp.pay_now("pi_1")
    await house.tell(failed.key, webhook("evt_1", m.ObjectStatus.CHARGED))
    return await house.settle("c-1"), house


async def charged_twice() -> tuple[Checkout, House]:
    """Another object of an order that is paid and posted was charged too."""
    house = await House().start()
    await house.pay(checkout("c-1", 1_000))
    done = await house.settle("c-1")
    await house.tell(done.key, webhook("evt_1", m.ObjectStatus.CHARGED, object_id="pi_other"))
    return await house.settle("c-1"), house


async def reversed_whole() -> tuple[Checkout, House]:
    psp = ScriptedPsp(declines={"c-1-o1"})
    return await paid((), 1_000, 2_000, psp=psp, on_partial=OnPartial.REVERSE)


async def reversal_refused() -> tuple[Checkout, House]:
    psp = ScriptedPsp(declines={"c-1-o1"})
    return await paid((), 1_000, 2_000, token="tok_no_refund", psp=psp, on_partial=OnPartial.REVERSE)


async def refunded(token: str = "tok_visa") -> tuple[Checkout, House]:
    _, done, house = await told(ASKED, token=token)
    return done, house


async def not_covered() -> tuple[Checkout, House]:
    """A refund whose debit the wallet refused: nothing of it was posted, though its to-do is done."""
    house = await House().start()
    await house.pay(checkout("c-1", 1_000))
    await house.settle("c-1")
    await house.fronts["wallet"].submit([SPENT])
    await house.tell(KEY, ASKED)
    return await house.settle("c-1"), house


SPENT = Transfer(TENANT, Key("spent"), "seller-0", TransferKind.DEBIT_PENDING, Money(1, "USD"), OrderId("c-9-o0"))
"""Of another checkout: the comparison of this one does not see it."""

STORIES: dict[str, Story] = {
    "all paid": all_paid,
    "charged late": charged_late,
    "charged twice": charged_twice,
    "reversed whole": reversed_whole,
    "reversal refused": reversal_refused,
    "refunded": refunded,
    "refund refused": partial(refunded, token="tok_no_refund"),
    "refund not covered": not_covered,
    **{f"closed: {'-'.join(services)}": partial(paid, services) for services in SIDES},
}


@pytest.mark.parametrize("story", STORIES)
def test_every_promise_of_every_story_is_kept_and_nothing_else_is_posted(story: str) -> None:
    done, house = run(STORIES[story]())
    promises, posted = promises_of(done), posted_in(house)

    verdicts = compare(promises, posted)

    assert [verdict.discrepancy for verdict in verdicts if verdict.discrepancy] == []
    assert {verdict.state for verdict in verdicts} == {State.MATCHED}
    assert len(verdicts) == len(promises) == len(posted) > 0


@pytest.mark.parametrize("story", STORIES)
def test_a_sellers_wallet_is_minus_the_ledgers_account_in_every_story(story: str) -> None:
    """I5: a second charge or a reversal never makes the two differ."""
    _, house = run(STORIES[story]())

    sums: defaultdict[str, int] = defaultdict(int)
    for found in posted_in(house):
        for account, minor in found.sides:
            if found.side is Side.WALLET:
                sums[f"seller:{found.owner}:{account}:{found.currency}"] += minor
            elif account.startswith("seller:"):
                sums[account] += minor

    assert {account: off for account, off in sums.items() if off} == {}


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("story", STORIES)
def test_any_posting_that_is_lost_is_named_and_can_be_sent_again(story: str, side: Side) -> None:
    done, house = run(STORIES[story]())
    posted = posted_in(house)

    for lost in [found for found in posted if found.side is side]:
        verdicts = compare(promises_of(done), [found for found in posted if found is not lost])

        (case,) = [verdict.discrepancy for verdict in verdicts if verdict.discrepancy]
        kind = Kind.MISSING_TRANSFER if side is Side.WALLET else Kind.MISSING_JOURNAL
        assert (case.kind, case.proposal.command, case.order_id) == (kind, lost.id, lost.order_id)
        (again,) = [promise for promise in promises_of(done) if promise.id == lost.id]
        assert again.todo is TodoState.DONE
        assert [(one.account, one.amount_minor) for one in case.proposal.postings] == (
            list(lost.sides) if side is Side.LEDGER else []
        )


@pytest.mark.parametrize("state", [TodoState.OPEN, TodoState.DEAD])
def test_what_is_not_posted_is_expected_while_its_to_do_waits(state: TodoState) -> None:
    """Open: it is on its way. Dead: people see it among the dead letters; a second alarm would help nobody."""
    done, _ = run(all_paid())
    waiting = replace(done, todos={name: replace(todo, state=state) for name, todo in done.todos.items()})

    verdicts = compare(promises_of(waiting), [])

    assert {(verdict.state, verdict.todo) for verdict in verdicts} == {(State.EXPECTED, state)}
    assert len(verdicts) == 4


def test_a_paid_order_promises_its_postings_though_its_to_dos_are_lost() -> None:
    done, house = run(all_paid())
    forgotten = replace(done, todos={})

    assert {verdict.state for verdict in compare(promises_of(forgotten), posted_in(house))} == {State.MATCHED}
    assert Counter(one.discrepancy.kind for one in compare(promises_of(forgotten), []) if one.discrepancy) == {
        Kind.MISSING_TRANSFER: 2,
        Kind.MISSING_JOURNAL: 2,
    }


def test_a_posting_whose_answer_was_lost_is_matched_while_its_to_do_is_open() -> None:
    done, house = run(all_paid())
    waiting = replace(done, todos={name: replace(todo, state=TodoState.OPEN) for name, todo in done.todos.items()})

    assert {verdict.state for verdict in compare(promises_of(waiting), posted_in(house))} == {State.MATCHED}


@pytest.mark.slow
def test_every_to_do_that_posts_has_a_row() -> None:
    """A new kind of posting without one would be called too much. Method: to-dos that met wallet or ledger in the stories."""
    met = set()
    for story in STORIES.values():
        done, _ = run(story())
        for todo in done.todos.values():
            is_no_effect = todo.kind is TodoKind.ANSWER
            if not is_no_effect and isinstance(effect_of(done, todo, 0, 0), Transfer | Journal):
                met.add(todo.kind)

    assert met == set(POSTINGS)
