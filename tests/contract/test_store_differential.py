"""One history on two stores: the memory store may abort more than SQL, it never commits what SQL refuses.

Method: histories of several copies of a shard, scripted and drawn from seeds, are played on the memory store and on each SQL
database side by side; see `interleaving.py` for what happens in them and `differential.py` for what is compared.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine

from tests.contract.broken_store import BROKEN
from tests.contract.differential import Difference, Reader, Sides, memory_rows, shrunk, sql_rows
from tests.contract.house import SqlHouse
from tests.contract.interleaving import Beside, Does, History, Moment, Step, Turn, Verb, history_of, service_of
from zerosum.domain.identity import Tenant
from zerosum.ports import Store
from zerosum.store.memory import MemoryStore, memory_store

SEEDS = range(30)
COPIES = 3

_FIRST, _, _LAST = os.environ.get("ZEROSUM_TEST_SEEDS", f"{SEEDS[0]}-{SEEDS[-1]}").partition("-")
PLAYED = range(int(_FIRST), int(_LAST or _FIRST) + 1)
"""The seeds played on the databases: "168" for one again, "30-999" for a long run."""

Making = Callable[[str, Callable[[], int]], MemoryStore[Any]]


class Trials:
    """Plays histories on a memory store and another store, each under a tenant of its own."""

    def __init__(self, tenant: str, others: Callable[[str], Sequence[Store[Any]]], read: Reader) -> None:
        self.others = others
        self.read = read
        self.making: Making = memory_store
        self.heard: list[list[str]] = []
        self._tenants = (Tenant(f"{tenant}-{number}") for number in itertools.count())

    async def difference(self, service: str, history: History) -> Difference | None:
        sides = Sides(self.making(service, lambda: 0), self.others(service), self.read, next(self._tenants))
        self.heard = sides.heard
        return await sides.difference(history)

    async def report(self, seed: int) -> str:
        """ "" where both stores tell the seed's history alike; else the smallest history that they do not."""
        service, history = service_of(seed), history_of(seed)
        if await self.difference(service, history) is None:
            return ""

        async def differs(smaller: History) -> bool:
            return await self.difference(service, smaller) is not None

        smallest = await shrunk(history, differs)
        again = f"ZEROSUM_TEST_SEEDS={seed} python -m pytest tests/contract/test_store_differential.py -k chance"
        steps = [" | ".join(map(str, moment)) for moment in smallest]
        return "\n".join([f"{service}, again by: {again}", *steps, str(await self.difference(service, smallest))])


@pytest.fixture
def trials(sql_house: SqlHouse) -> Iterator[Trials]:
    """The memory store beside an SQL database."""
    opened: dict[str, Sequence[Store[Any]]] = {}

    def others(service: str) -> Sequence[Store[Any]]:
        if service not in opened:
            opened[service] = [sql_house.store(service) for _ in range(COPIES)]
        return opened[service]

    engine = create_engine(sql_house.urls["auditor"])
    with engine.connect() as connection:
        yield Trials(sql_house.tenant, others, lambda cast: sql_rows(connection, cast))
    engine.dispose()


@pytest.fixture
def memory_trials() -> Trials:
    """The memory store beside another memory store: what a history meets, without a database."""
    others = {service: memory_store(service, lambda: 1_790_000_000_000) for service in ("payment", "wallet", "ledger")}
    return Trials(
        "shop", lambda service: [others[service]] * COPIES, lambda cast: memory_rows(others[cast.service], cast)
    )


# ---- scripted ------------------------------------------------------------------------------------------------------


def commit(copy: int, *turns: Turn) -> Step:
    return Step(copy, Verb.COMMIT, turns=turns)


def take(copy: int, *entities: int) -> Step:
    return Step(copy, Verb.TAKE, entities)


FIRST = [Turn(Does.FIRST, entity) for entity in range(4)]
NEXT = [Turn(Does.NEXT, entity) for entity in range(4)]
KEYED = [replace(turn, beside=Beside.COMMAND) for turn in FIRST]
DELIVERED = [replace(turn, beside=Beside.WEBHOOK) for turn in FIRST]
SHARING = [replace(turn, variant=2) for turn in FIRST]
BROKEN_TURN = Turn(Does.BROKEN, 2)
TWICE = [Turn(Does.TWICE, entity) for entity in range(4)]

Script = Sequence[tuple[Step | Moment, str]]
"""Steps and how each ends; of steps at once, the ends in the order of the alphabet."""

