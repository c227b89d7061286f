"""Settlement files into the store: whole or not at all, once, by as many and as often as may be; and the calendar of them."""

import asyncio
import io
from typing import Any

import pytest

from tests.contract.reconciliation_desk import DAY, FROM_MS, Desk, File
from zerosum.errors import Misconfigured, Unavailable
from zerosum.reconciling import FileRow, FileState, Incoming
from zerosum.store.database import Database
from zerosum.store.reconciliation import file as reconciliation_file
from zerosum.store.reconciliation.store import Reconciliation


class Stumbles(Database):
    """A database whose writes fail from the n-th on: the process is gone."""

    def __init__(self, real: Database, writes: int) -> None:
        super().__init__(real.engine)
        self._left = writes

    async def write_again(self, work: Any) -> Any:
        """As the real one, so many times."""
        self._left -= 1
        if self._left < 0:
            raise Unavailable("gone")
        return await super().write_again(work)


async def test_a_file_is_taken_whole_and_the_same_bytes_again_do_nothing(desk: Desk) -> None:
    """L10: twice is once. Its lines are those of the file, under their numbers."""
    store = desk.open()
    file = desk.file(desk.orders(7))

    first = await desk.take(store, file)
    again = await desk.take(store, file)

    assert (first.file.state, first.file.lines, first.file.day, first.is_known) == (FileState.ACCEPTED, 8, DAY, False)
    assert (again.file, again.is_known) == (first.file, True)
    assert [number for number, _ in desk.lines(first.file.file_id)] == list(range(1, 9))


@pytest.mark.parametrize("has_manifest", [True, False])
async def test_a_file_whose_last_line_is_of_midnight_is_of_the_day_that_begins(desk: Desk, has_manifest: bool) -> None:
    """Lines are dated by the second: 00:00:00 is the first instant of its day, whoever tells the period."""
    store = desk.open()
    file = desk.file(desk.orders(1))

    taken = await desk.take(store, file if has_manifest else File(file.content, ""))

    (booked_at,) = desk.rows(
        "SELECT min(booked_at_ms) FROM reconciliation.lines WHERE file_id = %s AND category <> 'payout'",
        taken.file.file_id,
    )
    assert (taken.file.state, taken.file.day, booked_at) == (FileState.ACCEPTED, DAY, (FROM_MS,))


