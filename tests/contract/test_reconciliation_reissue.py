"""Re-issued files: what the version before told is taken back whole, and what the new one does not tell is missed again."""

import pytest

from tests.contract.reconciliation_desk import DAY, Desk
from tests.contract.reconciliation_premise import LONG_MS
from tests.contract.reconciliation_services import World
from tests.contract.test_reconciliation_elsewhere import THIRD_DAY, gross, settled
from zerosum.reconciling import FileState, RunKey, RunKind
from zerosum.store.reconciliation import line as reconciliation_line

NEXT_DAY = "2026-03-03"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seam between two pages is met."""
    monkeypatch.setattr(reconciliation_line, "PAGE_LINES", 2)


async def test_the_newest_attempt_of_a_day_is_told_by_its_key(desk: Desk) -> None:
    """However long ago it ran; nothing of a day that never did."""
    store = desk.open()
    keys = [RunKey(RunKind.NIGHTLY, desk.psp, day) for day in (DAY, NEXT_DAY, THIRD_DAY)]
    await desk.night(store)
    newest = [await desk.night(store, is_again=True), await desk.night(store, NEXT_DAY)]

    found = await store.runs.newest(keys)

    assert sorted(found, key=lambda run: run.run_id) == newest
    assert await store.runs.newest([]) == []


async def test_each_re_issue_under_one_and_the_same_version_takes_the_place_of_the_one_before(
    desk: Desk, world: World
) -> None:
    """A PSP that counts no further: in whatever order the rows are found, the accepted one is taken back."""
    store, orders = desk.open(line_due_ms=LONG_MS), desk.orders(7)
    desk.write(orders)
    files = [desk.file(orders[:number]) for number in range(1, 8)]
    took = []
    for number, file in enumerate(files):
        one = type(file)(file.content, file.manifest.replace(f'"version": {number + 1}', '"version": 1'))
        took.append(await desk.take(store, one))
        await desk.night(store, is_again=number > 0)

    assert [each.superseded for each in took] == ["", *(each.file.file_id for each in took[:-1])]
    assert {each.file.version for each in took} == {1}
    states = {row.file_id: row.state for row in await store.files.list(desk.psp, 10, "")}
    assert [states[each.file.file_id] for each in took] == [FileState.SUPERSEDED] * 6 + [FileState.ACCEPTED]
    assert await settled(store, world) == gross(orders)
