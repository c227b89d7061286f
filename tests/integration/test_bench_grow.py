"""`zerosum bench grow` itself, tiny: a real database is filled, posted to, read and killed, and keeps what it acknowledged."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from loadtest import own_database
from loadtest.bench.grow import READS, Asked, bench_grow
from loadtest.bench.grow_books import BESIDE, FIRST_SEQ, HOUSE, SELLERS_BESIDE, Books
from loadtest.own_database import at_database, make_database, own_server
from loadtest.peers.house import HousePeer
from zerosum.domain.journal import Balance
from zerosum.limits import SLOTS
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.opening import open_reader

pytestmark = pytest.mark.slow

TINY = Asked(entries_max=10_000, accounts_max=1, rounds=1, seconds=0.2, has_cards=False)


class Watched(EmbeddedPostgres):
    """Keeps with what its runs ended."""

    ended: list[int | None]

    def wait(self, timeout_s: float | None = None) -> int | None:
        self.ended.append(super().wait(timeout_s))
        return self.ended[-1]


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    Watched.ended = []
    monkeypatch.setattr(own_database, "EmbeddedPostgres", Watched)
    return bench_grow(Settings(data_dir=folder), TINY, command="c", json_file=folder / "grow.json")


def test_the_ledger_is_filled_posted_to_read_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed.md, rules: after each run kill -9 the database and check acknowledged = stored."""
    status = _run(tmp_path, monkeypatch)

    told = json.loads((tmp_path / "grow.json").read_text())
    assert (status, told["is_void"], Watched.ended) == (0, False, [-9])
    assert [row["size"] for row in told["rows"]] == ["10,000 entries", "1 account"]
    assert told["rows"][0]["entries before"] == 10_000  # what opened the sellers is counted in
    assert told["rows"][0]["entries before"] < told["rows"][0]["after"] <= told["rows"][1]["entries before"]
    assert all(row["postings/s"]["median"] > 0 for row in told["rows"])
    assert all(row[f"{name} p50 ms"] > 0 for row in told["rows"] for name in READS)
    (page,) = tmp_path.glob("bench/grow-*/grow.html")
    assert "Postings a second against entries" in page.read_text()


def test_what_is_not_there_after_the_kill_ends_the_bench_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verifies the test above: what is asked for is asked after the kill, of the database."""
    stored = HousePeer.stored

    async def without_the_first_run(self: HousePeer) -> set[str]:
        assert Watched.ended == [-9]
        return {each for each in await stored(self) if not each.startswith("post-1-")}

    monkeypatch.setattr(HousePeer, "stored", without_the_first_run)

    status = _run(tmp_path, monkeypatch)

    told = json.loads((tmp_path / "grow.json").read_text())
    assert (status, told["is_void"]) == (1, True)
    assert "acknowledged postings are not there" in told["void_because"][0]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """Each test has a database of its own on it."""
    with own_server() as (server, _):
        yield server


def test_what_lies_beside_has_every_row_of_a_posting_and_balances_as_the_ledger_reads_them(
    server: EmbeddedPostgres,
) -> None:
    """An index is only as deep as its rows make it: commands one a posting, `slot_log` seven for ten, checkpoints as rolled up.

    The second fill goes on where the first has ended. The house's balance is read as in production, over its checkpoints.
    """
    admin = make_database(server.urls()["admin"], "books")
    books = Books(admin, checkpoint_every=25)
    books.prepare()

    for entries in (6_000, 20_000):
        books.fill(entries)
        journals = entries // 2
        counted = _counts(admin)
        assert counted["journals"] == counted["commands"] == journals
        assert counted["entries"] == entries
        assert counted["slot_log"] == pytest.approx(0.7 * journals, abs=2 * SLOTS)
        assert counted["checkpoints"] == SLOTS * (journals // SLOTS // 30)
        assert counted["owners"] == counted["accounts"] == SELLERS_BESIDE
        assert asyncio.run(_house(server)) == Balance(100 * journals, journals)
        assert _is_one_log(admin)


def test_what_was_posted_already_is_part_of_the_size(server: EmbeddedPostgres) -> None:
    """10^4 entries beside were 3 x 10^4 in all: 10^7 looked better against them than it is."""
    admin = make_database(server.urls()["admin"], "both")
    books = Books(admin)
    books.prepare()
    asyncio.run(_post(server, 300))

    books.fill(2_000)
    filled = books.entries()
    books.fill(1_000)

    assert (filled, books.entries()) == (2_000, 2_000)
    assert _counts(admin)["journals"] == 1_000


async def _post(server: EmbeddedPostgres, sellers: int) -> None:
    peer = HousePeer(server.urls()["admin"], server.urls()["ledger"], "both")
    try:
        await peer.open([f"seller-{number}" for number in range(sellers)])
    finally:
        await peer.close()


def _counts(url: str) -> dict[str, int]:
    tables = ("journals", "commands", "entries", "slot_log", "checkpoints", "owners", "accounts")
    with psycopg.connect(url) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM ledger.{table}").fetchone() for table in tables]  # noqa: S608 - names of ours
    return {table: row[0] for table, row in zip(tables, counts, strict=True) if row is not None}


def _is_one_log(url: str) -> bool:
    """Whether every journal has its row of `slot_log`, every row a journal, and all are below what a shard writes."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FILTER (WHERE j.slot IS NULL OR l.slot IS NULL), max(l.seq) FROM ledger.journals AS j "
            "FULL JOIN ledger.slot_log AS l ON l.slot = j.slot AND l.seq = j.seq"
        ).fetchone()
    assert row is not None  # an aggregate always has one
    alone, last = row
    return alone == 0 and bool(last < FIRST_SEQ)


async def _house(server: EmbeddedPostgres) -> Balance | None:
    reader = open_reader("ledger", at_database(server.urls()["ledger"], "books"))
    try:
        return await reader.balance(BESIDE, HOUSE)
    finally:
        await reader.close()


def test_a_next_page_from_anywhere_in_the_books_has_entries_of_the_house(server: EmbeddedPostgres) -> None:
    """Else an empty page would be timed."""
    books = Books(make_database(server.urls()["admin"], "pages"))
    books.prepare()
    books.fill(20_000)

    async def read(chance: random.Random) -> list[int]:
        reader = open_reader("ledger", at_database(server.urls()["ledger"], "pages"))
        try:
            pages = [await reader.entries(BESIDE, HOUSE, 50, books.somewhere(chance)) for _ in range(20)]
            return [len(page.rows) for page in pages]
        finally:
            await reader.close()

    lengths = asyncio.run(read(random.Random(1)))

    assert lengths.count(50) > 15
    assert min(lengths) > 0