async def test_a_truncated_file_is_refused_whole_and_the_whole_one_is_taken_afterwards(desk: Desk) -> None:
    """L10: the row says why, there is no line, and nothing stands in the way of the true file."""
    store = desk.open()
    file = desk.file(desk.orders(7))
    cut = File(file.content[: len(file.content) // 2], file.manifest)

    refused = await desk.take(store, cut)
    taken = await desk.take(store, file)

    assert refused.file.state is FileState.REFUSED
    assert refused.file.reason
    assert desk.lines(refused.file.file_id) == []
    assert taken.file.state is FileState.ACCEPTED


async def test_a_file_refused_for_its_manifest_is_taken_when_the_right_one_comes(desk: Desk) -> None:
    """The bytes were right: what was wrong has gone."""
    store = desk.open()
    orders = desk.orders(3)
    file = desk.file(orders)
    other = desk.file(orders[:2])

    refused = await desk.take(store, File(file.content, other.manifest))
    taken = await desk.take(store, file)

    assert (refused.file.state, taken.file.state) == (FileState.REFUSED, FileState.ACCEPTED)
    assert taken.file.reason == ""
    assert len(desk.lines(taken.file.file_id)) == 4


@pytest.mark.parametrize("is_first_told", [True, False])
async def test_the_same_lines_again_with_and_without_a_manifest_never_count_twice(
    desk: Desk, is_first_told: bool
) -> None:
    """L10: the two name themselves differently, so neither would take the other's place, and both would be settled."""
    store = desk.open()
    file = desk.file(desk.orders(3))
    heading, first, second, *rest = file.content.splitlines(keepends=True)
    swapped = b"".join([heading, second, first, *rest])

    taken = await desk.take(store, file if is_first_told else File(swapped, ""))
    again = await desk.take(store, File(swapped, "") if is_first_told else file)

    assert (taken.file.state, again.file.state) == (FileState.ACCEPTED, FileState.REFUSED)
    assert again.file.reason.startswith("MALFORMED: manifest: the day has files with and without")
    assert desk.lines(again.file.file_id) == []


@pytest.mark.parametrize("manifest", ["\0", '{"rows": 1}\0', "4242424242424242"])
async def test_a_manifest_that_cannot_be_read_refuses_the_file_and_is_not_kept(desk: Desk, manifest: str) -> None:
    """U+0000 and card numbers: what was not understood is never stored."""
    file = desk.file(desk.orders(1))

    refused = await desk.take(desk.open(), File(file.content, manifest))

    assert refused.file.state is FileState.REFUSED
    assert desk.rows("SELECT manifest FROM reconciliation.files WHERE psp = %s", desk.psp) == [("",)]


async def test_another_manifest_for_a_file_whose_import_died_neither_refuses_nor_renames_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P31: half loaded, the same bytes come with a manifest that contradicts them, then with their own."""
    store = desk.open()
    file, other = desk.file(desk.orders(3)), desk.file(desk.orders(2), day=1)
    with monkeypatch.context() as dying:
        dying.setattr(store.files._store, "_database", Stumbles(store.database, 1))
        with pytest.raises(Unavailable):
            await desk.take(store, file)

    contradicted = await desk.take(store, File(file.content, other.manifest))
    taken = await desk.take(store, file)

    assert (contradicted.file.state, taken.file.state) == (FileState.REFUSED, FileState.ACCEPTED)
    assert (taken.file.day, taken.file.lines) == (DAY, 4)


async def test_a_file_whose_import_died_counts_under_the_series_it_came_with_at_last(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next version would not take its place, and both would settle."""
    store = desk.open()
    orders = desk.orders(3)
    file = desk.file(orders)
    with monkeypatch.context() as dying:
        dying.setattr(store.files._store, "_database", Stumbles(store.database, 1))
        with pytest.raises(Unavailable):
            await desk.take(store, File(file.content, ""))

    first = await desk.take(store, file)
    second = await desk.take(store, desk.file(orders[:2]))

    assert second.superseded == first.file.file_id


async def test_an_import_that_dies_anywhere_goes_on_and_ends_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P31: file hash and line number are the key. Method: every number of commits before the end."""
    monkeypatch.setattr(reconciliation_file, "CHUNK_LINES", 5)
    store = desk.open()
    file = desk.file(desk.orders(22))
    for writes in range(7):
        half = reconciliation_file.FileStore(Stumbles(store.database, writes), store.files.dialects)
        try:
            await half.take(io.BytesIO(file.content), desk.told(file))
        except Unavailable:
            found = await store.files.list(desk.psp, 10, "")
            assert [row.state for row in found] in ([], [FileState.LOADING])

    taken = await desk.take(store, file)

    assert taken.file.state is FileState.ACCEPTED
    assert [number for number, _ in desk.lines(taken.file.file_id)] == list(range(1, 24))


async def test_two_importers_of_one_file_end_as_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upload and watched folder at the same moment: one accepts it, the other finds it accepted."""
    monkeypatch.setattr(reconciliation_file, "CHUNK_LINES", 5)
    first, second = desk.open(), desk.open()
    file = desk.file(desk.orders(40))

    both = await asyncio.gather(desk.take(first, file), desk.take(second, file))

    assert {each.file.state for each in both} == {FileState.ACCEPTED}
    assert [number for number, _ in desk.lines(both[0].file.file_id)] == list(range(1, 42))
    assert len(await first.files.list(desk.psp, 10, "")) == 1


async def test_a_corrected_file_takes_the_place_of_the_one_before(desk: Desk) -> None:
    """L10: a superseding version, in one commit; the older one handed in late does not come back."""
    store = desk.open()
    orders = desk.orders(4)
    first, second, third = desk.file(orders[:2]), desk.file(orders[:3]), desk.file(orders)

    one = await desk.take(store, first)
    three = await desk.take(store, third)
    two = await desk.take(store, second)

    assert (one.superseded, three.superseded, two.superseded) == ("", one.file.file_id, "")
    states = {row.version: row.state for row in await store.files.list(desk.psp, 10, "")}
    assert states == {1: FileState.SUPERSEDED, 2: FileState.SUPERSEDED, 3: FileState.ACCEPTED}


async def test_files_are_listed_newest_first_by_page(desk: Desk) -> None:
    """Every row once."""
    store = desk.open()
    taken = [(await desk.take(store, desk.file(desk.orders(1), day=day))).file for day in range(3)]

    first = await store.files.list(desk.psp, 2, "")
    rest = await store.files.list(desk.psp, 2, first[-1].file_id)
    of_all = [row for row in await _all_files(store) if row.psp == desk.psp]

    assert [*first, *rest] == taken[::-1] == of_all
    assert await store.files.get(taken[0].file_id) == taken[0]


async def _all_files(store: Reconciliation) -> list[FileRow]:
    """Of every PSP, two a page."""
    rows: list[FileRow] = []
    while page := await store.files.list("", 2, rows[-1].file_id if rows else ""):
        rows += page
    return rows


async def test_a_psp_without_a_dialect_is_misconfigured(desk: Desk) -> None:
    """Nothing is recorded of a file that nobody can read."""
    with pytest.raises(Misconfigured):
        await desk.open().files.take(io.BytesIO(b""), Incoming("nobody", "x", "", "test"))


async def test_a_file_that_does_not_come_is_told_once_and_one_that_comes_ends_it(desk: Desk) -> None:
    """L11: a row in the calendar, an alarm once; it stays on the list until the file is there."""
    due_long_ago = desk.open(file_due_ms=-3 * 86_400_000)

    first = await due_long_ago.files.late()
    again = await due_long_ago.files.late()

    assert first
    assert {(late.psp, late.is_new) for late in first} == {(desk.psp, True)}
    assert [(late.day, late.is_new) for late in again] == [(late.day, False) for late in first]
    desk.rows(
        "UPDATE reconciliation.expected_files SET day = %s WHERE psp = %s AND day = %s", DAY, desk.psp, first[0].day
    )
    await desk.take(due_long_ago, desk.file(desk.orders(1)))
    assert DAY not in {late.day for late in await due_long_ago.files.late()}


async def test_days_of_downtime_are_caught_up_by_the_calendar(desk: Desk) -> None:
    """A file that was due while nobody looked is as late as any other."""
    store = desk.open(file_due_ms=0)
    await store.files.late()
    desk.rows("DELETE FROM reconciliation.expected_files WHERE psp = %s", desk.psp)
    desk.rows(
        "INSERT INTO reconciliation.expected_files SELECT %s, to_char(now() AT TIME ZONE 'UTC' - interval '5 days', "
        "'YYYY-MM-DD'), 1, 'there', NULL",
        desk.psp,
    )

    late = await store.files.late()

    assert len(late) == 4
    assert all(each.is_new for each in late)
