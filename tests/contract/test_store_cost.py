"""What a payment sends to a real database, by the store's own counters: the table of tests/sim/test_cost.py, which is counted
on memory stores, held against PostgreSQL."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.house import Shard, SqlHouse
from tests.sim.house import checkout
from tests.sim.test_cost import LONE, told
from zerosum.domain.identity import EntityKey
from zerosum.errors import Superseded
from zerosum.ports import NOTHING, Batch, Committed, Wanted
from zerosum.store.opening import open_reader
from zerosum.store.wire import Traffic

Sent = dict[str, list[Wanted | Batch[Any]]]


@pytest.fixture
def lone() -> Sent:
    """What the stores of the three services were sent for a checkout of one order, alone, to a seller of its own."""
    name = f"cost-{uuid.uuid4().hex}"
    return told([checkout(name, 1_000, sellers=[f"seller-{name}"])]).sent


@pytest.mark.parametrize("service", ["payment", "wallet", "ledger"])
async def test_a_lone_payment_sends_the_round_trips_and_statements_of_the_table(
    lone: Sent, sql_house: SqlHouse, service: str
) -> None:
    """Issue 5: counts are asserted, since they repeat. Every load and commit of the story, once more, on a socket."""
    store = sql_house.store(service)
    shard = await Shard.begin(store)
    before = replace(store.database.traffic)

    await _send(shard, lone[service])

    assert _since(before, store.database.traffic) == Traffic(
        LONE[f"round trips of {service}"], LONE[f"statements of {service}"], LONE[f"commits of {service}"]
    )


async def test_a_look_is_one_round_trip_and_no_commit(sql_house: SqlHouse) -> None:
    """BEGIN, the statement and COMMIT travel together, and nothing was written."""
    store, reader = sql_house.store(), open_reader("payment", sql_house.urls["payment"])

    await store.load(NOTHING)
    await reader.reply(EntityKey(sql_house.tenant, "c-1"))
    await reader.close()

    assert store.database.traffic == reader.database.traffic == Traffic(round_trips=1, statements=3)


async def test_a_transaction_that_failed_has_been_sent_and_is_no_commit(sql_house: SqlHouse, lone: Sent) -> None:
    """A batch whose slots another copy owns by now: the fence does not move, it is asked why, and nothing is stored."""
    store = sql_house.store()
    stale = await Shard.begin(store)
    await Shard.begin(sql_house.store())
    before = replace(store.database.traffic)

    with pytest.raises(Superseded):
        await _send(stale, lone["payment"])

    sent = _since(before, store.database.traffic)
    load, batch, question = 2, 2, 2  # each with the end of its transaction
    assert (sent.round_trips, sent.commits) == (load + batch + question, 0)


async def _send(shard: Shard, sent: Sequence[Wanted | Batch[Any]]) -> None:
    for each in sent:
        if isinstance(each, Wanted):
            await shard.store.load(each)
            continue
        done = await shard.store.commit(replace(each, heads=[shard.heads[head.slot] for head in each.heads]))
        assert isinstance(done, Committed)
        shard.heads.update({head.slot: head for head in done.heads})


def _since(before: Traffic, after: Traffic) -> Traffic:
    return Traffic(
        after.round_trips - before.round_trips,
        after.statements - before.statements,
        after.commits - before.commits,
    )
