"""Commits that are refused, or end in doubt, at every place of the story. Rows D1, D2, D3, D8 and A3 of the catalogue."""

import asyncio
from typing import Any

import pytest

from actors.answer import Accepted, Answer, Applied, Failed, Refused, Replied
from tests.sim.faults import DoubtfulDoors, StoreDoor
from tests.sim.house import SHARDS, TENANT, Doors, House, checkout, envelope, rows
from tests.sim.proof import findings
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.refusal import Reason
from zerosum.errors import CommitAmbiguous
from zerosum.ports import Batch, Clash, Committed, Store
from zerosum.store.memory import MemoryStore, Trouble

COMMITS_MAX = 60
"""More commits than any story here has: a story that never ends would be counted for ever."""

LATE_BEFORE, LATE_AFTER = 0, 5
"""When a late commit tries to land: before the shard's next step, and long after it took its slots again."""


def pay(doors: DoubtfulDoors, token: str) -> tuple[House, Answer, bytes | None]:
    """Three orders under one commit in doubt, until nothing is owed; what the caller was answered and what he read."""

    async def tell() -> tuple[House, Answer, bytes | None]:
        house = await House(doors=doors).start()
        command = envelope(checkout("c-1", 1_000, 2_000, 3_000, token=token))
        (answer,) = await house.fronts["payment"].submit([command])
        reply = await house.fronts["payment"].outcome(command.entity, 60_000)
        await house.settle("c-1")
        return house, answer, reply

    return run(tell())


@pytest.mark.parametrize("token", ["tok_visa", "tok_decline"])
@pytest.mark.parametrize(
    ("troubles", "lands_after_ms"),
    [
        ([Trouble.AMBIGUOUS_APPLIED], 0),
        ([Trouble.AMBIGUOUS_LOST], 0),
        ([Trouble.AMBIGUOUS_LATE], LATE_BEFORE),
        ([Trouble.AMBIGUOUS_LATE], LATE_AFTER),
        ([Trouble.AMBIGUOUS_APPLIED, Trouble.AMBIGUOUS_LOST, Trouble.AMBIGUOUS_APPLIED], 0),
        ([Trouble.CONFLICT, Trouble.AMBIGUOUS_LATE, Trouble.CONFLICT], LATE_AFTER),
    ],
)
@pytest.mark.parametrize("service", ["payment", "wallet", "ledger"])
def test_a_commit_in_doubt_has_exactly_one_effect_at_every_place_of_the_story(
    service: str, troubles: list[Trouble], lands_after_ms: int, token: str
) -> None:
    """D2: run again under a new epoch; the rows decide, and nobody waits for a lease."""
    for at in range(1, COMMITS_MAX):
        doors = DoubtfulDoors(service=service, at=at, troubles=troubles, lands_after_ms=lands_after_ms)
        house, answer, reply = pay(doors, token)
        if doors.commits < at:
            break

        assert findings(house) == [], f"{service} commit {at}"
        assert answer == Accepted(), f"{service} commit {at}"
        assert reply == rows(house, "payment", "payment_events")[0]["reply"], f"{service} commit {at}"
    assert doors.commits < COMMITS_MAX


@pytest.mark.parametrize("trouble", [Trouble.AMBIGUOUS_APPLIED, Trouble.AMBIGUOUS_LOST])
def test_a_commit_in_doubt_costs_no_lease(trouble: Trouble) -> None:
    """Design section 4: when the replay finds them committed, their open to-dos are loaded and run."""
    for at in range(1, COMMITS_MAX):

        async def tell(doors: DoubtfulDoors) -> float:
            house = await House(doors=doors).start()
            await house.pay(checkout("c-1", 1_000, 2_000))
            await house.settle("c-1")
            return asyncio.get_running_loop().time()

        doors = DoubtfulDoors(at=at, troubles=[trouble])
        ended_s = run(tell(doors))
        if doors.commits < at:
            break

        assert ended_s < 2, f"commit {at}"


