"""Re-issued files: what the version before told is taken back whole, and what the new one does not tell is missed again."""

import pytest

from tests.contract.reconciliation_desk import DAY, Desk, without
from tests.contract.reconciliation_premise import LONG_MS
from tests.contract.reconciliation_services import World
from tests.contract.test_reconciliation_elsewhere import THIRD_DAY, gross, nothing, settled
from zerosum.reconciling import FileState, RunKey, RunKind
from zerosum.store.reconciliation import line as reconciliation_line

NEXT_DAY, FOURTH_DAY = "2026-03-03", "2026-03-05"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seam between two pages is met."""
    monkeypatch.setattr(reconciliation_line, "PAGE_LINES", 2)


async def test_a_charge_whose_line_a_re_issue_drops_after_the_next_night_is_missing_once_it_is_due(
    desk: Desk, world: World
) -> None:
    """The next night began before the re-issue: what the day's own new attempt still expects is carried by the one after."""
    patient, strict = desk.open(line_due_ms=LONG_MS), desk.open(line_due_ms=0)
    orders = desk.orders(4)
    desk.write(orders)
    await desk.take(patient, desk.file(orders))
    await desk.night(patient)
    await desk.take(patient, nothing(desk, 1))
    await desk.night(patient, NEXT_DAY)
    await desk.take(patient, desk.file(orders, spoil=without(orders[3].order_id)))
    again = await desk.night(patient, is_again=True)
    young = await desk.night(patient, THIRD_DAY)
    due = await desk.night(strict, FOURTH_DAY)

    dropped = f"order/charge/1/{desk.tenant}/{orders[3].order_id}"
    assert [desk.items(run).get(dropped) for run in (again, young, due)] == ["EXPECTED", "EXPECTED", "MISMATCH"]
    assert desk.cases() == [("missing_line", "manual", "OPEN")]
    assert await settled(strict, world) == gross(orders[:3])


async def test_what_a_re_issue_of_an_old_day_left_is_kept_as_long_as_a_day_may_be_run_that_begins_with_it(
    desk: Desk,
) -> None:
    """The day is too old to begin with, its new attempt is not: a night that carries it may fail, and be run again."""
    store = desk.open(line_due_ms=LONG_MS, kept_days=1)
    orders = desk.orders(3)
    desk.write(orders)
    await desk.take(store, desk.file(orders))
    for day in (DAY, NEXT_DAY, THIRD_DAY, FOURTH_DAY):
        await desk.night(store, day)
    await desk.take(store, desk.file(orders, spoil=without(orders[2].order_id)))
    await desk.night(store, is_again=True)

    runs = [await desk.night(store, FOURTH_DAY, is_again=True) for _ in range(2)]

    dropped = f"order/charge/1/{desk.tenant}/{orders[2].order_id}"
    assert [desk.items(run) for run in runs] == [{dropped: "EXPECTED"}] * 2


async def test_the_first_run_of_an_old_day_reads_the_books_no_further_than_the_day_after_did(desk: Desk) -> None:
    """A file of a day long ago makes it run: it must not set aside every order since, which later nights have met."""
    store = desk.open(line_due_ms=LONG_MS)
    orders, young = desk.orders(2), desk.orders(1, day=1)
    desk.write(orders)
    night = await desk.night(store, NEXT_DAY)
    desk.rows(
        "UPDATE reconciliation.runs SET progress = jsonb_set(CAST(progress AS JSONB), '{before_ms}', "
        "to_jsonb(CAST(%s AS BIGINT)))::text WHERE run_id = %s",
        young[0].at_ms, night.run_id,
    )  # fmt: skip
    desk.write(young)
    await desk.take(store, desk.file(orders))

    late = await desk.night(store)

    charges = [item for item in desk.items(late) if item.startswith("order/")]
    assert sorted(charges) == sorted(f"order/charge/1/{desk.tenant}/{order.order_id}" for order in orders)


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
