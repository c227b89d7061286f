"""`zerosum bench grow` itself, tiny: a real database is filled, posted to and read, and nothing acknowledged is missing."""

import json
from pathlib import Path

import pytest

from loadtest.bench.grow import Asked, bench_grow

pytestmark = pytest.mark.slow


def test_the_ledger_is_filled_posted_to_and_read_at_every_size(tmp_path: Path) -> None:
    asked = Asked(entries_max=10_000, accounts_max=1, rounds=1, seconds=0.2, has_cards=False)

    status = bench_grow(asked, command="c", json_file=tmp_path / "grow.json")

    told = json.loads((tmp_path / "grow.json").read_text())
    assert (status, told["is_void"]) == (0, False)
    assert [row["the ledger has"] for row in told["rows"]] == ["10,000 entries", "1 account"]
    assert all(row["postings/s"]["median"] > 0 and row["page p50 ms"] > 0 for row in told["rows"])
