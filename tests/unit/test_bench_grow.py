"""What `zerosum bench grow` tells of its sizes: each against the smallest of its series, every read by name, and drawn."""

from dataclasses import replace

from loadtest.bench.grow import COLUMNS, READS, Growth, Size, finding_of
from loadtest.plot import draw
from loadtest.sample import percentiles

READ = {name: percentiles([place, 2.0 * place]) for place, name in enumerate(READS, start=1)}
FOUND = Growth(
    [
        Size(10_000, "entries", 9_999, 16_400, (900.0, 1_000.0, 1_300.0), READ),
        Size(10_000_000, "entries", 10_000_000, 10_050_000, (800.0,), READ),
        Size(1, "accounts", 10_050_000, 10_060_000, (500.0,), READ),
        Size(10_000, "accounts", 10_060_000, 10_070_000, (250.0,), READ),
    ],
    acknowledged=1_234, lost=0,
)  # fmt: skip


def test_each_size_is_told_against_the_smallest_of_its_series() -> None:
    """Speed.md "Growth": entries and accounts each on their own; medians of the rounds."""
    told = finding_of(FOUND, command="c")

    assert told.headline == "rate at 10,000,000 entries over 10,000 entries: 0.80"
    assert [row[0] for row in told.rows] == ["10,000 entries", "10,000,000 entries", "1 account", "10,000 accounts"]
    assert [row[COLUMNS.index("of the first")] for row in told.rows] == [1.0, 0.8, 1.0, 0.5]


def test_each_row_tells_how_many_entries_there_were_before_and_after_its_runs() -> None:
    """What is timed makes the ledger larger: 10^4 entries were 10^5 in the end, and nobody saw it."""
    row = finding_of(FOUND, command="c").document()["rows"][0]

    assert (row["size"], row["entries before"], row["after"]) == ("10,000 entries", 9_999, 16_400)


def test_every_read_has_columns_of_its_own_in_the_json() -> None:
    """Two columns of one name were one figure in the JSON: the pages' p99 was that of the balances."""
    row = finding_of(FOUND, command="c").document()["rows"][0]

    assert len(set(COLUMNS)) == len(COLUMNS)
    assert [row[f"{name} p50 ms"] for name in READS] == [READ[name].p50_ms for name in READS]
    assert len({row[f"{name} p99 ms"] for name in READS}) == len(READS)


def test_the_rate_is_drawn_against_entries_and_accounts_in_powers_of_ten() -> None:
    """10^4 to 10^7 on a straight axis would be three points at its left end."""
    rates, reads, by_accounts, _ = finding_of(FOUND, command="c").charts

    assert (rates.title, by_accounts.title) == (
        "Postings a second against entries",
        "Postings a second against accounts",
    )
    assert {line.name: line.points for line in rates.lines}["median"] == ((10_000.0, 1_000.0), (10_000_000.0, 800.0))
    assert [line.name for line in reads.lines] == [f"{name}, p99" for name in READS]
    assert all(f">{tick} </text>" in draw(rates, width=1_040, height=270) for tick in ("10k", "100k", "1M", "10M"))


def test_a_series_that_was_not_asked_for_is_not_drawn() -> None:
    """`--accounts` has a least of one, but a table must not depend on it."""
    assert len(finding_of(replace(FOUND, sizes=FOUND.sizes[:2]), command="c").charts) == 2


def test_what_a_killed_database_has_lost_voids_the_growth() -> None:
    """Speed.md, rules: acknowledged = stored, else the figure does not count."""
    kept, lossy = finding_of(FOUND, command="c"), finding_of(replace(FOUND, lost=2), command="c")

    assert (kept.void_because, kept.status) == ((), 0)
    assert "1,234 acknowledged postings looked for after the database was killed" in kept.notes
    assert lossy.void_because == ("2 of 1,234 acknowledged postings are not there after the database was killed",)
    assert lossy.status == 1
