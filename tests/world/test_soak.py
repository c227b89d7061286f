"""A day in one house: what is settled leaves memory after its audit, and what stays is audited from where it was left."""

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from simulator.world import soak as day
from simulator.world.command import simulate
from simulator.world.house import House
from simulator.world.proof import Carried
from simulator.world.soak import soak
from tests.world.interpreter import printed_by_two
from zerosum.store.memory_table import MemoryTable

SEED = 7
HOURS, RATE = 0.5, 0.05
"""Three rounds of 30 checkouts: without a fault, with one, with seventeen."""

_TELL = (
    "import io; from simulator.world.soak import soak; "
    f"print(soak({SEED}, hours={HOURS}, rate={RATE}, out=io.StringIO()).hash)"
)


def after_each_round(monkeypatch: pytest.MonkeyPatch, act: Callable[[House], None]) -> None:
    """Acts on the house once what was audited has left its memory."""
    forget = House.forget

    def forget_and_act(house: House) -> None:
        forget(house)
        act(house)

    monkeypatch.setattr(House, "forget", forget_and_act)


@pytest.mark.slow
def test_rounds_of_one_house_are_right_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """I5, I7 and I22 go on from what earlier rounds left; after each round only wallets, owners and heads are in memory."""
    left: list[set[str]] = []

    def look(house: House) -> None:
        stores = house.database.stores.values()
        left.append({name for store in stores for name, table in store.tables.items() if table.rows})
        psp = house.psp
        assert (len(psp.engine.account.charges), len(psp.engine.keys), len(psp.book.records)) == (0, 0, 0)

    after_each_round(monkeypatch, look)
    out = io.StringIO()

    result = soak(SEED, hours=HOURS, rate=RATE, out=out)

    assert result.findings == []
    assert (result.checkouts, len(left)) == (90, 3)
    assert set.union(*left) <= Carried.TABLES
    assert "0.50 h, 90 checkouts" in out.getvalue()


@pytest.mark.slow
def test_a_wallet_that_loses_money_between_two_rounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is carried over is held against what comes. Method: after the first round a wallet's row loses a cent. I5."""

    def lose_a_cent(house: House) -> None:
        wallets: MemoryTable = house.database.stores["wallet"].tables["wallets"]
        for key, row in list(wallets.rows.items())[:1]:
            wallets.replace(key, {**row, "pending_minor": row["pending_minor"] - 1})

    after_each_round(monkeypatch, lose_a_cent)

    findings = soak(SEED, hours=HOURS, rate=RATE, out=io.StringIO()).findings

    assert any(finding.startswith("I5: wallet ") for finding in findings)


@pytest.mark.slow
def test_no_copy_lives_on_for_a_round_beside_its_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a day grows slower with each split. Method: whoever has a successor at a round's end is gone by the next."""
    older: list[set[str]] = []

    def look(house: House) -> None:
        older.append({party.name for party in house.processes} - {party.name for party in house.living.values()})

    after_each_round(monkeypatch, look)

    result = soak(SEED, hours=5 / 6, rate=RATE, out=io.StringIO())

    assert result.findings == []
    assert any(older[:-1])
    assert [one & other for one, other in pairwise(older)] == [set()] * (len(older) - 1)


@pytest.mark.slow
def test_a_day_has_the_same_hash_under_another_hash_seed() -> None:
    """Method: two interpreters with other PYTHONHASHSEEDs; the dead are buried, and the story does not change."""
    told = printed_by_two(_TELL)

    assert told[0] == told[1]


def test_the_command_says_what_came_of_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """`zerosum simulate --seed 7 --hours 24`: status 1 where something was wrong."""

    def wrong(seed: int, **_: Any) -> day.Day:
        return day.Day(seed, findings=["I5: wallet hot"], memory_mb=[90, 91])

    monkeypatch.setattr("simulator.world.command.soak", wrong)
    out = io.StringIO()

    status = simulate(
        seed=7, seeds=1, first_seed=0, with_trace=False, jobs=1, state=None, faults="", checkouts=0, trouble_s=0,
        hours=24, out=out,
    )  # fmt: skip

    assert status == 1
    assert "WRONG I5: wallet hot" in out.getvalue()
    assert "at most 91 MB" in out.getvalue()
