"""The memory store's own: injected trouble, and rules read from the tables' metadata."""

import pytest
from sqlalchemy import CheckConstraint, Column, Index, Integer, MetaData, PrimaryKeyConstraint, Table, text

from tests.contract import sample
from tests.contract.house import MemoryHouse, Shard
from zerosum.errors import Bug, CommitAmbiguous, Misconfigured, SerializationConflict, Unavailable
from zerosum.ports import Clash, Committed, Wanted
from zerosum.store.memory import Trouble, memory_store
from zerosum.store.memory_table import MemoryTable
from zerosum.store.table import METADATA


async def _shard() -> tuple[MemoryHouse, Shard]:
    house = MemoryHouse()
    return house, await Shard.begin(house.store())


async def test_an_ordered_conflict_commits_nothing_and_the_next_try_passes() -> None:
    """Trouble meets commits one each, in the order it was put in line."""
    house, shard = await _shard()
    house.store().trouble_next(Trouble.CONFLICT, Trouble.CONFLICT)
    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, "c1"))

    for _ in range(2):
        with pytest.raises(SerializationConflict):
            await shard.commit(draft)
    assert house.rows("payment", "history") == []
    assert isinstance(await shard.commit(draft), Committed)


@pytest.mark.parametrize("trouble", [Trouble.AMBIGUOUS_APPLIED, Trouble.AMBIGUOUS_LOST, Trouble.AMBIGUOUS_LATE])
async def test_a_commit_in_doubt_run_again_has_one_effect(trouble: Trouble) -> None:
    """Take the slots again, run the same commands: whatever had become of the first commit, there is one effect."""
    house, shard = await _shard()
    store = house.store()
    store.trouble_next(trouble)
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1"))
    with pytest.raises(CommitAmbiguous):
        await shard.commit(draft)

    again = Shard(store, await store.retake_slots(list(shard.heads.values())))
    result = await again.commit(draft)

    assert isinstance(result, Clash if trouble is Trouble.AMBIGUOUS_APPLIED else Committed)
    assert store.land_late() == 0
    assert (await store.load(Wanted((state.key,)))).entities == {state.key: state}
    assert len(house.rows("payment", "history")) == 1


async def test_a_late_commit_lands_where_nothing_fenced_it() -> None:
    """Why the slots are to be taken again: until then it can still arrive."""
    house, shard = await _shard()
    house.store().trouble_next(Trouble.AMBIGUOUS_LATE)
    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, "c1"))
    with pytest.raises(CommitAmbiguous):
        await shard.commit(draft)
    assert house.rows("payment", "history") == []

    assert house.store().land_late() == 1

    assert len(house.rows("payment", "history")) == 1
    with pytest.raises(CommitAmbiguous):
        await shard.commit(draft)


async def test_a_database_that_is_away_answers_nothing() -> None:
    """Every method and every reader raises Unavailable, and all is there again afterwards."""
    house, shard = await _shard()
    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, "c1"))
    house.store().is_away = True

    for call in (
        shard.commit(draft),
        shard.store.load(Wanted()),
        shard.store.take_slots([1], "test"),
        shard.store.retake_slots([shard.heads[1]]),
        shard.store.due_todos([1], 0, 1),
        house.reader().count_in_flight(0),
        house.reader().dead_letters(),
    ):
        with pytest.raises(Unavailable):
            await call
    house.store().is_away = False
    assert isinstance(await shard.commit(draft), Committed)


async def test_the_clock_is_the_one_handed_in() -> None:
    """No wall clock anywhere."""
    now_ms = 5
    store = memory_store("wallet", lambda: now_ms)

    assert (await store.load(Wanted())).now_ms == 5


def test_a_service_nobody_knows_is_refused() -> None:
    """Names come from settings."""
    with pytest.raises(Misconfigured):
        memory_store("billing", lambda: 0)


def test_every_table_of_the_house_is_one_the_memory_store_can_read() -> None:
    """Every CHECK and every condition of an index is understood: none is left out."""
    for table in METADATA.tables.values():
        MemoryTable(table)


@pytest.mark.parametrize(
    "rule",
    [
        CheckConstraint("number > length(name)", name="odd"),
        Index("odd", "number", unique=True, postgresql_where=text("number IS NOT NULL")),
    ],
    ids=["CHECK", "index"],
)
def test_a_rule_that_cannot_be_read_is_a_bug_at_once(rule: CheckConstraint | Index) -> None:
    """A store that ignored a rule would commit what SQL refuses."""
    table = Table(
        "odd", MetaData(), Column("number", Integer), rule, PrimaryKeyConstraint("number"), info={"kind": "log"}
    )

    with pytest.raises(Bug, match="cannot read"):
        MemoryTable(table)