SCRIPTS: Mapping[str, Script] = {
    "a copy whose slots were taken commits nothing more": [
        (commit(0, FIRST[0]), "Committed"),
        (take(1), "Told"),
        (commit(0, NEXT[0]), "Superseded"),
        (commit(1, FIRST[0]), "Clash payment.commands"),
        (Step(1, Verb.LOAD), "Loaded"),
        (commit(1, NEXT[0]), "Committed"),
    ],
    "one lost slot of many fences the batch": [
        (take(1, 3), "Told"),
        (commit(0, FIRST[0], FIRST[3]), "Superseded"),
        (commit(0, FIRST[0]), "Committed"),
    ],
    "a head that moved under the same epoch is a commit in doubt": [
        (commit(0, FIRST[0]), "Committed"),
        (commit(1, FIRST[1]), "CommitAmbiguous"),
        (Step(1, Verb.RETAKE), "Told"),
        (commit(1, FIRST[1]), "Committed"),
        (Step(0, Verb.RETAKE), "Superseded"),
    ],
    "one key for two checkouts": [
        (commit(0, KEYED[0]), "Committed"),
        (commit(1, KEYED[2]), "Clash payment.commands"),
        (commit(1, FIRST[2]), "Committed"),
    ],
    "one checkout under two keys": [
        (commit(0, KEYED[0]), "Committed"),
        (take(1), "Told"),
        (commit(1, replace(KEYED[0], name=1)), "Clash payment.payment_events"),
    ],
    "one order id for two checkouts": [
        (commit(0, SHARING[0]), "Committed"),
        (commit(1, SHARING[2]), "Clash payment.payment_orders"),
        (Step(1, Verb.LOAD), "Loaded"),
    ],
    "a turn decided on an old version": [
        (commit(0, FIRST[0]), "Committed"),
        (Step(1, Verb.LOAD), "Loaded"),
        (commit(0, NEXT[0]), "Committed"),
        (take(1), "Told"),
        (commit(1, NEXT[0]), "Clash payment.payment_events"),
    ],
    "a webhook delivered for two checkouts": [
        (commit(0, DELIVERED[0]), "Committed"),
        (commit(0, DELIVERED[2]), "Clash payment.inbox"),
        (commit(0, replace(DELIVERED[2], name=1)), "Committed"),
    ],
    "several turns of one checkout, and a clash in the middle of others": [
        (commit(0, FIRST[2], NEXT[2], NEXT[2]), "Committed"),
        (take(1), "Told"),
        (commit(1, FIRST[0], FIRST[2], NEXT[2], FIRST[3]), "Clash payment.commands"),
        (commit(1, FIRST[0], FIRST[3]), "Committed"),
        (Step(1, Verb.SWEEP), "Told"),
    ],
    "a second attempt while the first may have charged": [
        (commit(0, FIRST[0], NEXT[0]), "Committed"),
        (commit(0, TWICE[0]), "Clash payment.attempts"),
        (commit(0, Turn(Does.FAILOVER, 0)), "Committed"),
    ],
    "a row that cannot be stored": [
        (commit(0, FIRST[0], BROKEN_TURN), "RowsRefused"),
        (commit(0, FIRST[0]), "Committed"),
    ],
    "a commit in doubt that was applied": [
        (commit(0, FIRST[0]), "Committed"),
        (Step(0, Verb.APPLIED, turns=(NEXT[0],)), "CommitAmbiguous"),
        (Step(0, Verb.RETAKE), "Told"),
        (commit(0, NEXT[0]), "Clash payment.payment_events"),
        (Step(0, Verb.LOAD), "Loaded"),
        (commit(0, NEXT[0]), "Committed"),
    ],
    "a late commit lands": [
        (Step(0, Verb.LATE, turns=(FIRST[0],)), "CommitAmbiguous"),
        (Step(0, Verb.LAND), "Landed 1"),
        (commit(0, FIRST[0]), "CommitAmbiguous"),
    ],
    "a late commit is fenced by its own copy": [
        (Step(0, Verb.LATE, turns=(FIRST[0],)), "CommitAmbiguous"),
        (Step(0, Verb.RETAKE), "Told"),
        (Step(0, Verb.LAND), "Landed 0"),
        (commit(0, FIRST[0]), "Committed"),
    ],
    "a late commit meets a row": [
        (Step(0, Verb.LATE, turns=(SHARING[0],)), "CommitAmbiguous"),
        (commit(1, SHARING[2]), "Committed"),
        (Step(0, Verb.LAND), "Landed 0"),
    ],
    "a lost commit": [
        (Step(0, Verb.LOST, turns=(FIRST[0],)), "CommitAmbiguous"),
        (commit(0, FIRST[0]), "Committed"),
    ],
    "two writers on one slot at once": [((commit(0, FIRST[0]), commit(1, FIRST[0])), "CommitAmbiguous, Committed")],
    "one key at once": [((commit(0, KEYED[0]), commit(1, KEYED[2])), "Clash payment.commands, Committed")],
    "one order id at once, by three": [
        (
            (commit(0, SHARING[0]), commit(1, SHARING[2]), commit(2, SHARING[3])),
            "Clash payment.payment_orders, Clash payment.payment_orders, Committed",
        ),
    ],
    "one webhook at once": [((commit(0, DELIVERED[0]), commit(1, DELIVERED[2])), "Clash payment.inbox, Committed")],
    "one slot retaken at once by two": [((Step(0, Verb.RETAKE), Step(1, Verb.RETAKE)), "Superseded, Told")],
    "nothing shared at once": [((commit(0, FIRST[0]), commit(1, FIRST[2])), "Committed, Committed")],
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_is_told_alike_and_ends_as_written(trials: Trials, name: str) -> None:
    """Every conflict there is, by name."""
    script = SCRIPTS[name]
    history = tuple(moment if isinstance(moment, tuple) else (moment,) for moment, _ in script)

    assert await trials.difference("payment", history) is None
    assert [", ".join(sorted(words)) for words in trials.heard] == [ends for _, ends in script]


@pytest.mark.parametrize(("service", "table"), [("wallet", "wallet.entries"), ("ledger", "ledger.journals")])
async def test_an_id_that_makes_entries_once_is_told_alike(trials: Trials, service: str, table: str) -> None:
    """Transfers and journals, without the command row that tells first; then by two copies at once."""
    history = (
        (commit(0, TWICE[0]),),
        (commit(0, TWICE[2]),),
        (commit(0, replace(TWICE[2], name=1)), commit(1, replace(TWICE[3], name=1))),
    )

    assert await trials.difference(service, history) is None
    assert trials.heard[:2] == [["Committed"], [f"Clash {table}"]]
    assert sorted(trials.heard[2]) == [f"Clash {table}", "Committed"]


async def test_a_stale_turn_that_could_not_be_stored_either_is_a_clash(trials: Trials) -> None:
    """A CHECK is about rows that are stored; what finds no row of its version is never looked at. Found by seed 168."""
    history = (
        (commit(0, FIRST[2]),),
        (Step(1, Verb.LOAD),),
        (commit(0, replace(NEXT[2], variant=1)),),
        (take(1),),
        (commit(1, replace(BROKEN_TURN, variant=4)),),
    )

    assert await trials.difference("wallet", history) is None
    assert trials.heard[-1] == ["Clash wallet.wallets"]


# ---- drawn from seeds ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [PLAYED[first : first + 10] for first in range(0, len(PLAYED), 10)], ids=str)
async def test_a_history_of_chance_is_told_alike(trials: Trials, seeds: range) -> None:
    """Every outcome of every step, and all rows in the end."""
    reports = [await trials.report(seed) for seed in seeds]

    assert [report for report in reports if report] == []


@pytest.mark.slow
async def test_the_seeds_meet_everything_there_is(memory_trials: Trials) -> None:
    """A campaign that never met a conflict would prove nothing: every end, and clashes in every table that can clash."""
    met: Counter[str] = Counter()
    for seed in SEEDS:
        assert await memory_trials.difference(service_of(seed), history_of(seed)) is None
        met.update(word for words in memory_trials.heard for word in words)

    wanted = {
        "Committed", "Superseded", "CommitAmbiguous", "RowsRefused", "Loaded", "Told", "Landed 0", "Landed 1",
        "Clash payment.commands", "Clash payment.payment_events", "Clash payment.payment_orders",
        "Clash payment.attempts", "Clash payment.inbox", "Clash wallet.commands", "Clash wallet.wallets",
        "Clash wallet.entries", "Clash ledger.commands", "Clash ledger.owners", "Clash ledger.journals",
    }  # fmt: skip
    assert wanted - set(met) == set()
    assert met["Committed"] >= 5 * len(SEEDS)


# ---- canaries ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
async def test_a_memory_store_with_a_rule_missing_is_told_apart(memory_trials: Trials, name: str) -> None:
    """The test can fail: each rule taken out is missed within the seeds. Beside the whole store, which tells as SQL does."""
    memory_trials.making = BROKEN[name]

    assert await _seeds_until_told_apart(memory_trials) <= len(SEEDS)


@pytest.mark.slow
async def test_a_memory_store_with_a_rule_missing_is_told_apart_from_sql(trials: Trials) -> None:
    """The same beside the databases, by the rule that interleavings are about."""
    trials.making = BROKEN["versions are not compared"]

    assert await _seeds_until_told_apart(trials) <= len(SEEDS)


async def _seeds_until_told_apart(trials: Trials) -> int:
    for count, seed in enumerate(SEEDS, start=1):
        if await trials.difference(service_of(seed), history_of(seed)) is not None:
            return count
    return len(SEEDS) + 1


@pytest.mark.slow
async def test_a_difference_is_shown_by_the_least_that_makes_it(memory_trials: Trials) -> None:
    """A failing seed is read by people: what it does not need is left out."""
    memory_trials.making = BROKEN["epochs are not compared"]

    report = await memory_trials.report(SEEDS[0])

    assert report.count("copy ") <= 3
    assert "Superseded" in report
