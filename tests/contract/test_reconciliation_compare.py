"""What two attempts at a day say differently: all of it, and nothing else."""

import pytest

from simulator.psp.settlement import Row
from tests.contract.reconciliation_desk import Desk
from zerosum.readers import Page
from zerosum.reconciling import Difference
from zerosum.store.reconciliation import compare as reconciliation_compare

LONG_MS = 400 * 86_400_000
"""Longer than the test's days are ago: nothing is missing yet."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seam between two chunks is met."""
    monkeypatch.setattr(reconciliation_compare, "CHUNK_ITEMS", 2)


async def test_a_line_that_a_corrected_file_leaves_out_or_adds_is_told_and_none_that_only_moved(desk: Desk) -> None:
    """The PSP's id names a line in both files: those behind it stand one line further up, and are the same."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(6)
    desk.write(orders)
    taken = await desk.take(store, desk.file(orders[:5]))
    first = await desk.night(store)
    corrected = await desk.take(store, desk.file([*orders[:2], *orders[3:]]))
    second = await desk.night(store, is_again=True)

    gone, came = desk.lines(taken.file.file_id)[2][1], desk.lines(corrected.file.file_id)[4][1]

    def charge(number: int) -> str:
        return f"order/charge/1/{desk.tenant}/{orders[number].order_id}"

    assert set(await desk.differences(store, first, second)) == {
        Difference(f"line/{gone}", "MATCHED", ""),
        Difference(f"line/{came}", "", "MATCHED"),
        Difference(charge(2), "MATCHED", "EXPECTED"),
        Difference(charge(5), "EXPECTED", "MATCHED"),
    }


async def test_a_line_that_is_listed_twice_is_one_with_two_outcomes(desk: Desk) -> None:
    """P29: of a line that a file lists twice the second is set aside; where the corrected file lists it once, that is told."""
    store = desk.open(line_due_ms=LONG_MS)
    orders = desk.orders(4)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=_second_line_twice))
    first = await desk.night(store)
    corrected = await desk.take(store, desk.file(orders))
    second = await desk.night(store, is_again=True)

    twice = desk.lines(corrected.file.file_id)[1][1]

    assert await desk.differences(store, first, second) == [
        Difference(f"line/{twice}", "MATCHED; MISMATCH duplicate_line", "MATCHED")
    ]


def _second_line_twice(rows: list[Row]) -> list[Row]:
    return [*rows, rows[1]]


async def test_large_days_that_agree_are_walked_a_part_a_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends in time whatever the size of the day: its page is empty then, and says where to go on."""
    monkeypatch.setattr(reconciliation_compare, "CHUNKS_MAX", 2)
    store = desk.open()
    orders = desk.orders(7)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    first, second = await desk.night(store), await desk.night(store, is_again=True)

    calls, page = 1, await store.runs.compare(first.run_id, second.run_id, 100, "")
    while page.after:
        assert page.rows == []
        calls, page = calls + 1, await store.runs.compare(first.run_id, second.run_id, 100, page.after)

    assert page == Page([], "")
    assert calls >= (8 + 7) // 4  # 8 lines and 7 orders, 2 a chunk and 2 chunks a call


async def test_a_position_of_nobodys_is_the_end(desk: Desk) -> None:
    """A token is opaque, and whoever made one up learns nothing by it."""
    assert await desk.open().runs.compare("one", "other", 100, "nothing") == Page([], "")
