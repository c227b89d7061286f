"""Roll-up checkpoints: exact, written once, and invisible to whoever reads a balance."""

import asyncio
from typing import Any

from tests.contract import sample
from tests.contract.house import Shard, SqlHouse
from zerosum.domain.journal import Balance
from zerosum.limits import SLOTS
from zerosum.store.checkpoint import roll_up

CLEARING = "psp:stripe:clearing:USD"
BUYER = "buyer:buyer_1:USD"
OWN = "seller:seller_1:pending:USD"


async def post(house: SqlHouse, shard: Shard, states: dict[str, Any], numbers: range) -> None:
    """One capture a number, each in a commit of its own."""
    for number in numbers:
        draft = sample.owners()
        asked = sample.capture(house.tenant, f"j{number}", owner="seller_1", minor=100 + number)
        states["owner"] = sample.post(draft, states.get("owner"), asked)
        await shard.commit(draft)


def checkpoints(house: SqlHouse) -> list[tuple[str, int, int]]:
    """(account, sum, entries) of each checkpoint, oldest first."""
    rows = sorted(house.rows("ledger", "checkpoints"), key=lambda row: (row["seq"], row["account"]))
    return [(row["account"], row["balance_minor"], row["entry_count"]) for row in rows]


async def test_accounts_without_a_balance_row_are_rolled_up_once_they_have_grown(sql_house: SqlHouse) -> None:
    """The limit is on entries since the last checkpoint; run again it writes nothing; balances never notice."""
    house = sql_house
    store, reader = house.store("ledger"), house.reader("ledger")
    shard = await Shard.begin(store)
    states: dict[str, Any] = {}
    await post(house, shard, states, range(3))

    async def balances() -> list[Balance | None]:
        return [await reader.balance(house.tenant, account) for account in (CLEARING, BUYER, OWN)]

    assert await balances() == [Balance(303, 3), Balance(0, 6), Balance(-303, 3)]
    await roll_up(store.database, range(SLOTS), 5)
    assert checkpoints(house) == [(BUYER, 0, 6)]
    await roll_up(store.database, range(SLOTS), 5)
    assert checkpoints(house) == [(BUYER, 0, 6)]
    assert await balances() == [Balance(303, 3), Balance(0, 6), Balance(-303, 3)]

    await post(house, shard, states, range(3, 6))
    assert await balances() == [Balance(615, 6), Balance(0, 12), Balance(-615, 6)]
    await roll_up(store.database, range(SLOTS), 5)
    assert checkpoints(house) == [(BUYER, 0, 6), (BUYER, 0, 12), (CLEARING, 615, 6)]
    assert await balances() == [Balance(615, 6), Balance(0, 12), Balance(-615, 6)]
    trial = await reader.trial_balance(house.tenant, 10, "")
    assert [row.balance for row in trial.rows] == [Balance(0, 12), Balance(615, 6), Balance(-615, 6)]


async def test_rolling_up_beside_postings_loses_and_doubles_nothing(sql_house: SqlHouse) -> None:
    """Two roll-ups and a writer at once: each checkpoint is the exact sum up to its seq."""
    house = sql_house
    store = house.store("ledger")
    shard = await Shard.begin(store)
    states: dict[str, Any] = {}

    await asyncio.gather(
        post(house, shard, states, range(8)),
        roll_up(store.database, range(SLOTS), 1),
        roll_up(house.store("ledger").database, range(SLOTS), 1),
        return_exceptions=True,
    )
    await roll_up(store.database, range(SLOTS), 1)

    entries = house.rows("ledger", "entries")
    rolled = house.rows("ledger", "checkpoints")
    assert rolled
    for row in rolled:
        covered = [
            entry["amount_minor"]
            for entry in entries
            if entry["account"] == row["account"] and entry["slot"] == row["slot"] and entry["seq"] <= row["seq"]
        ]
        assert (row["balance_minor"], row["entry_count"]) == (sum(covered), len(covered))
