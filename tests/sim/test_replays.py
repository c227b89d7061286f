"""Postings are decided before they are looked for: one that is known shows at the commit, by its command row, and only then.

Method: the wallet shard over the memory store on virtual time, with a store that keeps what it was asked for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.answer import Answer, Applied, Refused
from tests.sim.faults import StoreDoor
from tests.sim.house import TENANT, Doors, House, rows
from tests.sim.virtual import run
from zerosum.domain.account import CloseAccount
from zerosum.domain.identity import Key, OrderId
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.ports import Loaded, Store, Wanted

NEW, KNOWN = Applied(is_replay=False), Applied(is_replay=True)
CLOSE = CloseAccount(TENANT, Key("k-close"), "seller-1", "USD", "ada", "SELLER_LEFT")


def credit(name: str, minor: int = 100) -> Transfer:
    money = Money(minor, "USD")
    return Transfer(TENANT, Key(name), "seller-1", TransferKind.CREDIT_PENDING, money, OrderId(name))


class Watched(Doors):
    """Keeps what the wallet's store is asked to load, but for the bare time."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []

    def store(self, service: str, number: int, store: Store[Any]) -> Store[Any]:
        return _WatchedStore(self, store) if service == "wallet" else store


class _WatchedStore(StoreDoor):
    def __init__(self, doors: Watched, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._doors = doors

    async def load(self, wanted: Wanted) -> Loaded[Any]:
        if wanted.entities or wanted.commands:
            self._doors.wanted.append(wanted)
        return await self.inner.load(wanted)


def _told(*calls: Sequence[Any]) -> tuple[list[list[Answer]], list[Wanted], House]:
    """The answers to each call in turn, what was looked for in the last one, and the house."""

    async def story() -> tuple[list[list[Answer]], list[Wanted], House]:
        doors = Watched()
        house = await House(doors=doors).start()
        answers = []
        for call in calls:
            doors.wanted.clear()
            answers.append(list(await house.fronts["wallet"].submit(call)))
        return answers, list(doors.wanted), house

    return run(story())


def _pending_minor(house: House) -> int:
    return sum(row["pending_minor"] for row in rows(house, "wallet", "wallets"))


def test_a_new_posting_for_an_entity_in_memory_is_committed_without_looking() -> None:
    """Half of the round trips of a batch: nearly every posting is new."""
    answers, wanted, house = _told([credit("t-1")], [credit("t-2"), credit("t-3")])

    assert answers == [[NEW], [NEW, NEW]]
    assert wanted == []
    assert _pending_minor(house) == 300


def test_a_known_posting_among_new_ones_is_applied_once_and_told_as_known() -> None:
    """The command row decides, whoever was decided beside it."""
    answers, wanted, house = _told([credit("t-1")], [credit("t-2"), credit("t-1"), credit("t-3")])

    assert answers[1] == [NEW, KNOWN, NEW]
    assert [{key.key for key in each.commands} for each in wanted if each.commands] == [{"t-1", "t-3"}]
    assert _pending_minor(house) == 300


def test_a_known_id_with_other_content_is_refused_and_nothing_moves() -> None:
    answers, _, house = _told([credit("t-1")], [credit("t-1", minor=999)])

    (refused,) = answers[1]
    assert isinstance(refused, Refused)
    assert refused.refusal.reason is Reason.KEY_REUSED
    assert _pending_minor(house) == 100


def test_a_posting_that_was_taken_before_its_account_closed_is_still_told_as_taken() -> None:
    """Decided again it would be refused: what is stored counts."""
    answers, _, house = _told([credit("t-1")], [CLOSE], [credit("t-1"), credit("t-2")])

    known, refused = answers[2]
    assert known == KNOWN
    assert isinstance(refused, Refused)
    assert refused.refusal.reason is Reason.ACCOUNT_CLOSED
    assert _pending_minor(house) == 100


def test_a_refused_posting_and_a_closing_are_told_as_known() -> None:
    answers, _, _ = _told([CLOSE], [credit("t-1")], [credit("t-1"), CLOSE, replace(CLOSE, key=Key("k-other"))])

    (first,) = answers[1]
    assert isinstance(first, Refused)
    assert answers[2] == [replace(first, is_replay=True), KNOWN, KNOWN]