def test_a_late_commit_that_comes_after_the_fence_never_lands() -> None:
    """D2: the epoch is raised before anything is run again."""
    for at in range(1, COMMITS_MAX):
        doors = DoubtfulDoors(at=at, troubles=[Trouble.AMBIGUOUS_LATE], lands_after_ms=LATE_AFTER)
        house, _, _ = pay(doors, "tok_visa")
        if doors.commits < at:
            break

        assert doors.landed == 0
        assert findings(house) == []


@pytest.mark.parametrize("conflicts", range(9))
def test_conflicts_are_retried_without_anyone_noticing(conflicts: int) -> None:
    """D1: a whole transaction again, reads included."""
    doors = DoubtfulDoors(at=1, troubles=[Trouble.CONFLICT] * conflicts)

    house, answer, _ = pay(doors, "tok_visa")

    assert answer == Accepted()
    assert findings(house) == []
    assert house.shard(house.shard_number("c-1")).figures.conflicts == conflicts


def test_conflicts_beyond_the_budget_are_a_typed_failure_and_the_same_key_goes_on() -> None:
    """D1: never a business refusal; nothing was committed, and asking again with the same key pays."""

    async def tell() -> tuple[Answer, list[object], list[str]]:
        house = await House(doors=DoubtfulDoors(at=1, troubles=[Trouble.CONFLICT] * 9)).start()
        answer = await house.submit(checkout("c-1", 1_000))
        stored = rows(house, "payment", "payment_events") + rows(house, "payment", "commands")
        await house.pay(checkout("c-1", 1_000))
        await house.settle("c-1")
        return answer, list(stored), findings(house)

    answer, stored, wrong = run(tell())

    assert isinstance(answer, Failed)
    assert answer.kind == "ConflictBudget"
    assert stored == []
    assert wrong == []


def test_doubt_beyond_the_budget_never_claims_that_nothing_was_committed() -> None:
    """D2: the first of these commits had landed, so the failure must say that it is in doubt."""
    troubles = [Trouble.AMBIGUOUS_APPLIED, *[Trouble.CONFLICT] * 20]

    async def tell() -> tuple[Answer, Answer]:
        house = await House().start()
        first = checkout("c-1", 1_000, key="k-1")
        other = checkout("c-1", 1_000, key="k-2")
        house.stores["payment"].trouble_next(*troubles)
        answers = await house.fronts["payment"].submit([envelope(first), envelope(other)])
        return answers[0], answers[1]

    for answer in run(tell()):
        if isinstance(answer, Failed):
            assert answer.kind == "CommitAmbiguous"


def test_a_slot_that_cannot_be_taken_again_is_tried_until_the_database_is_back() -> None:
    """D2, D8: in doubt and then away: nothing is concluded, nothing is lost."""

    async def tell() -> tuple[House, Answer]:
        house = await House(doors=_AwayAfterDoubt()).start()
        answer = await house.submit(checkout("c-1", 1_000))
        assert asyncio.get_running_loop().time() > 5
        await house.settle("c-1")
        return house, answer

    house, answer = run(tell())

    assert answer == Accepted()
    assert findings(house) == []


class _AwayAfterDoubt(Doors):
    """The first commit ends in doubt, and the database is away for the next five seconds."""

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _AwayAfterDoubtStore(store) if service == "payment" else store


class _AwayAfterDoubtStore(StoreDoor):
    is_over = False

    async def commit(self, batch: Batch[Any]) -> Committed | Clash:
        assert isinstance(self.inner, MemoryStore)
        if self.is_over:
            return await self.inner.commit(batch)
        self.is_over = self.inner.is_away = True
        asyncio.get_running_loop().call_later(5, setattr, self.inner, "is_away", False)
        raise CommitAmbiguous("the connection was lost at COMMIT")


def test_a_database_that_is_away_is_told_at_once_and_nothing_is_half_done() -> None:
    """D8: a bounded wait, then a retryable failure; the same key pays once it is back."""

    async def tell() -> tuple[list[str], float, list[str]]:
        house = await House().start()
        house.stores["payment"].is_away = True
        failed = await house.fronts["payment"].submit([envelope(checkout(f"c-{n}", 1_000)) for n in range(20)])
        waited_s = asyncio.get_running_loop().time()
        await asyncio.sleep(30)
        house.stores["payment"].is_away = False
        for number in range(20):
            await house.pay(checkout(f"c-{number}", 1_000))
            await house.settle(f"c-{number}")
        return [answer.kind for answer in failed if isinstance(answer, Failed)], waited_s, findings(house)

    kinds, waited_s, wrong = run(tell())

    assert kinds == ["Unavailable"] * 20
    assert waited_s < 10
    assert wrong == []


def test_a_database_that_goes_away_in_the_middle_loses_nothing() -> None:
    """D8: whatever step the story has come to, what was learned is learned again."""
    for after_ms in range(0, 120, 7):

        async def tell(after_ms: int) -> list[str]:
            house = await House().start()
            await house.submit(checkout("c-1", 1_000, 2_000))
            await asyncio.sleep(after_ms / 1_000)
            for store in house.stores.values():
                store.is_away = True
            await asyncio.sleep(20)
            for store in house.stores.values():
                store.is_away = False
            await house.settle("c-1")
            return findings(house)

        assert run(tell(after_ms)) == [], f"away after {after_ms} ms"


def test_one_key_on_two_shards_at_once_is_one_command() -> None:
    """D3, P36: the other shard's row is met at the commit; the loser is refused, not broken."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House().start()
        twins = [envelope(checkout(f"c-{number}", 1_000, key="k-1")) for number in range(10)]
        assert len({house.shard_number(twin.entity.id) for twin in twins}) == SHARDS
        answers = await house.fronts["payment"].submit(twins)
        await asyncio.sleep(60)
        return list(answers), house

    answers, house = run(tell())

    refused = [answer.refusal.reason for answer in answers if isinstance(answer, Refused)]
    assert [type(answer) for answer in answers].count(Accepted) == 1
    assert refused == [Reason.KEY_REUSED] * 9
    assert findings(house) == []


def test_one_payment_order_id_on_two_shards_at_once_belongs_to_one_checkout() -> None:
    """D3: the constraint's name decides what the loser is told."""

    async def tell() -> tuple[list[Answer], House]:
        house = await House().start()
        line = checkout("c-0", 1_000).lines
        rivals = [checkout(f"c-{number}", 1_000) for number in range(10)]
        same = [m.SubmitCheckout(TENANT, one.checkout_id, one.key, one.buyer, one.token, line) for one in rivals]
        answers = await house.fronts["payment"].submit([envelope(one) for one in same])
        await asyncio.sleep(60)
        again = [await house.submit(one) for one in same]
        assert [isinstance(answer, Replied | Refused) for answer in again] == [True] * 10
        return list(answers), house

    answers, house = run(tell())

    refused = [answer.refusal.reason for answer in answers if isinstance(answer, Refused)]
    assert refused == [Reason.PAYMENT_ORDER_ID_TAKEN] * 9
    assert findings(house) == []


def test_a_webhook_whose_commit_is_in_doubt_is_recorded_once() -> None:
    """D2, P29: 2xx only when it is durable, also when its first commit had landed unseen."""
    for trouble in (Trouble.AMBIGUOUS_APPLIED, Trouble.AMBIGUOUS_LOST, Trouble.AMBIGUOUS_LATE):

        async def tell(trouble: Trouble) -> tuple[Answer, House]:
            house = await House().start()
            await house.pay(checkout("c-1", 1_000))
            paid = await house.settle("c-1")
            delivery = m.Delivery("stripe", "evt_1", "payment_intent.succeeded", "00" * 32, "current")
            order = paid.orders[checkout("c-1").lines[0].order_id]
            fact = m.Report(
                m.ReportSource.WEBHOOK, order.id, "stripe", "pi_1", m.ObjectStatus.CHARGED, order.money, order.id, "",
                delivery=delivery,
            )  # fmt: skip
            house.stores["payment"].trouble_next(trouble)
            return await house.tell(paid.key, fact), house

        answer, house = run(tell(trouble))

        assert isinstance(answer, Applied)
        assert len(rows(house, "payment", "inbox")) == 1
